"""The projection that hosts many personas: their states, what they perceive, and who is due.

Fed by one ordered tail of the log. A persona belongs to a shard, and only those of the host's shards are kept. Own commits are
applied when they are stored and skipped when the tail brings them; anything older of other services still comes in between,
which is why the skipped ones are remembered one by one. A shard or persona that is being loaded buffers what the tail brings
and takes it in afterwards: the loading reads up to the host's position, the buffer begins behind it, so nothing is missed
and nothing comes twice. A checkpoint is the host at a position; restored, it is fed by a tail from there, and shards it
lacks are loaded like any other.

Nothing here grows with time: gone personas are dropped, stale entries of the schedule are swept out.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import msgspec

from services.persona_runner.mind.cadence import Limits, cursor, due_at, looked
from services.persona_runner.mind.goals import current
from services.persona_runner.mind.specialists import Specialists
from services.persona_runner.mind.state import State, counted, evolve
from services.persona_runner.mind.steps import Percepts
from services.persona_runner.mind.watches import Rule, Watches
from shared.contracts.catalog import owner
from shared.contracts.envelope import Message, Recorded, Stored, Unreadable
from shared.contracts.events import (
    CognitionStarted,
    CognitionStopped,
    ObservationRecorded,
    PersonaReaped,
    PersonaSpawned,
    PlacementChanged,
    RowsDeclared,
    WatchAdded,
)
from shared.contracts.ids import EVERYONE, slot_of
from shared.log.marks import Trail
from shared.placement import Change, Placements, shard_of, share_of
from shared.thinker.perceiving.perception import Perception
from shared.thinker.port import Percept

Key = tuple[str, str]
"""Swarm and persona."""

SAMPLES = 8
ELSEWHERE = -1
"""No shard of anybody."""


class Member:
    """One hosted persona. `fed_seq`: last event the tail brought for it; `ahead`: own commits the tail has yet to bring;
    `passed_seq`: newest observation it was looked at with and slept on; `due`: its valid entry in the schedule."""

    __slots__ = ("ahead", "due", "fed_seq", "flying", "passed_seq", "senses", "state")

    def __init__(self) -> None:
        self.state = State()
        self.fed_seq = 0
        self.ahead: set[int] | None = None
        self.passed_seq = 0
        self.due: float | None = None
        self.flying = False
        self.senses: Perception | None = None


class Swarm:
    """One swarm's personas here, what all of them perceive, and whom the next observation would wake."""

    __slots__ = ("asleep", "heard_seq", "members", "perception", "specialists", "watches")

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self.asleep: set[str] = set()
        self.heard_seq = 0
        self.perception = Perception()
        self.watches = Watches()
        self.specialists = Specialists()


class Kept(msgspec.Struct, array_like=True):
    """One member, as it is checkpointed. What it has slept on is not: it is looked at once more instead."""

    state: State
    ahead: list[int]
    senses: bytes | None


class Hosted(msgspec.Struct, array_like=True):
    """A host, as it is checkpointed. `shards` of `shard_count` are whole, but for swarms that are `apart`; `swarms`: name, newest
    observation, perception."""

    position: int
    shard_count: int
    apart: list[str]
    shards: list[int]
    controls: dict[str, tuple[int, int]]
    swarms: list[tuple[str, int, bytes]]
    members: list[Kept]
    rows: RowsDeclared | None = None
    watches: dict[str, dict[str, dict[str, Rule]]] = {}
    specialists: dict[str, Specialists] = {}


