"""What can be said on the command line, by what it is about."""
