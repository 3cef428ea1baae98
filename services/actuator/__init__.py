"""Actuator: does what was authorised, once, and says how it went. The only service with hands.

Consumes `proposal.authorized`. Emits `lot.requested`, `action.delayed`, `action.claimed`, `target.held`, `action.executed`.
"""
