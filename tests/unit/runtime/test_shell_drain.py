"""The shell's end: whatever hangs, it comes within the grace time, and what was not finished is handed back."""

from __future__ import annotations

import asyncio

from shared.contracts.envelope import Envelope, Message, Recorded
from shared.contracts.events import PersonaReaped
from shared.contracts.ids import utc_now
from shared.decider import Boundary, Decision, Delivered, Effect, Input, Result, Tick
from shared.log.memory import MemoryLog
from shared.log.port import ConsumerSpec
from shared.runtime.shell import IN_FLIGHT_LIMIT, Shell
from shared.runtime.turns import alone

SPEC = ConsumerSpec(name="test", filters=("persona.reaped.*.*",), max_ack_pending=10_000)


class Hang(Effect, frozen=True, kw_only=True):
    """Never done."""


class Hanging:
    """A decider whose every message asks for what never ends; a lane a persona, and one for the ticks of `p0`."""

    def initial(self) -> None:
        return None

    def boundary(self, message: Delivered | Tick) -> Boundary:
        persona = message.recorded.event.persona if isinstance(message, Delivered) else "p0"
        return Boundary(reads=(f"persona.*.alpha.{persona}",), guards=())

    def decide(self, state: None, message: Input) -> Decision:
        return Decision(effect=Hang())

    def evolve(self, state: None, recorded: Recorded) -> None:
        return None


class Mesh:
    def __init__(self) -> None:
        self.log = MemoryLog()
        self.puller = self.log.pull(SPEC)
        self.hanging = 0
        self.hangs = asyncio.Condition()
        self.stopping = asyncio.Event()
        self.shell = Shell(self.log, Hanging(), service="test", perform=self._hang)

    async def _hang(self, effect: Effect) -> Result:
        async with self.hangs:
            self.hanging += 1
            self.hangs.notify_all()
        await asyncio.Event().wait()
        raise AssertionError("it never ends")

    async def deliver(self, count: int) -> asyncio.Task[None]:
        """Start consuming, and wait until as many as there may be are in flight."""
        for n in range(count):
            event = PersonaReaped(swarm="alpha", persona=f"p{n}", reason="test")
            envelope = Envelope(id=f"e{n}", source="test", time=utc_now(), correlation="c")
            await self.log.commit([Message(event=event, envelope=envelope)])
        consuming = asyncio.create_task(self.shell.consume(self.puller, SPEC, stopping=self.stopping, grace_s=0.05))
        async with self.hangs:
            await self.hangs.wait_for(lambda: self.hanging == min(count, alone(IN_FLIGHT_LIMIT)))
        return consuming

    async def stop(self, consuming: asyncio.Task[None]) -> None:
        self.stopping.set()
        await self.puller.stop()
        async with asyncio.timeout(5):
            await consuming


async def test_a_tick_behind_a_handler_that_hangs_ends_with_the_shell() -> None:
    mesh = Mesh()
    consuming = await mesh.deliver(1)
    ticking = asyncio.create_task(mesh.shell.tick(Tick(id="t", now=utc_now(), swarm="alpha")))
    await asyncio.sleep(0)
    await mesh.stop(consuming)
    async with asyncio.timeout(5):
        await asyncio.wait([ticking])
    assert ticking.cancelled()


async def test_a_full_house_that_hangs_ends_within_the_grace_time_and_everything_is_handed_back() -> None:
    mesh = Mesh()
    consuming = await mesh.deliver(alone(IN_FLIGHT_LIMIT) + 5)
    await mesh.stop(consuming)
    soon = asyncio.get_running_loop().time() + 1
    assert [] == [seq for seq, (at, _) in mesh.puller.pending.items() if at > soon]
