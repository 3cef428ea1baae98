"""Real-looking logs with known answers."""
