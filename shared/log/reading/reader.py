"""Reading the log by direct get: whole boundaries, single messages, and what is last.

A replica answers. Where there are several, the leader says how far an answer has to reach (`leader`).
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec

from shared.contracts.envelope import Recorded, Stored, Unreadable
from shared.gathering import Gathering
from shared.log.client.connection import Connection, is_status
from shared.log.client.wire import Raw
from shared.log.marks import Trail
from shared.log.port import LogUnavailable, jittered
from shared.log.reading.direct import DIRECT_GET, decode_direct
from shared.log.reading.leader import AGAIN_S, BEHIND_S, Behind, Leader
from shared.log.reading.routes import Routes, runs

PAGE, PAGE_BYTES = 500, 8 * 2**20
"""What is asked for at once. By itself the broker stops at its `max_pending`, 64 MB, and cuts off who does not read that fast."""
MAX_SEQ = 2**63 - 1
"""No log gets this long; the broker refuses to look further than 64 bits, and a cited sequence may be any number."""
FEW_SUBJECTS, SUBJECTS = 32, 1024
"""Of one reading of what is last, and of all that are read together: the broker's own limit."""
WIDE = 256
"""So many filters are remembered that match more than a few subjects: they are asked about alone."""
RUN, GAP = 64, 8
"""Single messages near one another are read as a stretch, so long and with so much between two of them."""

_T = TypeVar("_T")


class _TooMany(LogUnavailable):
    """Asked for the last message of too many subjects at once."""


