"""What of that which was delivered to a persona came from outside: its taint, by the log and not by its word.

Theory of operation. Taint is a union over all that a persona may have been told, cited or not, and nothing but an approval of one action
clears it; so it only grows, and one tainted delivery before a proposal settles it. What is looked for is therefore the *first*: read
once from the beginning of the log, and remembered. Whoever has been told nothing yet is followed in what the verifier hears (`hearing`);
only where that does not reach, what came since is read, and proposals that wait for the same reading share it.

Told to a persona is: observations for it or its whole swarm, intents it is assigned, what came of those it wanted, results of its checks,
answers to its actions, beliefs it may read, its charter (in which the words of its parent are, and so what that one was told before the
birth), and what its descendants in its swarm were told, whose memory it may read. What a person vouched for (`observation.vouched`) is not
from outside.

What it comes from is told in single words too (`labels`), for policies. They are of the first that came from outside, no more: that
*something* did is known of everything, but what else did would have to be read for ever of those who are tainted, which is of everybody
who watches anything.

Invariant: who is *followed* has taken in, by reading and then by hearing, all that was told to it up to where the verifier has heard.

Fail closed: of whoever's birth is not in the log, or where the beginning of the log is gone, everything may have come from outside.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

import msgspec

from shared.contracts.catalog import class_filter
from shared.contracts.envelope import Recorded, Stored
from shared.contracts.events import (
    ActionExecuted,
    AnyEvent,
    BeliefEvent,
    CheckResult,
    IntentAssigned,
    ObservationRecorded,
    PersonaSpawned,
    ReportGiven,
)
from shared.contracts.ids import EVERYONE
from shared.contracts.text import plain
from shared.evidence import is_tainted
from shared.log.port import Log
from shared.policy.library import Library
from shared.runtime.heard import Heard

KEPT = 4096
"""Personas of whom it is remembered; of one that was forgotten it is read again."""
FIRST_PAGE, PAGE = 32, 2_000
MAX_LINEAGE, MAX_DESCENDANTS = 64, 64
NEVER = 2**63
Whose = tuple[str, str]
UNKNOWN = "unknown"


class Outside(msgspec.Struct, frozen=True):
    """Where something came from outside: in words, and in single ones. Without words nothing did."""

    words: str = ""
    labels: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.words)

    def by(self, then: Outside) -> Outside:
        """This way, and what came by it."""
        return Outside(self.words + then.words, tuple(dict.fromkeys((*self.labels, *then.labels))))


def label(event: AnyEvent) -> str:
    """What kind of delivery it is."""
    match event:
        case ObservationRecorded():
            return "observation"
        case ActionExecuted():
            return "answer"
        case IntentAssigned():
            return "intent"
        case ReportGiven():
            return "report"
        case CheckResult():
            return "check"
        case BeliefEvent():
            return "belief"
        case _:
            return UNKNOWN


class Told:
    """`of` is asked at each verification. Raises `LogUnavailable`. Without `heard` what came since is read each time."""

    def __init__(self, log: Log, library: Library, heard: Heard | None = None) -> None:
        self._log, self._library, self._heard = log, library, heard
        self._known: OrderedDict[Whose, _Known] = OrderedDict()
        self._clean: dict[str, dict[str, _Known]] = {}
        """By swarm and persona those of `_known` who were told nothing from outside yet."""
        if heard is not None:
            heard.tell(self)

    async def of(self, swarm: str, persona: str, before: int) -> Outside:
        """Where the first of it came from; without words when all that the persona was told before that sequence is clean."""
        whose, way = (swarm, persona), Outside()
        for _ in range(MAX_LINEAGE):
            known = await self._read(whose, before)
            if outside := known.outside(before):
                return way.by(outside)
            if known.birth is None or known.birth >= before:
                return way.by(Outside(f"nobody can tell how {whose[1]} of {whose[0]} began", (UNKNOWN,)))
            for swarm_, (seq, belief) in known.beliefs.items():
                if seq < before and await self._library.may_cite(belief, *whose):
                    return way.by(Outside(f"belief {seq} of {swarm_}", ("belief",)))
            if len(known.descendants) > MAX_DESCENDANTS:
                return way.by(Outside("it has more descendants than are looked at", (UNKNOWN,)))
            for child in known.descendants:
                if outside := (await self._read((whose[0], child), before)).outside(before):
                    return way.by(Outside(f"told to {child}: ", ("descendant",))).by(outside)
            if known.parent is None:
                return Outside()
            way = way.by(Outside(f"charter, by {known.parent[1]}: ", ("charter",)))
            before, whose = known.birth, known.parent
        return way.by(Outside("more ancestors than are looked at", (UNKNOWN,)))

    def wants(self, subject: str) -> bool:
        """What may be the first from outside for somebody."""
        return bool(self._concerned(subject))

    def take(self, message: Stored) -> None:
        """Take in what was heard, for whom it was told to."""
        for whose, known in self._concerned(message.subject):
            if message.seq <= known.position:
                continue
            if not self._is_followed(known):
                known.missed = message.seq
                continue
            known.position = message.seq
            if isinstance(message, Recorded) and (outside := known.take(message, whose)):
                self._found(whose, known, message.seq, Outside(outside, (label(message.event),)))

    def _concerned(self, subject: str) -> list[tuple[Whose, _Known]]:
        """Of those who were told nothing from outside yet, whom it may be told to."""
        entity, verb, swarm, persona = subject.split(".", 4)[:4]
        match f"{entity}.{verb}":
            case _ if entity == "belief":
                swarms = list(self._clean)
            case "persona.spawned":
                swarms = [swarm]
            case "observation.recorded" if persona == EVERYONE:
                swarms = [swarm]
            case "observation.recorded" | "intent.assigned" | "check.result" | "action.executed" | "report.given":
                known = self._clean.get(swarm, {}).get(persona)
                return [] if known is None else [((swarm, persona), known)]
            case _:
                return []
        return [((name, who), known) for name in swarms for who, known in self._clean.get(name, {}).items()]

    def _is_followed(self, known: _Known) -> bool:
        since = None if self._heard is None else self._heard.since
        return since is not None and known.missed <= known.position >= since and not known.reading.locked()

    async def _read(self, whose: Whose, before: int) -> _Known:
        known = self._known.get(whose)
        if known is None:
            heard = 0 if self._heard is None else self._heard.upto
            known = self._known[whose] = self._clean.setdefault(whose[0], {})[whose[1]] = _Known(missed=heard)
            while len(self._known) > KEPT:
                oldest, forgotten = self._known.popitem(last=False)
                forgotten.missed = NEVER
                self._no_longer_clean(oldest)
        self._known.move_to_end(whose)
        if self._heard is not None and self._heard.upto >= before - 1 and self._is_followed(known):
            return known
        known.wanted = max(known.wanted, before - 1)
        async with known.reading:
            if known.position < before - 1 and known.first is None:
                await self._go_on(whose, known, known.wanted)
        return known

    def _found(self, whose: Whose, known: _Known, seq: int, outside: Outside) -> None:
        known.first = (seq, outside)
        if self._known.get(whose) is known:
            self._no_longer_clean(whose)

    def _no_longer_clean(self, whose: Whose) -> None:
        swarm, persona = whose
        if (of_swarm := self._clean.get(swarm)) is not None:
            of_swarm.pop(persona, None)
            if not of_swarm:
                del self._clean[swarm]

    async def _go_on(self, whose: Whose, known: _Known, upto: int) -> None:
        """Read on, to `upto` or to the first that came from outside."""
        swarm, persona = whose
        filters = (
            f"observation.recorded.{swarm}.{EVERYONE}",
            f"observation.recorded.{swarm}.{persona}",
            class_filter("intent.assigned", swarm, persona),
            class_filter("check.result", swarm, persona),
            class_filter("action.executed", swarm, persona),
            class_filter("report.given", swarm, persona),
            class_filter("persona.spawned", swarm),
            "belief.*.>",
        )
        if known.position == 0 and await self._log.get(1) is None:
            self._found(whose, known, 0, Outside("the beginning of the log is gone", (UNKNOWN,)))
            return
        limit = FIRST_PAGE
        while known.position < upto:
            page = await self._log.read(filters, known.position, upto=upto, limit=limit)
            for recorded in page:
                if outside := known.take(recorded, whose):
                    self._found(whose, known, recorded.seq, Outside(outside, (label(recorded.event),)))
                    return
            known.position = page[-1].seq if len(page) == limit else upto
            limit = PAGE
            await asyncio.sleep(0)  # a long history must not starve other handlers


class _Known(msgspec.Struct, eq=False):
    """Of one persona, as far as it is read or heard. `missed`: heard and not taken in, for something before it is yet to be read.
    `first`: the sequence of the first that came from outside, and where from."""

    position: int = 0
    missed: int = 0
    wanted: int = 0
    first: tuple[int, Outside] | None = None
    beliefs: dict[str, tuple[int, AnyEvent]] = {}
    """Of each swarm the first that is tainted; whether it may be read is for the policies, each time."""
    birth: int | None = None
    parent: Whose | None = None
    descendants: list[str] = []
    reading: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)

    def outside(self, before: int) -> Outside:
        return self.first[1] if self.first is not None and self.first[0] < before else Outside()

    def take(self, recorded: Recorded, whose: Whose) -> str:
        """Where it came from, if from outside."""
        match recorded.event:
            case PersonaSpawned() as event if event.persona == whose[1]:
                self.birth, self.parent = recorded.seq, event.parent
            case PersonaSpawned(identity=identity) as event if event.parent_swarm is None:
                if identity.parent_id == whose[1] or identity.parent_id in self.descendants:
                    self.descendants.append(event.persona)
            case ObservationRecorded(tainted=True, source=source):
                return plain(f"observation {recorded.seq} of {source}", 300)
            case ActionExecuted(output=output) if output:
                return f"answer {recorded.seq} to an action"
            case ReportGiven(kind="answer", by=by) as event if is_tainted(event):
                return f"report {recorded.seq}, by {by or 'several'}"  # of the others, what was told to the descendant tells
            case IntentAssigned(intent_id=intent) as event if is_tainted(event):
                return f"intent {intent}"
            case CheckResult() as event if is_tainted(event):
                return f"result {recorded.seq} of a check"
            case BeliefEvent(swarm=swarm) if is_tainted(recorded.event):
                self.beliefs.setdefault(swarm, (recorded.seq, recorded.event))
            case _:
                pass
        return ""
