"""Four eyes: who is on the side of a proposal and so does not approve it.

On its side are those who spawned the persona or one of its ancestors, and those who fed it: whoever, before the proposal,
recorded an observation for the whole swarm, for the persona, or for one of its ancestors, vouched for or not. What was delivered
counts, cited or not: words that turned a persona need not be the words it cites. Who answered a question is on no side for that.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from shared.contracts.envelope import Recorded
from shared.contracts.events import ObservationRecorded
from shared.contracts.ids import EVERYONE
from shared.evidence import ANSWER

LOCAL = "local"
"""The principal of whoever is at a mesh without keys: one person, who may approve what they asked for. No key is named so."""


class Feeders(msgspec.Struct, kw_only=True):
    """By `<swarm>.<persona>` (`all`: the whole swarm): who recorded anything, each with the sequence of the first."""

    first: dict[str, dict[str, int]] = {}

    def apply(self, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, ObservationRecorded) and not event.source.startswith(ANSWER):
            self.first.setdefault(f"{event.swarm}.{event.persona}", {}).setdefault(event.principal, recorded.seq)

    def of(self, swarm: str, family: Iterable[str], before: int) -> frozenset[str]:
        """Who fed the swarm or one of the family before that sequence."""
        fed = (self.first.get(f"{swarm}.{name}", {}) for name in (EVERYONE, *family))
        return frozenset(principal for each in fed for principal, seq in each.items() if seq < before)
