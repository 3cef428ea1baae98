"""The governor: who lives, who ends, and who may spend how much.

Consumes spawn.requested, reap.requested, grant.requested and snapshot.compressed.
Emits persona.spawned, persona.draining, persona.reaped, thought.sealed, spawn.refused and budget.granted, settled, exhausted.
"""
