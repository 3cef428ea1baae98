"""Checker: is a hypothesis borne out by the log, or by what its persona remembers.

It reads what outsiders wrote, so like runners it is in an account of its own, and what it says bears its slot.

Consumes `check.requested`, and `recall.answered` while a probe waits for it. Emits `check.result`, `recall.requested`.
"""
