"""What the shell keeps of boundaries and lanes: a second opening is read, and nobody is left behind in a lane."""

from __future__ import annotations

import asyncio

import pytest

from shared.contracts.envelope import Envelope, Message, Recorded
from shared.contracts.events import ObservationRecorded, PersonaReaped
from shared.contracts.ids import fresh_id, utc_now
from shared.decider import NOTHING, Boundary, Decision, Delivered, Input, Tick
from shared.log.memory import MemoryDelivery, MemoryLog
from shared.log.port import ConsumerSpec
from shared.runtime.shell import Shell

SPEC = ConsumerSpec(name="test", filters=("observation.recorded.*.*",), ack_wait_s=1.0)


class Once:
    """Answers the first observation of a persona, for ever; refuses what says "bad"."""

    def initial(self) -> bool:
        return False

    def boundary(self, message: Delivered | Tick) -> Boundary:
        assert isinstance(message, Delivered)
        life = (f"*.*.alpha.{message.recorded.event.persona}",)
        return Boundary(reads=life, guards=life, opens=True)

    def decide(self, state: bool, message: Input) -> Decision:
        assert isinstance(message, Delivered) and isinstance(message.recorded.event, ObservationRecorded)
        if message.recorded.event.text == "bad":
            return Decision(reject="bad")
        persona = message.recorded.event.persona
        return NOTHING if state else Decision(events=(PersonaReaped(swarm="alpha", persona=persona, reason="seen"),))

    def evolve(self, state: bool, recorded: Recorded) -> bool:
        return state or isinstance(recorded.event, PersonaReaped)


def observed(text: str, persona: str = "p1") -> Message:
    event_id = fresh_id()
    envelope = Envelope(id=event_id, source="test", time=utc_now(), correlation=event_id)
    return Message(event=ObservationRecorded(swarm="alpha", persona=persona, text=text), envelope=envelope)


async def consumed(log: MemoryLog, shell: Shell[bool], *texts: str) -> None:
    """Say the texts one after another, each when the one before has its verdict."""
    puller = log.pull(SPEC)
    consuming = asyncio.create_task(shell.consume(puller, SPEC))
    async with asyncio.timeout(10):
        for text in texts:
            await log.commit([observed(text)])
            while puller.pending:
                await asyncio.sleep(0.01)
    await puller.stop()
    await consuming


async def test_a_second_message_that_would_open_a_boundary_reads_it() -> None:
    log = MemoryLog()
    await consumed(log, Shell(log, Once(), service="test"), "first", "second", "third")
    assert 1 == len(await log.read(("persona.reaped.*.*",)))


async def test_what_cannot_even_be_buried_is_handed_back_and_leaves_nobody_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bury, failures = MemoryDelivery.dead, iter((True,))

    async def fails_once(self: MemoryDelivery, reason: str, detail: str) -> None:
        if next(failures, False):
            raise ValueError("no letter can be written")
        await bury(self, reason, detail)

    monkeypatch.setattr(MemoryDelivery, "dead", fails_once)
    log = MemoryLog()
    await consumed(log, Shell(log, Once(), service="test"), "bad", "good")
    assert [("bad", "refused by the service")] == [letter[1:] for letter in log.dead]
    assert 1 == len(await log.read(("persona.reaped.*.*",)))


class Knows(Once):
    """Cannot even say what it would read of what says "bad"."""

    def boundary(self, message: Delivered | Tick) -> Boundary:
        assert isinstance(message, Delivered) and isinstance(message.recorded.event, ObservationRecorded)
        if message.recorded.event.text == "bad":
            raise ValueError("a bug")
        return super().boundary(message)


async def test_a_decider_that_cannot_say_its_boundary_is_asked_no_oftener_than_one_that_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared.runtime.shell.MAX_FAILURES", 3)
    log = MemoryLog()
    await consumed(log, Shell(log, Knows(), service="test"), "bad", "good")
    (letter,) = log.dead
    assert ("handler_failed", "failed 3 times, see the log") == letter[1:]
    assert 1 == len(await log.read(("persona.reaped.*.*",)))
