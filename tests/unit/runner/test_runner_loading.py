"""Loading a gained share: what failed is forgotten whole, and tried again from its beginning."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from services.persona_runner.hosting.host import Host
from services.persona_runner.hosting.loop import Loop
from shared.contracts.envelope import Envelope, Message, Stored
from shared.contracts.events import PersonaDraining, PersonaSpawned
from shared.contracts.ids import fresh_id, utc_now
from shared.contracts.persona import Identity, PersonaPolicy
from shared.decider import Effect, Result
from shared.log.memory import MemoryLog
from shared.log.port import LogUnavailable

SLOW, AWAY = "p1", "p2"


class Failing(MemoryLog):
    """The first reading of `p1` takes its time, that of `p2` fails."""

    def __init__(self) -> None:
        super().__init__()
        self.failing = True
        self.go_on, self.gone_on = asyncio.Event(), asyncio.Event()

    async def stored(self, filters: Sequence[str], after: int = 0, *, upto: int | None = None) -> list[Stored]:
        found = await super().stored(filters, after, upto=upto)
        if not self.failing:
            return found
        if filters[0].endswith(AWAY):
            raise LogUnavailable("the broker is away")
        await self.go_on.wait()
        self.gone_on.set()
        return found

    async def put(self, event: PersonaSpawned | PersonaDraining) -> None:
        event_id = fresh_id()
        envelope = Envelope(id=event_id, source="test", time=utc_now(), correlation=event_id)
        await self.commit([Message(event=event, envelope=envelope)])


async def nothing(effect: Effect) -> Result:
    raise AssertionError("nobody thinks here")


async def test_a_reading_left_behind_by_a_failed_loading_does_not_overwrite_the_next_one() -> None:
    log = Failing()
    for name in (SLOW, AWAY):
        identity = Identity(id=name, name="n", role="r", charter="c", swarm_id="alpha", created_at=utc_now())
        await log.put(PersonaSpawned(swarm="alpha", persona=name, identity=identity, policy=PersonaPolicy()))
    host = Host(shards=1, thinker="none", runner="runner-1")
    loop = Loop(log, host, nothing)

    def feed() -> None:
        for recorded in log.store.read((">",), host.position):
            host.feed(recorded)

    feed()
    with pytest.raises(LogUnavailable):
        await loop.own({0})
    log.failing = False
    await log.put(PersonaDraining(swarm="alpha", persona=SLOW, reason="test", deadline=utc_now()))
    feed()
    await loop.own({0})
    log.go_on.set()
    for _ in range(10):
        await asyncio.sleep(0)
    state = host.state(("alpha", SLOW))
    assert state is not None and state.draining
    assert not log.gone_on.is_set()
