"""What a process says of itself, and what it looks at for that."""
