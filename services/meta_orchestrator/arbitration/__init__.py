"""Arbitration: which of the verified proposals that touch one target, or rest on grounds that contradict each other, goes first."""
