"""The log in memory, with the broker's semantics: for simulation, for tests, and as the plainest statement of the port.

`Store` is synchronous and knows no clock but the one it is given, so a simulation can crash between any two of its steps.
`MemoryLog` puts the asynchronous port over it. What both promise is proved by the same contract suite as JetStream.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime, timedelta

from shared.contracts.catalog import SHORT_LIVED, class_of, matches, owner
from shared.contracts.envelope import Message, Recorded, Stored, encode, passed, stored
from shared.contracts.ids import CORE, utc_now
from shared.log.port import ConsumerSpec, DuplicateEvent, Entry, Expect, StaleBoundary

DEDUP_WINDOW = timedelta(minutes=2)


class Store:
    """One stream: append under guards, read back.

    What a filter has found is kept as a view, and views by the persona they are about (None: about more than one), so that
    another persona costs those there are nothing.
    """

    def __init__(self, clock: Callable[[], datetime] = utc_now, dedup_window: timedelta = DEDUP_WINDOW) -> None:
        self.messages: list[Stored] = []
        self._events: list[Recorded] = []
        self._clock = clock
        self._window = dedup_window
        self._by_id: dict[tuple[str, str], Recorded] = {}
        self._views: dict[str, list[Stored]] = {}
        self._filters: dict[tuple[str, str] | None, list[str]] = {}
        self._about: dict[tuple[str, str] | None, list[Stored]] = {}
        self._routes: dict[tuple[str, str] | None, dict[str, list[list[Stored]]]] = {}

    @property
    def records(self) -> list[Recorded]:
        """Every event, in order."""
        return self._events.copy()

    def last_seq(self, subject_filter: str) -> int:
        """The last sequence on a filter, 0 when there is none."""
        view = self._view(subject_filter)
        return view[-1].seq if view else 0

    def append(self, messages: Sequence[Message], expect: Sequence[Expect] = ()) -> tuple[int, ...]:
        """All or none; see `Log.commit`."""
        now = self._clock()
        for guard in expect:
            if (last := self.last_seq(guard.subject_filter)) != guard.last_seq:
                raise StaleBoundary(f"{guard.subject_filter}: expected {guard.last_seq}, is {last}")
        known = [self._known(m, now) for m in messages]
        if len(messages) == 1 and known[0] is not None and known[0].subject == messages[0].subject:
            return (known[0].seq,)
        if any(known):
            raise DuplicateEvent(", ".join(r.id for r in known if r is not None))
        return tuple(self._store(m, now) for m in messages)

    def publish(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> int:
        """What anybody may do who has a key: store what is perhaps no event at all."""
        return self._add(stored(subject, headers, body, seq=len(self.messages) + 1, stored_at=self._clock()))

    def read(self, filters: Sequence[str], after: int = 0) -> list[Recorded]:
        """Events above `after` on the filters, in order."""
        return [m for m in self.stored(filters, after) if isinstance(m, Recorded)]

    def stored(self, filters: Sequence[str], after: int = 0) -> list[Stored]:
        """Messages above `after` on the filters, in order."""
        found: dict[int, Stored] = {}
        for subject_filter in filters:
            view = self._view(subject_filter)
            start = bisect_right(view, after, key=lambda r: r.seq)
            if len(filters) == 1:
                return view[start:]
            found.update((r.seq, r) for r in view[start:])
        return [found[seq] for seq in sorted(found)]

    def newest(self, filters: Sequence[str]) -> list[Stored]:
        """The newest message on each subject of the filters, in order."""
        return sorted({m.subject: m for m in self.stored(filters)}.values(), key=lambda m: m.seq)

    def _view(self, subject_filter: str) -> list[Stored]:
        """All messages on a filter; kept up to date from its first use on."""
        view = self._views.get(subject_filter)
        if view is None:
            whose = owner(subject_filter)
            found = self.messages if whose is None else self._about.get(whose, [])
            view = self._views[subject_filter] = [m for m in found if matches(subject_filter, m.subject)]
            self._filters.setdefault(whose, []).append(subject_filter)
            if whose is None:
                self._routes.clear()
            else:
                self._routes.pop(whose, None)
        return view

    def _known(self, message: Message, now: datetime) -> Recorded | None:
        """What is stored under the same dedup id: each runner has its own key for them."""
        recorded = self._by_id.get((message.envelope.id, getattr(message.event, "slot", CORE)))
        return recorded if recorded is not None and now - recorded.stored_at < self._window else None

    def _store(self, message: Message, now: datetime) -> int:
        recorded = Recorded(
            event=message.event,
            envelope=message.envelope,
            seq=len(self.messages) + 1,
            stored_at=now,
            subject=message.subject,
        )
        self._by_id[recorded.id, getattr(recorded.event, "slot", CORE)] = recorded
        return self._add(recorded)

    def _add(self, message: Stored) -> int:
        self.messages.append(message)
        if isinstance(message, Recorded):
            self._events.append(message)
        whose = owner(message.subject)
        self._about.setdefault(whose, []).append(message)
        by_subject = self._routes.setdefault(whose, {})
        routes = by_subject.get(message.subject)
        if routes is None:
            near = {*self._filters.get(None, ()), *self._filters.get(whose, ())}
            routes = [self._views[f] for f in near if matches(f, message.subject)]
            by_subject[message.subject] = routes
        for view in routes:
            view.append(message)
        return message.seq


class MemoryDelivery:
    """One delivery from a `MemoryPuller`."""

    def __init__(self, puller: MemoryPuller, recorded: Stored, attempt: int) -> None:
        self._puller = puller
        self.recorded: Stored = recorded
        self.subject = recorded.subject
        self.seq = recorded.seq
        self.attempt = attempt
        self.size = 0

    def ack(self) -> None:
        self._puller.settle(self.seq)

    def nak(self, delay_s: float) -> None:
        self._puller.again(self.seq, delay_s)

    def in_progress(self) -> None:
        self._puller.again(self.seq, self._puller.spec.ack_wait_s)

    async def dead(self, reason: str, detail: str) -> None:
        self._puller.log.dead.append((self.subject, reason, detail))
        self._puller.settle(self.seq)


class MemoryPuller:
    """A durable consumer and its one puller; state outlives the puller in `MemoryLog.consumers`."""

    def __init__(self, log: MemoryLog, spec: ConsumerSpec) -> None:
        self.log = log
        self.spec = spec
        self.position, self.pending = log.consumers.setdefault(spec.name, (0, {}))
        self._stopped = False

    def settle(self, seq: int) -> None:
        self.pending.pop(seq, None)
        self.log.wake()

    def again(self, seq: int, delay_s: float) -> None:
        if seq in self.pending:
            _, attempt = self.pending[seq]
            self.pending[seq] = (asyncio.get_running_loop().time() + delay_s, attempt)
            self.log.wake()

    async def stop(self) -> None:
        self._stopped = True
        self.log.wake()

    def __aiter__(self) -> AsyncIterator[MemoryDelivery]:
        return self._deliveries()

    async def _deliveries(self) -> AsyncIterator[MemoryDelivery]:
        loop = asyncio.get_running_loop()
        store = self.log.store_of(self.spec.stream)
        while not self._stopped:
            now = loop.time()
            due = [seq for seq, (at, _) in self.pending.items() if at <= now]
            fresh = [] if due else store.stored(self.spec.filters, self.position)[:1]
            if due:
                seq = min(due)
                attempt = self.pending[seq][1] + 1
            elif fresh and len(self.pending) < self.spec.max_ack_pending:
                seq, attempt = fresh[0].seq, 1
                self.position = seq
                self.log.consumers[self.spec.name] = (seq, self.pending)
            else:
                await self.log.changed(min((at for at, _ in self.pending.values()), default=None))
                continue
            self.pending[seq] = (now + self.spec.ack_wait_s, attempt)
            yield MemoryDelivery(self, store.messages[seq - 1], attempt)


class MemoryTail:
    """An ordered reading from a sequence on."""

    def __init__(
        self, log: MemoryLog, filters: Sequence[str], after: int, stream: str, wanted: Callable[[str], bool]
    ) -> None:
        self._log, self._filters, self._store = log, filters, log.store_of(stream)
        self._wanted = wanted
        self.position = after
        self.pending = 0
        self._goal = len(self._store.messages)
        self._stopped = False
        self._reached = asyncio.Event()

    def __aiter__(self) -> AsyncIterator[Stored]:
        return self._messages()

    async def _messages(self) -> AsyncIterator[Stored]:
        while not self._stopped:
            upto = len(self._store.messages)
            found = self._store.stored(self._filters, self.position)
            for self.pending, message in zip(reversed(range(len(found))), found, strict=True):
                if self._wanted(message.subject):
                    yield message
                else:
                    yield passed(message.subject, message.seq, message.stored_at)
                self.position = message.seq
            self.position = max(self.position, upto)
            if self.position >= self._goal:
                self._reached.set()
            if len(self._store.messages) == upto and not self._stopped:
                await self._log.changed(None)

    async def caught_up(self) -> None:
        await self._reached.wait()

    async def stop(self) -> None:
        self._stopped = True
        self._log.wake()


class MemoryLog:
    """`Log` over two stores, the log itself and the short-lived one."""

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self.store = Store(clock)
        self.recall = Store(clock)
        self.consumers: dict[str, tuple[int, dict[int, tuple[float, int]]]] = {}
        self.dead: list[tuple[str, str, str]] = []
        self._waiters: set[asyncio.Future[None]] = set()

    def store_of(self, stream: str) -> Store:
        return self.recall if stream == "RECALL" else self.store

    def wake(self) -> None:
        """Let every puller and tail look again."""
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def changed(self, until: float | None) -> None:
        """Returns after the next change, or at loop time `until`."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.add(waiter)
        timeout = None if until is None else max(0.0, until - loop.time())
        try:
            await asyncio.wait_for(waiter, timeout)
        except TimeoutError:
            self._waiters.discard(waiter)

    async def commit(self, messages: Sequence[Message], expect: Sequence[Expect] = ()) -> tuple[int, ...]:
        for message in messages:
            encode(message)
        await asyncio.sleep(0)
        short = class_of(messages[0].event) in SHORT_LIVED
        seqs = (self.recall if short else self.store).append(messages, expect)
        self.wake()
        return seqs

    async def read(
        self, filters: Sequence[str], after: int = 0, *, upto: int | None = None, limit: int | None = None
    ) -> list[Recorded]:
        await asyncio.sleep(0)
        found = self.store.read(filters, after)
        return [r for r in found if upto is None or r.seq <= upto][:limit]

    async def stored(self, filters: Sequence[str], after: int = 0, *, upto: int | None = None) -> list[Stored]:
        await asyncio.sleep(0)
        return [m for m in self.store.stored(filters, after) if upto is None or m.seq <= upto]

    async def ends(self, filters: Sequence[str]) -> tuple[int, ...]:
        await asyncio.sleep(0)
        return tuple(self.store.last_seq(f) for f in filters)

    async def get(self, seq: int) -> Stored | None:
        await asyncio.sleep(0)
        return self.store.messages[seq - 1] if 0 < seq <= len(self.store.messages) else None

    async def last(self, filters: Sequence[str]) -> list[Recorded]:
        await asyncio.sleep(0)
        newest = {m.subject: m for m in self.store.stored(filters) if isinstance(m, Recorded)}
        return sorted(newest.values(), key=lambda r: r.seq)

    async def newest(self, filters: Sequence[str]) -> list[Stored]:
        await asyncio.sleep(0)
        return self.store.newest(filters)

    async def bury(self, seq: int, reason: str, detail: str) -> None:
        await asyncio.sleep(0)
        self.dead.append((self.store.messages[seq - 1].subject, reason, detail))

    def tail(
        self,
        filters: Sequence[str],
        after: int = 0,
        *,
        stream: str = "SWARM",
        wanted: Callable[[str], bool] = lambda subject: True,
    ) -> MemoryTail:
        return MemoryTail(self, tuple(filters), after, stream, wanted)

    def pull(self, spec: ConsumerSpec) -> MemoryPuller:
        return MemoryPuller(self, spec)


