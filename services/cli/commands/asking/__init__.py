"""What people say to a mesh, and ask it: personas, proposals, intents, conflicts, beliefs, budgets, halts."""
