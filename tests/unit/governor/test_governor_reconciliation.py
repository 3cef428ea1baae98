"""Each kind of disorder planted, found by a tick, and mended by an event that says why."""

from __future__ import annotations

from services.governor.decider import ExpiredGrants, LastThoughts, Limits
from shared.contracts.events import (
    BudgetGranted,
    BudgetSettled,
    Credits,
    PersonaDraining,
    PersonaReaped,
    ThoughtGenerated,
    ThoughtSealed,
)
from shared.decider import Tick
from tests.unit.governor.governor_model import at, subjects
from tests.unit.governor.test_governor_effects import Mesh
from tests.unit.governor.test_governor_lifecycle import family, reap, tick


def thought(persona: str, step: int) -> ThoughtGenerated:
    return ThoughtGenerated(
        swarm="s", persona=persona, step=step, cycle=1, phase="observe", text="t", thinker="rules", digest="0" * 64,
        useful_at=at(0),
    )  # fmt: skip


def test_an_orphan_is_drained_as_one() -> None:
    swarm = family(("root", None), ("child", "root"))
    swarm.record(PersonaDraining(swarm="s", persona="root", reason="x", deadline=at(20)))
    (mended,) = swarm.replica.handle(tick(1))
    assert isinstance(mended, PersonaDraining)
    assert (mended.persona, mended.reason) == ("child", "orphaned")
    assert swarm.replica.handle(tick(2)) == []


def test_a_stuck_drain_is_reaped_and_says_that_it_left_no_snapshot() -> None:
    swarm = family(("root", None), limits=Limits(drain_s=20, drain_patience_s=60))
    swarm.ask(reap("root"), 0)
    mended = swarm.replica.handle(tick(81))
    assert mended == [
        PersonaReaped(swarm="s", persona="root", reason="manual_reap_without_snapshot"),
        ThoughtSealed(swarm="s", persona="root"),
    ]
    assert swarm.replica.handle(tick(82)) == []


def test_an_expired_grant_is_charged_in_full() -> None:
    swarm = family(("root", None))
    grant = BudgetGranted(
        swarm="s", persona="root", grant_id="g", window=1, credits=Credits(tokens=9), expires_at=at(90)
    )
    swarm.record(grant)
    late = Tick(id="t1", now=at(91), swarm="s", facts=ExpiredGrants())
    (mended,) = swarm.replica.handle(late)
    assert mended == BudgetSettled(
        swarm="s", persona="root", grant_id="g", window=1, credits=Credits(tokens=9), in_full=True
    )


def test_a_zombie_is_sealed_and_says_so() -> None:
    swarm = family(("root", None), ("alive", None))
    swarm.record(PersonaDraining(swarm="s", persona="root", reason="x", deadline=at(20)))
    swarm.record(PersonaReaped(swarm="s", persona="root", reason="x", snapshot_id="snap"))
    mended = swarm.replica.handle(tick(1, LastThoughts(zombies=("root", "alive"))))
    assert mended == [ThoughtSealed(swarm="s", persona="root", reason="zombie")]


async def test_who_was_reaped_without_a_seal_or_thinks_after_it_is_found_until_it_is_sealed() -> None:
    mesh = Mesh()
    for name in ("unsealed", "late", "well"):
        await mesh.say(thought(name, 1))
        await mesh.say(PersonaReaped(swarm="s", persona=name, reason="x", snapshot_id="snap"))
        if name != "unsealed":
            await mesh.say(ThoughtSealed(swarm="s", persona=name))
    await mesh.say(thought("late", 2))
    roster = mesh.roster()
    await roster.refresh()
    assert (await roster.last_thoughts("s")).zombies == ("unsealed", "late")
    for name in ("unsealed", "late"):
        await mesh.say(ThoughtSealed(swarm="s", persona=name, reason="zombie"))
    await roster.refresh()
    assert (await roster.last_thoughts("s")).zombies == ()


def test_zombies_do_not_hold_up_what_else_is_to_be_mended() -> None:
    swarm = family(("root", None), ("child", "root"), limits=Limits(batch=2))
    swarm.record(PersonaDraining(swarm="s", persona="root", reason="x", deadline=at(20)))
    mended = swarm.replica.handle(tick(1, LastThoughts(zombies=("gone-1", "gone-2", "gone-3"))))
    assert subjects(mended) == ["persona.draining.s.child", "thought.sealed.s.gone-1.core"]