class MemoryKeyValue:
    """`KeyValue` in memory; entries with a TTL vanish by the clock given."""

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self._entries: dict[str, tuple[Entry, datetime | None]] = {}
        self._revision = 0

    def _live(self, key: str) -> Entry | None:
        entry, dies_at = self._entries.get(key, (None, None))
        return entry if dies_at is None or self._clock() < dies_at else None

    async def get(self, key: str) -> Entry | None:
        return self._live(key)

    async def put(self, key: str, value: bytes, *, revision: int | None = None, ttl_s: int | None = None) -> int:
        self._guard(key, revision)
        self._revision += 1
        dies_at = None if ttl_s is None else self._clock() + timedelta(seconds=ttl_s)
        self._entries[key] = (Entry(key, value, self._revision), dies_at)
        return self._revision

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        self._guard(key, revision)
        self._entries.pop(key, None)

    async def entries(self, key_filter: str = ">") -> list[Entry]:
        live = (self._live(key) for key in sorted(self._entries))
        return [entry for entry in live if entry is not None and matches(key_filter, entry.key)]

    def _guard(self, key: str, revision: int | None) -> None:
        entry = self._live(key)
        if revision is not None and revision != (entry.revision if entry else 0):
            raise StaleBoundary(f"{key}: expected revision {revision}, is {entry.revision if entry else 0}")
