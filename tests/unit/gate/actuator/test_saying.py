"""What is said to the mesh: in one batch with its claim, within what the proposer has, and read by everybody."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.actuator import decider
from services.actuator.saying import Facts, ids_of, refusal, say
from services.actuator.terms import Allot, Allotted, Check, Checked, Job
from shared.contracts.action import Action
from shared.contracts.action_kinds import KINDS, classify, read
from shared.contracts.boundaries import intent, question, watches
from shared.contracts.capabilities import Capabilities, Scope
from shared.contracts.catalog import CLASSES, class_of, subject_of
from shared.contracts.events import (
    ActionClaimed,
    ActionExecuted,
    Credits,
    IntentDelegated,
    IntentRouted,
    IntentSubmitted,
    PersonaSpawned,
    ProposalKey,
    QuestionAsked,
    ReapRequested,
    ReportGiven,
    SpawnRefused,
    SpawnRequested,
    WatchAdded,
)
from shared.contracts.events.intents import Candidate
from shared.contracts.ids import caused_id
from shared.contracts.kinds.kind import MESH, Params, Problem
from shared.contracts.kinds.perceiving import MAX_WATCHES
from shared.contracts.persona import Identity, PersonaPolicy
from shared.contracts.services import SERVICES
from shared.decider import NOTHING, Delivered, Performed
from shared.halts import BOUNDARY as HALTS
from shared.intents import Life, fold
from shared.runtime.handling import addressed
from tests.unit.gate.given import at, authorized, folded, proposed, record, replaced, verified

POLICY = PersonaPolicy(token_budget_per_minute=1000, compute_ms_per_minute=500, allowed_tools=("file.write",))
SPAWN = Action(
    kind="persona.spawn",
    target="p01-nginx",
    params={"name": "Nia", "role": "scout", "charter": "Watch nginx.", "tags": "nginx, web"},
)
REAP = Action(kind="persona.reap", target="p01-nginx", params={"reason": "quiet"})
ASK = Action(kind="person.ask", target="anyone", params={"question": "Is the disk planned?", "options": "yes\nno"})
GOAL = Action(kind="intent.submit", target="alpha", params={"goal": "Find out why", "tokens": 900, "due_s": 30})
WATCH = Action(kind="watch.add", target="logins", params={"pattern": "Failed <*>", "silence_s": 60, "for_s": 600})
FACTS = Facts(policy=POLICY, kin=True, free="q-0-20260101-1")


def life(action: Action) -> tuple[Any, ...]:
    """What is in the log when the actuator is asked to do it."""
    created = proposed(action)
    return record(created, 1), record(verified(created, tainted=False), 2), record(authorized(created), 3)


def said(action: Action, facts: Facts = FACTS) -> Any:
    """What the actuator decides when it has its lot."""
    *_, last = records = life(action)
    state = folded(decider, *records)
    created = proposed(action)
    job = Job(swarm=created.swarm, persona=created.persona, proposal_id=created.proposal_id, action=action)
    cause = Delivered(recorded=last, now=at(4))
    first = decider.decide(state, cause)
    assert isinstance(first.effect, Check) and job == first.effect.job
    checked = Performed(cause=cause, effect=first.effect, result=Checked(actuator="a/1", facts=facts), now=at(4))
    asked = decider.decide(state, checked)
    if asked.events:
        return asked
    assert isinstance(asked.effect, Allot) and facts == asked.effect.facts
    lot = Performed(cause=cause, effect=asked.effect, result=Allotted(lot_id="lot-1"), now=at(5))
    return decider.decide(state, lot)


@pytest.mark.parametrize(
    ("action", "classes"),
    [
        (SPAWN, [ActionClaimed, SpawnRequested]),
        (REAP, [ActionClaimed, ReapRequested, ActionExecuted]),
        (ASK, [ActionClaimed, QuestionAsked, ActionExecuted]),
        (GOAL, [ActionClaimed, IntentSubmitted, ActionExecuted]),
        (WATCH, [ActionClaimed, WatchAdded, ActionExecuted]),
    ],
)
def test_it_is_claimed_said_and_done_in_one_batch_and_nothing_is_performed(action: Action, classes: list[type]) -> None:
    decision = said(action)
    assert classes == [type(event) for event in decision.events] and decision.effect is None
    allowed = SERVICES["actuator"].emits
    assert (
        {class_of(e) for e in decision.events[1:]} - {"action.executed"} <= set(KINDS[action.kind].says) <= set(allowed)
    )


def test_the_outcome_names_its_claim() -> None:
    *_, last = life(ASK)
    decision = said(ASK)
    claim, _, executed = addressed(decision, Delivered(recorded=last, now=at(5)), at(5), "actuator")
    assert claim.envelope.id == executed.event.claim_id and "success" == executed.event.outcome


@pytest.mark.parametrize("action", [SPAWN, ASK])
def test_what_was_said_is_not_said_again_however_often_it_is_delivered(action: Action) -> None:
    *_, last = records = life(action)
    events = [record(event, 4 + i) for i, event in enumerate(said(action).events)]
    assert NOTHING == decider.decide(
        folded(decider, *records, *events), Delivered(recorded=last, now=at(900), attempt=9)
    )


def spawned(**changed: Any) -> PersonaSpawned:
    identity = Identity(
        id="p01-nginx",
        name="Nia",
        role="scout",
        charter="c",
        swarm_id="alpha",
        parent_id="p01",
        depth=1,
        created_at=at(6),
    )
    created = proposed(SPAWN)
    key = ProposalKey(swarm=created.swarm, persona=created.persona, proposal_id=created.proposal_id)
    return PersonaSpawned(swarm="alpha", persona="p01-nginx", identity=identity, policy=POLICY, proposal=key)


@pytest.mark.parametrize("born", [True, False])
def test_a_spawn_is_done_when_the_governor_says_so_once(born: bool) -> None:
    answer: Any = spawned()
    if not born:
        answer = SpawnRefused(
            swarm="alpha", persona="p01-nginx", reason="depth_limit", detail="too deep", proposal=answer.proposal
        )
    events = [record(event, 4 + i) for i, event in enumerate(said(SPAWN).events)]
    state = folded(decider, *life(SPAWN), *events)
    message = Delivered(recorded=record(answer, 9), now=at(7))
    boundary, first = decider.boundary(message), decider.boundary(Delivered(recorded=life(SPAWN)[-1], now=at(7)))
    assert boundary and first and (boundary.reads, boundary.guards) == (first.reads, first.guards)
    (executed,) = decider.decide(state, message).events
    assert isinstance(executed, ActionExecuted)
    assert (("success", None) if born else ("failure", "depth_limit")) == (executed.outcome, executed.error)
    assert NOTHING == decider.decide(decider.evolve(state, record(executed, 10)), message)


def test_who_was_not_proposed_is_no_concern_of_the_actuator() -> None:
    answer = msgspec.structs.replace(spawned(), proposal=None)
    assert decider.boundary(Delivered(recorded=record(answer, 9), now=at(7))) is None


def test_a_child_has_half_of_what_its_parent_may_spend_and_never_more_than_it() -> None:
    half = said(SPAWN).events[1]
    assert (500, 250) == (half.policy.token_budget_per_minute, half.policy.compute_ms_per_minute)
    assert ("nginx", "web") == half.tags and "p01" == half.parent_id
    scoped = Capabilities(scopes=(Scope(kinds=("file.write",), targets=("notes/**",)),))
    able = replaced(FACTS, policy=replaced(POLICY, capabilities=scoped))
    assert said(SPAWN, able).events[1].policy.capabilities is None  # so the governor gives it its parent's
    greedy = Action(kind="persona.spawn", target="p02", params={**SPAWN.params, "tokens_per_minute": 10**9})
    assert 1000 == said(greedy).events[1].policy.token_budget_per_minute


@pytest.mark.parametrize(
    ("action", "facts", "error"),
    [
        (REAP, Facts(policy=POLICY), "not_descendant"),
        (ASK, Facts(policy=POLICY), "limit_of_day"),
        (GOAL, Facts(policy=POLICY), "limit_of_day"),
        (SPAWN, Facts(), "persona_unknown"),
        (Action(kind="intent.submit", target="alpha", params={"goal": "g", "tokens": 1001, "due_s": 60}), FACTS, "beyond_budget"),
        (Action(kind="intent.submit", target="alpha", params={"goal": "g", "tokens": 1, "parent": "i-1"}), FACTS, "parent_refuses"),
    ],
)  # fmt: skip
def test_what_may_not_be_said_is_a_failure_without_a_claim(action: Action, facts: Facts, error: str) -> None:
    (executed,) = said(action, facts).events
    assert isinstance(executed, ActionExecuted)
    assert ("failure", error, None) == (executed.outcome, executed.error, executed.claim_id)


def parent_life(budget: int = 1000) -> Life:
    """An intent that p01 works on."""
    submitted = IntentSubmitted(
        swarm="alpha",
        persona="all",
        intent_id="i-1",
        goal="g",
        deadline=at(60),
        budget=Credits(tokens=budget),
        principal="ann",
    )
    routed = IntentRouted(
        swarm="alpha", persona="all", intent_id="i-1", until=at(60), route=1, budget=Credits(tokens=100),
        to=(Candidate(swarm="alpha", persona="p01"),),
    )  # fmt: skip
    return fold([record(submitted, 1), record(routed, 2)])


@pytest.mark.parametrize(("tokens", "fits"), [(900, True), (901, False)])
def test_a_part_of_an_intent_is_paid_from_what_is_left_of_it(tokens: int, fits: bool) -> None:
    params = {"goal": "g", "tokens": tokens, "parent": "i-1", "due_s": 9000}
    action = Action(kind="intent.submit", target="alpha/p02", params=params)
    facts = Facts(policy=PersonaPolicy(), free="i-0-20260101-1", parent=parent_life(), parent_seq=7)
    events = said(action, facts).events
    if not fits:
        assert "failure" == events[0].outcome and "parent_refuses" == events[0].error
        return
    _, submitted, taken, _ = events
    assert isinstance(taken, IntentDelegated) and Credits(tokens=900) == taken.budget == submitted.budget
    assert ("i-1", at(60)) == (submitted.parent_id, submitted.deadline)
    expects = ((intent("alpha", "i-0-20260101-1"), 0), (intent("alpha", "i-1"), 7), (HALTS, 0))
    assert expects == said(action, facts).expects


def test_a_question_has_one_of_the_ids_its_family_has_that_day() -> None:
    decision = said(ASK)
    assert ((question("alpha", FACTS.free or ""), 0), (HALTS, 0)) == decision.expects
    asked = decision.events[1]
    assert isinstance(asked, QuestionAsked)
    assert (("yes", "no"), "", False) == (asked.options, asked.wanted, asked.tainted)
    assert subject_of(asked).startswith("question.asked.alpha.p01.q-")
    today, tomorrow = (
        ids_of("person.ask", "root", "alpha", at(0)),
        ids_of("person.ask", "root", "alpha", at(0) + timedelta(1)),
    )
    assert KINDS["person.ask"].per_day == len(set(today)) and not set(today) & set(tomorrow)
    assert not set(today) & set(ids_of("person.ask", "root", "beta", at(0)))


@given(
    kind=st.sampled_from([name for name, row in KINDS.items() if row.hand == MESH]),
    target=st.one_of(
        st.from_regex(r"[a-z][a-z0-9-]{0,50}(/[a-z0-9]{1,3})?", fullmatch=True), st.text(min_size=1, max_size=130)
    ),
    data=st.data(),
)
def test_whatever_is_read_as_an_action_is_said_in_events_that_all_can_read(kind: str, target: str, data: Any) -> None:
    text = st.text(max_size=130) | st.sampled_from(["", "a, b,,a", "a\nb\n\na", ",".join(map(str, range(20)))])
    number = st.integers(-1, 10**6) | st.sampled_from([0, 60, 2**53 - 1])
    params = {
        field.name: data.draw(number if "int" in str(field.type) else st.booleans() if field.type is bool else text)
        for field in msgspec.structs.fields(KINDS[kind].params)
        if field.required or data.draw(st.booleans())
    }
    action = Action(kind=kind, target=target, params=params)
    typed = read(action)
    if isinstance(typed, Problem):
        return
    assert isinstance(typed, Params) and KINDS[kind].dry_run(target, typed)
    assert "critical" != classify(action, "alpha", "p01")
    created = proposed(action)
    refused = refusal(created, typed, FACTS, at(0))
    assert refused is None or kind == "intent.submit" or refused[0] == "not_its_own"
    for event in say(created, typed, FACTS, at(0), tainted=True).events:
        name = class_of(event)
        assert event == msgspec.json.decode(msgspec.json.encode(event), type=CLASSES[name])
        assert caused_id("x", subject_of(event))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", None),
        ("{}", Capabilities()),
        (
            '{"scopes": [{"kinds": ["file.write"], "targets": ["notes/today/**"], "per_day": 3}]}',
            Capabilities(scopes=(Scope(kinds=("file.write",), targets=("notes/today/**",), per_day=3),)),
        ),
    ],
)
def test_a_child_has_the_capabilities_it_is_given_and_its_parents_where_none_are(given: str, expected: Any) -> None:
    _, asked = said(replaced(SPAWN, params={**SPAWN.params, "capabilities": given})).events
    assert isinstance(asked, SpawnRequested) and asked.policy is not None and expected == asked.policy.capabilities


@pytest.mark.parametrize(
    "given",
    ["[]", "{", '{"scopes": 3}', '{"scopes": [{"kinds": ["file.write"], "targets": ["a**"]}]}', '{"all": true}'],
)
def test_what_are_no_capabilities_is_told_before_anybody_is_asked(given: str) -> None:
    told = read(replaced(SPAWN, params={**SPAWN.params, "capabilities": given}))
    assert isinstance(told, Problem) and "bad_params" == told.code and "capabilities" in told.detail


def test_who_ends_itself_tells_its_parent_what_came_of_it_with_its_own_taint() -> None:
    params = {"reason": "done", "summary": "The disk is full of old logs."}
    own = Action(kind="persona.reap", target="p01", params=params)
    facts = replaced(FACTS, above="root")
    _, reap, last, executed = said(own, facts).events
    assert isinstance(reap, ReapRequested) and isinstance(last, ReportGiven) and "success" == executed.outcome
    assert ("root", "last", "alpha/p01", params["summary"]) == (last.persona, last.kind, last.by, last.text)
    typed = read(own)
    assert isinstance(typed, Params)
    for tainted in (True, False):
        (_, told) = say(proposed(own), typed, facts, at(0), tainted=tainted).events
        assert isinstance(told, ReportGiven) and tainted == told.tainted
    assert ReportGiven not in {type(event) for event in said(own, FACTS).events}, "a root has nobody to tell"
    other = Action(kind="persona.reap", target="p02", params=params)
    assert "not_its_own" == said(other, facts).events[0].error


def test_rules_on_perception_are_so_many_and_each_may_be_replaced_or_ended() -> None:
    full = replaced(FACTS, watching=frozenset(f"w{n}" for n in range(MAX_WATCHES)), watch_seq=9)
    assert "too_many_watches" == said(WATCH, full).events[0].error
    again = Action(kind="watch.add", target="w1", params=WATCH.params)
    decision = said(again, full)
    added = decision.events[1]
    assert isinstance(added, WatchAdded) and ((watches("alpha", "p01"), 9) in decision.expects)
    assert timedelta(seconds=600) == added.until - at(5)
    over = Action(kind="watch.add", target="new", params={**WATCH.params, "for_s": 0})
    ended = said(over, full).events[1]
    assert isinstance(ended, WatchAdded) and at(5) == ended.until
