"""Processes: what is started, watched, counted and found again."""
