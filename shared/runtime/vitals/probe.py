"""Test writes: whether the broker stores, and whether this clock is the broker's.

Theory of operation. Every `EVERY_S` seconds, sooner after a failure or a jump of the clock, the service stores one small message
on its own subject of `PROBE`, which keeps one message a subject, and reads it back with the broker's stamp. The stamp lies
between sending and answer, or one of the two clocks is off by what is missing; how long the answer took does not matter.

A service whose clock is off by more than the tolerance takes no work: every deadline, expiry and window it judged would be
wrong, and it would say so in signed events. Which of the two clocks is wrong it cannot know. But each message has its writer's
own time in it, so it can look whether the other services differ from the broker alike, and says so.

A broker of several that is cut off from the others keeps its clients, and stores nothing of what they say for as long as that lasts.
So after `FAILURES` in a row, and again after as many, the connection goes to another of them, or by chance the same. A refusal
with another reason (the disk is full) is the word of brokers that are in touch, and no cause to leave.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

import msgspec
import structlog

from shared.ending import ended
from shared.log.client.connection import Connection, is_status
from shared.log.client.wire import Raw
from shared.log.port import LogUnavailable
from shared.metrics.table import CLOCK_OFF

log = structlog.get_logger()

STREAM = "PROBE"
EVERY_S, AGAIN_S = 10.0, 2.0
FAILURES = 2
LEADERLESS = (10008, 10009)
"""Error codes of a broker that knows of no leader."""
LATELY_S = 3 * EVERY_S
"""A message older than this, by the broker's stamps, says nothing of its writer's clock now."""


def subject(instance: str) -> str:
    """Where an instance writes."""
    return f"probe.{instance}"


class _Mark(msgspec.Struct):
    """What is written. `at` is the writer's time in seconds since 1970, `told` its settings (`agreement.py`)."""

    at: float
    nonce: str
    told: dict[str, str] = {}


class _Ack(msgspec.Struct):
    error: dict[str, object] | None = None


class _Refused(LogUnavailable):
    """The brokers agree not to store it."""


