"""Writes the contracts in other languages into `proto/`."""
