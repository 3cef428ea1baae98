"""Actuator: does what was authorised, once, and says how it went. The only service with hands.

Consumes `proposal.authorized`; `persona.spawned` and `spawn.refused`, which answer what it asked for. Emits `lot.requested`,
`action.delayed`, `action.claimed`, `target.held`, `action.executed`; and for the kinds that are said to the mesh
`spawn.requested`, `reap.requested`, `report.given`, `intent.submitted`, `intent.delegated`, `question.asked`, `watch.added`; at its start
`rows.declared`.
"""
