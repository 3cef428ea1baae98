"""Arbitration on a log in memory, by its own effects: who meets, what is said, who is left alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from services.meta_orchestrator.arbitration import decider
from services.meta_orchestrator.arbitration.decider import Rules
from services.meta_orchestrator.arbitration.effects import ArbitrationEffects
from services.meta_orchestrator.arbitration.meeting import CLASSES, KEEP_CITED, PLACES, Meeting
from services.meta_orchestrator.following import Following
from services.meta_orchestrator.routing.merging import merged
from shared.contracts.action import Action, action_digest
from shared.contracts.boundaries import conflict as conflict_of
from shared.contracts.boundaries import life
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    BeliefAsserted,
    BeliefContested,
    ConflictExtended,
    ConflictJoined,
    ConflictRaised,
    ConflictResolved,
    ConflictRuled,
    ConflictSettled,
    Contribution,
    EvidenceRef,
    IntentAccepted,
    IntentClosed,
    IntentSubmitted,
    ProposalAuthorized,
    ProposalCreated,
    ProposalKey,
    ProposalVerified,
)
from shared.contracts.targets import target_id
from shared.runtime.handling import Again, Done
from tests.unit.gate.given import CHARTER, T0, Mesh, at, authorized, record, verified

FILE, OTHER = "notes/report.md", "notes/other.md"
TARGET = target_id(f"file:{FILE}")


class Orchestrator:
    """One replica over a log."""

    def __init__(self, mesh: Mesh, rules: Rules | None = None) -> None:
        self.mesh = mesh
        self.following, meeting = Following(mesh.log), Meeting()
        self.following.follow(CLASSES, meeting.apply)
        self.effects = ArbitrationEffects(mesh.log, self.following, meeting, rules or Rules(), clock=lambda: mesh.now)

    async def hears(self, recorded: Recorded) -> Any:
        for known in self.mesh.log.store.records[self.following.position :]:
            self.following.apply(known)
        return await self.mesh.handle(decider, self.effects.perform, recorded)

    async def rules_on(self, cls: type[Any] = ConflictRaised) -> Any:
        return await self.hears(self.mesh.newest(cls))


async def proposes(
    mesh: Mesh, name: str, target: str = FILE, content: str = "x", risk: Any = "medium", **changed: Any
) -> Recorded:
    """A verified proposal of persona `name`, and its verification."""
    action = Action(kind="file.write", target=target, params={"content": content})
    whose = {"swarm": "alpha", "persona": name}
    created = ProposalCreated(
        **whose, proposal_id=f"p-{name}", title=f"of {name}", rationale="it failed", action=action, charter=CHARTER,
        digest=action_digest(**whose, charter=CHARTER, action=action), deadline=changed.pop("deadline", at(7200)),
    )  # fmt: skip
    event = ProposalVerified(
        **whose, proposal_id=f"p-{name}", digest=created.digest, risk=risk, proposal=created, **changed
    )
    return await mesh.say(event, f"v-{name}-{mesh.now.isoformat()}")


def key(name: str) -> ProposalKey:
    return ProposalKey(swarm="alpha", persona=name, proposal_id=f"p-{name}")


async def in_life(mesh: Mesh, name: str) -> list[str]:
    found = await mesh.log.read((life("alpha", name, f"p-{name}"),))
    return [r.subject.rsplit(".", 3)[0] for r in found]


async def test_of_two_for_one_file_the_conflict_is_raised_in_both_lives_at_once_and_ruled() -> None:
    mesh = Mesh()
    orchestrator = Orchestrator(mesh)
    first = await proposes(mesh, "a")
    assert Done() == await orchestrator.hears(first)
    second = await proposes(mesh, "b", content="y")
    await orchestrator.hears(second)
    raised = mesh.newest(ConflictRaised)
    assert [raised.seq, raised.seq + 1, raised.seq + 2] == [
        r.seq for r in mesh.log.store.records if r.subject.startswith("conflict.")
    ]
    assert ["proposal.verified", "conflict.joined"] == await in_life(mesh, "a") == await in_life(mesh, "b")
    await orchestrator.rules_on()
    (resolved,) = mesh.events(ConflictResolved)
    assert ("order", (key("a"),), (key("b"),)) == (resolved.resolution, resolved.kept, resolved.lost)
    by = {e.persona: (e.outcome, e.winner) for e in mesh.events(ConflictSettled)}
    assert {"a": ("kept", None), "b": ("lost", key("a"))} == by


@pytest.mark.parametrize("target", [OTHER, "findings/alpha/b/report.md"])
async def test_where_nobody_else_is_nothing_is_said_and_the_log_is_asked_nothing(
    monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    mesh = Mesh()
    orchestrator = Orchestrator(mesh)
    await orchestrator.hears(await proposes(mesh, "a"))
    second, before = await proposes(mesh, "b", target), len(mesh.log.store.records)
    asked: list[tuple[str, ...]] = []
    for name in ("stored", "read", "last", "ends", "get", "commit"):
        real = getattr(mesh.log, name)

        async def counted(filters: Any, *args: Any, real: Any = real, **kwargs: Any) -> Any:
            if filters != ():
                asked.append(filters)
            return await real(filters, *args, **kwargs)

        monkeypatch.setattr(mesh.log, name, counted)
    if decider.boundary(_delivered(second)) is not None:
        assert Done() == await orchestrator.hears(second)
    assert (before, []) == (len(mesh.log.store.records), asked)


def _delivered(recorded: Recorded) -> Any:
    from shared.decider import Delivered

    return Delivered(recorded=recorded, now=T0)


async def test_however_often_and_by_whomever_it_is_handled_it_is_said_once() -> None:
    mesh = Mesh()
    one, two = Orchestrator(mesh), Orchestrator(mesh)
    verified_ = [await proposes(mesh, name, content=name) for name in "ab"]
    for orchestrator in (one, two, one):
        for recorded in verified_:
            await orchestrator.hears(recorded)
        await orchestrator.rules_on()
    said = [r.subject.split(".")[1] for r in mesh.log.store.records if r.subject.startswith("conflict.")]
    assert ["raised", "joined", "joined", "resolved", "settled", "settled"] == said


async def test_who_comes_after_a_ruling_loses_at_once_and_the_winner_hears_nothing_of_it() -> None:
    mesh = Mesh()
    orchestrator = Orchestrator(mesh)
    for name in "ab":
        await orchestrator.hears(await proposes(mesh, name, content=name))
    await orchestrator.rules_on()
    before = await in_life(mesh, "a")
    for n in range(5):
        await orchestrator.hears(await proposes(mesh, f"c{n}", content="mine", risk="low"))
    assert before == await in_life(mesh, "a")
    late = [e for e in mesh.events(ConflictSettled) if e.persona.startswith("c")]
    assert [("standing", "lost", key("a"))] * 5 == [(e.resolution, e.outcome, e.winner) for e in late]
    assert 1 == len(mesh.events(ConflictRaised))


async def test_who_comes_while_it_is_open_joins_it_and_is_ruled_on() -> None:
    mesh = Mesh()
    orchestrator = Orchestrator(mesh)
    for name in "abc":
        await orchestrator.hears(await proposes(mesh, name, content=name))
    (extended,) = mesh.events(ConflictExtended)
    assert "c" == extended.side.persona and 1 == len(mesh.events(ConflictRaised))
    assert 3 == len(mesh.events(ConflictJoined))
    await orchestrator.rules_on()
    (resolved,) = mesh.events(ConflictResolved)
    assert ((key("a"),), {"b", "c"}) == (resolved.kept, {one.persona for one in resolved.lost})


async def test_a_ruling_that_somebody_joins_meanwhile_is_made_anew() -> None:
    mesh = Mesh()
    orchestrator, other = Orchestrator(mesh), Orchestrator(mesh)
    for name in "ab":
        await orchestrator.hears(await proposes(mesh, name, content=name))
    third, real = await proposes(mesh, "c", content="c"), orchestrator.effects.perform
    once = [third]

    async def meanwhile(effect: Any) -> Any:
        result = await real(effect)
        while once:
            await other.hears(once.pop())
        return result

    orchestrator.effects.perform = meanwhile  # type: ignore[method-assign]
    await orchestrator.rules_on()
    assert {"a", "b", "c"} == {e.persona for e in mesh.events(ConflictSettled)}


async def test_whose_verdict_came_first_is_not_stopped_any_more() -> None:
    """The gate was quicker: then there is nothing to rule, and an exclusive action's hold keeps the two apart."""
    mesh = Mesh()
    orchestrator = Orchestrator(mesh)
    first = await proposes(mesh, "a")
    await mesh.say(_authorized(first), "z1")
    assert Done() == await orchestrator.hears(await proposes(mesh, "b", content="y"))
    assert [] == mesh.events(ConflictRaised)


