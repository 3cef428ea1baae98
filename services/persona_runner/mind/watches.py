"""The rules that personas have on what they perceive: so many lines of a pattern within a while, or none for a while.

Theory of operation. A fold over `watch.added` and observations in stream order, of all personas of a swarm, whoever hosts them: so nothing
is lost when a persona moves. A line's time is when it was stored, for a rule is about what comes now. Lines are counted in `PARTS` parts
of the while, of which no more than one while is looked at: a rule tells what is so, perhaps a part late. Silence has no line, so a rule of
silence is told by the runner's clock: it is due at `alarm`, and is over with the next line.

A rule that holds is a finding with its probe, told once until it has ceased to hold.
Bounded: `MAX_WATCHES` rules a persona (the actuator refuses more; of more than that the newest stand), each as large as it ever gets.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from shared.contracts.envelope import Recorded
from shared.contracts.events import EvidenceRef, LogCount, ObservationRecorded, WatchAdded
from shared.contracts.ids import EVERYONE
from shared.contracts.kinds.perceiving import MAX_WATCHES
from shared.thinker.perceiving.templates import matcher
from shared.thinker.port import Finding

PARTS = 8
CONFIDENCE = 0.9


class Part(msgspec.Struct, array_like=True):
    """A part of a while: its number since 1970, its lines, and the first of them."""

    number: int
    count: int
    first: EvidenceRef


class Rule(msgspec.Struct, array_like=True):
    """A rule and what it has seen. Times are Unix seconds. `ref` is the last line, before the first the event it was added by, `at` its
    time. `held` since when it holds: its lines, and the first and last of them."""

    said: WatchAdded
    ref: EvidenceRef
    at: float
    parts: list[Part] = []
    held: tuple[int, EvidenceRef, EvidenceRef] | None = None

    def silent_at(self) -> float | None:
        """When it tells of silence, unless a line comes before; None for a rule of lines, or one that is over by then."""
        at = self.at + self.said.silence_s
        return at if self.said.silence_s and at < self.said.until.timestamp() else None

    def see(self, ref: EvidenceRef, at: float) -> None:
        """A line of its pattern."""
        if not self.said.silence_s:
            self._count(ref, at)
        self.ref, self.at = ref, max(at, self.at)

    def _count(self, ref: EvidenceRef, at: float) -> None:
        number = int(at * PARTS // self.said.within_s)
        if not self.parts or self.parts[-1].number < number:
            self.parts.append(Part(number, 0, ref))
        self.parts[-1].count += 1
        self.parts = [part for part in self.parts if part.number > number - PARTS]
        count = sum(part.count for part in self.parts)
        if count < self.said.at_least:
            self.held = None
        elif self.held is None:
            self.held = count, self.parts[0].first, ref

    def finding(self, now: datetime, upto: int) -> Finding | None:
        """What it tells now, if it holds. `upto`: the newest sequence that is perceived."""
        said, source = self.said, self.said.source
        where = f" of {source}" if source else ""
        if said.silence_s:
            at = self.silent_at()
            if at is None or now.timestamp() < at:
                return None
            since = self.ref.seq + 1
            claim = f"no line {said.pattern!r}{where} for {said.silence_s} s, since sequence {self.ref.seq}"
            probe = LogCount(
                template=said.pattern,
                source=source or None,
                first_seq=since,
                last_seq=max(upto, since),
                at_most=0,
            )
            return self._told(claim, self.ref.seq, (self.ref,), probe, datetime.fromtimestamp(at, UTC))
        if self.held is None:
            return None
        count, first, last = self.held
        claim = (
            f"{count} lines {said.pattern!r}{where} within {said.within_s} s, at least {said.at_least} were to be told"
        )
        probe = LogCount(
            template=said.pattern,
            source=source or None,
            first_seq=first.seq,
            last_seq=last.seq,
            at_least=said.at_least,
        )
        return self._told(claim, last.seq, tuple(dict.fromkeys((first, last))), probe, None)

    def _told(
        self, claim: str, seq: int, evidence: tuple[EvidenceRef, ...], probe: LogCount, at: datetime | None
    ) -> Finding:
        return Finding(
            topic=f"watch {self.said.name}",
            kind="watch",
            seq=seq,
            claim=f"The rule {self.said.name}: {claim}",
            confidence=CONFIDENCE,
            evidence=evidence,
            probe=probe,
            source=self.said.source,
            at=at,
        )


class Watches:
    """The rules of one swarm's personas, by persona and name, the newest last."""

    def __init__(self) -> None:
        self.rules: dict[str, dict[str, Rule]] = {}

    def add(self, recorded: Recorded) -> None:
        """Take a rule in; in the place of one of its name, or out when it is over at once."""
        event = recorded.event
        if not isinstance(event, WatchAdded):
            return
        at = recorded.stored_at.timestamp()
        own = {
            name: rule
            for name, rule in self.rules.pop(event.persona, {}).items()
            if name != event.name and rule.said.until.timestamp() > at
        }
        if event.until > recorded.envelope.time:
            own[event.name] = Rule(event, EvidenceRef(id=recorded.id, seq=recorded.seq), at)
        if own:
            self.rules[event.persona] = dict(list(own.items())[-MAX_WATCHES:])

    def copied(self) -> dict[str, dict[str, Rule]]:
        """All of it, as a checkpoint keeps it while lines go on coming."""
        return msgspec.msgpack.decode(msgspec.msgpack.encode(self.rules), type=dict[str, dict[str, Rule]])

    def drop(self, persona: str) -> None:
        """It is gone."""
        self.rules.pop(persona, None)

    def see(self, recorded: Recorded) -> None:
        """Take an observation in, for those who perceive it."""
        event = recorded.event
        if not self.rules or not isinstance(event, ObservationRecorded):
            return
        at, ref = recorded.stored_at.timestamp(), EvidenceRef(id=recorded.id, seq=recorded.seq)
        known: dict[str, bool] = {}
        whose = self.rules.values() if event.persona == EVERYONE else (self.rules.get(event.persona, {}),)
        for own in whose:
            for rule in own.values():
                said = rule.said
                if said.source not in ("", event.source) or said.until.timestamp() <= at:
                    continue
                if said.pattern not in known:
                    known[said.pattern] = _matcher(said.pattern)(event.text)
                if known[said.pattern]:
                    rule.see(ref, at)

    def alarm(self, persona: str, after: datetime) -> datetime | None:
        """The first time later than `after` at which a rule of the persona's tells, or told, of silence that still lasts."""
        ats = (rule.silent_at() for rule in self.rules.get(persona, {}).values())
        found = [one for at in ats if at is not None and (one := datetime.fromtimestamp(at, UTC)) > after]
        return min(found, default=None)

    def findings(
        self, persona: str, now: datetime, *, upto: int, after_seq: int = 0, after: datetime | None = None
    ) -> tuple[Finding, ...]:
        """What the persona's rules tell now: of lines those that began to hold after a sequence, of silence after a time."""
        told = []
        for rule in self.rules.get(persona, {}).values():
            if rule.said.until <= now or (finding := rule.finding(now, upto)) is None:
                continue
            is_new = finding.seq > after_seq if finding.at is None else after is None or finding.at > after
            if is_new:
                told.append(finding)
        return tuple(told)


@lru_cache(maxsize=4096)
def _matcher(pattern: str) -> Callable[[str], bool]:
    return matcher(pattern)
