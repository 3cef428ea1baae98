"""A public benchmark of agents (AgentDojo) before the gate: `scripts/agentdojo`."""
