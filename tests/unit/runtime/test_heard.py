"""What is heard answers as a reading would: up to the message itself, in order, and never for what was not folded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from shared.contracts.envelope import Passed, Stored
from shared.contracts.events import MeshHalted, MeshResumed, ObservationRecorded
from shared.contracts.ids import EVERYONE
from shared.halts import Halts
from shared.log.memory import MemoryLog
from shared.log.port import LogUnavailable
from shared.runtime import heard as module
from shared.runtime.halting import Halting
from shared.runtime.heard import Folded, Heard
from tests.unit.gate.given import message_of

HALTED = MeshHalted(swarm=EVERYONE, persona=EVERYONE, cause="person", reason="now", principal="ann")
RESUMED = MeshResumed(swarm=EVERYONE, persona=EVERYONE, reason="again", principal="ann")
OTHER = ObservationRecorded(swarm="alpha", persona="all", source="s", text="x")
FILTERS = ("observation.recorded.*.*", Halting.boundary)


class Mesh:
    """A log, the halts in it, and who hears both."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.halting = Halting(self.log)
        self.heard = Heard(self.log, FILTERS)
        self.heard.tell(Folded(self.halting))
        self.read = 0
        stored = self.log.stored

        async def counted(*args: Any, **more: Any) -> list[Stored]:
            self.read += 1
            return await stored(*args, **more)

        self.log.stored = counted  # type: ignore[method-assign]

    async def say(self, *events: Any) -> int:
        for event in events:
            (seq,) = await self.log.commit([message_of(event, id=f"e{len(self.log.store.messages)}")])
        return seq

    async def look(self, upto: int) -> Halts:
        await self.heard.look(self.halting, upto=upto)
        return self.halting.state

    @asynccontextmanager
    async def hearing(self) -> AsyncIterator[None]:
        following = asyncio.create_task(self.heard.follow(self.halting))
        try:
            while self.heard.since is None:
                await asyncio.sleep(0)
            yield
        finally:
            await self.heard.stop()
            await following


async def test_what_was_there_before_is_read_once_and_what_comes_is_heard() -> None:
    mesh = Mesh()
    await mesh.say(OTHER, HALTED)
    async with mesh.hearing():
        first = mesh.read
        assert mesh.halting.state.halt is not None
        assert (await mesh.look(await mesh.say(RESUMED, OTHER))).halt is None
        assert (await mesh.look(await mesh.say(HALTED, OTHER))).halt is not None
        assert first == mesh.read == 1


async def test_who_asks_as_of_now_reads_and_so_does_who_has_not_heard_that_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOMENT_S", 0.01)
    mesh = Mesh()
    await mesh.say(OTHER)
    assert (await mesh.look(1)).halt is None and mesh.read == 1, "nothing is heard yet"
    async with mesh.hearing():
        await mesh.look(0)
        assert mesh.read == 3
        await mesh.heard.stop()
        seq = await mesh.say(HALTED, OTHER)
        assert (await mesh.look(seq)).halt is not None and mesh.read == 4
        await asyncio.wait_for(mesh.look(seq), 0.005)  # it has waited once for somebody who says nothing
        assert mesh.read == 5


async def test_after_a_fold_has_failed_nobody_rests_on_what_is_heard() -> None:
    mesh = Mesh()
    async with mesh.hearing():
        await mesh.look(await mesh.say(OTHER))
        was = mesh.read

        def broken(message: Stored) -> None:
            raise ZeroDivisionError

        mesh.halting.take, take = broken, mesh.halting.take  # type: ignore[method-assign]
        waiting = asyncio.create_task(mesh.heard.reach(3))
        await mesh.say(HALTED)
        assert not await waiting
        mesh.halting.take = take  # type: ignore[method-assign]
        assert (await mesh.look(await mesh.say(OTHER))).halt is not None and mesh.read == was + 1
        assert [("mesh.halted.all.all", "not_taken", "ZeroDivisionError: ")] == mesh.log.dead


async def test_it_begins_once_the_log_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, ends, away = Mesh(), MemoryLog.ends, [LogUnavailable("away")]

    async def sometimes(log: MemoryLog, filters: Any) -> tuple[int, ...]:
        if away:
            raise away.pop()
        return await ends(log, filters)

    monkeypatch.setattr(MemoryLog, "ends", sometimes)
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    async with mesh.hearing():
        assert await mesh.heard.reach(await mesh.say(OTHER))


async def test_only_what_a_fold_is_of_is_decoded() -> None:
    mesh = Mesh()
    told: list[Stored] = []

    class All:
        def wants(self, subject: str) -> bool:
            return False

        def take(self, message: Stored) -> None:
            told.append(message)

    mesh.heard.tell(All())
    async with mesh.hearing():
        await mesh.heard.reach(await mesh.say(OTHER, HALTED))
    assert [True, False] == [isinstance(message, Passed) for message in told]
