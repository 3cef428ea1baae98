"""What goes on, and what is wrong."""
