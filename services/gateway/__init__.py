"""The gateway: HTTP control API, event stream and approvals inbox, all answered from projections of the log.

Consumes every class but `recall.requested`. Emits `observation.recorded`, `spawn.requested`, `reap.requested`,
`cognition.started`, `cognition.stopped`, `approval.granted`, `approval.denied` and `recall.requested`.
"""
