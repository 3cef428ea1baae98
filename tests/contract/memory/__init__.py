"""Contract suites of the memory ports, each over every implementation."""
