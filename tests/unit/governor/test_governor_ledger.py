"""Who may spend how much: given, when, then. T0 is the start of a minute."""

from __future__ import annotations

import msgspec
import pytest

from services.governor.decider import ExpiredGrants, Limits, State, ledger_boundary
from services.governor.ledger import KEPT_WINDOWS, Spent
from shared.contracts.events import (
    AnyEvent,
    BudgetExhausted,
    BudgetGranted,
    BudgetRefused,
    BudgetSettled,
    Credits,
    GrantRequested,
    PersonaSpawned,
    ReapRequested,
    SpawnRequested,
)
from shared.contracts.ids import caused_id
from shared.contracts.persona import PersonaPolicy
from shared.decider import Tick
from tests.unit.governor.governor_model import T0, Swarm, at

WINDOW = int(T0.timestamp()) // 60


def tokens(amount: int) -> Credits:
    return Credits(tokens=amount)


def swarm_of(*personas: tuple[str, str | None, int], limits: Limits | None = None) -> Swarm:
    """Personas as (id, parent, tokens a minute)."""
    swarm = Swarm(limits)
    for name, parent, budget in personas:
        policy = PersonaPolicy(token_budget_per_minute=budget, compute_ms_per_minute=1000)
        request = SpawnRequested(
            swarm="s", persona=name, name=name, role="r", charter="c", parent_id=parent, policy=policy
        )
        swarm.ask(request)
    return swarm


def want(persona: str, need: int, *, closing: str | None = None, used: int = 0) -> GrantRequested:
    return GrantRequested(swarm="s", persona=persona, need=tokens(need), closing=closing, used=tokens(used))


def granted(events: list[AnyEvent]) -> BudgetGranted:
    assert isinstance(events[-1], BudgetGranted), events
    return events[-1]


def turn(swarm: Swarm, second: float, thoughts: tuple[Spent, ...] = ()) -> list[AnyEvent]:
    """What follows from the ledger's tick."""
    return swarm.replica.handle(Tick(id=f"t{second}", now=at(second), swarm="s", facts=ExpiredGrants(spent=thoughts)))


def unpaid(persona: str, reason: str, grant_id: str | None, cost: int = 0, upto: int = 0) -> BudgetRefused:
    return BudgetRefused(
        swarm="s", persona=persona, reason=reason, grant_id=grant_id, window=WINDOW, credits=tokens(cost), upto=upto
    )


def spent(persona: str, grant_id: str | None, cost: int, seq: int) -> Spent:
    return Spent(persona=persona, grant_id=grant_id, credits=tokens(cost), seq=seq)


def served(swarm: Swarm, second: float) -> list[str]:
    """Whom the ledger's tick grants something."""
    return [e.persona for e in turn(swarm, second) if isinstance(e, BudgetGranted)]


def exhausted(events: list[AnyEvent]) -> tuple[str, str]:
    assert isinstance(events[-1], BudgetExhausted), events
    return events[-1].scope, events[-1].resource


def test_a_grant_is_what_was_needed_and_names_its_window_and_end() -> None:
    swarm = swarm_of(("root", None, 1000))
    grant = granted(swarm.ask(want("root", 10), 5))
    assert (grant.credits, grant.window, grant.expires_at) == (tokens(10), WINDOW, at(95))
    stored = swarm.last_of(BudgetGranted)
    expected_id = caused_id(stored.envelope.causation or "", "budget.granted")
    assert (grant.grant_id, stored.envelope.charter) == (expected_id, swarm.last_of(PersonaSpawned).envelope.charter)
    assert granted(swarm.ask(want("root", 600), 6)).credits == tokens(600)
    assert granted(swarm.ask(want("root", 390), 7)).credits == tokens(390)


def test_what_does_not_fit_is_exhausted_until_the_next_minute() -> None:
    swarm = swarm_of(("root", None, 1000))
    swarm.ask(want("root", 900), 5)
    (event,) = swarm.ask(want("root", 101), 59)
    whose = BudgetExhausted(swarm="s", persona="root", scope="persona", resource="tokens", retry_at=at(75))
    assert event == msgspec.structs.replace(whose, need=tokens(101))
    assert granted(swarm.ask(want("root", 900), 60)).window == WINDOW + 1


