"""A child begins a swarm of its own, or is refused: given, when, then; and the request delivered again at every step after."""

from __future__ import annotations

import msgspec
import pytest

from services.governor.decider import Governor, Limits
from services.governor.founding import Founding
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    AnyEvent,
    BudgetLimited,
    Credits,
    PersonaFounded,
    PersonaParted,
    PersonaReaped,
    PersonaSpawned,
    ReapRequested,
    SpawnRefused,
    SpawnRequested,
    SwarmRequested,
)
from shared.contracts.ids import EVERYONE
from shared.contracts.persona import PersonaPolicy, charter_sha256
from shared.decider import Delivered, Tick
from tests.unit.governor.governor_model import MiniLog, Replica, at, share, subjects
from tests.unit.governor.test_governor_lifecycle import final, refusal

POLICY = PersonaPolicy(
    max_spawn_depth=2, max_branching_factor=8, token_budget_per_minute=1000, compute_ms_per_minute=800
)
HAS = Credits(tokens=4000, compute_ms=2000, actions=40, cost_microusd=400)


class Mother:
    """The swarm `s` with one root that may spend `POLICY`, and the two governors' deciders that a new swarm has to do with."""

    def __init__(self, limits: Limits | None = None, *, has: Credits | None = HAS) -> None:
        self.log = MiniLog()
        self.founder = Replica(self.log, Founding(limits=limits or Limits()))
        self.governor = Replica(self.log, Governor(limits=limits or Limits()))
        if has is not None:
            self.record(share("s", has))
        self.spawn("root")

    def record(self, event: AnyEvent, second: float = 0) -> Recorded:
        return self.log.append(event, now=at(second), event_id=f"e{len(self.log.events) + 1}")

    def spawn(self, name: str, parent: str | None = None, second: float = 0) -> None:
        whose = {"swarm": "s", "persona": name, "parent_id": parent}
        wish = SpawnRequested(**whose, name=name, role="r", charter="c", policy=POLICY, principal="ada")
        (event,) = self.govern(self.record(wish, second), second)
        assert isinstance(event, PersonaSpawned)

    def govern(self, recorded: Recorded, second: float = 0) -> list[AnyEvent]:
        return self.governor.handle(Delivered(recorded=recorded, now=at(second)))

    def reap(self, name: str, second: float = 0, swarm: str = "s") -> None:
        """As far as the seal, with all below it in its swarm."""
        wish = ReapRequested(swarm=swarm, persona=name, cascade=True, principal="ada")
        self.govern(self.record(wish, second), second)
        self.govern(self.record(msgspec.structs.replace(final(name), swarm=swarm), second), second)

    def deliver(self, recorded: Recorded, second: float = 0, crowd: int = 0) -> list[AnyEvent]:
        return self.founder.handle(Delivered(recorded=recorded, now=at(second), attempt=2, crowd=crowd))

    def ask(self, wish: SwarmRequested, second: float = 0) -> list[AnyEvent]:
        return self.deliver(self.record(wish, second), second)

    def last(self, cls: type[AnyEvent]) -> Recorded:
        return [r for r in self.log.events if isinstance(r.event, cls)][-1]


def wish(
    swarm: str = "d", persona: str = "kid", parent: str = "root", above: str = "s", policy: PersonaPolicy | None = None
) -> SwarmRequested:
    whose = {"swarm": swarm, "persona": persona, "parent_swarm": above, "parent_id": parent}
    return SwarmRequested(**whose, name="n", role="r", charter="c", policy=policy, tags=("t",), principal="ada")


def test_a_child_begins_its_swarm_with_a_part_of_its_parents_share_in_one_commit() -> None:
    mother = Mother()
    events = mother.ask(wish(), 3)
    assert [
        f"budget.limited.{EVERYONE}.all", "budget.limited.s.all", "budget.limited.d.all",
        "persona.spawned.d.kid", "persona.founded.s.root",
    ] == subjects(events)  # fmt: skip
    _, left, given, born, founded = events
    assert isinstance(left, BudgetLimited) and isinstance(given, BudgetLimited)
    assert isinstance(born, PersonaSpawned) and isinstance(founded, PersonaFounded)
    part = Credits(tokens=1000, compute_ms=500, actions=10, cost_microusd=100)
    assert ("s", part, "founded") == (given.source, given.carved, given.reason)
    assert Credits(tokens=3000, compute_ms=1500, actions=30, cost_microusd=300) == left.credits
    assert ("root", 1, "d", at(3), ("t",)) == (
        born.identity.parent_id, born.identity.depth, born.identity.swarm_id, born.identity.created_at, born.identity.tags,
    )  # fmt: skip
    assert ("s", "ada", False) == (born.parent_swarm, born.principal, born.hibernates)
    assert (500, 400) == (
        born.policy.token_budget_per_minute,
        born.policy.compute_ms_per_minute,
    )  # half of its parent's
    assert (born.policy, "kid") == (founded.policy, founded.child)
    assert charter_sha256(born.identity) == mother.log.events[-1].envelope.charter


