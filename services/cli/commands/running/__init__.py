"""A mesh of this machine: bring it up, show it, change it, keep it."""
