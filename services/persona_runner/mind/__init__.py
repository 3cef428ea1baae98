"""One persona's cognition, without IO: what it knows, when it is due, what it may spend, what comes of a thought."""
