"""A log that delivers and stores nothing (a full disk, a lost quorum): its messages are not used up by waiting."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from services.governor.decider import Governor
from shared.contracts.envelope import Envelope, Recorded, Stored
from shared.contracts.events import SpawnRequested
from shared.contracts.ids import utc_now
from shared.log.memory import MemoryLog
from shared.log.port import ConsumerSpec, LogUnavailable
from shared.runtime.shell import HELD_S, Shell

MAX_DELIVER = 100
EVENT = SpawnRequested(swarm="alpha", persona="p1", name="n", role="r", charter="c", principal="op")
ENVELOPE = Envelope(id="e1", source="test", time=utc_now(), correlation="e1")


class Full(MemoryLog):
    async def stored(self, filters: Sequence[str], after: int = 0, *, upto: int | None = None) -> list[Stored]:
        raise LogUnavailable("insufficient storage")


class Attempt:
    """One delivery of the message; notes for how long it was handed back."""

    subject, seq, size = "spawn.requested.alpha.p1", 1, 0

    def __init__(self, attempt: int, waits: list[float]) -> None:
        self.recorded: Stored = Recorded(
            event=EVENT, envelope=ENVELOPE, seq=1, stored_at=utc_now(), subject=self.subject
        )
        self.attempt, self._waits = attempt, waits

    def ack(self) -> None: ...
    def in_progress(self) -> None: ...
    async def dead(self, reason: str, detail: str) -> None: ...
    def nak(self, delay_s: float) -> None:
        self._waits.append(delay_s)


class Attempts:
    """All deliveries there may be before the dead letters."""

    def __init__(self, times: int = MAX_DELIVER - 1) -> None:
        self.waits: list[float] = []
        self._times = times

    async def __aiter__(self) -> AsyncIterator[Attempt]:
        for attempt in range(1, self._times + 1):
            yield Attempt(attempt, self.waits)

    async def stop(self) -> None: ...


async def test_what_was_delivered_before_the_clock_went_off_goes_back_undecided_and_is_decided_later() -> None:
    log, right = MemoryLog(), False
    shell = Shell(log, Governor(), service="governor", may_work=lambda: right)
    spec = ConsumerSpec(name="governor", filters=())
    one = Attempts(times=1)
    await shell.consume(one, spec)
    assert ([HELD_S], []) == (one.waits, await log.read((">",)))
    right = True
    await shell.consume(Attempts(times=1), spec)
    assert 1 == len(await log.read(("persona.spawned.>",)))


async def test_a_message_outlasts_three_quarters_of_an_hour_without_a_log_to_write_to() -> None:
    shell, attempts = Shell(Full(), Governor(), service="governor"), Attempts()
    await shell.consume(attempts, ConsumerSpec(name="governor", filters=(), max_deliver=MAX_DELIVER))
    assert len(attempts.waits) == MAX_DELIVER - 1 and sum(attempts.waits) > 45 * 60
    assert attempts.waits[0] < 1
