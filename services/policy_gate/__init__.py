"""Policy gate: may this be done, and did enough people agree; the only service that signs permission to act.

Consumes `proposal.verified`, `conflict.settled`, `approval.requested` (its own, as a durable timer), `approval.granted`, `approval.denied`.
Emits `proposal.authorized`, `proposal.rejected` (stages `policy`, `approval` and `arbitration`), `approval.requested`.
"""
