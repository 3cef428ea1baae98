"""What the governor looks up for its ticks."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from services.governor.decider import LastThoughts
from services.governor.effects import Roster
from shared.contracts.envelope import Envelope, Message
from shared.contracts.events import (
    AnyEvent,
    CognitionStarted,
    CognitionStopped,
    PersonaDraining,
    PersonaReaped,
    ThoughtGenerated,
    Usage,
)
from shared.contracts.ids import EVERYONE
from shared.log.memory import MemoryLog
from shared.log.port import LogUnavailable
from tests.unit.governor.governor_model import at
from tests.unit.governor.test_governor_lifecycle import family, tick


class Mesh:
    """A log in memory under a clock that is set by hand."""

    def __init__(self) -> None:
        self.now = at(0)
        self.log = MemoryLog(clock=self.clock)

    def clock(self) -> datetime:
        return self.now

    async def say(self, event: AnyEvent) -> None:
        name = f"e{len(self.log.store.records)}"
        await self.log.commit(
            [Message(event=event, envelope=Envelope(id=name, source="t", time=self.now, correlation=name))]
        )

    def roster(self) -> Roster:
        return Roster(self.log, pause_s=60, clock=self.clock)


async def started(mesh: Mesh) -> None:
    await mesh.say(CognitionStarted(swarm=EVERYONE, persona=EVERYONE))


async def test_the_facts_are_the_last_thoughts_of_those_who_live() -> None:
    mesh = Mesh()
    for recorded in family(("a", None), ("b", None), ("gone", None)).log.events:
        await mesh.say(recorded.event)
    for name, useful in (("a", 1), ("a", 2), ("gone", 3)):
        thought = ThoughtGenerated(
            swarm="s",
            persona=name,
            step=useful,
            cycle=1,
            phase="observe",
            text="t",
            thinker="rules",
            digest="0" * 64,
            useful_at=at(useful),
        )
        await mesh.say(thought)
    await mesh.say(PersonaDraining(swarm="s", persona="gone", reason="x", deadline=at(9)))
    await mesh.say(ThoughtGenerated(**{**fields(thought), "persona": "stranger"}))
    roster = mesh.roster()
    await roster.refresh()
    assert roster.live == {"s": {"a", "b"}}
    assert LastThoughts(useful_at={"a": at(2)}, snapshot_at=at(0)) == await roster.last_thoughts("s")
    await started(mesh)
    assert at(0) == (await roster.last_thoughts("s")).running_since
    await mesh.say(CognitionStopped(swarm=EVERYONE, persona=EVERYONE))
    assert None is (await roster.last_thoughts("s")).running_since


def fields(thought: ThoughtGenerated) -> dict[str, object]:
    return {name: getattr(thought, name) for name in thought.__struct_fields__}


async def test_a_night_the_mesh_was_off_makes_nobody_idle() -> None:
    mesh, swarm = Mesh(), family(("root", None))
    await started(mesh)
    mesh.now = at(30_000)
    morning = mesh.roster()
    facts = await morning.last_thoughts("s")
    assert [] == swarm.replica.handle(tick(30_005, facts))
    for second in range(30_000, 33_700, 50):
        mesh.now = at(second)
        facts = await morning.last_thoughts("s")
    assert at(30_000) == facts.running_since
    (ended,) = swarm.replica.handle(tick(33_650, facts))
    assert isinstance(ended, PersonaDraining) and "idle_ttl" == ended.reason


async def test_patience_runs_from_the_last_final_snapshot_of_any_swarm_and_from_when_somebody_looked_again() -> None:
    mesh = Mesh()
    roster = mesh.roster()
    mesh.now = at(50)
    await mesh.say(PersonaReaped(swarm="other", persona="a", reason="x", snapshot_id="snap"))
    mesh.now = at(59)
    await mesh.say(PersonaReaped(swarm="other", persona="b", reason="x_without_snapshot"))
    await roster.refresh()
    assert at(50) == (await roster.last_thoughts("s")).snapshot_at
    mesh.now = at(5000)
    assert at(5000) == (await roster.last_thoughts("s")).snapshot_at


async def test_idleness_counts_anew_after_the_machine_slept_or_the_log_was_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mesh = Mesh()
    await started(mesh)
    roster = mesh.roster()
    mesh.now = at(50)
    assert at(0) == (await roster.last_thoughts("s")).running_since
    mesh.now += timedelta(hours=9)
    assert mesh.now == (await roster.last_thoughts("s")).running_since
    with monkeypatch.context() as away:
        away.setattr(mesh.log, "last", _away)
        for _ in range(10):
            mesh.now += timedelta(seconds=20)
            with pytest.raises(LogUnavailable):
                await roster.last_thoughts("s")
    assert mesh.now == (await roster.last_thoughts("s")).running_since


async def _away(filters: object) -> None:
    raise LogUnavailable("away")


async def test_what_thoughts_cost_is_told_once_from_when_this_governor_began_to_look() -> None:
    mesh = Mesh()
    for recorded in family(("a", None), ("b", None)).log.events:
        await mesh.say(recorded.event)
    roster = mesh.roster()

    async def think(step: int, cost: int) -> None:
        thought = ThoughtGenerated(
            swarm="s",
            persona="a",
            step=step,
            cycle=1,
            phase="observe",
            text="t",
            thinker="rules",
            digest="0" * 64,
            useful_at=at(0),
            usage=Usage(tokens_in=cost),
            grant_id="g",
        )
        await mesh.say(thought)

    async def spent() -> list[tuple[str, str | None, int]]:
        await roster.refresh()
        await roster.last_thoughts("s")
        return [(s.persona, s.grant_id, s.credits.tokens) for s in await roster.spent("s")]

    await think(1, 5)
    assert await spent() == []
    await think(2, 7)
    await think(3, 0)
    assert [await spent(), await spent()] == [[("a", "g", 7)], []]
