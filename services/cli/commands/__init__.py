"""One module for each command, or for those of one kind."""