def _authorized(recorded: Recorded) -> ProposalAuthorized:
    event = recorded.event
    assert isinstance(event, ProposalVerified) and event.proposal is not None
    given = authorized(event.proposal)
    return ProposalAuthorized(
        **{f: getattr(given, f) for f in given.__struct_fields__}
        | {"persona": event.persona, "proposal_id": event.proposal_id}
    )


async def test_a_verdict_between_looking_and_raising_is_seen() -> None:
    mesh = Mesh()
    orchestrator = Orchestrator(mesh)
    first = await proposes(mesh, "a")
    second, real, once = await proposes(mesh, "b", content="y"), orchestrator.effects.perform, [1]

    async def meanwhile(effect: Any) -> Any:
        result = await real(effect)
        while once:
            once.pop()
            await mesh.say(_authorized(first), "z1")
        return result

    orchestrator.effects.perform = meanwhile  # type: ignore[method-assign]
    await orchestrator.hears(second)
    assert [] == mesh.events(ConflictRaised) + mesh.events(ConflictJoined)


async def test_a_persona_that_loses_too_often_loses_at_once_for_an_hour() -> None:
    mesh = Mesh()
    orchestrator = Orchestrator(mesh, Rules(losses_per_hour=3))
    victims = 0
    for n in range(6):
        await orchestrator.hears(await proposes(mesh, f"victim{n}", f"notes/{n}.md"))
        mine = await proposes(mesh, f"victim{n}", f"notes/{n}.md")
        copy = Action(kind="file.write", target=f"notes/{n}.md", params={"content": "z"})
        event = mine.event
        assert isinstance(event, ProposalVerified) and event.proposal is not None
        whose = {"swarm": "alpha", "persona": "copier", "proposal_id": f"p-copy{n}"}
        created = ProposalCreated(
            **whose, title="copy", rationale="r", action=copy, charter=CHARTER, deadline=at(7200),
            digest=action_digest(swarm="alpha", persona="copier", charter=CHARTER, action=copy),
        )  # fmt: skip
        said = ProposalVerified(**whose, digest=created.digest, risk="medium", proposal=created)
        await orchestrator.hears(await mesh.say(said, f"copy-{n}"))
        victims = sum(e.persona.startswith("victim") for e in mesh.events(ConflictJoined))
        if mesh.events(ConflictRaised):
            await orchestrator.rules_on()
    assert 4 == victims  # the fourth loss is the first beyond the limit
    at_once = [e for e in mesh.events(ConflictSettled) if e.resolution == "too_often"]
    assert ["victim4", "victim5"] == [e.winner.persona for e in at_once]
    mesh.now += timedelta(hours=1, seconds=1)
    await orchestrator.hears(await proposes(mesh, "victim9", "notes/9.md"))
    late = await proposes(mesh, "copier", "notes/9.md", "z")
    await orchestrator.hears(late)
    assert "notes/9.md" in mesh.newest(ConflictRaised).event.target


