"""Who gets an intent: routes as leases, answers that count, and what came of it."""