def test_both_lineages_both_budgets_and_all_shares_guard_it() -> None:
    mother = Mother()
    requested = mother.record(wish())
    _, guards = mother.founder.decide(Delivered(recorded=requested, now=at(0)))
    assert {"persona.*.s.>", "persona.*.d.>", "budget.*.s.>", "budget.*.d.>", "budget.limited.*.*"} <= guards.keys()


def test_a_policy_that_is_asked_for_is_clamped_to_the_parents() -> None:
    wide = PersonaPolicy(max_spawn_depth=60, max_branching_factor=1000, token_budget_per_minute=2000)
    born = Mother().ask(wish(policy=wide))[3]
    assert isinstance(born, PersonaSpawned)
    assert (2, 8, 1000) == (
        born.policy.max_spawn_depth, born.policy.max_branching_factor, born.policy.token_budget_per_minute,
    )  # fmt: skip


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked", [wish(swarm=EVERYONE), wish(persona=EVERYONE), wish(above=EVERYONE)], ids=["swarm", "persona", "parent"]
)
def test_everyone_is_nobody(asked: SwarmRequested) -> None:
    assert "reserved_id" == refusal(Mother().ask(asked))


def test_a_swarm_in_which_anybody_is_or_was_is_not_begun_again() -> None:
    mother = Mother()
    assert 5 == len(mother.ask(wish()))
    assert "swarm_exists" == refusal(mother.ask(wish(persona="another")))
    assert "swarm_exists" == refusal(mother.ask(wish(swarm="s")))
    mother.reap("kid", swarm="d")
    assert isinstance(mother.last(PersonaReaped).event, PersonaReaped)
    assert "swarm_exists" == refusal(mother.ask(wish(persona="another"), 9000))


def test_a_parent_that_never_was_that_drains_or_that_is_gone_has_no_child() -> None:
    mother = Mother()
    assert "parent_missing" == refusal(mother.ask(wish(parent="nobody")))
    assert "parent_missing" == refusal(mother.ask(wish(above="elsewhere")))
    mother.govern(mother.record(ReapRequested(swarm="s", persona="root")))
    assert "parent_not_live" == refusal(mother.ask(wish()))
    mother.govern(mother.record(final("root")))
    assert "parent_not_live" == refusal(mother.ask(wish()))
    mother.record(PersonaReaped(swarm="s", persona="nobody", reason="x"), 9000)  # an hour later it has left the fold
    assert "parent_not_live" == refusal(mother.ask(wish(), 9000))


def test_nobody_is_born_below_one_whose_parent_drains() -> None:
    mother = Mother()
    mother.spawn("mid", "root")
    mother.govern(mother.record(ReapRequested(swarm="s", persona="root")))
    assert "parent_not_live" == refusal(mother.ask(wish(parent="mid")))


def test_depth_goes_on_over_swarms() -> None:
    mother = Mother()
    assert 5 == len(mother.ask(wish()))
    assert 5 == len(mother.ask(wish("e", "grandkid", "kid", "d"), 60))
    assert "depth_limit" == refusal(mother.ask(wish("f", "late", "grandkid", "e"), 120))


def test_a_daughter_is_a_child_like_any_other_also_when_it_has_parted() -> None:
    narrow = msgspec.structs.replace(POLICY, token_budget_per_minute=1, compute_ms_per_minute=1)
    mother = Mother(Limits(max_lifetime_children=8))
    for n in range(8):
        assert 5 == len(mother.ask(wish(f"d{n}", policy=narrow)))
    assert "branching_limit" == refusal(mother.ask(wish("more")))
    mother.reap("kid", swarm="d0")
    assert isinstance(mother.last(PersonaParted).event, PersonaParted)
    assert "lifetime_limit" == refusal(mother.ask(wish("more")))


def test_what_could_never_think_is_not_born() -> None:
    nothing = msgspec.structs.replace(POLICY, token_budget_per_minute=0, compute_ms_per_minute=0)
    assert "no_budget" == refusal(Mother().ask(wish(policy=nothing)))


def test_daughters_count_in_the_spawn_rate_of_their_parents_swarm_and_the_refusal_says_until_when() -> None:
    narrow = msgspec.structs.replace(POLICY, token_budget_per_minute=1, compute_ms_per_minute=1)
    mother = Mother(Limits(spawns_per_minute=2))  # one of which is the root
    assert 5 == len(mother.ask(wish("d0", policy=narrow), 20))
    (refused,) = mother.ask(wish("d1", policy=narrow), 30)
    assert isinstance(refused, SpawnRefused)
    assert ("spawn_rate", 30) == (refused.reason, refused.retry_after_s)
    assert 5 == len(mother.ask(wish("d1", policy=narrow), 61))


def test_what_is_lent_is_not_lent_twice_and_comes_back_with_the_child() -> None:
    mother = Mother()
    two_thirds = msgspec.structs.replace(POLICY, token_budget_per_minute=700)
    assert 5 == len(mother.ask(wish("d0", policy=two_thirds)))
    (refused,) = mother.ask(wish("d1", policy=two_thirds))
    assert isinstance(refused, SpawnRefused)
    assert "lent_limit" == refused.reason and "root has 300 and 0" in refused.detail
    mother.reap("kid", swarm="d0")
    assert 5 == len(mother.ask(wish("d1", policy=two_thirds), 60))


