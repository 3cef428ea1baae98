"""The fold: what each part says after given events, and what holds for any sequence of them."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from gateway_model import (
    NOW,
    SHA,
    asked,
    authorized,
    claimed,
    created,
    executed,
    recorded,
    spawned,
    thought,
    verified,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.commands.votes import Word, refusal
from services.gateway.projections.beliefs import Beliefs
from services.gateway.projections.journal import Journal
from services.gateway.projections.knowledge import Attention
from services.gateway.projections.ledger import Ledger
from services.gateway.projections.personas import Personas, lineage
from services.gateway.projections.projection import Commands, Projection, State
from services.gateway.projections.proposals import Proposals, fold_lives
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    AnyEvent,
    ApprovalDenied,
    ApprovalGranted,
    BeliefAsserted,
    BeliefConfirmed,
    BeliefContested,
    BeliefRevised,
    BudgetExhausted,
    BudgetGranted,
    BudgetSettled,
    CheckResult,
    CognitionStarted,
    CognitionStopped,
    Credits,
    HypothesisRaised,
    ObservationRecorded,
    PersonaDraining,
    PersonaReaped,
    ProposalRejected,
    SnapshotCompressed,
    SnapshotCounts,
)


def drained(persona: str, swarm: str = "s") -> PersonaDraining:
    return PersonaDraining(swarm=swarm, persona=persona, reason="r", deadline=NOW)


def exhausted(persona: str, swarm: str = "s") -> BudgetExhausted:
    return BudgetExhausted(swarm=swarm, persona=persona, scope="swarm", resource="tokens", retry_at=NOW)


def granted(persona: str, grant: str = "g", window: int = 1, tokens: int = 5, swarm: str = "s") -> BudgetGranted:
    return BudgetGranted(
        swarm=swarm, persona=persona, grant_id=grant, window=window, credits=Credits(tokens=tokens), expires_at=NOW
    )


def rejected(proposal: str, reason: str = "deadline_passed") -> ProposalRejected:
    return ProposalRejected(swarm="s", persona="p", proposal_id=proposal, stage="verify", reasons=(reason,), digest=SHA)


def believed(name: str, persona: str = "p", confidence: float = 0.5) -> BeliefAsserted:
    return BeliefAsserted(
        swarm="s",
        persona=persona,
        by=persona,
        key_id="k",
        belief_id=name,
        belief_key=name,
        claim="c",
        confidence=confidence,
        valid_from=NOW,
        review_after=NOW,
    )


def checked(hypothesis: str, outcome: str) -> CheckResult:
    return CheckResult(swarm="s", persona="p", check_id="c", hypothesis_id=hypothesis, outcome=outcome, findings="f")  # type: ignore[arg-type]


def supposed(name: str, confidence: float = 0.5) -> HypothesisRaised:
    return HypothesisRaised(
        swarm="s", persona="p", hypothesis_id=name, topic=name, claim="c", confidence=confidence, evidence=()
    )


def folded(*events: AnyEvent) -> Projection:
    projection = Projection()
    for seq, event in enumerate(events, 1):
        projection.apply(recorded(event, seq))
    return projection


def seen(projection: Projection) -> bytes:
    """Everything the projection can say, to compare two."""
    said = (
        projection.status(NOW, enabled=True, default_interval_ms=2000),
        projection.workspace(NOW),
        list(projection.personas.nodes(NOW)),
        [p.view(NOW) for p in projection.personas.all()],
        [life.life_view() for life in projection.proposals.newest()],
        [life.approval_view(NOW) for life in projection.proposals.newest()],
        [life.receipt() for life in projection.proposals.newest()],
        projection.beliefs.select(),
        projection.attention.queue(projection.proposals.newest(), NOW),
        list(projection.journal.newest()),
        projection.ledger.view(Credits()),
        projection.snapshot,
        projection.commands.by_entity,
        projection.position,
    )
    return msgspec.json.encode(said, order="sorted")


# -- any sequence ----------------------------------------------------------------------------------------------------

names = st.sampled_from(["p", "q", "r"])
swarms = st.sampled_from(["s", "t"])
proposals = st.sampled_from(["x", "y"]).map(created)
events: st.SearchStrategy[AnyEvent] = st.one_of(
    st.builds(spawned, names, swarm=swarms, parent=st.none() | names),
    st.builds(thought, names, st.integers(1, 50), swarm=swarms, status=st.sampled_from(["ok", "model_error"])),
    st.builds(drained, names, swarms),
    st.builds(PersonaReaped, swarm=swarms, persona=names, reason=st.just("r")),
    st.builds(granted, names, st.sampled_from(["g", "h"]), st.integers(1, 3)),
    st.builds(exhausted, names, swarms),
    proposals,
    proposals.map(verified),
    proposals.map(asked),
    proposals.map(authorized),
    proposals.map(claimed),
    st.builds(executed, proposals, st.sampled_from(["success", "failure", "unknown"])),
    st.sampled_from(["x", "y"]).map(rejected),
    st.builds(believed, st.sampled_from(["a", "b"]), names),
    st.builds(checked, st.sampled_from(["h", "i"]), st.sampled_from(["confirmed", "refuted", "inconclusive"])),
    st.builds(supposed, st.sampled_from(["h", "i"])),
    st.just(CognitionStarted(swarm="all", persona="all")),
    st.just(CognitionStopped(swarm="all", persona="all")),
    st.builds(
        ApprovalGranted, swarm=st.just("s"), persona=st.just("p"), proposal_id=st.sampled_from(["x", "y"]),
        digest=st.just(SHA), principal=names,
    ),
)  # fmt: skip
histories = st.lists(events, max_size=40).map(
    lambda es: [recorded(e, n, at=NOW + timedelta(seconds=n)) for n, e in enumerate(es, 1)]
)


@settings(max_examples=150, deadline=None)
@given(histories, st.randoms(use_true_random=False))
def test_an_event_delivered_again_changes_nothing(history: list[Recorded], random: object) -> None:
    once, again = Projection(), Projection()
    for number, event in enumerate(history):
        assert once.apply(event)
        again.apply(event)
        for old in history[max(0, number - 3) : number + 1]:
            assert not again.apply(old)
    assert seen(once) == seen(again)


@settings(max_examples=100, deadline=None)
@given(histories)
def test_what_one_persona_is_depends_on_its_own_events_alone(history: list[Recorded]) -> None:
    whole, alone = Personas(), Personas()
    for event in history:
        whole.apply(event)
        if event.event.swarm == "s":
            alone.apply(event)
    assert [p.view(NOW) for p in whole.all("s")] == [p.view(NOW) for p in alone.all("s")]


@settings(max_examples=100, deadline=None)
@given(histories)
def test_a_life_read_from_the_log_is_the_life_in_memory(history: list[Recorded]) -> None:
    projection = Projection()
    for event in history:
        projection.apply(event)
    for (_, _, name), life in projection.proposals.lives.items():
        of_it = [e for e in history if getattr(e.event, "proposal_id", None) == name]
        views = [again.life_view() for again in fold_lives(of_it, name)]
        assert life.life_view() in views
        assert views == [one.life_view() for one in projection.proposals.named(name)]


@settings(max_examples=100, deadline=None)
@given(histories)
def test_a_lineage_has_as_many_edges_as_children_with_a_known_parent(history: list[Recorded]) -> None:
    personas = Personas()
    for event in history:
        personas.apply(event)
    graph = lineage(list(personas.nodes(NOW)))
    assert graph.total_edges == sum(len(n.children) for n in graph.nodes)
    assert [n.persona_id for n in graph.nodes] == sorted(n.persona_id for n in graph.nodes)


def restored(projection: Projection) -> Projection:
    """A new one, from what the first would have saved."""
    again = Projection()
    again.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(projection.capture()), type=State))
    return again


@settings(max_examples=300, deadline=None)
@given(histories, st.data())
def test_a_checkpoint_and_what_came_since_say_what_the_whole_log_says(
    history: list[Recorded], data: st.DataObject
) -> None:
    whole = Projection()
    resumed = Projection()
    cuts = data.draw(st.sets(st.integers(0, len(history)), max_size=3))
    for number, event in enumerate(history):
        if number in cuts:
            before = resumed.capture()
            resumed = restored(resumed)
            assert resumed.capture() == before
        whole.apply(event)
        resumed.apply(event)
        assert seen(resumed) == seen(whole)
    assert resumed.capture() == whole.capture()
    for name in ("p", "q", "r"):
        one, other = whole.personas.get(name), resumed.personas.get(name)
        assert (one and one.identity) == (other and other.identity)


@settings(max_examples=200, deadline=None)
@given(histories, st.integers(0, 40), st.integers(1, 2), st.integers(1, 2))
def test_a_checkpoint_forgets_the_same_proposals_as_the_whole_log(
    history: list[Recorded], cut: int, keep_done: int, keep_open: int
) -> None:
    whole, resumed = Proposals(keep_done, keep_open), Proposals(keep_done, keep_open)
    for event in history[:cut]:
        whole.apply(event)
    resumed.gone = dict(whole.gone)
    for event in whole.capture():
        resumed.apply(event)
    for event in history[cut:]:
        whole.apply(event)
        resumed.apply(event)
        assert list(resumed.lives) == list(whole.lives)
    assert resumed.capture() == whole.capture()


def test_a_captured_state_is_not_changed_by_what_comes_after() -> None:
    projection = folded(spawned("p"), created("x"), granted("p"), exhausted("p"), believed("b"), supposed("h"))
    captured = projection.capture()
    before = msgspec.msgpack.encode(captured)
    later = (
        thought("p", 1), verified(created("x")), spawned("k", parent="p"), granted("p", "h", 2), checked("h", "refuted"),
        believed("b", "q"), CognitionStarted(swarm="all", persona="all"), rejected("x"), created("y"),
    )  # fmt: skip
    for seq, event in enumerate(later, projection.position + 1):
        projection.apply(recorded(event, seq))
    assert msgspec.msgpack.encode(captured) == before


def test_a_repeated_command_is_known_after_a_restart_from_a_checkpoint() -> None:
    projection = Projection()
    item = recorded(ObservationRecorded(swarm="s", persona="all", text="t"), 1, source="gateway")
    name = "019ab6d2-0000-5000-8000-000000000000"
    projection.apply(msgspec.structs.replace(item, envelope=msgspec.structs.replace(item.envelope, id=name)))
    assert restored(projection).commands.get(name) == 1


# -- given, then -----------------------------------------------------------------------------------------------------


def status_of(*events_: AnyEvent, later_s: int = 0) -> str:
    persona = folded(spawned("p"), *events_).personas.get("p")
    assert persona is not None
    return persona.status(NOW + timedelta(seconds=later_s))


@pytest.mark.parametrize(
    ("history", "later_s", "expected"),
    [
        ((), 9999, "active"),
        ((thought("p", 1),), 9999, "active"),
        ((thought("p", 1, progress=False),), 10, "active"),
        ((thought("p", 1, progress=False),), 61, "idle"),
        ((thought("p", 1, progress=False, next_in_ms=15_000),), 0, "idle"),
        ((thought("p", 1, progress=False, next_in_ms=15_000), thought("p", 2)), 0, "active"),
        ((thought("p", 1, status="model_error"),) * 2, 0, "active"),
        ((thought("p", 1, status="model_error"),) * 3, 0, "error"),
        ((thought("p", 1, status="model_error"),) * 3 + (thought("p", 2),), 0, "active"),
        ((thought("p", 1, status="model_error"),) * 3 + (drained("p"),), 0, "draining"),
        ((drained("p"), PersonaReaped(swarm="s", persona="p", reason="r"), thought("p", 1)), 0, "reaped"),
    ],
)
def test_a_personas_status(history: tuple[AnyEvent, ...], later_s: int, expected: str) -> None:
    assert status_of(*history, later_s=later_s) == expected


def test_usage_counts_within_the_minute_and_starts_anew_in_the_next() -> None:
    personas = Personas()
    personas.apply(recorded(spawned("p"), 1))
    for seq, second in enumerate((0, 10, 40), 2):
        personas.apply(recorded(thought("p", seq, tokens=7), seq, at=NOW + timedelta(seconds=second)))
    persona = personas.get("p")
    assert persona is not None
    now = persona.view(NOW + timedelta(seconds=45))
    assert (now.tokens_this_window, now.compute_ms_this_window, now.thought_count) == (7, 3, 4)
    assert now.window_started_at == NOW + timedelta(seconds=30)
    assert persona.view(NOW + timedelta(seconds=200)).tokens_this_window == 0


def test_a_persona_out_of_budget_is_paused_until_its_next_grant() -> None:
    paused = folded(spawned("p"), exhausted("p"))
    assert paused.personas.all()[0].budget_paused
    assert paused.ledger.view(Credits())[0].paused_personas == ("p",)
    assert not folded(spawned("p"), exhausted("p"), granted("p")).personas.all()[0].budget_paused


def test_an_id_in_two_swarms_means_those_not_reaped_and_else_the_first() -> None:
    both = folded(spawned("p"), spawned("p", swarm="t"))
    assert [p.identity.swarm_id for p in both.personas.named("p")] == ["s", "t"]
    ends = [PersonaReaped(swarm=swarm, persona="p", reason="r") for swarm in ("s", "t")]
    gone = folded(spawned("p"), spawned("p", swarm="t"), *ends)
    assert [p.identity.swarm_id for p in gone.personas.named("p")] == ["s"]
    projection = folded(spawned("p"), PersonaReaped(swarm="s", persona="p", reason="r"), spawned("p", swarm="t"))
    found = projection.personas.get("p")
    assert found is not None
    assert found.identity.swarm_id == "t"
    old = projection.personas.get("p", "s")
    assert old is not None
    assert old.stage == "reaped"


def test_the_ledger_keeps_what_is_outstanding_over_minutes() -> None:
    ledger = Ledger()
    settled = BudgetSettled(swarm="s", persona="p", grant_id="g", window=1, credits=Credits(tokens=2))
    for seq, event in enumerate((granted("p", "g", 1), granted("p", "h", 2), settled), 1):
        ledger.apply(recorded(event, seq))
    (account,) = ledger.view(Credits())
    assert (account.granted.tokens, account.settled.tokens, account.outstanding.tokens) == (5, 0, 5)


def test_memory_keeps_the_newest_finished_and_drops_no_waiting_proposal_before_its_share() -> None:
    kept = Proposals(keep_done=2, keep_open=2)
    seq = 0
    for number in range(5):
        for event in (created(f"d{number}"), executed(created(f"d{number}"))):
            seq += 1
            kept.apply(recorded(event, seq))
    for number in range(3):
        seq += 1
        kept.apply(recorded(created(f"o{number}"), seq))
    assert [name for _, _, name in kept.lives] == ["d3", "d4", "o1", "o2"]
    for name in ("d0", "d4", "o0", "o1"):
        kept.apply(recorded(created(name), seq + 1))
    assert [name for _, _, name in kept.lives] == ["d3", "d4", "o1", "o2"]


def test_a_proposal_counts_once_however_often_it_is_created() -> None:
    first, again = created("x"), msgspec.structs.replace(created("x"), title="another")
    projection = folded(first, verified(first), again, asked(first), again)
    (life,) = list(projection.proposals.newest())
    assert life.view().title == first.title
    assert [type(r.event).__name__ for r in life.events] == ["ProposalCreated", "ProposalVerified", "ApprovalRequested"]
    assert sum(projection.proposal_counts().values()) == 1


def test_proposals_of_one_id_in_two_swarms_or_personas_are_two_in_every_view() -> None:
    one, two, three = created("x"), created("x", swarm="t"), created("x", persona="q")
    projection = folded(one, two, three, executed(two), asked(three), rejected("x"))
    lives = projection.proposals.named("x")
    assert [life.key for life in lives] == [("s", "p", "x"), ("t", "p", "x"), ("s", "q", "x")]
    assert [life.status for life in lives] == ["rejected", "executed", "created"]
    assert [life.approval_view(NOW) is not None for life in lives] == [False, False, True]
    assert projection.proposals.named("x", "s", "q") == [lives[2]]
    assert projection.proposal_counts() == {"rejected": 1, "executed": 1, "created": 1}


def test_what_people_are_shown_of_a_proposal_has_nothing_hidden_in_it() -> None:
    said = msgspec.structs.replace(created("x"), title="a\x1b[2J\u202eb", rationale="one\ntwo\x07")
    projection = folded(said, msgspec.structs.replace(asked(said), summary="c\u202ed"))
    (life,) = projection.proposals.named("x")
    approval = life.approval_view(NOW)
    assert approval is not None
    assert ("a\ufffd[2J\ufffdb", "one\ntwo\ufffd") == (life.view().title, life.view().rationale)
    assert ("a\ufffd[2J\ufffdb", "c\ufffdd") == (approval.title, approval.summary)
    assert "\u202e" not in repr(
        [entry.detail for _, entry in zip(range(9), projection.journal.newest(None), strict=False)]
    )


def test_who_may_vote_and_who_may_not() -> None:
    c = created("x")
    denied = ApprovalDenied(swarm="s", persona="p", proposal_id="x", digest=c.digest, request_id="e-2", principal="bo")

    def reason(*history: AnyEvent, principal: str = "al", **shown: str) -> str | None:
        word = Word(decision="grant", **shown)
        problem = refusal(folded(*history).proposals.named("x")[0], principal, word, NOW)
        return None if problem is None else problem.details.reason

    assert reason(c) == "not_awaiting"
    assert reason(c, asked(c)) is None
    assert reason(c, asked(c), digest=c.digest) is None
    assert reason(c, asked(c), digest=SHA) == "digest_mismatch"
    assert reason(c, asked(c), request_id="e-2") is None
    assert reason(c, asked(c), asked(c), request_id="e-2") == "request_mismatch"
    assert reason(c, asked(c, expires_at=NOW)) == "not_awaiting"
    assert reason(c, asked(c), denied) == "not_awaiting"
    assert reason(c, asked(c), denied, principal="bo") == "already_voted"
    assert reason(c, asked(c), rejected("x")) == "not_awaiting"


ON_B = {"key_id": "k", "belief_id": "b"}
CONTESTED = BeliefContested(swarm="s", persona="r", by="r", claim="no", confidence=0.3, contradicts=("c",), **ON_B)
STALE = BeliefRevised(swarm="s", persona="p", by="p", confidence=0.1, status="stale", reason="old", **ON_B)
ARCHIVED = msgspec.structs.replace(STALE, status="archived", valid_to=NOW)


def asked_about(*events: AnyEvent) -> list[tuple[str, bool]]:
    attention = Attention()
    for seq, event in enumerate(events, 1):
        attention.apply(recorded(event, seq))
    return [(i.source_type, i.resolved_at is None) for i in attention.queue([], NOW)]


def test_attention_is_raised_and_resolved() -> None:
    history = (supposed("h", 0.2), supposed("i", 0.1), checked("h", "refuted"), checked("i", "inconclusive"))
    assert asked_about(*history, checked("i", "confirmed"), rejected("x")) == [
        ("proposal_timeout", True),
        ("failed_check", True),
        ("failed_check", False),
    ]


def test_a_contradiction_is_asked_about_until_one_side_is_over() -> None:
    confirmed = BeliefConfirmed(swarm="s", persona="q", by="q", claim="c", confidence=0.9, review_after=NOW, **ON_B)
    settled = msgspec.structs.replace(STALE, status="active", settled=True)
    assert asked_about(CONTESTED) == [("contested_belief", True)]
    assert asked_about(CONTESTED, confirmed) == [("contested_belief", True)]
    assert asked_about(CONTESTED, STALE) == [("contested_belief", True), ("stale_belief", True)]
    assert asked_about(CONTESTED, settled) == [("contested_belief", False)]
    assert asked_about(CONTESTED, ARCHIVED) == [("contested_belief", False)]
    assert asked_about(STALE, confirmed) == [("stale_belief", False)]
    assert asked_about(STALE, ARCHIVED) == [("stale_belief", False)]


def test_a_proposal_past_its_deadline_asks_for_attention_by_itself() -> None:
    projection = folded(created("x", deadline=NOW - timedelta(seconds=1)))
    (item,) = projection.attention.queue(projection.proposals.newest(), NOW)
    assert (item.source_type, item.source_id) == ("proposal_timeout", "x")


def test_a_belief_gathers_who_confirms_and_who_contests() -> None:
    beliefs = Beliefs()
    confirmed = BeliefConfirmed(swarm="s", persona="q", by="q", claim="c", confidence=0.8, review_after=NOW, **ON_B)
    for seq, event in enumerate((believed("b"), confirmed, CONTESTED, believed("c", "r"), CONTESTED), 1):
        beliefs.apply(recorded(event, seq))
    belief = beliefs.by_id["b"].belief
    assert (belief.asserted_by, belief.confirmed_by, belief.contested_by) == ("p", ("q",), ("r",))
    assert (belief.confidence, belief.status, belief.contradicts) == (0.3, "active", ("c",))
    over = msgspec.structs.replace(ARCHIVED, belief_id="c", persona="r", by="r")
    beliefs.apply(recorded(over, 9))
    assert beliefs.by_id["b"].belief.contradicts == ()
    assert (beliefs.by_id["c"].belief.status, beliefs.by_id["c"].valid_to) == ("archived", NOW)
    assert [b.id for b in beliefs.select("active", swarm="s")] == ["b"]
    assert beliefs.select(swarm="t") == []


def test_a_flood_of_thoughts_pushes_no_decision_out_of_the_journal() -> None:
    journal = Journal(keep=10)
    journal.apply(recorded(rejected("x"), 1))
    for seq in range(2, 200):
        journal.apply(recorded(ObservationRecorded(swarm="s", persona="all", text="t"), seq))
    assert len(journal) == 11
    assert [e.outcome for e in journal.newest("proposal")] == ["denied"]
    assert [e.seq for e in journal.newest(below=199)][:3] == [198, 197, 196]


def test_only_commands_with_derived_ids_are_indexed() -> None:
    projection = Projection()
    event = ObservationRecorded(swarm="s", persona="all", text="t")
    for seq, (name, source) in enumerate(
        (
            ("019ab6d2-0000-7000-8000-000000000000", "gateway"),
            ("019ab6d2-0000-5000-8000-000000000000", "gateway"),
            ("019ab6d2-0000-5000-8000-000000000001", "governor"),
        ),
        1,
    ):
        item = recorded(event, seq, source=source)
        projection.apply(msgspec.structs.replace(item, envelope=msgspec.structs.replace(item.envelope, id=name)))
    assert projection.commands.by_entity == {"observation": {"019ab6d2-0000-5000-8000-000000000000": 2}}


def test_a_flood_of_observations_makes_no_other_command_forgotten() -> None:
    commands = Commands(keep=10)
    text = ObservationRecorded(swarm="s", persona="all", text="t")
    for seq, event in enumerate((CognitionStopped(swarm="all", persona="all"), *[text] * 20), 1):
        item = recorded(event, seq, source="gateway")
        name = f"019ab6d2-0000-5000-8000-{seq:012}"
        commands.apply(msgspec.structs.replace(item, envelope=msgspec.structs.replace(item.envelope, id=name)))
    found = [seq for seq in range(1, 22) if commands.get(f"019ab6d2-0000-5000-8000-{seq:012}") == seq]
    assert found == [1, *range(12, 22)]


def test_the_snapshot_shown_is_the_newest_with_its_personas_count() -> None:
    def snapshot(name: str) -> SnapshotCompressed:
        return SnapshotCompressed(
            swarm="s",
            persona="p",
            snapshot_id=name,
            key="k",
            sha256=SHA,
            seq=1,
            summary="calm",
            counts=SnapshotCounts(),
        )

    shown = folded(spawned("p"), snapshot("a"), snapshot("b")).snapshot
    assert shown is not None
    assert (shown.id, shown.cold_snapshot_count) == ("b", 2)
