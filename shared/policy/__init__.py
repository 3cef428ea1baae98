"""Policy: what may be done, by whom, to what. Cedar behind a wrapper that cannot fail open, and the default policy set."""