def test_what_no_minute_has_is_refused_and_stands_in_nobodys_way() -> None:
    swarm = swarm_of(("root", None, 1000), ("a", "root", 1000))
    (event,) = swarm.ask(want("root", 1001), 5)
    assert event == BudgetExhausted(swarm="s", persona="root", scope="persona", resource="tokens", retry_at=at(60))
    assert granted(swarm.ask(want("a", 1000), 6)).credits == tokens(1000)
    assert turn(swarm, 60) == []


def test_who_waited_longest_is_served_first_by_what_was_given_back_and_nobody_overtakes() -> None:
    swarm = swarm_of(("root", None, 1000), *((name, "root", 1000) for name in "abcd"))
    first = granted(swarm.ask(want("a", 900), 1))
    for second, (name, need) in enumerate((("b", 300), ("c", 500), ("d", 100)), 2):
        assert exhausted(swarm.ask(want(name, need), second)) == ("root", "tokens")
    events = swarm.ask(want("a", 600, closing=first.grant_id, used=100), 6)
    assert [type(e).__name__ for e in events] == ["BudgetSettled", *["BudgetGranted"] * 3, "BudgetExhausted"]
    assert [(e.persona, e.credits) for e in events[1:4] if isinstance(e, BudgetGranted)] == [
        ("b", tokens(300)),
        ("c", tokens(500)),
        ("d", tokens(100)),
    ]
    assert len({e.grant_id for e in events[1:4] if isinstance(e, BudgetGranted)}) == 3


def test_whoever_needs_other_credits_than_those_waited_for_is_served() -> None:
    swarm = swarm_of(("root", None, 1000), ("a", "root", 1000), ("b", "root", 1000))
    swarm.ask(want("a", 900), 1)
    assert exhausted(swarm.ask(want("b", 300), 2)) == ("root", "tokens")
    assert exhausted(swarm.ask(want("a", 50), 3)) == ("root", "tokens"), "b came first"
    compute = GrantRequested(swarm="s", persona="root", need=Credits(compute_ms=10))
    assert granted(swarm.ask(compute, 4)).credits == Credits(compute_ms=10)


def test_those_in_line_are_told_to_come_again_one_after_another() -> None:
    swarm = swarm_of(("root", None, 1000), *((name, "root", 1000) for name in "abc"))
    swarm.ask(want("root", 1000), 1)
    told = [swarm.ask(want(name, 1), 2)[-1] for name in "abc"]
    assert [at(75), at(75.05), at(75.1)] == [e.retry_at for e in told if isinstance(e, BudgetExhausted)]


def test_a_new_minute_serves_the_line_without_anybody_asking_again() -> None:
    swarm = swarm_of(("root", None, 1000), ("a", "root", 1000), ("b", "root", 1000))
    swarm.ask(want("root", 1000), 1)
    swarm.ask(want("a", 700), 2)
    swarm.ask(want("b", 700), 3)
    swarm.ask(ReapRequested(swarm="s", persona="a"), 4)
    assert turn(swarm, 59) == []
    (served,) = turn(swarm, 61)
    assert isinstance(served, BudgetGranted)
    assert (served.persona, served.window, served.credits) == ("b", WINDOW + 1, tokens(700))
    assert turn(swarm, 62) == []


def test_a_place_in_line_is_kept_when_asking_again_and_lost_when_nobody_asks_any_more() -> None:
    swarm = swarm_of(("root", None, 1000), ("a", "root", 1000), ("b", "root", 1000))
    swarm.ask(want("root", 1000), 1)
    for name in ("a", "b", "a"):
        swarm.ask(want(name, 600), 2)
    assert served(swarm, 60) == ["a"]
    assert served(swarm, 121) == ["b"]
    swarm.ask(want("root", 400), 122)
    swarm.ask(want("a", 600), 123)
    assert served(swarm, 600) == []


