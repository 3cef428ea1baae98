"""Keys and certificates as files, each for its holder alone."""