async def test_a_person_is_waited_for_and_their_word_rules() -> None:
    mesh = Mesh()
    orchestrator = Orchestrator(mesh, Rules(strategy="person", person_s=600))
    for name in "ab":
        await orchestrator.hears(await proposes(mesh, name, content=name))
    assert Again(600.0) == await orchestrator.rules_on()
    word = ConflictRuled(target_id=TARGET, generation=1, winner=key("b"), principal="ann", reason="hers is better")
    await mesh.say(word, "w1")
    await orchestrator.rules_on(ConflictRuled)
    (resolved,) = mesh.events(ConflictResolved)
    assert ("person", (key("b"),), "ann: hers is better") == (resolved.resolution, resolved.kept, resolved.reason)


@pytest.mark.parametrize(("deadline_s", "waits_s"), [(7200, 600.0), (100, 98.0)])
async def test_nobody_waits_for_a_person_longer_than_is_said_or_until_one_is_over(
    deadline_s: float, waits_s: float
) -> None:
    mesh = Mesh()
    orchestrator = Orchestrator(mesh, Rules(strategy="person", person_s=600))
    await orchestrator.hears(await proposes(mesh, "a"))
    await orchestrator.hears(await proposes(mesh, "b", content="y", deadline=at(deadline_s)))
    assert Again(waits_s) == await orchestrator.rules_on()
    mesh.now = at(waits_s)
    await orchestrator.rules_on()
    assert "order" == mesh.events(ConflictResolved)[0].resolution