def test_a_childs_credits_are_its_parents_too() -> None:
    swarm = swarm_of(("root", None, 1000), ("a", "root", 1000), ("b", "root", 1000))
    granted(swarm.ask(want("a", 700)))
    assert exhausted(swarm.ask(want("b", 301))) == ("root", "tokens")
    assert granted(swarm.ask(want("b", 300))).credits == tokens(300)
    assert exhausted(swarm.ask(want("root", 1))) == ("persona", "tokens")


def test_a_swarm_has_a_budget_over_all_its_roots() -> None:
    limits = Limits(swarm_per_minute=Credits(tokens=1500))
    swarm = swarm_of(("r1", None, 1000), ("r2", None, 1000), limits=limits)
    granted(swarm.ask(want("r1", 1000)))
    assert exhausted(swarm.ask(want("r2", 501))) == ("swarm", "tokens")
    assert granted(swarm.ask(want("r2", 500))).credits == tokens(500)


def test_zero_means_no_for_each_resource() -> None:
    swarm = swarm_of(("root", None, 0), limits=Limits(actions_per_minute=0))
    assert exhausted(swarm.ask(want("root", 1))) == ("persona", "tokens")
    action = GrantRequested(swarm="s", persona="root", need=Credits(actions=1))
    assert exhausted(swarm.ask(action)) == ("persona", "actions")
    compute = GrantRequested(swarm="s", persona="root", need=Credits(compute_ms=1000))
    assert granted(swarm.ask(compute)).credits == Credits(compute_ms=1000)


def test_who_is_not_live_gets_nothing() -> None:
    swarm = swarm_of(("root", None, 1000))
    swarm.ask(ReapRequested(swarm="s", persona="root"))
    assert exhausted(swarm.ask(want("root", 1))) == ("not_live", "tokens")
    assert exhausted(swarm.ask(want("ghost", 1))) == ("not_live", "tokens")


def test_closing_gives_back_what_was_not_used_in_the_same_commit() -> None:
    swarm = swarm_of(("root", None, 1000), ("a", "root", 1000))
    first = granted(swarm.ask(want("a", 1000)))
    settled, second = swarm.ask(want("a", 900, closing=first.grant_id, used=100))
    assert settled == BudgetSettled(swarm="s", persona="a", grant_id=first.grant_id, window=WINDOW, credits=tokens(100))
    assert granted([second]).credits == tokens(900)
    assert exhausted(swarm.ask(want("root", 1))) == ("persona", "tokens")


def test_closing_is_believed_up_to_the_grant_and_only_from_its_holder() -> None:
    swarm = swarm_of(("root", None, 1000), ("other", None, 1000))
    grant = granted(swarm.ask(want("root", 400)))
    (refused,) = swarm.ask(want("other", 0, closing=grant.grant_id))
    assert refused == unpaid("other", "anothers_grant", grant.grant_id)
    (invented,) = swarm.ask(want("other", 0, closing="g-1"))
    assert invented == unpaid("other", "unknown_grant", "g-1")
    (settled,) = swarm.ask(want("root", 0, closing=grant.grant_id, used=9999))
    assert isinstance(settled, BudgetSettled) and settled.credits == tokens(400)
    assert swarm.ask(want("root", 0, closing=grant.grant_id, used=1)) == []


def test_a_grant_of_an_earlier_minute_gives_nothing_back_to_this_one() -> None:
    swarm = swarm_of(("root", None, 1000))
    old = granted(swarm.ask(want("root", 1000), 50))
    granted(swarm.ask(want("root", 600), 61))
    events = swarm.ask(want("root", 500, closing=old.grant_id, used=0), 62)
    assert exhausted(events) == ("persona", "tokens")
    assert len(events) == 2


def test_a_request_delivered_again_is_answered_once_and_an_old_one_only_closes() -> None:
    swarm = swarm_of(("root", None, 1000))
    request = swarm.record(want("root", 900), 0)
    refused = swarm.record(want("root", 900), 0)
    grant = granted(swarm.deliver(request, 1))
    assert exhausted(swarm.deliver(refused, 1)) == ("persona", "tokens")
    for second in (2, 61, 119, 180, 1000):
        assert swarm.deliver(request, second) == []
        assert swarm.deliver(refused, second) == []
    late = swarm.record(want("root", 5, closing=grant.grant_id, used=7), 0)
    (settled,) = swarm.deliver(late, 500)
    assert isinstance(settled, BudgetSettled) and settled.credits == tokens(7)