def test_all_above_lend_what_a_child_of_their_child_gets() -> None:
    mother = Mother()
    mother.spawn("mid", "root")
    assert 5 == len(
        mother.ask(wish("d0", parent="mid", policy=msgspec.structs.replace(POLICY, token_budget_per_minute=600)))
    )
    (refused,) = mother.ask(wish("d1"))
    assert isinstance(refused, SpawnRefused)
    assert "lent_limit" == refused.reason and "root" in refused.detail


def test_no_more_swarms_begin_than_may_share() -> None:
    mother = Mother(Limits(max_swarms=1))
    (refused,) = mother.ask(wish())
    assert isinstance(refused, SpawnRefused)
    assert ("too_many_swarms", 60) == (refused.reason, refused.retry_after_s)


@pytest.mark.parametrize("has", [None, Credits(), Credits(tokens=3, compute_ms=3)], ids=["none", "zero", "crumbs"])
def test_a_swarm_without_a_share_gives_none(has: Credits | None) -> None:
    (refused,) = Mother(has=has).ask(wish())
    assert isinstance(refused, SpawnRefused)
    assert ("no_share", 60) == (refused.reason, refused.retry_after_s)


def test_in_a_crowd_it_is_refused_at_once_and_rests_on_nothing() -> None:
    mother = Mother()
    requested = mother.record(wish())
    decision = mother.founder.decide(Delivered(recorded=requested, now=at(0), crowd=500))[0]
    (refused,) = decision.events
    assert isinstance(refused, SpawnRefused)
    assert ("too_many_waiting", ()) == (refused.reason, decision.guards) and refused.retry_after_s > 0
    assert "500" in refused.detail and refused.swarm == "d"


# -- delivered again -------------------------------------------------------------------------------------------------


def test_a_request_delivered_again_is_answered_once_at_every_step_of_its_childs_life() -> None:
    mother = Mother()
    requested = mother.record(wish())
    assert 5 == len(mother.deliver(requested))
    assert [] == mother.deliver(requested)
    mother.govern(mother.record(ReapRequested(swarm="d", persona="kid")))
    assert [] == mother.deliver(requested)
    mother.govern(mother.record(msgspec.structs.replace(final("kid"), swarm="d")))
    assert [] == mother.deliver(requested)
    mother.record(share("d", Credits()), 60)
    assert [] == mother.deliver(requested, 60)


def test_a_refusal_stands_when_what_was_in_the_way_is_gone() -> None:
    mother = Mother(has=Credits())
    requested = mother.record(wish())
    assert "no_share" == refusal(mother.deliver(requested))
    mother.record(share("s", HAS, 60), 60)
    assert [] == mother.deliver(requested, 60)
    assert 5 == len(mother.ask(wish(), 60))


def test_what_was_refused_or_born_in_a_crowd_or_out_of_it_is_answered_once() -> None:
    mother = Mother()
    refused, born = mother.record(wish()), mother.record(wish())
    assert "too_many_waiting" == refusal(mother.deliver(refused, crowd=9))
    assert [] == mother.deliver(refused, crowd=9)
    assert [] == mother.deliver(refused)
    assert 5 == len(mother.deliver(born))
    assert [] == mother.deliver(born, crowd=9)


def test_of_two_governors_with_one_request_and_of_two_requests_for_one_swarm_one_is_stored() -> None:
    mother = Mother()
    first, second = mother.record(wish()), mother.record(wish(persona="another"))
    messages = [Delivered(recorded=recorded, now=at(0)) for recorded in (first, first, second)]
    decided = [Replica(mother.log, Founding()).decide(message) for message in messages]
    assert [True, False, False] == [
        mother.log.commit(decision, message, guards) is not None
        for message, (decision, guards) in zip(messages, decided, strict=True)
    ]
    assert [] == mother.deliver(first)
    assert "swarm_exists" == refusal(mother.deliver(second))


SIBLING = SpawnRequested(swarm="s", persona="x", name="x", role="r", charter="c", parent_id="root")


@pytest.mark.parametrize(
    "meanwhile",
    [share("other", HAS), ReapRequested(swarm="s", persona="root"), SIBLING],
    ids=["a share", "the end of its parent", "a sibling"],
)
def test_who_changes_what_it_rests_on_meanwhile_refuses_it(meanwhile: AnyEvent) -> None:
    mother = Mother()
    message = Delivered(recorded=mother.record(wish()), now=at(0))
    decision, guards = mother.founder.decide(message)
    stored = mother.record(meanwhile)
    if not isinstance(meanwhile, BudgetLimited):
        assert mother.govern(stored)
    assert mother.log.commit(decision, message, guards) is None
    assert mother.deliver(message.recorded)


def test_time_and_what_others_say_ask_for_nothing() -> None:
    mother = Mother()
    assert mother.founder.governor.boundary(Tick(id="t", now=at(0), swarm="s")) is None
    assert [] == mother.deliver(mother.last(PersonaSpawned))
