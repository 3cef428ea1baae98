"""What the actuator acts on the world with: one module a family, found by the name in the row of a kind (`shared.contracts.kinds`)."""
