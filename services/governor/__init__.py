"""The governor: who lives, who ends, and who may spend how much.

Consumes spawn.requested, swarm.requested, reap.requested, grant.requested, lot.requested, snapshot.compressed, and for the shares of
swarms allocation.changed, limits.changed, budget.limited and persona.spawned.
Emits persona.spawned, persona.founded, draining, parted, reaped, reap.requested, thought.sealed, report.given, spawn.refused,
budget.granted, settled, exhausted, refused, limited, lot.granted and placement.changed.
"""
