"""Meta-orchestrator: who gets an intent, which of two proposals goes first, which swarm may spend how much.

Three rooms of the same shape, each a decider on boundaries of its own: `routing` (intents), `arbitration` (conflicts), `allocation`
(the global budget). What came of an intent that a persona proposed, the first tells it (`report.given`).
"""
