"""Who may begin and who must end: given, when, then."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import msgspec
import pytest

from services.governor.decider import Governor, LastThoughts, Limits, State, lineage_boundary
from shared.contracts.capabilities import Capabilities, Scope
from shared.contracts.events import (
    AnyEvent,
    PersonaDraining,
    PersonaReaped,
    PersonaSpawned,
    ReapRequested,
    SnapshotCompressed,
    SnapshotCounts,
    SpawnRefused,
    SpawnRequested,
    ThoughtSealed,
)
from shared.contracts.persona import PersonaPolicy, charter_sha256
from shared.decider import NOTHING, Decider, Delivered, Tick
from tests.unit.governor.governor_model import Swarm, at, subjects

WIDE = PersonaPolicy(max_spawn_depth=8, max_branching_factor=100)
GOVERNOR: Decider[State] = Governor()


def wish(persona: str, parent: str | None = None, policy: PersonaPolicy | None = None) -> SpawnRequested:
    return SpawnRequested(
        swarm="s",
        persona=persona,
        name=persona,
        role="r",
        charter="c",
        parent_id=parent,
        policy=policy,
        principal="ada",
    )


def reap(persona: str, *, cascade: bool = False, reason: str = "manual_reap") -> ReapRequested:
    return ReapRequested(swarm="s", persona=persona, cascade=cascade, reason=reason, principal="ada")


def final(persona: str, *, is_final: bool = True) -> SnapshotCompressed:
    return SnapshotCompressed(
        swarm="s",
        persona=persona,
        snapshot_id=f"snap-{persona}",
        key="k",
        sha256="0" * 64,
        seq=1,
        summary="",
        counts=SnapshotCounts(),
        final=is_final,
    )


def tick(second: float, facts: LastThoughts | None = None) -> Tick:
    return Tick(id=f"t{second}", now=at(second), swarm="s", facts=facts)


def family(*pairs: tuple[str, str | None], limits: Limits | None = None) -> Swarm:
    swarm = Swarm(limits)
    for name, parent in pairs:
        assert isinstance(swarm.ask(wish(name, parent, WIDE))[0], PersonaSpawned)
    return swarm


def refusal(events: list[AnyEvent]) -> str:
    (event,) = events
    assert isinstance(event, SpawnRefused), event
    return event.reason


def test_a_root_is_spawned_with_the_default_policy_and_its_charter_on_the_envelope() -> None:
    swarm = Swarm()
    (event,) = swarm.ask(wish("root"), 3)
    assert isinstance(event, PersonaSpawned)
    assert (event.identity.depth, event.identity.parent_id, event.identity.created_at) == (0, None, at(3))
    assert (event.policy, event.principal) == (PersonaPolicy(), "ada")
    assert swarm.log.events[-1].envelope.charter == charter_sha256(event.identity)


def test_a_child_gets_its_parents_policy_and_never_a_wider_one() -> None:
    swarm = Swarm()
    swarm.ask(wish("root", policy=PersonaPolicy(token_budget_per_minute=10, max_branching_factor=2)))
    (plain,) = swarm.ask(wish("plain", "root"))
    (greedy,) = swarm.ask(wish("greedy", "root", PersonaPolicy(token_budget_per_minute=99, max_spawn_depth=1)))
    assert isinstance(plain, PersonaSpawned) and isinstance(greedy, PersonaSpawned)
    assert (plain.policy.token_budget_per_minute, plain.identity.depth) == (10, 1)
    assert (greedy.policy.token_budget_per_minute, greedy.policy.max_spawn_depth) == (10, 1)


def test_a_request_delivered_again_is_answered_once() -> None:
    swarm = Swarm()
    wanted, again = swarm.record(wish("root")), swarm.record(wish("root"))
    assert subjects(swarm.deliver(wanted, 0)) == ["persona.spawned.s.root"]
    assert swarm.deliver(wanted, 1) == []
    assert refusal(swarm.deliver(again, 1)) == "duplicate_id"
    assert swarm.deliver(again, 2) == []
    assert swarm.deliver(wanted, 3) == []


def test_the_id_of_a_reaped_persona_is_not_given_again() -> None:
    swarm = family(("root", None))
    swarm.ask(reap("root"))
    swarm.ask(final("root"))
    assert refusal(swarm.ask(wish("root"))) == "duplicate_id"


def test_who_was_reaped_an_hour_ago_leaves_the_fold_and_its_id_and_place_among_its_siblings_are_still_taken() -> None:
    swarm = family(("root", None), ("a", "root"), ("b", "a"), limits=Limits(max_lifetime_children=1))
    swarm.ask(reap("a", cascade=True))
    swarm.ask(final("a"), 10)
    assert {"root", "a", "b"} == set(swarm.replica.state(lineage_boundary("s")).lineage.members)
    swarm.ask(wish("later"), 4000)
    swarm.ask(reap("later"), 4000)
    swarm.ask(final("later"), 4000)
    assert {"root", "a", "b", "later"} == set(swarm.replica.state(lineage_boundary("s")).lineage.members)  # `b` drains
    swarm.ask(final("b"), 4001)
    swarm.record(PersonaReaped(swarm="s", persona="nobody", reason="x"), 9000)
    lineage = swarm.replica.state(lineage_boundary("s")).lineage
    assert (["root"], {}, {}) == (list(lineage.members), lineage.members["root"].children, lineage.reaped)
    assert ["duplicate_id"] * 3 == [refusal(swarm.ask(wish(name), 9000)) for name in ("a", "b", "later")]
    assert "parent_not_live" == refusal(swarm.ask(wish("c", "a"), 9000))
    assert "lifetime_limit" == refusal(swarm.ask(wish("d", "root"), 9000))


@pytest.mark.parametrize("persona", ["all"])
def test_the_word_for_everyone_is_nobodys_id(persona: str) -> None:
    assert refusal(Swarm().ask(wish(persona))) == "reserved_id"


def test_a_parent_must_exist_in_the_swarm_and_be_live_with_all_above_it() -> None:
    swarm = family(("root", None), ("a", "root"))
    assert refusal(swarm.ask(wish("x", "elsewhere"))) == "parent_missing"
    swarm.ask(reap("root"))
    assert refusal(swarm.ask(wish("y", "root"))) == "parent_not_live"
    assert refusal(swarm.ask(wish("z", "a"))) == "parent_not_live"


def test_depth_and_branching_are_the_parents_limits() -> None:
    swarm = Swarm()
    swarm.ask(wish("root", policy=PersonaPolicy(max_spawn_depth=1, max_branching_factor=1)))
    swarm.ask(wish("a", "root"))
    assert refusal(swarm.ask(wish("b", "root"))) == "branching_limit"
    assert refusal(swarm.ask(wish("c", "a"))) == "depth_limit"
    swarm.ask(reap("a"))
    assert subjects(swarm.ask(wish("d", "root"))) == ["persona.spawned.s.d"]


def test_a_childs_capabilities_are_its_parents_or_within_them_and_else_it_is_refused_with_the_difference() -> None:
    notes = Capabilities(scopes=(Scope(kinds=("file.write",), targets=("notes/**",)),))
    today = Capabilities(scopes=(Scope(kinds=("file.write",), targets=("notes/today/*",)),))
    swarm = Swarm()
    swarm.ask(wish("root", policy=PersonaPolicy(capabilities=notes)))
    swarm.ask(wish("same", "root"))
    swarm.ask(wish("less", "same", policy=PersonaPolicy(capabilities=today)))
    swarm.ask(wish("unsaid", "less", policy=PersonaPolicy()))
    members = swarm.replica.state(lineage_boundary("s")).lineage.members
    assert [notes, notes, today, today] == [members[n].policy.capabilities for n in ("root", "same", "less", "unsaid")]
    (refused,) = swarm.ask(wish("more", "less", policy=PersonaPolicy(capabilities=notes)))
    assert isinstance(refused, SpawnRefused)
    assert ("beyond_parent", "less may not do itself: file.write at notes/** without people") == (
        refused.reason,
        refused.detail,
    )


def test_scopes_that_are_no_patterns_are_refused() -> None:
    bad = Capabilities(scopes=(Scope(kinds=("file.write",), targets=("a**",)),))
    assert "bad_capabilities" == refusal(Swarm().ask(wish("root", policy=PersonaPolicy(capabilities=bad))))


def test_lifetime_children_roots_and_personas_are_capped() -> None:
    swarm = family(("root", None), ("a", "root"), limits=Limits(max_lifetime_children=1, max_roots=2, max_personas=3))
    swarm.ask(reap("a"))
    assert refusal(swarm.ask(wish("b", "root"))) == "lifetime_limit"
    swarm.ask(wish("r2"))
    assert refusal(swarm.ask(wish("r3"))) == "root_limit"
    swarm.ask(wish("c", "r2"))
    assert refusal(swarm.ask(wish("d", "c"))) == "swarm_limit"


def test_the_spawn_rate_is_a_quota_over_any_sixty_seconds() -> None:
    swarm = Swarm(Limits(spawns_per_minute=2))
    assert subjects(swarm.ask(wish("a"), 0)) == ["persona.spawned.s.a"]
    assert subjects(swarm.ask(wish("b"), 59)) == ["persona.spawned.s.b"]
    assert refusal(swarm.ask(wish("c"), 59.9)) == "spawn_rate"
    assert subjects(swarm.ask(wish("d"), 60)) == ["persona.spawned.s.d"]
    assert refusal(swarm.ask(wish("e"), 61)) == "spawn_rate"


def test_no_budget_means_no() -> None:
    none = PersonaPolicy(token_budget_per_minute=0, compute_ms_per_minute=0)
    assert refusal(Swarm().ask(wish("a", policy=none))) == "no_budget"


def test_reaping_without_cascade_drains_the_one_and_the_tick_drains_its_orphans() -> None:
    swarm = family(("root", None), ("a", "root"), ("b", "a"))
    (event,) = swarm.ask(reap("root"), 5)
    assert event == PersonaDraining(swarm="s", persona="root", reason="manual_reap", deadline=at(25), principal="ada")
    orphans = swarm.replica.handle(tick(6))
    assert subjects(orphans) == ["persona.draining.s.a", "persona.draining.s.b"]
    assert [e.reason for e in orphans if isinstance(e, PersonaDraining)] == ["orphaned", "orphaned"]
    assert swarm.replica.handle(tick(7)) == []


def test_reaping_with_cascade_drains_all_descendants_in_one_commit_parents_first() -> None:
    swarm = family(("root", None), ("a", "root"), ("b", "root"), ("c", "a"), ("other", None))
    request = swarm.record(reap("root", cascade=True))
    drained = swarm.deliver(request, 0)
    assert subjects(drained) == [f"persona.draining.s.{name}" for name in ("root", "a", "b", "c")]
    assert swarm.deliver(request, 1) == []


def test_a_cascade_beyond_the_batch_goes_on_at_once_until_all_drain() -> None:
    swarm = family(("root", None), ("a", "root"), ("b", "root"), ("c", "a"), ("d", "c"), limits=Limits(batch=2))
    request = swarm.record(reap("root", cascade=True))
    first, _ = swarm.replica.decide(Delivered(recorded=request, now=at(0)))
    assert first.retry_s == 0.0
    drained = [subjects(swarm.deliver(request, second)) for second in range(3)]
    assert drained == [
        [f"persona.draining.s.{name}" for name in names] for names in (("root", "a"), ("b", "c"), ("d",))
    ]
    assert swarm.replica.decide(Delivered(recorded=request, now=at(3)))[0] == NOTHING


def test_reaping_a_draining_persona_with_cascade_still_ends_its_descendants() -> None:
    swarm = family(("root", None), ("a", "root"))
    swarm.ask(reap("root"))
    assert subjects(swarm.ask(reap("root", cascade=True))) == ["persona.draining.s.a"]
    assert swarm.ask(reap("root")) == []


def test_reaping_nobody_is_nothing() -> None:
    assert Swarm().ask(reap("ghost", cascade=True)) == []


def test_the_final_snapshot_of_a_draining_persona_is_its_end_once() -> None:
    swarm = family(("root", None))
    assert swarm.ask(final("root")) == []
    swarm.ask(reap("root", reason="resource_budget_reclaim"))
    assert swarm.ask(final("root", is_final=False)) == []
    assert swarm.ask(final("root")) == [
        PersonaReaped(swarm="s", persona="root", reason="resource_budget_reclaim", snapshot_id="snap-root"),
        ThoughtSealed(swarm="s", persona="root"),
    ]
    assert swarm.ask(final("root")) == []
    assert swarm.log.last("persona.reaped.s.root") == swarm.last_of(PersonaReaped).seq


def test_a_drain_without_a_final_snapshot_ends_loudly_once_patience_is_over() -> None:
    swarm = family(("root", None), limits=Limits(drain_s=20, drain_patience_s=600))
    swarm.ask(reap("root", reason="x" * 300), 0)
    assert swarm.replica.handle(tick(620)) == []
    event, seal = swarm.replica.handle(tick(621))
    assert seal == ThoughtSealed(swarm="s", persona="root")
    assert isinstance(event, PersonaReaped) and event.snapshot_id is None
    assert event.reason.endswith("x_without_snapshot") and len(event.reason) == 300


def test_nobody_is_given_up_while_anybody_leaves_a_final_snapshot() -> None:
    swarm = family(("root", None), limits=Limits(drain_s=20, drain_patience_s=600))
    swarm.ask(reap("root"), 0)
    for second in (700, 1200, 1800):
        assert swarm.replica.handle(tick(second, LastThoughts(snapshot_at=at(second - 600)))) == []
    ended = swarm.replica.handle(tick(1801, LastThoughts(snapshot_at=at(1200))))
    assert subjects(ended) == ["persona.reaped.s.root", "thought.sealed.s.root.core"]


def test_a_reap_and_its_seal_are_one_commit_however_small_the_batch() -> None:
    names = ("a", "b", "c")
    swarm = family(*((name, None) for name in names), limits=Limits(batch=3, drain_patience_s=1))
    for name in names:
        swarm.ask(reap(name))
    ended = [subjects(swarm.replica.handle(tick(100 + n))) for n in range(4)]
    assert ended == [*([f"persona.reaped.s.{n}", f"thought.sealed.s.{n}.core"] for n in names), []]


def test_the_idle_end_with_their_descendants_and_the_useful_stay() -> None:
    swarm = family(("idle", None), ("below", "idle"), ("busy", None), ("new", None))
    facts = LastThoughts(useful_at={"idle": at(10), "busy": at(3000), "below": at(3500)}, running_since=at(-9))
    swarm.ask(wish("late"), 20)
    assert swarm.replica.handle(tick(3600, facts)) == []
    ended = swarm.replica.handle(tick(3611, facts))
    assert subjects(ended) == ["persona.draining.s.idle", "persona.draining.s.below", "persona.draining.s.new"]
    assert {e.reason for e in ended if isinstance(e, PersonaDraining)} == {"idle_ttl"}


def test_a_root_whose_time_nobody_set_hibernates_and_its_children_keep_theirs() -> None:
    swarm = Swarm()
    policy = PersonaPolicy(max_branching_factor=3)
    unset = msgspec.structs.replace(wish("unset", policy=policy), hibernate=True)
    child = msgspec.structs.replace(wish("child", "bare", policy), hibernate=True)
    born = [swarm.ask(request)[0] for request in (wish("bare"), unset, wish("set", policy=policy), child)]
    said = [(e.hibernates, e.policy.idle_ttl_secs) for e in born if isinstance(e, PersonaSpawned)]
    assert said == [(True, 3600), (True, 3600), (False, 3600), (False, 3600)]
    ended = swarm.replica.handle(tick(99_999, LastThoughts(running_since=at(0))))
    assert subjects(ended) == ["persona.draining.s.set", "persona.draining.s.child"]


def test_an_idle_time_of_zero_is_for_ever_and_a_childs_is_within_its_parents() -> None:
    swarm = Swarm()
    never, hour = PersonaPolicy(idle_ttl_secs=0), PersonaPolicy(idle_ttl_secs=3600)
    wishes = (wish("a", policy=never), wish("b", "a", hour), wish("c", policy=hour), wish("d", "c", never))
    born = [event for request in wishes for event in swarm.ask(request)]
    assert [e.policy.idle_ttl_secs for e in born if isinstance(e, PersonaSpawned)] == [0, 3600, 3600, 3600]
    ended = swarm.replica.handle(tick(99_999, LastThoughts(running_since=at(0))))
    assert subjects(ended) == [f"persona.draining.s.{name}" for name in ("b", "c", "d")]


def test_nobody_is_idle_while_the_loop_stands_or_has_just_begun() -> None:
    swarm = family(("root", None))
    assert swarm.replica.handle(tick(9999)) == []
    assert swarm.replica.handle(tick(9999, LastThoughts())) == []
    assert swarm.replica.handle(tick(9999, LastThoughts(running_since=at(9000)))) == []


def test_what_is_not_the_governors_concern_has_no_boundary() -> None:
    swarm = Swarm()
    for event in (final("a", is_final=False), PersonaReaped(swarm="s", persona="a", reason="x")):
        delivered = Delivered(recorded=swarm.record(event), now=at(0))
        assert GOVERNOR.boundary(delivered) is None
        assert GOVERNOR.decide(GOVERNOR.initial(), delivered) == NOTHING


def test_events_about_personas_the_log_has_forgotten_change_nothing() -> None:
    swarm = Swarm()
    swarm.record(PersonaDraining(swarm="s", persona="ghost", reason="x", deadline=at(1)))
    swarm.record(PersonaReaped(swarm="s", persona="ghost", reason="x"))
    assert swarm.replica.state(lineage_boundary("s")) == GOVERNOR.initial()


def test_a_state_survives_being_a_checkpoint() -> None:
    swarm = family(("root", None), ("a", "root"))
    swarm.ask(wish("a"))
    swarm.ask(reap("root"))
    state = swarm.replica.state(lineage_boundary("s"))
    assert msgspec.json.decode(msgspec.json.encode(state), type=State) == state


def test_refusals_are_remembered_up_to_a_bound() -> None:
    swarm = family(("root", None))
    for i in range(1100):
        swarm.log.append(
            SpawnRefused(swarm="s", persona="root", reason="duplicate_id", detail=""),
            now=at(0),
            event_id=f"r{i}",
            causation=f"c{i}",
        )
    refused = swarm.replica.state(lineage_boundary("s")).lineage.refused
    assert (len(refused), next(iter(refused))) == (1000, "c100")


def spawn_lines(personas: int) -> int:
    """Lines executed to decide and take in one spawn at depth 2, in a lineage of that many personas."""
    limits = Limits(max_roots=100_000, max_personas=100_000, spawns_per_minute=120)
    swarm = Swarm(limits)
    governor, state = swarm.replica.governor, swarm.replica.governor.initial()
    names = ["root", *(f"p{i}" for i in range(1, personas))]
    for i, name in enumerate(names):
        parent = None if i % 50 == 0 else names[i - i % 50]
        delivered = Delivered(recorded=swarm.record(wish(name, parent, WIDE), i), now=at(i))
        (event,) = governor.decide(state, delivered).events
        recorded = swarm.log.append(event, now=at(i), event_id=f"s{i}", causation=delivered.recorded.id)
        state = governor.evolve(state, recorded)
    delivered = Delivered(recorded=swarm.record(wish("new", "p1", WIDE)), now=at(personas))
    count = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        if not frame.f_globals.get("__name__", "").startswith(("services.", "shared.")):
            return None  # a finalizer that the garbage collector runs just now
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        (event,) = governor.decide(state, delivered).events
        governor.evolve(state, swarm.log.append(event, now=at(personas), event_id="new", causation="w"))
    finally:
        sys.settrace(before)
    assert isinstance(event, PersonaSpawned) and event.identity.depth == 2
    return count


def test_a_spawn_costs_the_same_in_a_lineage_of_two_hundred_and_of_ten_thousand() -> None:
    assert spawn_lines(10_000) == spawn_lines(200)
