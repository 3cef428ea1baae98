"""The one shell around every decider, and the process around every shell."""