def test_an_unclosed_grant_is_charged_in_full_by_the_first_tick_after_its_end() -> None:
    swarm = swarm_of(("root", None, 1000))
    grant = granted(swarm.ask(want("root", 10), 0))
    assert turn(swarm, 30) == []
    assert turn(swarm, 90) == [
        BudgetSettled(
            swarm="s", persona="root", grant_id=grant.grant_id, window=WINDOW, credits=grant.credits, in_full=True
        )
    ]
    assert turn(swarm, 91) == []


def test_thoughts_without_a_grant_of_their_own_are_refused_charged_and_told_once() -> None:
    swarm = swarm_of(("root", None, 1000), ("a", "root", 1000), ("b", "root", 1000))
    grant = granted(swarm.ask(want("a", 100), 1))
    thoughts = (
        spent("a", grant.grant_id, 60, 101),
        spent("b", grant.grant_id, 70, 102),
        spent("b", grant.grant_id, 80, 103),
        spent("b", "invented", 90, 104),
        spent("root", None, 200, 105),
    )
    told = turn(swarm, 2, thoughts)
    assert told == [
        unpaid("b", "anothers_grant", grant.grant_id, 150, 104),
        unpaid("b", "unknown_grant", "invented", 90, 104),
        unpaid("root", "no_grant", None, 200, 105),
    ]
    assert turn(swarm, 3, thoughts) == []
    assert exhausted(swarm.ask(want("b", 461), 4)) == ("root", "tokens")
    assert granted(swarm.ask(want("b", 460), 5)).credits == tokens(460)


def test_a_thought_may_cite_a_grant_that_has_just_ended() -> None:
    swarm = swarm_of(("root", None, 1000))
    grant = granted(swarm.ask(want("root", 100), 1))
    swarm.ask(want("root", 0, closing=grant.grant_id, used=60), 2)
    assert turn(swarm, 3, (spent("root", grant.grant_id, 60, 50),)) == []
    assert swarm.ask(want("root", 0, closing=grant.grant_id, used=60), 4) == []
    swarm.ask(want("root", 0, closing=granted(swarm.ask(want("root", 100), 999)).grant_id), 1000)
    assert turn(swarm, 1001, (spent("root", grant.grant_id, 60, 51),)) != []


def test_a_tick_of_the_ledger_settles_what_expired_within_the_batch() -> None:
    swarm = swarm_of(("root", None, 1000), limits=Limits(batch=2))
    for _ in range(3):
        granted(swarm.ask(want("root", 250), 0))
    assert [len(turn(swarm, second)) for second in (89, 90, 91, 92)] == [0, 2, 1, 0]


def test_windows_and_answers_are_forgotten_and_a_slow_clock_cannot_spend_twice() -> None:
    swarm = swarm_of(("root", None, 1000))
    for minute in range(20):
        granted(swarm.ask(want("root", 1000), 60 * minute))
    ledger = swarm.replica.state(ledger_boundary("s")).ledger
    assert sorted(ledger.charged) == [WINDOW + m for m in range(20 - KEPT_WINDOWS, 20)]
    assert len(ledger.answered) == 4
    assert exhausted(swarm.ask(want("root", 1), 0)) == ("persona", "tokens")


def test_a_ledger_survives_being_a_checkpoint() -> None:
    swarm = swarm_of(("root", None, 1000))
    swarm.ask(want("root", 10))
    state = swarm.replica.state(ledger_boundary("s"))
    assert msgspec.json.decode(msgspec.json.encode(state), type=State) == state


def test_a_swarm_cannot_be_given_more_than_the_mesh_has() -> None:
    with pytest.raises(ValueError, match=r"swarm_per_minute\.tokens is 11, above global_per_minute's 10"):
        Limits(swarm_per_minute=tokens(11), global_per_minute=tokens(10))
