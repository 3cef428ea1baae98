"""From lines to findings: counting, so that nobody has to read."""
