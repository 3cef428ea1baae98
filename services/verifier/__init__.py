"""Verifier: is a proposal what it says, and is its evidence real; is a hypothesis borne out by the log or by memory.

Consumes `proposal.created`, `check.requested`, and `recall.answered` while a probe waits for it.
Emits `proposal.verified`, `proposal.rejected` (stage `verify`), `check.result`, `recall.requested`.
"""