class Reader:
    """One process's reading of the log, noted in `trail`. `leader` only where there are several replicas, and it may be asked."""

    def __init__(self, connection: Connection, trail: Trail, leader: Leader | None) -> None:
        self._connection, self._trail, self._leader = connection, trail, leader
        self._newest_of = Gathering(self._ask_newest)
        self._messages = Gathering(self._ask_messages)
        self._wide: dict[str, None] = {}

    async def read(
        self, filters: Sequence[str], after: int = 0, *, upto: int | None = None, limit: int | None = None
    ) -> list[Recorded]:
        return [m for m in await self._stored(filters, after, upto, limit) if isinstance(m, Recorded)][:limit]

    async def stored(self, filters: Sequence[str], after: int = 0, *, upto: int | None = None) -> list[Stored]:
        return await self._stored(filters, after, upto, None)

    async def since(self, subject: str, start: int | datetime) -> list[Recorded]:
        """The events on a subject behind a sequence, or stored at a time or later."""
        found: dict[int, Stored] = {}
        if isinstance(start, datetime):
            await self._read(subject, 0, None, None, found, since=start)
        else:
            (need,) = await self._needs((subject,))
            await self._again(lambda: self._read(subject, start, None, None, found, need=need))
        return [m for m in found.values() if isinstance(m, Recorded)]

    async def _stored(self, filters: Sequence[str], after: int, upto: int | None, limit: int | None) -> list[Stored]:
        """In stream order; on each filter at least up to its first `limit` events."""
        needs = await self._needs(filters)
        return await self._again(lambda: self._stored_of_one(filters, after, upto, limit, needs))

    async def _needs(self, filters: Sequence[str]) -> tuple[int, ...]:
        """Where a reading of each filter has to reach."""
        if self._leader is None:
            return (0,) * len(filters)
        return await self._leader.ends(filters, self._trail.newest.seq if self._trail.newest else 0)

    async def _again(self, read: Callable[[], Awaitable[_T]]) -> _T:
        """As often as a replica was asked that lags behind, for `BEHIND_S` at most."""
        until = time.monotonic() + BEHIND_S
        while True:
            try:
                return await read()
            except Behind:
                if time.monotonic() > until:
                    raise
            await asyncio.sleep(jittered(AGAIN_S))

    async def _stored_of_one(
        self, filters: Sequence[str], after: int, upto: int | None, limit: int | None, needs: Sequence[int]
    ) -> list[Stored]:
        if limit is None and any("*" in f for f in filters) and not any(">" in f for f in filters):
            few = await self._read_few(filters, after, upto, max(needs, default=0))
            if few is not None:
                return few
        found: dict[int, Stored] = {}
        horizons: list[int] = []
        for subject_filter, need in zip(filters, needs, strict=True):
            horizons.append(await self._read(subject_filter, after, upto, limit, found, need=need))
        cut = max(horizons, default=after)
        newest = horizons.index(cut) if horizons else 0
        for subject_filter, horizon in list(zip(filters, horizons, strict=True))[:newest]:
            # what was stored between the reading of this filter and of the newest one would be missing below the cut
            (need,) = await self._needs((subject_filter,))
            await self._read(subject_filter, horizon, cut, limit, found, need=need)
        return [found[seq] for seq in sorted(found) if seq <= cut]

    async def _read_few(self, filters: Sequence[str], after: int, upto: int | None, need: int) -> list[Stored] | None:
        """The messages on wildcard filters that match few subjects; None when they match more than `FEW_SUBJECTS`.

        Reading on through a wildcard makes the broker look at every message (2 ms over 5 000 that came since). Which subjects
        there are and what is last on each it knows (0.3 ms), and that is the cut; the rest is found by exact subjects.
        """
        newest = await self._few_newest(filters, need)
        if newest is None:
            return None
        newest = [m for m in newest if _seq(m) > after]
        if not newest:
            return []
        subjects = [m.headers["Nats-Subject"] for m in newest]
        asks = [msgspec.json.encode({"seq": after + 1, "next_by_subj": subject}) for subject in subjects]
        answered = itertools.count(1)
        oldest = await self._connection.request_many(DIRECT_GET, *asks, is_last=lambda _: next(answered) == len(asks))
        firsts = {m.headers["Nats-Subject"]: m for m in oldest if not is_status(m)}
        if len(firsts) < len(asks):
            raise Behind(f"only {len(firsts)} of {len(asks)} subjects were given, with what is last on all of them")
        found: dict[int, Stored] = {}
        for subject, last in zip(subjects, newest, strict=True):
            ends = {_seq(m): m for m in (firsts[subject], last)}
            found.update((_seq(message), self._decode_direct(message)) for message in ends.values())
            if len(ends) > 1:
                await self._read(
                    subject, min(ends), max(ends) if self._leader else max(ends) - 1, None, found, need=max(ends)
                )
        return [found[seq] for seq in sorted(found) if upto is None or seq <= upto]

    async def _few_newest(self, filters: Sequence[str], need: int) -> list[Raw] | None:
        """What is last on each subject of the filters; None when there are many. Raises `Behind`."""
        gathered = None if any(f in self._wide for f in filters) else await self._newest_of.of(tuple(filters))
        newest = gathered[0] if gathered is not None else await self._newest_alone(filters)
        if newest is None or len(newest) > FEW_SUBJECTS:
            self._wide.update(dict.fromkeys(filters))
            while len(self._wide) > WIDE:
                del self._wide[next(iter(self._wide))]
            return None
        if max(map(_seq, newest), default=0) < need:
            raise Behind(f"a replica has not reached {need} yet")
        return newest

    async def _newest_alone(self, filters: Sequence[str]) -> list[Raw] | None:
        """What is last on each subject of the filters; None when there are many."""
        try:
            newest, end = await self._direct({"multi_last": list(filters), "batch": FEW_SUBJECTS + 1})
        except _TooMany:
            return None
        return None if _has_more(end) else newest

    async def _ask_newest(self, askers: list[tuple[str, ...]]) -> list[tuple[list[Raw], Raw] | None]:
        """For each what is last on each subject of its filters, and the status that ended the reading; None: it is to ask alone."""
        together = list(dict.fromkeys(subject_filter for filters in askers for subject_filter in filters))
        try:
            newest, end = await self._direct({"multi_last": together, "batch": SUBJECTS})
        except _TooMany:
            return [None] * len(askers)
        if _has_more(end):
            return [None] * len(askers)
        if len(askers) == 1:
            return [(newest, end)]
        routes = Routes(askers)
        found: list[list[Raw]] = [[] for _ in askers]
        for message in newest:
            for asker in routes.of(message.headers["Nats-Subject"]):
                found[asker].append(message)
        return [(messages, end) for messages in found]

    async def _read(
        self,
        subject_filter: str,
        after: int,
        upto: int | None,
        limit: int | None,
        found: dict[int, Stored],
        *,
        since: datetime | None = None,
        need: int = 0,
    ) -> int:
        """Adds the filter's messages to `found`; the sequence it has read up to. `limit` counts events; `since`: from what was
        stored then, not `after`. Raises `Behind` when there is nothing more, and it has not come to `need`."""
        position, count = after, 0
        start: dict[str, object] = {"seq": after + 1} if since is None else {"start_time": since}
        while position < MAX_SEQ and (limit is None or count < limit):
            page = PAGE if limit is None else min(PAGE, limit - count)
            answers, end = await self._direct({"batch": page, **start, "next_by_subj": subject_filter})
            for message in answers:
                seq = _seq(message)
                if upto is not None and seq > upto:
                    return position
                position = seq
                found[seq] = self._decode_direct(message)
                count += isinstance(found[seq], Recorded)
            if not _has_more(end):
                if (
                    self._leader is not None
                    and position < min(need, MAX_SEQ if upto is None else upto)
                    and since is None
                ):
                    raise Behind(f"a replica has not reached {need} on {subject_filter} yet")
                break
            start = {"seq": position + 1}
        return position

    async def ends(self, filters: Sequence[str]) -> tuple[int, ...]:
        if self._leader is not None:
            return await self._needs(filters)
        asks = [msgspec.json.encode({"last_by_subj": subject_filter}) for subject_filter in filters]
        answers = await asyncio.gather(*(self._connection.request(DIRECT_GET, ask) for ask in asks))
        for answer in answers:
            if is_status(answer) and answer.status != "404":
                raise LogUnavailable(f"direct get answered {answer.status} for what is last")
        return tuple(0 if is_status(answer) else _seq(answer) for answer in answers)

    async def get(self, seq: int) -> Stored | None:
        if seq > MAX_SEQ:
            return None
        if (answer := await self._messages.of(seq)) is not None:
            return self._decode_direct(answer)
        return None if self._leader is None else await self._leader.get(seq)

    async def _ask_messages(self, seqs: list[int]) -> list[Raw | None]:
        """What is stored at each."""
        found: dict[int, Raw] = {}
        for answers in await asyncio.gather(*(self._stretch(*run) for run in runs(seqs, GAP, RUN))):
            found.update((_seq(message), message) for message in answers)
        return [found.get(seq) for seq in seqs]

    async def _stretch(self, first: int, last: int) -> list[Raw]:
        """The messages from one sequence to another, and perhaps some behind it."""
        if first < last:
            found: list[Raw] = []
            while first <= last:
                answers, end = await self._direct({"seq": first, "batch": last - first + 1, "next_by_subj": ">"})
                found += answers
                if not answers or not _has_more(end):
                    break
                first = _seq(answers[-1]) + 1
            return found
        answer = await self._connection.request(DIRECT_GET, b'{"seq":%d}' % first)
        if not is_status(answer):
            return [answer]
        if answer.status != "404":
            raise LogUnavailable(f"direct get answered {answer.status} for sequence {first}")
        return []

    async def newest(self, filters: Sequence[str]) -> list[Stored]:
        needs = await self._needs(filters)
        return await self._again(lambda: self._newest(filters, max(needs, default=0)))

    async def _newest(self, filters: Sequence[str], need: int) -> list[Stored]:
        newest = await self._few_newest(filters, need)
        if newest is not None:
            return sorted(map(self._decode_direct, newest), key=lambda m: m.seq)
        stored = await self._stored(filters, 0, None, None)
        return sorted({m.subject: m for m in stored}.values(), key=lambda m: m.seq)

    async def last(self, filters: Sequence[str]) -> list[Recorded]:
        (need,) = await self._needs((">",))
        return await self._again(lambda: self._last(filters, need))

    async def _last(self, filters: Sequence[str], need: int) -> list[Recorded]:
        found: list[Recorded] = []
        hidden: list[Unreadable] = []
        for start in range(0, len(filters), PAGE):
            page = filters[start : start + PAGE]
            ask: dict[str, object] = {"multi_last": list(page), "batch": SUBJECTS}
            few = len(page) <= FEW_SUBJECTS and not any("*" in f or ">" in f for f in page)
            gathered = await self._newest_of.of(tuple(page)) if few else None
            while True:
                answers, end = gathered or await self._direct(ask)
                gathered = None
                behind = self._leader is not None and int(end.headers.get("Nats-UpTo-Sequence", 0)) < need
                if behind and (answers or any(await self._needs(page))):
                    # who has found nothing does not say how far it has looked, but then the leader has nothing either
                    raise Behind(f"a replica has not reached {need} yet")
                for one in map(self._decode_direct, answers):
                    (found if isinstance(one, Recorded) else hidden).append(one)  # type: ignore[arg-type]
                if not _has_more(end):
                    break
                ask |= {"seq": _seq(answers[-1]) + 1, "up_to_seq": int(end.headers["Nats-UpTo-Sequence"])}
        while hidden:  # what cannot be read does not hide what stands before it
            if (last := hidden.pop()).seq == 1:
                continue
            answers, _ = await self._direct({"multi_last": [last.subject], "batch": 1, "up_to_seq": last.seq - 1})
            for one in map(self._decode_direct, answers):
                (found if isinstance(one, Recorded) else hidden).append(one)  # type: ignore[arg-type]
        return sorted(found, key=lambda r: r.seq)

    async def _direct(self, ask: dict[str, object]) -> tuple[list[Raw], Raw]:
        """Messages, `PAGE_BYTES` of them at most, and the status that ends them."""
        body = msgspec.json.encode({**ask, "max_bytes": PAGE_BYTES})
        answers = await self._connection.request_many(DIRECT_GET, body, is_last=is_status)
        status = answers[-1].status
        if status == "413":
            raise _TooMany("the filters match more subjects than the broker gives at once, 1024")
        if status not in ("204", "404"):
            raise LogUnavailable(f"direct get answered {status} {answers[-1].description}")
        return answers[:-1], answers[-1]

    def _decode_direct(self, message: Raw) -> Stored:
        found = decode_direct(message)
        self._trail.note(found)
        return found


def _has_more(end: Raw) -> bool:
    """Whether the batch that this status ends was not all there is."""
    return end.headers.get("Nats-Num-Pending", "0") != "0"


def _seq(message: Raw) -> int:
    """The stream sequence of a message that came by direct get."""
    return int(message.headers["Nats-Sequence"])