async def votes_on(mesh: Mesh, choices: Sequence[str], home: str = "alpha") -> IntentClosed:
    """The vote's end: of each persona its choice."""
    (asked,) = mesh.events(IntentSubmitted)
    answers = [
        IntentAccepted(
            swarm=home, persona="all", intent_id=asked.intent_id, route=1,
            by=Contribution(swarm="alpha", persona=f"v{n}", answer_id=f"a{n}", seq=n, choice=choice),
        )
        for n, choice in enumerate(choices, start=1)
    ]  # fmt: skip
    one = merged("vote", answers, asked.options) if answers else None
    closed = IntentClosed(
        swarm=home, persona="all", intent_id=asked.intent_id, outcome="answered" if one else "failed",
        choice=one.choice if one else "", contributors=one.contributors if one else (), dissent=one.dissent if one else (),
    )  # fmt: skip
    await mesh.say(closed, "closed")
    return closed


@pytest.mark.parametrize(
    ("chosen", "resolution", "winner"),
    [("221", "vote", "a"), ("112", "vote", "b"), ("12", "order", "a"), ("", "order", "a"), ("99", "order", "a")],
    ids=["most for a", "most for b", "a tie", "no vote", "for none of them"],
)
async def test_a_vote_of_the_swarms_concerned_rules_and_without_a_winner_the_order_does(
    chosen: str, resolution: str, winner: str
) -> None:
    mesh = Mesh()
    orchestrator = Orchestrator(mesh, Rules(strategy="vote", person_s=600))
    for name in "ab":
        await orchestrator.hears(await proposes(mesh, name, content=name))
    raised, asked = mesh.newest(ConflictRaised), mesh.newest(IntentSubmitted)
    assert raised.seq + 3 == asked.seq  # raised, joined, joined, asked: one batch
    intent = asked.event
    assert isinstance(intent, IntentSubmitted) and ("vote", ("alpha",), 8) == (
        intent.merge,
        intent.among,
        intent.fan_out,
    )
    assert ("1: of b", "2: of a") == intent.options and intent.tainted and intent.deadline == at(598)
    assert Again(600.0) == await orchestrator.rules_on()
    by_number = {"1": "1: of b", "2": "2: of a", "9": "neither"}
    await votes_on(mesh, [by_number[one] for one in chosen])
    await orchestrator.rules_on(IntentClosed)
    (resolved,) = mesh.events(ConflictResolved)
    assert (resolution, (key(winner),)) == (resolved.resolution, resolved.kept)
    await orchestrator.rules_on(IntentClosed)
    assert Done() == await orchestrator.rules_on()
    assert 1 == len(mesh.events(ConflictResolved))


async def test_who_does_not_vote_by_then_is_not_waited_for() -> None:
    mesh = Mesh()
    orchestrator = Orchestrator(mesh, Rules(strategy="vote", person_s=600))
    for name in "ab":
        await orchestrator.hears(await proposes(mesh, name, content=name))
    mesh.now = at(600)
    await orchestrator.rules_on()
    assert ["order"] == [e.resolution for e in mesh.events(ConflictResolved)]
    await votes_on(mesh, ["1: of b"])
    assert Done() == await orchestrator.rules_on(IntentClosed)
    assert 1 == len(mesh.events(ConflictResolved))


