"""What the gateway does: each command commits one decision to the log and waits for what the mesh makes of it."""
