"""The memory compactor: the log folded into searchable memory, recalled, compacted, snapshotted to cold storage, restored.

Consumes persona.spawned, persona.draining, thought.generated, hypothesis.raised, check.result, proposal.created, proposal.rejected,
approval.granted, approval.denied, action.executed, recall.requested. Emits snapshot.compressed, snapshot.delayed, recall.answered.
"""