@pytest.mark.parametrize("strategy", ["vote", "person"])
async def test_nobody_is_asked_or_waited_for_where_effects_do_not_differ(strategy: Any) -> None:
    mesh = Mesh()
    orchestrator = Orchestrator(mesh, Rules(strategy=strategy, person_s=600))
    for name in "ab":
        await orchestrator.hears(await proposes(mesh, name))
    await orchestrator.rules_on()
    assert [] == mesh.events(IntentSubmitted)
    assert ["merge"] == [e.resolution for e in mesh.events(ConflictResolved)]


def test_an_intent_that_is_no_vote_is_nothing_to_arbitration() -> None:
    closed = IntentClosed(swarm="alpha", persona="all", intent_id="i-1234", outcome="failed")
    assert decider.boundary(_delivered(record(closed))) is None


async def test_colluding_copies_of_one_swarm_do_not_keep_the_first_from_going_on() -> None:
    mesh = Mesh()
    orchestrator = Orchestrator(mesh)
    await orchestrator.hears(await proposes(mesh, "victim"))
    for n in range(20):
        await orchestrator.hears(await proposes(mesh, f"copy{n}", content=f"mine {n}"))
    await orchestrator.rules_on()
    for n in range(20, 40):
        await orchestrator.hears(await proposes(mesh, f"copy{n}", content=f"mine {n}"))
    in_it = [e.outcome for e in mesh.events(ConflictSettled) if e.persona == "victim"]
    assert (["kept"], 1) == (in_it, sum(e.persona == "victim" for e in mesh.events(ConflictJoined)))
    lost = {e.persona for e in mesh.events(ConflictSettled) if e.outcome == "lost"}
    assert {f"copy{n}" for n in range(40)} == lost


async def test_the_same_is_done_once_for_the_grounds_of_all() -> None:
    mesh = Mesh()
    orchestrator = Orchestrator(mesh)
    mine, theirs = EvidenceRef(id="e-mine", seq=1), EvidenceRef(id="e-theirs", seq=2)
    await orchestrator.hears(await proposes(mesh, "a", evidence=(mine,)))
    await orchestrator.hears(await proposes(mesh, "b", evidence=(theirs, mine)))
    await orchestrator.rules_on()
    kept, lost = mesh.events(ConflictSettled)
    assert ("merge", (theirs,), ()) == (kept.resolution, kept.evidence, lost.evidence)


async def test_grounds_of_which_one_contradicts_the_other_meet_and_what_merely_sounds_alike_does_not() -> None:
    mesh = Mesh()
    orchestrator = Orchestrator(mesh)
    belief = {"swarm": "alpha", "persona": "x", "key_id": "k-1", "belief_id": "b-1", "by": "x"}
    full, empty = EvidenceRef(id="full", seq=1), EvidenceRef(id="empty", seq=2)
    await mesh.say(
        BeliefAsserted(
            **belief, belief_key="disk", claim="the disk is full", confidence=0.9, evidence=(full,), valid_from=T0,
            review_after=at(99),
        ),
        "b1",
    )  # fmt: skip
    await mesh.say(BeliefContested(**belief, claim="the disk is empty", confidence=0.5, evidence=(empty,)), "b2")
    await orchestrator.hears(await proposes(mesh, "a", FILE, evidence=(full,)))
    await orchestrator.hears(await proposes(mesh, "b", OTHER, evidence=(full,)))
    assert [] == mesh.events(ConflictRaised)
    await orchestrator.hears(await proposes(mesh, "c", "notes/c.md", evidence=(empty,)))
    (raised,) = mesh.events(ConflictRaised)
    assert ("grounds", "grounds:b-1", 3) == (raised.what, raised.target, len(raised.sides))
    await orchestrator.rules_on()
    (resolved,) = mesh.events(ConflictResolved)
    assert ({"a", "b"}, {"c"}) == ({k.persona for k in resolved.kept}, {k.persona for k in resolved.lost})


async def test_what_is_stored_on_its_boundary_and_cannot_be_read_stops_no_ruling() -> None:
    mesh = Mesh()
    orchestrator = Orchestrator(mesh)
    for name in "ab":
        await orchestrator.hears(await proposes(mesh, name, content=name))
    mesh.log.store.publish(f"conflict.raised.all.all.{TARGET}", b"not json")
    mesh.log.store.publish("conflict.joined.alpha.a.p-a", b"not json")
    await orchestrator.rules_on()
    assert 1 == len(mesh.events(ConflictResolved))


