"""Verifier: is a proposal what it says, and is its evidence real.

Consumes `proposal.created`, `proposal.filed`. Emits `proposal.verified`, `proposal.rejected` (stage `verify`).
"""
