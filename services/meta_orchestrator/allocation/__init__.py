"""Who is to have how much of the global budget: measured demand, a fair target, and a table when it matters.

Emits allocation.changed. `target.py` is the target, `measuring.py` what it rests on, `decider.py` when to say so.
"""
