"""Who spoke is known: what a runner says of a persona it does not hold changes nothing, for nobody, and is in the dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from services.checker.answers import Answers
from services.checker.decider import Checker
from services.checker.desk import Desk
from services.checker.effects import CheckerEffects
from services.gateway.projections.projection import Projection
from services.governor.effects import Roster
from services.persona_runner.hosting.host import Host
from services.persona_runner.mind.state import State
from services.verifier import decider as verifier
from services.verifier.effects import VerifierEffects
from shared.contracts.catalog import class_filter
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    AnyEvent,
    PersonaSpawned,
    PlacementChanged,
    ProposalCreated,
    ProposalVerified,
    RecallRequested,
)
from shared.contracts.ids import CORE
from shared.decider import Decider
from shared.log.memory import MemoryLog
from shared.log.port import ConsumerSpec
from shared.placement import GRACE, Placements, groups_of, owner_of, shard_of
from shared.policy.library import Library
from shared.runtime.hearing import Hearing
from shared.runtime.shell import Shell
from tests.examples import EXAMPLES, IDENTITY
from tests.unit.gate.given import message_of

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)
SHARDS = 64
BOTH = ("r1", "r2")
SPAWNED = PersonaSpawned(swarm="alpha", persona="p01", identity=IDENTITY, policy=EXAMPLES["persona.spawned"].policy)  # type: ignore[union-attr]
HOLDER = owner_of(shard_of("alpha", "p01", SHARDS), BOTH)
OTHER = "r2" if HOLDER == "r1" else "r1"
SAID = ("thought.generated", "hypothesis.raised", "check.requested", "proposal.created", "grant.requested")


class Mesh:
    """A log with its own time, and everything said so far."""

    def __init__(self) -> None:
        self.now = T0
        self.log = MemoryLog(lambda: self.now)
        self.store = self.log.store
        self._serial = 0

    def say(self, event: AnyEvent, *, after: timedelta = timedelta(0)) -> Recorded:
        self.now += after
        self._serial += 1
        (seq,) = self.store.append([message_of(event, id=f"e{self._serial}")])
        return self.store.records[seq - 1]

    def place(self, *slots: str, swarm: str = "all") -> Recorded:
        return self.say(PlacementChanged(swarm=swarm, persona="all", slots=slots, shards=SHARDS))

    @property
    def said(self) -> Sequence[Recorded]:
        return self.store.records


def by(slot: str | None, name: str = "thought.generated", **changed: object) -> AnyEvent:
    event: AnyEvent = msgspec.structs.replace(EXAMPLES[name], swarm="alpha", persona="p01", slot=slot, **changed)
    return event


def test_one_of_the_runners_holds_a_persona_and_only_its_word_counts() -> None:
    mesh = Mesh()
    placements = Placements([mesh.place(*BOTH)])
    mesh.now += 2 * GRACE
    for name in SAID:
        assert placements.why_not(mesh.say(by(HOLDER, name))) is None
        assert placements.why_not(mesh.say(by(CORE, name))) is None
        assert f"{OTHER} does not hold alpha.p01" == placements.why_not(mesh.say(by(OTHER, name)))
        assert "r9 does not hold alpha.p01" == placements.why_not(mesh.say(by("r9", name)))


def test_before_the_first_word_everything_counts_and_what_was_said_then_counts_for_ever() -> None:
    mesh = Mesh()
    early = mesh.say(by(OTHER))
    placements = Placements()
    assert placements.why_not(early) is None
    placements.add(mesh.place(*BOTH))
    assert placements.why_not(early) is None and placements.holder("alpha", "p01", early.seq) is None
    assert HOLDER == placements.holder("alpha", "p01", early.seq + 2)


def test_a_hand_over_is_told_by_sequence_and_what_was_on_its_way_still_counts_for_a_moment() -> None:
    mesh = Mesh()
    placements = Placements([mesh.place(str(HOLDER))])
    before = mesh.say(by(HOLDER), after=2 * GRACE)
    placements.add(mesh.place(OTHER))
    on_its_way = mesh.say(by(HOLDER, step=2), after=GRACE)
    late = mesh.say(by(HOLDER, step=3), after=timedelta(milliseconds=1))
    new = mesh.say(by(OTHER, step=3))
    judged = [placements.why_not(r) is None for r in (before, on_its_way, late, new)]
    assert [True, True, False, True] == judged
    placements.add(mesh.place(str(HOLDER)))
    assert judged == [placements.why_not(r) is None for r in (before, on_its_way, late, new)]


def test_a_stolen_slot_that_comes_and_goes_is_believed_no_longer_than_it_was_placed() -> None:
    mesh = Mesh()
    placements = Placements()
    for _ in range(5):
        placements.add(mesh.place(OTHER))
        placements.add(mesh.place(str(HOLDER)))
        mesh.now += 2 * GRACE
        assert placements.why_not(mesh.say(by(OTHER))) is not None


@pytest.mark.parametrize("name", ["check.requested", "proposal.created"])
async def test_what_is_forged_is_buried_and_what_is_not_is_judged(name: str) -> None:
    mesh = Mesh()
    mesh.place(*BOTH)
    mesh.say(SPAWNED)
    mesh.now += 2 * GRACE
    forged, honest = mesh.say(by(OTHER, name)), mesh.say(by(HOLDER, name))
    hearing, library = Hearing(mesh.log), Library(mesh.log)
    decider: Decider[Any] = verifier if name == "proposal.created" else Checker(slot="c1")
    verifying = VerifierEffects(log=mesh.log, library=library)
    checking = CheckerEffects(Desk(log=mesh.log, library=library, answers=Answers(mesh.log)))
    perform = verifying.perform if decider is verifier else checking.perform
    shell = Shell(mesh.log, decider, service="test", perform=perform, why_not=hearing.why_not)
    spec = ConsumerSpec(name="test", filters=(class_filter(name),))
    puller = mesh.log.pull(spec)
    working = asyncio.create_task(shell.consume(puller, spec))
    life_id = honest.subject.split(".")[4]
    async with asyncio.timeout(10):
        verdicts = (f"proposal.*.alpha.p01.{life_id}", f"check.result.alpha.p01.{life_id}.*")
        while not (said := await mesh.log.read(verdicts)):
            await asyncio.sleep(0)
        while not mesh.log.dead:
            await asyncio.sleep(0)
    await puller.stop()
    await working
    assert [honest.id] == [r.envelope.causation for r in said]
    assert [(forged.subject, "not_the_holder")] == [(subject, reason) for subject, reason, _ in mesh.log.dead]


async def test_a_question_to_memory_is_judged_by_who_holds_the_persona_now() -> None:
    mesh = Mesh()
    mesh.place(*BOTH)
    mesh.now += 2 * GRACE
    hearing, asked = Hearing(mesh.log), RecallRequested(swarm="alpha", persona="p01", query="q")
    (old,) = await mesh.log.commit([message_of(msgspec.structs.replace(asked, slot=OTHER), id="q1")])
    stream = mesh.log.tail(("recall.requested.*.*.*",), stream="RECALL")
    async for recorded in stream:
        assert isinstance(recorded, Recorded) and recorded.seq == old
        assert await hearing.why_not(recorded) is not None
        mesh.place(OTHER)
        assert await hearing.why_not(recorded) is None
        await stream.stop()


def test_a_host_counts_a_forged_step_where_guards_count_and_nowhere_else() -> None:
    mesh = Mesh()
    host = Host(shards=SHARDS, thinker="t", runner=f"persona_runner-{str(HOLDER)[1:]}")
    for recorded in (mesh.place(*BOTH), mesh.say(SPAWNED)):
        host.feed(recorded)
    shard = host.shard(("alpha", "p01"))
    assert shard in host.share()
    host.begin(shard)
    host.install([mesh.said[-1]])
    host.end(shard)
    mesh.now += 2 * GRACE
    before = host.state(("alpha", "p01"))
    for name in ("thought.generated", "hypothesis.raised", "proposal.created"):
        host.feed(mesh.say(by(OTHER, name)))
    forged = mesh.say(by(OTHER, "thought.generated", final=True, step=9))
    host.feed(forged)
    after = host.state(("alpha", "p01"))
    assert isinstance(before, State) and after == msgspec.structs.replace(before, thought_seq=forged.seq)
    host.install([r for r in mesh.said if r.event.persona == "p01"])
    assert after == host.state(("alpha", "p01"))
    host.feed(mesh.say(by(HOLDER, step=1)))
    heard = host.state(("alpha", "p01"))
    assert heard is not None and heard.step == 1


def test_a_host_has_no_share_where_the_governor_reckons_with_other_shards() -> None:
    mesh = Mesh()
    host = Host(shards=SHARDS // 2, thinker="t", runner="persona_runner-1")
    host.feed(mesh.place("r1"))
    assert frozenset() == host.share()


def test_views_show_nothing_of_what_is_forged_nor_of_what_comes_after_the_reap() -> None:
    mesh = Mesh()
    projection = Projection()
    mesh.place(*BOTH)
    mesh.say(SPAWNED)
    mesh.say(by(HOLDER, step=1), after=2 * GRACE)
    for recorded in mesh.said:
        projection.apply(recorded)
    persona = projection.personas.get("p01")
    assert persona is not None and persona.thought_count == 1
    shown = msgspec.json.encode((persona, projection.journal.capture()))
    for name in SAID:
        projection.apply(mesh.say(by(OTHER, name)))
    assert shown == msgspec.json.encode((persona, projection.journal.capture())) and not projection.proposals.lives
    projection.apply(mesh.say(by(HOLDER, "proposal.created")))
    projection.apply(mesh.say(by(HOLDER, "proposal.created", title="Again, and otherwise")))
    (life,) = projection.proposals.lives.values()
    assert isinstance(life.created, ProposalCreated) and life.created.title != "Again, and otherwise"
    reaped = msgspec.structs.replace(EXAMPLES["persona.reaped"], swarm="alpha", persona="p01")
    projection.apply(mesh.say(reaped))
    projection.apply(mesh.say(by(HOLDER, step=7, final=True)))
    assert persona.thought_count == 1


async def test_idleness_and_spending_go_by_the_holders_word() -> None:
    mesh = Mesh()
    mesh.place(*BOTH)
    mesh.say(SPAWNED)
    mesh.say(by(HOLDER, useful_at=T0), after=2 * GRACE)
    roster = Roster(mesh.log, Hearing(mesh.log).why_not, clock=lambda: mesh.now)
    await roster.refresh()
    await roster.last_thoughts("alpha")
    await roster.spent("alpha")
    mesh.say(by(OTHER, step=2, useful_at=T0 + timedelta(days=9), grant_id=None))
    assert {"p01": T0} == (await roster.last_thoughts("alpha")).useful_at
    assert () == await roster.spent("alpha")


async def test_what_was_verified_is_carried_on_whatever_was_created_first_under_its_id() -> None:
    from services.actuator import decider as actuator
    from services.policy_gate import decider as gate
    from tests.unit.gate.given import folded, proposed

    forged, honest = proposed(slot=OTHER, title="Forged"), proposed(slot=HOLDER)
    verdict = ProposalVerified(
        swarm="alpha",
        persona="p01",
        proposal_id="p-1",
        digest=honest.digest,
        risk="low",
        proposal=honest,
        proposed_seq=2,
    )
    assert (honest, 2) == ((state := folded(gate, forged, honest, verdict, forged)).created, state.created_seq)
    assert honest == folded(actuator, forged, honest, verdict, forged).created


# -- swarms that runners of their own serve --------------------------------------------------------------------------


def test_a_swarm_with_a_word_of_its_own_is_held_by_those_it_names_and_only_that_swarm() -> None:
    mesh = Mesh()
    placements = Placements([mesh.place(*BOTH), mesh.place("r7", swarm="alpha")])
    assert frozenset({"alpha"}) == placements.apart
    mesh.now += 2 * GRACE
    for slot in (*BOTH, "r7"):
        said = mesh.say(by(slot))
        assert (placements.why_not(said) is None) == (slot == "r7"), slot
    of_another = msgspec.structs.replace(by("r7"), swarm="beta")
    assert placements.why_not(mesh.say(of_another)) is not None


def test_what_was_on_its_way_when_a_swarm_came_apart_counts_and_what_came_later_does_not() -> None:
    mesh = Mesh()
    placements = Placements([mesh.place(*BOTH)])
    before = mesh.say(by(HOLDER))
    placements.add(mesh.place("r7", swarm="alpha"))
    on_its_way, new = mesh.say(by(HOLDER)), mesh.say(by("r7"))
    late = mesh.say(by(HOLDER), after=2 * GRACE)
    assert [True, True, True, False] == [placements.why_not(r) is None for r in (before, on_its_way, new, late)]


def test_a_word_without_slots_gives_the_swarm_back_to_all() -> None:
    mesh = Mesh()
    placements = Placements([mesh.place("r7", swarm="alpha"), mesh.place(*BOTH), mesh.place(swarm="alpha")])
    assert not placements.apart
    on_its_way, back = mesh.say(by("r7")), mesh.say(by(HOLDER))
    late = mesh.say(by("r7"), after=2 * GRACE)
    assert [True, True, False] == [placements.why_not(r) is None for r in (on_its_way, back, late)]
    assert HOLDER == placements.holder("alpha", "p01", late.seq)


@pytest.mark.parametrize(
    "setting",
    [
        "persona_runner-2",
        "persona_runner-2=",
        "persona_runner-2=all",
        "x=alpha",
        "persona_runner-2=a+B",
        "=alpha",
        "persona_runner-1=a+b,persona_runner-2=b",
    ],
)
def test_groups_that_are_none_are_refused(setting: str) -> None:
    with pytest.raises(ValueError, match=r"persona_runner|served by two|told apart"):
        groups_of(setting)


def test_groups_are_the_slots_of_the_same_swarms() -> None:
    assert {("a", "b"): frozenset({"r1", "r3"}), ("c",): frozenset({"r2"})} == groups_of(
        " persona_runner-1=b+a, persona_runner-2=c,persona_runner-3=a+b+a, "
    )
    assert {} == groups_of("")
