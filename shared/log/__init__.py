"""The log kernel: one port, a JetStream implementation and an in-memory one with the same semantics."""
