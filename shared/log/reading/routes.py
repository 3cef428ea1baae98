"""Who asked for what of a reading that was made for many."""

from __future__ import annotations

from collections.abc import Sequence

_Shape = tuple[int, tuple[int, ...]]
"""Of a filter: how many tokens it has, and which of them are literal."""


class Routes:
    """Which of many filters a subject matches, without looking at each of them."""

    def __init__(self, askers: Sequence[Sequence[str]]) -> None:
        """`askers`: the filters of each; none of them ends in `>`."""
        self._by_shape: dict[_Shape, dict[tuple[str, ...], list[int]]] = {}
        for number, filters in enumerate(askers):
            for subject_filter in filters:
                tokens = subject_filter.split(".")
                literal = tuple(at for at, token in enumerate(tokens) if token != "*")
                known = self._by_shape.setdefault((len(tokens), literal), {})
                by = known.setdefault(tuple([tokens[at] for at in literal]), [])
                if not by or by[-1] != number:
                    by.append(number)

    def of(self, subject: str) -> set[int]:
        """The numbers of the askers."""
        tokens = subject.split(".")
        found: set[int] = set()
        for (length, literal), known in self._by_shape.items():
            if length == len(tokens):
                found.update(known.get(tuple([tokens[at] for at in literal]), ()))
        return found


def runs(seqs: Sequence[int], gap: int, most: int) -> list[tuple[int, int]]:
    """First and last of stretches that have all of these sequences: none longer than `most`, nowhere more than `gap` between two."""
    found: list[tuple[int, int]] = []
    for seq in sorted(set(seqs)):
        if found and seq - found[-1][1] <= gap and seq - found[-1][0] < most:
            found[-1] = found[-1][0], seq
        else:
            found.append((seq, seq))
    return found
