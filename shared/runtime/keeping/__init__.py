"""State that survives a restart; caches of the log, never the truth."""