def test_a_conflict_rests_on_all_that_was_said_of_its_target() -> None:
    raised = record(ConflictRuled(target_id=TARGET, generation=1, winner=key("a"), principal="ann"))
    boundary = decider.boundary(_delivered(raised))
    assert boundary is not None
    assert (conflict_of(TARGET),) == boundary.reads == boundary.guards


def test_what_touches_nothing_others_could_want_is_not_even_looked_at() -> None:
    from tests.unit.gate.given import FINDING, NOTE, proposed

    assert decider.boundary(_delivered(record(verified(proposed(FINDING))))) is None
    assert decider.boundary(_delivered(record(verified(proposed(NOTE))))) is not None


async def test_where_nothing_is_to_be_said_at_one_place_it_is_still_looked_at_the_others() -> None:
    mesh = Mesh()
    orchestrator = Orchestrator(mesh)
    belief = {"swarm": "alpha", "persona": "x", "key_id": "k-1", "belief_id": "b-1", "by": "x"}
    full, empty = EvidenceRef(id="full", seq=1), EvidenceRef(id="empty", seq=2)
    await mesh.say(
        BeliefAsserted(
            **belief, belief_key="disk", claim="the disk is full", confidence=0.9, evidence=(full,), valid_from=T0,
            review_after=at(99),
        ),
        "b1",
    )  # fmt: skip
    await mesh.say(BeliefContested(**belief, claim="the disk is empty", confidence=0.5, evidence=(empty,)), "b2")
    for name, target in (("a", FILE), ("b", FILE.upper())):
        await orchestrator.hears(await proposes(mesh, name, target))
    await orchestrator.rules_on()
    await orchestrator.hears(await proposes(mesh, "c", OTHER, evidence=(full,)))
    assert isinstance(await orchestrator.hears(await proposes(mesh, "d", FILE.title(), evidence=(empty,))), Done), (
        "both at its target were ruled on, and neither is in its way"
    )
    _, raised = mesh.events(ConflictRaised)
    assert ("grounds", {"c", "d"}) == (raised.what, {side.persona for side in raised.sides})


def test_what_is_cited_for_and_against_beliefs_and_the_places_of_a_proposal_have_a_bound() -> None:
    meeting, seq = Meeting(), 0

    def says(number: int, *, contradicts: tuple[str, ...] = ()) -> None:
        nonlocal seq
        seq += 1
        cited = tuple(EvidenceRef(id=f"e-{number}-{n}", seq=n + 1) for n in range(200))
        event = BeliefAsserted(
            swarm="alpha", persona="x", key_id="k-1", belief_id=f"b-{number}", by="x", belief_key="disk", claim="full",
            confidence=0.9, evidence=cited, contradicts=contradicts, valid_from=T0, review_after=at(99),
        )  # fmt: skip
        meeting.apply(record(event, seq))

    says(0)
    for number in range(1, 60):
        says(number, contradicts=("b-0",))
    for belief in meeting._beliefs.values():
        assert len(belief.supports) + len(belief.refutes) <= KEEP_CITED + 3 * 201
    meeting = Meeting()
    says(0)
    for number in range(1, 80):
        says(number, contradicts=(f"b-{number - 1}",))
    action = Action(kind="file.write", target=FILE, params={"content": "x"})
    created = ProposalCreated(
        swarm="alpha", persona="a", proposal_id="p-a", title="t", rationale="r", action=action, charter=CHARTER,
        digest=action_digest(swarm="alpha", persona="a", charter=CHARTER, action=action), deadline=at(7200),
    )  # fmt: skip
    evidence = tuple(EvidenceRef(id=f"e-{number}-0", seq=1) for number in range(0, 80, 2))
    event = ProposalVerified(
        swarm="alpha", persona="a", proposal_id="p-a", digest=created.digest, risk="low", proposal=created,
        evidence=evidence,
    )  # fmt: skip
    assert PLACES == len(meeting.places(event)) and f"file:{FILE}" == meeting.places(event)[0].name
