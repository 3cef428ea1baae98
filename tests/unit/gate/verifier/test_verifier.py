"""The verifier: given, when, then."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.verifier import decider
from services.verifier.decider import MAX_EVIDENCE, Resolve, Resolved
from shared.contracts.action import Action
from shared.contracts.capabilities import Capabilities, Scope, Values
from shared.contracts.events import (
    EvidenceRef,
    ProposalRejected,
    ProposalVerified,
)
from shared.contracts.row import Row
from shared.decider import NOTHING, Decision, Delivered, Effect, Performed, Tick
from tests.unit.gate.given import (
    CHARTER,
    FINDING,
    LIFE,
    NOTE,
    POST,
    T0,
    WHOSE,
    at,
    delivered,
    folded,
    proposed,
    record,
    replaced,
)

REF = EvidenceRef(id="o1", seq=1)
GOOD = Resolved(found=(REF,), independent=1, live=True, charter=CHARTER)


def judged(created: Any, facts: Resolved) -> Any:
    message = Performed(cause=delivered(created), effect=Effect(), result=facts, now=T0)
    (event,) = decider.decide(folded(decider, created), message).events
    return event


def test_a_sound_proposal_has_its_evidence_looked_up_each_reference_once() -> None:
    created = proposed(evidence=(REF, REF))
    message = delivered(created)
    resolve = Resolve(**WHOSE, proposal_id="p-1", action=created.action, seq=1, evidence=(REF,))
    assert Decision(effect=resolve) == decider.decide(folded(decider, created), message)


def test_what_core_says_of_it_is_the_boundary_and_it_opens_it_however_often_it_is_said() -> None:
    boundary = decider.boundary(delivered(proposed()))
    assert boundary is not None and boundary.opens
    assert ("*.*.alpha.p01.p-1",) == boundary.reads == boundary.guards


def test_a_proposal_with_real_evidence_is_verified() -> None:
    created = proposed()
    event = judged(created, GOOD)
    assert isinstance(event, ProposalVerified)
    assert (created.digest, "low", (REF,), False) == (event.digest, event.risk, event.evidence, event.tainted)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"digest": "0" * 64}, "digest_mismatch"),
        ({"action": NOTE, "digest": proposed(FINDING).digest}, "digest_mismatch"),
        ({"persona": "p02"}, "digest_mismatch"),
        ({"action": replaced(FINDING, kind="process.start")}, "unknown_kind"),
        ({"action": replaced(FINDING, params={})}, "bad_params"),
        ({"action": replaced(FINDING, params={"content": 2**60}), "digest": "0" * 64}, "bad_params"),
        ({"action": replaced(FINDING, target="../up")}, "bad_target"),
        ({"evidence": ()}, "no_evidence"),
        ({"evidence": tuple(EvidenceRef(id=f"o{i}", seq=i) for i in range(1, MAX_EVIDENCE + 2))}, "too_much_evidence"),
        ({"deadline": T0}, "deadline_passed"),
        ({"charter": "a" * 64}, "charter_mismatch"),
    ],
)
def test_what_the_proposal_itself_shows_wrong_is_rejected_at_once(changed: dict[str, Any], reason: str) -> None:
    created = proposed(**changed)
    (event,) = decider.decide(folded(decider, created), delivered(created)).events
    assert isinstance(event, ProposalRejected) and "verify" == event.stage
    assert reason in event.reasons and event.detail


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"live": False}, "persona_not_live"),
        ({"charter": "b" * 64}, "charter_mismatch"),
        ({"charter": None}, "charter_mismatch"),
        ({"allowed_tools": ("http.request",)}, "tool_not_allowed"),
        ({"missing": (REF,)}, "evidence_missing"),
        ({"foreign": (REF,)}, "evidence_foreign"),
        ({"found": ()}, "no_evidence"),
    ],
)
def test_what_the_log_shows_wrong_is_rejected(changed: dict[str, Any], reason: str) -> None:
    event = judged(proposed(), replaced(GOOD, **changed))
    assert isinstance(event, ProposalRejected) and (reason,) == event.reasons and "verify" == event.stage


def test_an_allowed_tool_is_allowed() -> None:
    assert isinstance(judged(proposed(), replaced(GOOD, allowed_tools=("file.write",))), ProposalVerified)


def test_where_the_action_stands_to_the_personas_capabilities_is_said() -> None:
    notes = Capabilities(scopes=(Scope(kinds=("file.write",), targets=("notes/**",)),))
    cases = ((NOTE, notes, "free"), (NOTE, None, "unstated"), (NOTE, Capabilities(), "beyond"), (FINDING, notes, "own"))
    for action, can, scope in cases:
        event = judged(proposed(action), replaced(GOOD, capabilities=can))
        assert isinstance(event, ProposalVerified) and scope == event.scope


@pytest.mark.parametrize(
    ("facts", "tainted"),
    [
        (GOOD, False),
        (replaced(GOOD, independent=0), True),
        (replaced(GOOD, outside="observation 3 of syslog", labels=("observation",)), True),
        (replaced(GOOD, words=("3, syslog: pay me",)), True),
        (replaced(GOOD, independent=9, outside="observation 3 of syslog"), True),
    ],
)
def test_no_citation_frees_of_taint_and_high_risk_is_for_people_to_decide_who_are_told(
    facts: Resolved, tainted: bool
) -> None:
    for action, risk in ((FINDING, "low"), (NOTE, "medium"), (POST, "high")):
        event = judged(proposed(action), facts)
        assert isinstance(event, ProposalVerified) and (risk, tainted) == (event.risk, event.tainted)
        assert event.outside == (*((facts.outside,) if facts.outside else ()), *facts.words)
        assert event.labels == (*facts.labels, *(() if facts.independent else ("ungrounded",)))


def test_a_settled_proposal_is_left_alone() -> None:
    created = proposed()
    for verdict in (judged(created, GOOD), judged(created, replaced(GOOD, live=False))):
        state = folded(decider, created, verdict)
        assert NOTHING == decider.decide(state, delivered(created))
        assert NOTHING == decider.decide(
            state, Performed(cause=delivered(created), effect=Effect(), result=GOOD, now=T0)
        )


# -- properties ------------------------------------------------------------------------------------------------------

EVENTS = [
    proposed(),
    proposed(POST),
    proposed(digest="0" * 64),
    ProposalRejected(**LIFE, stage="verify", reasons=("x",), digest="0" * 64),
]
RESULTS = [GOOD, Resolved(), replaced(GOOD, independent=0)]


@given(
    past=st.lists(st.sampled_from(EVENTS), max_size=4),
    event=st.sampled_from(EVENTS),
    facts=st.sampled_from([None, *RESULTS]),
    seconds=st.integers(-10, 10_000),
)
def test_deciding_is_total_deterministic_and_gives_one_verdict(past: Any, event: Any, facts: Any, seconds: int) -> None:
    state = folded(decider, *past)
    message: Any = delivered(event, now=at(seconds))
    if facts is not None:
        message = Performed(cause=message, effect=Effect(), result=facts, now=at(seconds))
    decision = decider.decide(state, message)
    assert decision == decider.decide(state, message)
    assert len(decision.events) <= 1 and not (state.judged and decision.events)
    after = state
    for seq, emitted in enumerate(decision.events, start=90):
        after = decider.evolve(after, record(emitted, seq))
    if decision.events:
        assert NOTHING == decider.decide(after, message)


def test_a_tick_and_events_of_others_concern_it_not() -> None:
    assert decider.boundary(Tick(id="t", now=T0, swarm="alpha")) is None
    rejected = ProposalRejected(**LIFE, stage="policy", reasons=("x",), digest="0" * 64)
    assert decider.boundary(Delivered(recorded=record(rejected), now=T0)) is None


# -- rows ------------------------------------------------------------------------------------------------------------

SEARCH = Action(kind="mcp.call", target="web/search", params={"query": "x", "most": 3})


def test_what_has_a_row_is_judged_by_it_and_the_verdict_says_which() -> None:
    row = Row(digest="1" * 64, risk="medium", reads=True)
    verified = judged(proposed(action=SEARCH), replaced(GOOD, row=row))
    assert isinstance(verified, ProposalVerified) and ("medium", row) == (verified.risk, verified.row)


def test_what_the_operator_did_not_name_is_refused() -> None:
    rejected = judged(proposed(action=SEARCH), replaced(GOOD, unnamed="the operator has named no tool web/search"))
    assert isinstance(rejected, ProposalRejected) and ("not_named",) == rejected.reasons
    assert "web/search" in rejected.detail


@pytest.mark.parametrize(
    ("tainted", "outward", "named", "scope"),
    [
        (False, True, ("query",), "free"),
        (True, False, ("query",), "free"),
        (True, True, ("query",), "ask"),
        (True, True, ("query", "most"), "free"),
    ],
)
def test_data_leaves_with_taint_only_in_arguments_that_a_scope_spells_out(
    tainted: bool, outward: bool, named: tuple[str, ...], scope: str
) -> None:
    limits = {"query": Values(name="query", one_of=("x",)), "most": Values(name="most", least=0, most=9)}
    can = Scope(kinds=("mcp.call",), targets=("web/*",), params=tuple(limits[name] for name in named))
    facts = replaced(
        GOOD,
        row=Row(risk="medium", outward=outward),
        outside="from syslog" if tainted else "",
        capabilities=Capabilities(scopes=(can,)),
    )
    verified = judged(proposed(action=SEARCH), facts)
    assert isinstance(verified, ProposalVerified) and (tainted, scope) == (verified.tainted, verified.scope)
