"""What a claim rests on in the end. Pure.

Grounds are words from outside that reached the claimant, each by a digest of how it reads: so neither an event cited twice, nor the
same line recorded twice, nor anything a persona said itself is a ground of its own. A measurement is what it measured.
Tainted is a union: one outsider's word is enough, and so is one citation that is not there, or that nobody vouches for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from shared.contracts.envelope import Recorded, Stored
from shared.contracts.events import (
    BeliefEvent,
    CheckResult,
    EvidenceRef,
    ObservationRecorded,
)
from shared.contracts.events.beliefs import MAX_GROUNDS
from shared.contracts.ids import EVERYONE
from shared.evidence import is_tainted, says_tainted
from shared.memory.dedup import normalise

MAX_CITED = 64
Cited = tuple[EvidenceRef, Stored | None]
"""A citation, and what the log holds at its sequence."""


def first(refs: Iterable[EvidenceRef]) -> tuple[EvidenceRef, ...]:
    """Each citation once, and so many at most."""
    return tuple(dict.fromkeys(refs))[:MAX_CITED]


def measured(cited: Iterable[Cited], swarm: str) -> tuple[EvidenceRef, ...]:
    """What was measured, where measurements are cited."""
    results = (r.event for ref, r in cited if _is(ref, r) and isinstance(r, Recorded))
    return first(ref for e in results if isinstance(e, CheckResult) and e.swarm == swarm for ref in e.evidence)


def weigh(cited: Iterable[Cited], swarm: str, persona: str) -> tuple[tuple[str, ...], bool]:
    """The grounds, and whether anything cited is tainted."""
    grounds: dict[str, None] = {}
    tainted = False
    for ref, found in cited:
        if not _is(ref, found) or not isinstance(found, Recorded) or found.event.swarm not in (swarm, EVERYONE):
            tainted = True
            continue
        match found.event:
            case ObservationRecorded(text=text) as event if event.persona in (EVERYONE, persona):
                grounds[ground_of(text)] = None
                tainted = tainted or is_tainted(event)
            case CheckResult() as event:  # what it measured is among what is cited
                tainted = tainted or says_tainted(event)
            case BeliefEvent() as event:
                tainted = tainted or is_tainted(event)
            case _:
                tainted = True
    return tuple(grounds)[:MAX_GROUNDS], tainted


def ground_of(text: str) -> str:
    """16 hex digits."""
    return hashlib.sha256(normalise(text).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _is(ref: EvidenceRef, found: Stored | None) -> bool:
    return isinstance(found, Recorded) and found.id == ref.id
