"""A service's process, from its first line to its exit code."""
