"""The memory compactor: the log folded into searchable memory, recalled, compacted, snapshotted to cold storage, restored;
and what swarms believe, kept from what was confirmed (`believing/`).

Consumes persona.spawned, persona.draining, thought.generated, hypothesis.raised, check.result, proposal.created, proposal.rejected,
approval.granted, approval.denied, action.executed, recall.requested, belief.*. Emits snapshot.compressed, snapshot.delayed,
recall.answered, belief.asserted, belief.confirmed, belief.contested, belief.revised.
"""
