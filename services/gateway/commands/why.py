"""The whole story of one decision, gathered from the log: from what was observed to what came of it.

Theory. A proposal's life is the subjects that carry its id. What it rests on is found backwards: by the hypothesis it names, the checks of
that, the thought it was made with, and whatever any of these cites, by sequence and checked against the id. Everything is bounded, and what
is left out, gone or not this reader's to see is counted, never passed over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from services.gateway.commands.bus import Bus
from services.gateway.commands.votes import Which, find
from services.gateway.front.reading import Reader
from services.gateway.projections.journal import detail_of, principal_of
from services.gateway.projections.proposals import Life
from services.gateway.projections.signatures import checked
from services.gateway.wire.ids import as_given
from services.gateway.wire.lives import Story, StoryEvent
from services.gateway.wire.problems import Problem
from shared.contracts.catalog import class_filter, class_of
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    AnyEvent,
    CheckRequested,
    CheckResult,
    EvidenceRef,
    HypothesisRaised,
    ProposalCreated,
    ProposalEvent,
)
from shared.contracts.ids import CORE
from shared.contracts.text import plain
from shared.signers import Signers

MAX_EVENTS = 200
"""Of one story; those nearest to the decision come first when there are more."""
REACH = 100_000
"""Sequences before a proposal in which its hypothesis and the checks of it are looked for."""
PAGE, PAGES = 500, 20
NEAR = 64
"""Sequences before a proposal in which the thought it was made with stands; they are one batch."""
SAID_CHARS = 300
_ROADS = ("hypothesis.raised", "check.requested", "check.result")


class Found(msgspec.Struct):
    """What is gathered so far, by sequence."""

    events: dict[int, Recorded] = {}
    missing: dict[tuple[int, str], None] = {}
    hidden: int = 0
    left_out: int = 0


async def why(bus: Bus, reader: Reader, signers: Signers, name: str, which: Which) -> Story:
    """The story of a proposal by its id, or of any event by its id or sequence. Raises `Problem`: 404, 409 as of a proposal."""
    life, start = await _asked(bus, name, which)
    found = Found()
    if life is not None:
        for recorded in life.events:
            _take(found, reader, recorded)
        for recorded in await _roads(bus, life.created, life.events[0].seq):
            _take(found, reader, recorded)
    elif start is not None:
        _take(found, reader, start)
    await _backwards(bus, reader, found)
    return _told(life, start, found, signers)


async def _asked(bus: Bus, name: str, which: Which) -> tuple[Life | None, Recorded | None]:
    """The life the name is of, or the one event."""
    try:
        return await find(bus, which), None
    except Problem as problem:
        if problem.status != 404:
            raise
    recorded = await _event(bus, name)
    if recorded is None:
        detail = f"there is no proposal {name[:60]!r}, and no event of that id is remembered; an older one is found by its sequence"
        raise Problem(404, detail, reason="event_missing")
    if not isinstance(event := recorded.event, ProposalEvent):
        return None, recorded
    try:
        return await find(bus, Which(proposal_id=event.proposal_id, swarm=event.swarm, persona=event.persona)), None
    except Problem as problem:
        if problem.status != 404:
            raise
        return None, recorded  # its beginning is gone, or does not count


async def _event(bus: Bus, name: str) -> Recorded | None:
    """By its id as far as the gateway remembers it, or by its sequence."""
    projection = bus.feed.projection
    lives = (r for life in projection.proposals.lives.values() for r in life.events if r.id == name)
    if (known := next(lives, None)) is not None:
        return known
    seqs = [entry.seq for entry in projection.journal.newest() if entry.id == name][:1]
    if not seqs and name.isascii() and name.isdigit() and len(name) <= 15 and int(name) > 0:
        seqs, name = [int(name)], ""
    for seq in seqs:
        stored = await bus.log.get(seq)
        if isinstance(stored, Recorded) and name in ("", stored.id):
            return stored
    return None


async def _roads(bus: Bus, created: ProposalCreated, seq: int) -> list[Recorded]:
    """The hypothesis it names, the checks of that, and the thought it was made with."""
    heard = bus.feed.projection.heard
    found: list[Recorded] = []
    filters = tuple(class_filter(name, created.swarm, created.persona) for name in _ROADS)
    after = max(0, seq - REACH)
    for _ in range(PAGES if created.hypothesis_id is not None else 0):
        page = await bus.log.read(filters, after, upto=seq, limit=PAGE)
        found.extend(r for r in page if _hypothesis(r.event) == created.hypothesis_id and heard(r))
        if len(page) < PAGE:
            break
        after = page[-1].seq
    thoughts = (class_filter("thought.generated", created.swarm, created.persona),)
    near = await bus.log.read(thoughts, max(0, seq - NEAR), upto=seq)
    return [*found, *[r for r in near if heard(r)][-1:]]


def _hypothesis(event: AnyEvent) -> str | None:
    return event.hypothesis_id if isinstance(event, HypothesisRaised | CheckRequested | CheckResult) else None


async def _backwards(bus: Bus, reader: Reader, found: Found) -> None:
    """Whatever is cited, and what that cites."""
    waiting = deque(ref for seq in sorted(found.events, reverse=True) for ref in cites(found.events[seq].event))
    looked: set[int] = set()
    while waiting:
        ref = waiting.popleft()
        if ref.seq in found.events or ref.seq in looked:
            continue
        looked.add(ref.seq)
        if len(found.events) + len(found.missing) + found.hidden >= MAX_EVENTS:
            found.left_out += 1
            continue
        stored = await bus.log.get(ref.seq)
        if not isinstance(stored, Recorded) or stored.id != ref.id:
            found.missing[ref.seq, ref.id] = None
        elif _take(found, reader, stored):
            waiting.extend(cites(stored.event))


def cites(event: AnyEvent) -> Iterable[EvidenceRef]:
    """What an event says that it rests on."""
    return tuple(getattr(event, "evidence", ()))


def _take(found: Found, reader: Reader, recorded: Recorded) -> bool:
    if not reader.sees(recorded):
        found.hidden += 1
        return False
    if recorded.seq not in found.events and len(found.events) >= MAX_EVENTS:
        found.left_out += 1
        return False
    found.events[recorded.seq] = recorded
    return True


def _told(life: Life | None, start: Recorded | None, found: Found, signers: Signers) -> Story:
    of: AnyEvent | None = life.created if life is not None else start.event if start is not None else None
    assert of is not None
    seqs = {r.id: r.seq for r in found.events.values()}
    view = None if life is None else life.view()
    return Story(
        proposal_id=None if view is None else view.id,
        swarm_id=as_given(of.swarm),
        persona_id=as_given(of.persona),
        title=plain(detail_of(of), SAID_CHARS) if view is None else view.title,
        status=None if view is None else view.status,
        outcome=None if life is None or life.executed is None else (life.resolved or life.executed).outcome,
        events=tuple(_line(found.events[seq], seqs, signers) for seq in sorted(found.events)),
        missing=tuple(f"{seq} {plain(event_id, 64)}" for seq, event_id in found.missing),
        hidden=found.hidden,
        left_out=found.left_out,
    )


def _line(recorded: Recorded, seqs: dict[str, int], signers: Signers) -> StoryEvent:
    event, envelope = recorded.event, recorded.envelope
    causes = {seqs[ref.id] for ref in cites(event) if ref.id in seqs}
    if envelope.causation in seqs:
        causes.add(seqs[envelope.causation])
    slot = getattr(event, "slot", CORE)
    principal = principal_of(event)
    return StoryEvent(
        id=recorded.id,
        seq=recorded.seq,
        type=class_of(event),
        time=envelope.time,
        who=plain(principal or (envelope.source if slot == CORE else f"{envelope.source} ({slot})"), 120),
        is_person=principal is not None,
        said=plain(detail_of(event), SAID_CHARS),
        because=tuple(sorted(causes - {recorded.seq})),
        causation_id=envelope.causation,
        signature=checked(recorded, signers),
    )