class Host:
    """See the module's theory. Synchronous: it waits for nothing and does nothing outside.

    `runner` is the instance it is in, whose number is its slot: raises `ValueError` where there is none. `serves`: the only swarms
    whose personas are hosted here; none is all but those that are served by others alone.
    """

    def __init__(
        self, *, shards: int, thinker: str, runner: str, serves: Iterable[str] = (), limits: Limits | None = None
    ) -> None:
        self.shard_count = shards
        self.serves = tuple(sorted(set(serves)))
        self.limits = limits or Limits()
        self.shards: set[int] = set()
        self.position = 0
        self.trail = Trail()
        self.slot = slot_of(runner)
        self._thinker, self._runner = thinker, runner
        self.placements = Placements()
        self._apart: frozenset[str] = frozenset()
        self._swarms: dict[str, Swarm] = {}
        self._controls: dict[str, tuple[int, int]] = {}
        self.rows: RowsDeclared | None = None
        self._joining: dict[Key | int, list[Stored]] = {}
        self._heap: list[tuple[float, str, str]] = []

    # -- the tail ----------------------------------------------------------------------------------------------------

    def feed(self, message: Stored) -> None:
        """Take in the next message of the tail."""
        if message.seq <= self.position:
            return
        self.position = message.seq
        self.trail.add(message)
        if isinstance(message, Unreadable):
            self._personal(message)
        else:
            self._hear(message)

    def _hear(self, recorded: Recorded) -> None:
        event = recorded.event
        match event:
            case CognitionStarted() | CognitionStopped():
                interval = event.loop_interval_ms if isinstance(event, CognitionStarted) else 0
                self._controls[event.swarm] = (recorded.seq, interval)
                for name in self._swarms if event.swarm == EVERYONE else (event.swarm,):
                    self._reschedule(name)
            case ObservationRecorded(persona="all"):
                swarm = self._swarms.setdefault(event.swarm, Swarm())
                swarm.perception.add(recorded)
                swarm.watches.see(recorded)
                swarm.specialists.see(recorded)
                swarm.heard_seq = recorded.seq
                asleep, swarm.asleep = swarm.asleep, set()
                for persona in asleep:
                    self._schedule((event.swarm, persona))
            case PlacementChanged():
                self.placements.add(recorded)
            case RowsDeclared():
                self.rows = event
            case ObservationRecorded() | WatchAdded() | PersonaReaped() | PersonaSpawned():
                self._watch(self._swarms.setdefault(event.swarm, Swarm()), recorded)
                self._personal(recorded)
            case _:
                self._personal(recorded)

    def _watch(self, swarm: Swarm, recorded: Recorded) -> None:
        """Rules and specialists are kept of everybody, whoever hosts them."""
        match recorded.event:
            case WatchAdded():
                swarm.watches.add(recorded)
            case PersonaSpawned():
                rule = swarm.specialists.born(recorded)
                if rule is not None:
                    swarm.watches.add(msgspec.structs.replace(recorded, event=rule))
            case PersonaReaped() as event:
                swarm.watches.drop(event.persona)
                swarm.specialists.gone(event)
            case _:
                swarm.watches.see(recorded)

    def _personal(self, message: Stored) -> None:
        key = owner(message.subject)
        if key is None or (shard := self.shard(key)) not in self.shards:
            return
        buffer = self._joining.get(key)
        if buffer is None:
            buffer = self._joining.get(shard)
        if buffer is None:
            self._take(key, message)
        else:
            buffer.append(message)

    def _take(self, key: Key, message: Stored) -> None:
        member = self._member(key)
        if member is None:
            if not _is_birth(message):
                return
            member = self._swarms.setdefault(key[0], Swarm()).members[key[1]] = Member()
        member.fed_seq = message.seq
        if member.ahead is not None and message.seq in member.ahead:
            member.ahead.discard(message.seq)
            member.ahead = member.ahead or None
            return
        self._evolve(key, member, message)
        self._schedule(key)

    def _evolve(self, key: Key, member: Member, message: Stored, *, own: bool = False) -> None:
        """What a runner says that does not hold the persona counts where guards do, and nowhere else."""
        member.state = counted(member.state, message)
        if isinstance(message, Unreadable) or (not own and self.placements.why_not(message) is not None):
            return
        recorded = message
        member.state = evolve(member.state, recorded)
        if isinstance(recorded.event, ObservationRecorded):
            member.senses = member.senses or Perception()
            member.senses.add(recorded)
        if not member.state.alive:
            swarm = self._swarms[key[0]]
            swarm.members.pop(key[1], None)
            swarm.asleep.discard(key[1])

    # -- shards ------------------------------------------------------------------------------------------------------

    def begin(self, what: Key | int) -> int:
        """Begin to load a shard or a persona: read its events up to the answered sequence, `install` them, then `end`."""
        if isinstance(what, int):
            self.shards.add(what)
        self._joining[what] = []
        return self.position

    def install(self, messages: Sequence[Stored]) -> None:
        """One persona's messages from its first on, in order; what was known of it before is forgotten.

        Nobody is there before its birth: as from the tail, what was said to it earlier (the request for it too) does not count,
        but where guards do.
        """
        birth = next((n for n, message in enumerate(messages) if _is_birth(message)), None)
        if birth is None or (key := owner(messages[birth].subject)) is None or self.shard(key) not in self.shards:
            return
        member = Member()
        swarm = self._swarms.setdefault(key[0], Swarm())
        swarm.members[key[1]] = member
        for message in messages[:birth]:
            member.state = counted(member.state, message)
        for message in messages[birth:]:
            self._evolve(key, member, message)
        member.fed_seq = messages[-1].seq
        self._schedule(key)

    def end(self, what: Key | int) -> None:
        """Loading is done: take in what came meanwhile."""
        for message in self._joining.pop(what, ()):
            if (key := owner(message.subject)) is not None:
                self._take(key, message)

    def lose(self, shards: Iterable[int]) -> None:
        """Forget the personas of these shards."""
        gone = set(shards)
        self.shards -= gone
        for what in [w for w in self._joining if (w if isinstance(w, int) else self.shard(w)) in gone]:
            del self._joining[what]
        for name, swarm in self._swarms.items():
            for persona in [p for p in swarm.members if self.shard((name, p)) in gone]:
                del swarm.members[persona]
                swarm.asleep.discard(persona)

    def share(self) -> frozenset[int]:
        """The shards the governor has given to this slot, as far as is known; none where it reckons with other shards."""
        current = self.placement
        if current is None or current.shards != self.shard_count:
            return frozenset()
        return share_of(self.slot, current.slots, self.shard_count)

    @property
    def placement(self) -> Change | None:
        """The governor's last word on the swarms that are served here."""
        return self.placements.current(self.serves[0] if self.serves else EVERYONE)

    def regroup(self) -> None:
        """Reckon with the swarms that are served apart as of now; when they have changed, all shards are to be loaded anew."""
        if self.placements.apart != self._apart:
            self.lose(self.shards)
            self._apart = self.placements.apart

    def shard(self, key: Key) -> int:
        """The persona's shard; `ELSEWHERE` for those of a swarm that is not served here."""
        if key[0] not in self.serves if self.serves else key[0] in self._apart:
            return ELSEWHERE
        return shard_of(*key, self.shard_count)

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def capture(self) -> Hosted:
        """A copy of everything up to `position`, and of own commits the tail has yet to bring, but for shards being loaded."""
        loading = {what if isinstance(what, int) else self.shard(what) for what in self._joining}
        whole = self.shards - loading
        return Hosted(
            position=self.position,
            shard_count=self.shard_count,
            apart=sorted(self._apart),
            shards=sorted(whole),
            controls=dict(self._controls),
            swarms=[(name, swarm.heard_seq, swarm.perception.state()) for name, swarm in self._swarms.items()],
            members=[
                Kept(m.state, sorted(m.ahead or ()), m.senses.state() if m.senses else None)
                for name, swarm in self._swarms.items()
                for persona, m in swarm.members.items()
                if not loading or self.shard((name, persona)) in whole
            ],
            rows=self.rows,
            watches={name: swarm.watches.copied() for name, swarm in self._swarms.items() if swarm.watches.rules},
            specialists={name: copied(swarm.specialists) for name, swarm in self._swarms.items()},
        )

    def restore(self, hosted: Hosted, shards: Iterable[int]) -> None:
        """Go on from what was captured, with those of `shards` that are whole in it; to be called before anything else."""
        self.position, self._controls, self.rows = hosted.position, hosted.controls, hosted.rows
        self._apart = self.placements.apart
        if hosted.shard_count == self.shard_count and set(hosted.apart) == self._apart:
            self.shards = set(shards) & set(hosted.shards)
        for name, heard_seq, perception in hosted.swarms:
            swarm = self._swarms[name] = Swarm()
            swarm.heard_seq = heard_seq
            swarm.perception.restore(perception)
            swarm.watches.rules = hosted.watches.get(name, {})
            swarm.specialists = hosted.specialists.get(name) or Specialists()
        for kept in hosted.members:
            key = (kept.state.swarm, kept.state.persona)
            if self.shard(key) in self.shards:
                member = self._swarms[key[0]].members[key[1]] = Member()
                member.state, member.ahead = kept.state, set(kept.ahead) or None
                if kept.senses is not None:
                    member.senses = Perception()
                    member.senses.restore(kept.senses)
                self._schedule(key)

    # -- steps -------------------------------------------------------------------------------------------------------

    def due(self, now: datetime, limit: int) -> list[Key]:
        """Up to `limit` personas to look at now; each is in flight until `settle`."""
        found: list[Key] = []
        until = now.timestamp()
        while self._heap and self._heap[0][0] <= until and len(found) < limit:
            at, swarm, persona = heapq.heappop(self._heap)
            member = self._member((swarm, persona))
            if member is not None and not member.flying and member.due == at:
                member.state = current(member.state, now)
                member.due, member.flying = None, True
                found.append((swarm, persona))
        return found

    def overdue(self, now: datetime) -> int:
        """How many are due and not in flight."""
        until = now.timestamp()
        members = (m for swarm in self._swarms.values() for m in swarm.members.values())
        return sum(m.due is not None and m.due <= until for m in members)

    def next_due(self) -> float | None:
        """The Unix time of the next entry in the schedule, in seconds; None when it is empty."""
        return self._heap[0][0] if self._heap else None

    def state(self, key: Key) -> State | None:
        """The persona as it is known now; None when it is not hosted here."""
        member = self._member(key)
        return None if member is None else member.state

    def percepts(self, key: Key, now: datetime) -> Percepts:
        """The facts of a tick. The persona must be hosted here."""
        swarm = self._swarms[key[0]]
        member = swarm.members[key[1]]
        interval = self.loop_interval_ms(key[0])
        after = cursor(member.state)
        shared = (swarm.perception, swarm.specialists.attention(key[1]))
        senses: list[tuple[Perception, Callable[[str], bool] | None]] = [shared]
        if member.senses is not None:
            senses.append((member.senses, None))
        findings, asked = {}, bool(member.state.assigned)
        if member.state.hypotheses or asked:
            findings = {f.topic: f for sense, perceives in senses for f in sense.percept(0, 0, perceives).findings}
            findings |= {f.topic: f for f in swarm.specialists.open(member.state)}
            findings |= {f.topic: f for f in swarm.watches.findings(key[1], now, upto=swarm.heard_seq)}
        percept = merged([sense.percept(after, SAMPLES, perceives) for sense, perceives in senses])
        since = looked(member.state)
        told = swarm.watches.findings(key[1], now, upto=percept.last_seq, after_seq=after, after=since)
        busy = swarm.specialists.findings(member.state, after)
        if told or busy:
            percept = msgspec.structs.replace(percept, findings=(*busy, *percept.findings, *told))
        return Percepts(
            running=interval > 0,
            loop_interval_ms=interval or 1,
            percept=percept,
            alarm_at=swarm.watches.alarm(key[1], since),
            findings=findings,
            sources=tuple(
                s for sense, perceives in senses for s in sense.sources() if not perceives or perceives(s.name)
            )
            if asked
            else (),
            lately=merged([sense.percept(0, SAMPLES, perceives) for sense, perceives in senses]).samples
            if asked
            else (),
            rows=() if self.rows is None else tuple(row for row in self.rows.rows if not row.trouble),
            thinker=self._thinker,
            runner=self._runner,
            limits=self.limits,
        )

    def committed(self, key: Key, messages: Sequence[Message], seqs: Sequence[int], now: datetime) -> None:
        """Apply an own commit at once; the tail may have brought part of it already."""
        member = self._member(key)
        if member is None:
            return
        for message, seq in zip(messages, seqs, strict=True):
            if seq > member.fed_seq:
                member.ahead = member.ahead or set()
                member.ahead.add(seq)
                event, envelope = message.event, message.envelope
                own = Recorded(event=event, envelope=envelope, seq=seq, stored_at=now, subject=message.subject)
                self._evolve(key, member, own, own=True)

    def settle(self, key: Key, now: datetime, *, passed_seq: int = 0, not_before_s: float = 0.0) -> None:
        """The persona is no longer in flight. `passed_seq`: what it had perceived when nothing was to do;
        `not_before_s`: look at it no sooner than in so many seconds."""
        member = self._member(key)
        if member is None:
            return
        member.flying = False
        member.passed_seq = max(member.passed_seq, passed_seq)
        self._schedule(key, not_before=now.timestamp() + not_before_s if not_before_s else 0.0)

    def loop_interval_ms(self, swarm: str) -> int:
        """The loop interval of a running swarm, 0 where cognition stands: the newest word for it or for all counts."""
        never = (0, 0)
        return max(self._controls.get(swarm, never), self._controls.get(EVERYONE, never))[1]

    def __len__(self) -> int:
        return sum(len(swarm.members) for swarm in self._swarms.values())

    # -- the schedule ------------------------------------------------------------------------------------------------

    def _member(self, key: Key) -> Member | None:
        swarm = self._swarms.get(key[0])
        return None if swarm is None else swarm.members.get(key[1])

    def _reschedule(self, name: str) -> None:
        swarm = self._swarms.get(name)
        for persona in tuple(swarm.members) if swarm else ():
            self._schedule((name, persona))

    def _schedule(self, key: Key, not_before: float = 0.0) -> None:
        swarm = self._swarms[key[0]]
        member = swarm.members.get(key[1])
        if member is None or member.flying:
            return
        state = member.state
        perceives = swarm.specialists.attention(key[1])
        heard = max(swarm.heard_seq if perceives is None else swarm.perception.newest(perceives), state.heard_seq)
        if heard <= max(state.observed_seq, member.passed_seq):
            heard = 0
            swarm.asleep.add(key[1])
        interval = self.loop_interval_ms(key[0])
        due = due_at(
            state,
            running=interval > 0,
            loop_interval_ms=interval or 1,
            heard_seq=heard,
            limits=self.limits,
            alarm_at=swarm.watches.alarm(key[1], looked(state)) if state.alive else None,
        )
        at = None if due is None else max(due.timestamp(), not_before)
        if at != member.due:
            member.due = at
            if at is not None:
                heapq.heappush(self._heap, (at, *key))
        if len(self._heap) > 1000 + 4 * len(self):
            self._sweep()

    def _sweep(self) -> None:
        """Drop what no longer counts from the schedule."""
        live = {
            (member.due, name, persona)
            for name, swarm in self._swarms.items()
            for persona, member in swarm.members.items()
            if member.due is not None
        }
        self._heap = sorted(live)


def copied(specialists: Specialists) -> Specialists:
    """All of it, as a checkpoint keeps it while lines go on coming."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(specialists), type=Specialists)


def _is_birth(message: Stored) -> bool:
    return isinstance(message, Recorded) and isinstance(message.event, PersonaSpawned)


def merged(percepts: Sequence[Percept]) -> Percept:
    """What reaches a persona through all its senses as one percept."""
    if len(percepts) == 1:
        return percepts[0]
    return Percept(
        first_seq=min((p.first_seq for p in percepts if p.first_seq), default=0),
        last_seq=max(p.last_seq for p in percepts),
        new=sum(p.new for p in percepts),
        total=sum(p.total for p in percepts),
        templates=sum(p.templates for p in percepts),
        findings=tuple(sorted((f for p in percepts for f in p.findings), key=lambda f: f.seq)),
        samples=tuple(sorted((s for p in percepts for s in p.samples), key=lambda s: s[0].seq)[-SAMPLES:]),
        traces={event_id: trace for p in percepts for event_id, trace in p.traces.items()},
    )
