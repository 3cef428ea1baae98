"""The connection to the broker, and the bytes on it."""
