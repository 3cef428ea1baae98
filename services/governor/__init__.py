"""The governor: who lives, who ends, and who may spend how much.

Consumes spawn.requested, reap.requested, grant.requested, lot.requested and snapshot.compressed.
Emits persona.spawned, persona.draining, persona.reaped, thought.sealed, spawn.refused, budget.granted, settled, exhausted lot.granted and
placement.changed.
"""
