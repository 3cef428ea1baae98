"""The persona runner: hosts many personas and thinks for them, one guarded step at a time. It holds no hands.

Consumes observation.recorded, check.result, proposal.rejected, action.executed, persona.*, budget.granted and exhausted,
cognition.*, intent.assigned and released, recall.answered and its own events. Emits thought.generated, hypothesis.raised,
check.requested, proposal.created, intent.answered, grant.requested, recall.requested.
"""