class Probe:
    """The test writes of one instance. `sees_all`: it may read those of others.

    `told` goes with each, for the others to see. `wall` and `steady` are clocks in seconds: the one that is judged, and one that nobody
    sets. `elsewhere` has the connection go to another broker, where there are several.
    """

    def __init__(
        self,
        connection: Connection,
        instance: str,
        *,
        tolerance_s: float,
        sees_all: bool = True,
        told: Mapping[str, str] | None = None,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        elsewhere: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._elsewhere, self._failures = elsewhere, 0
        self._connection, self._instance, self._tolerance_s = connection, instance, tolerance_s
        self._sees_all, self._wall, self._steady = sees_all, wall, steady
        self.told = dict(told or {})
        self._unstored: str | None = "no test write was made yet"
        self._off: str | None = "this clock was not compared with the broker's yet"
        self._lead_s: float | None = None
        self._written_at: float | None = None

    @property
    def unstored(self) -> str | None:
        """Why the last test write is not in the store; None when it is."""
        if self._written_at is not None and (quiet := self._steady() - self._written_at) > LATELY_S:
            return f"no test write was made for {quiet:.0f} s"
        return self._unstored

    @property
    def clock_off(self) -> str | None:
        """Why this clock cannot be trusted now; None when it agrees with the broker's."""
        if self._off is None and (jump := self._jump()) > self._tolerance_s:
            return f"this clock was set by {jump:.1f} s and is yet to be compared with the broker's; no work is taken"
        return self._off

    async def run(self, stopping: asyncio.Event) -> None:
        """Write until `stopping` is set."""
        while not stopping.is_set():
            due = EVERY_S if self._unstored is None and self._off is None else AGAIN_S
            for _ in range(round(due / AGAIN_S)):
                if await ended(stopping, AGAIN_S):
                    return
                if self._jump() > self._tolerance_s:
                    break
            await self.write()

    async def write(self) -> None:
        """One test write; what came of it is in `unstored` and `clock_off`. Raises nothing."""
        was = self._unstored, self._off
        try:
            self._off = await self._compare()
            self._unstored, self._failures = None, 0
        except LogUnavailable as error:
            self._unstored = f"the broker stores nothing: {error}"
            self._failures = 0 if isinstance(error, _Refused) else self._failures + 1
            if self._elsewhere is not None and self._failures and self._failures % FAILURES == 0:
                await self._elsewhere()
        self._written_at = self._steady()
        if was != (self._unstored, self._off):
            log.info("probe", unstored=self._unstored, clock_off=self._off)

    async def _compare(self) -> str | None:
        """Store, read back, and judge the clock. Raises `LogUnavailable` when it is not stored."""
        mark = _Mark(at=self._wall(), nonce=secrets.token_hex(8), told=self.told)
        answer = await self._connection.request(subject(self._instance), msgspec.json.encode(mark))
        after = self._wall()
        if (refused := msgspec.json.decode(answer.data, type=_Ack).error) is not None:
            kind = LogUnavailable if refused.get("err_code") in LEADERLESS else _Refused
            raise kind(f"{refused.get('description')} ({refused.get('err_code')})")
        stored = await self._connection.request(f"$JS.API.DIRECT.GET.{STREAM}.{subject(self._instance)}")
        found = None if is_status(stored) else _read(stored)
        if found is None or found[0].nonce != mark.nonce:
            return self._off  # an instance of the same name wrote in between: the next one tells
        stamp = found[1]
        off_s = mark.at - stamp if stamp < mark.at else min(0.0, after - stamp)
        CLOCK_OFF.set(off_s)
        if abs(off_s) <= self._tolerance_s:
            self._lead_s = self._wall() - self._steady()
            return None
        which = "ahead of" if off_s > 0 else "behind"
        others = await self._others(off_s, stamp) if self._sees_all else ""
        return (
            f"this clock is {abs(off_s):.1f} s {which} the broker's (limit {self._tolerance_s:g} s); "
            f"no work is taken until they agree{others}"
        )

    async def _others(self, off_s: float, now: float) -> str:
        """Whether the other services differ from the broker in the same way; `now` is the broker's."""
        marks = await self._marks()
        theirs = [
            m.at - stamp for who, (m, stamp) in marks.items() if who != self._instance and now - stamp <= LATELY_S
        ]
        alike = sum(abs(their_s - off_s) <= self._tolerance_s for their_s in theirs)
        if alike * 2 > len(theirs):
            return (
                f"; {alike} of {len(theirs)} other services differ alike: the broker's clock may be the one that is off"
            )
        return f"; {alike} of {len(theirs)} other services differ alike" if theirs else ""

    async def others(self) -> dict[str, dict[str, str]]:
        """What the other instances that wrote lately were told. Raises `LogUnavailable`."""
        marks = await self._marks()
        now = max((stamp for _, stamp in marks.values()), default=0.0)
        return {who: m.told for who, (m, stamp) in marks.items() if who != self._instance and now - stamp <= LATELY_S}

    async def _marks(self) -> dict[str, tuple[_Mark, float]]:
        """The last test write of each instance, with the broker's stamp."""
        ask = msgspec.json.encode({"multi_last": [subject("*")], "batch": 256})
        answers = await self._connection.request_many(f"$JS.API.DIRECT.GET.{STREAM}", ask, is_last=is_status)
        found = {m.headers["Nats-Subject"].removeprefix(subject("")): _read(m) for m in answers if not is_status(m)}
        return {who: mark for who, mark in found.items() if mark is not None}

    def _jump(self) -> float:
        """Seconds this clock was set by since it was last found right."""
        return 0.0 if self._lead_s is None else abs(self._wall() - self._steady() - self._lead_s)


def _read(message: Raw) -> tuple[_Mark, float] | None:
    """A test write, and when the broker stored it; None for what is none."""
    try:
        stamp = datetime.fromisoformat(message.headers["Nats-Time-Stamp"]).timestamp()
        return msgspec.json.decode(message.data, type=_Mark), stamp
    except (msgspec.MsgspecError, KeyError, ValueError):
        return None
