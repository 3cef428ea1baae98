"""What the verifier finds in a real (in-memory) log."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from services.verifier import decider
from services.verifier.decider import Resolve, Resolved
from services.verifier.effects import VerifierEffects
from shared.contracts.capabilities import Capabilities, DailyLimit, Scope
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    ActionExecuted,
    BeliefAsserted,
    BudgetGranted,
    CheckRequested,
    CheckResult,
    Credits,
    EvidenceRef,
    HypothesisRaised,
    LogCount,
    PersonaDraining,
    ProposalRejected,
    ProposalVerified,
    ThoughtGenerated,
)
from shared.contracts.persona import PersonaPolicy
from shared.contracts.prices import prices_of
from shared.decider import Performed
from shared.policy.library import Library
from shared.policy.reading import Readings
from shared.runtime.handling import Done
from tests.policies import InForce
from tests.unit.gate.given import (
    CHARTER,
    IDENTITY,
    NOTE,
    SWARM,
    T0,
    WHOSE,
    Mesh,
    at,
    delivered,
    observed,
    proposed,
    record,
    replaced,
    spawned,
)


def ref(recorded: Any) -> EvidenceRef:
    return EvidenceRef(id=recorded.id, seq=recorded.seq)


async def resolve(mesh: Mesh, *evidence: EvidenceRef, readings: Readings | None = None) -> Resolved:
    effects = VerifierEffects(log=mesh.log, library=Library(mesh.log, readings))
    found = await effects.perform(Resolve(**WHOSE, proposal_id="p-1", action=NOTE, evidence=evidence))
    assert isinstance(found, Resolved)
    return found


async def test_own_swarm_wide_and_believed_events_may_be_cited_others_are_foreign() -> None:
    mesh = Mesh()
    for_all = ref(await mesh.say(observed(), "o1"))
    for_me = ref(await mesh.say(observed(persona="p01"), "o2"))
    believed = ref(await mesh.say(belief("p02"), "b1"))
    others = ref(await mesh.say(belief("p02", swarm="beta"), "b2"))
    private = ref(await mesh.say(observed(persona="p02"), "o3"))
    elsewhere = ref(await mesh.say(observed(swarm="beta"), "o4"))
    policies = InForce(mesh.log)
    await policies.put()
    cited = (for_all, for_me, believed, others, private, elsewhere)
    found = await resolve(mesh, *cited, readings=policies.readings)
    assert ((for_all, for_me, believed), (others, private, elsewhere)) == (found.found, found.foreign)
    closed = await resolve(mesh, *cited)
    assert (believed, others, private, elsewhere) == closed.foreign  # before any policy is in force memory is private


def belief(persona: str, swarm: str = SWARM, *, tainted: bool = False) -> BeliefAsserted:
    return BeliefAsserted(
        swarm=swarm,
        persona=persona,
        by=persona,
        key_id="k-1",
        belief_id="b-1",
        belief_key="k",
        claim="c",
        confidence=0.9,
        tainted=tainted,
        valid_from=at(0),
        review_after=at(9),
    )


async def test_a_belief_is_more_than_ones_own_word_only_where_another_holds_it_on_no_outsiders_word() -> None:
    mesh = Mesh()
    policies = InForce(mesh.log)
    await policies.put()
    refs = [ref(await mesh.say(said, f"b{n}")) for n, said in enumerate((belief("p01"), belief("p02", tainted=True)))]
    assert (await resolve(mesh, *refs, readings=policies.readings)).independent == 0
    good = ref(await mesh.say(belief("p02"), "b9"))
    assert (await resolve(mesh, good, readings=policies.readings)).independent == 1


async def test_what_a_descendant_distilled_may_be_cited_where_it_shares() -> None:
    mesh = Mesh()
    await mesh.say(spawned(), "s1")
    policies = InForce(mesh.log)
    await policies.put()
    cited = {}
    for name, parent, shares in (("c1", "p01", True), ("c2", "c1", True), ("c3", "p01", False), ("c4", None, True)):
        born = spawned()
        identity = msgspec.structs.replace(born.identity, id=name, parent_id=parent)
        policy = msgspec.structs.replace(born.policy, share_memory=shares)
        await mesh.say(msgspec.structs.replace(born, persona=name, identity=identity, policy=policy), f"s-{name}")
        for phase in ("compress", "reflect"):
            said = ThoughtGenerated(
                swarm=SWARM, persona=name, step=1, cycle=1, phase=phase, text="t", thinker="rules", digest="0" * 64,
                useful_at=T0,
            )  # fmt: skip
            cited[name, phase] = ref(await mesh.say(said, f"t-{name}-{phase}"))
    found = await resolve(mesh, *cited.values(), readings=policies.readings)
    assert found.found == (cited["c1", "compress"], cited["c2", "compress"])


async def test_what_cannot_change_is_read_once_and_what_can_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.policy.library.KNOWN", 2)
    mesh = Mesh()
    await mesh.say(spawned(), "s1")
    cited = [ref(await mesh.say(observed(), f"o{n}")) for n in range(3)]
    seqs = [c.seq for c in cited]
    read: list[int] = []
    get = mesh.log.get

    async def counted(seq: int) -> Recorded | None:
        if seq in seqs:
            read.append(seq)
        return await get(seq)

    monkeypatch.setattr(mesh.log, "get", counted)
    effects = VerifierEffects(log=mesh.log, library=Library(mesh.log))

    async def again(*evidence: EvidenceRef) -> Resolved:
        found = await effects.perform(Resolve(**WHOSE, proposal_id="p-1", action=NOTE, evidence=evidence))
        assert isinstance(found, Resolved) and evidence == found.found
        return found

    assert (await again(cited[0])).live and (await again(cited[0])).live
    assert seqs[:1] == read
    await mesh.say(PersonaDraining(swarm=SWARM, persona="p01", reason="r", deadline=at(9)), "d1")
    drained = await again(cited[1], cited[2])
    assert not drained.live and CHARTER == drained.charter
    await again(cited[0])
    assert [*seqs, seqs[0]] == read


async def test_evidence_under_the_wrong_id_or_beyond_the_log_is_missing() -> None:
    mesh = Mesh()
    real = ref(await mesh.say(observed(), "o1"))
    wrong = (EvidenceRef(id="other", seq=real.seq), EvidenceRef(id="o1", seq=99))
    assert wrong == (await resolve(mesh, *wrong)).missing


async def test_neither_outsiders_nor_the_personas_own_words_are_independent() -> None:
    mesh = Mesh()
    tainted = ref(await mesh.say(observed(), "o1"))
    own = HypothesisRaised(**WHOSE, hypothesis_id="h-1", topic="t", claim="c", confidence=1.0, evidence=(tainted,))
    hypothesis = ref(await mesh.say(own, "h1"))
    assert 0 == (await resolve(mesh, tainted, hypothesis)).independent
    trusted = ref(await mesh.say(observed(tainted=False), "o2"))
    assert 1 == (await resolve(mesh, tainted, hypothesis, trusted)).independent


async def test_a_checkers_result_is_as_good_as_the_worst_it_rests_on_whatever_it_says_of_itself() -> None:
    mesh = Mesh()
    outside = ref(await mesh.say(observed(), "o1"))
    person = ref(await mesh.say(observed(tainted=False), "o2"))
    private = ref(await mesh.say(observed(persona="p02", tainted=False), "o3"))

    async def independent(*evidence: EvidenceRef, outcome: str = "confirmed", tainted: bool = False) -> int:
        result = CheckResult(
            **WHOSE,
            check_id="c-1",
            hypothesis_id="h-1",
            outcome=outcome,  # type: ignore[arg-type]
            findings="12 times",
            tainted=tainted,
            evidence=evidence,
        )
        measured = ref(await mesh.say(result, f"c{len(mesh.log.store.records)}"))
        return (await resolve(mesh, measured)).independent

    assert 1 == await independent(person)
    assert 0 == await independent(person, outside)
    assert 0 == await independent(person, private)
    assert 0 == await independent(person, EvidenceRef(id="nobody", seq=person.seq))
    assert 0 == await independent()
    assert 0 == await independent(person, tainted=True)
    assert 0 == await independent(person, outcome="refuted")


async def test_what_a_persona_brings_about_by_asking_is_not_independent() -> None:
    mesh = Mesh()
    probe = LogCount(template="t", first_seq=1, last_seq=2, at_least=1)
    asked = CheckRequested(**WHOSE, check_id="c-1", hypothesis_id="h-1", probe=probe)
    refuted = CheckResult(**WHOSE, check_id="c-1", hypothesis_id="h-1", outcome="refuted", findings="never")
    granted = BudgetGranted(**WHOSE, grant_id="g", window=1, credits=Credits(), expires_at=at(60))
    done = ActionExecuted(**WHOSE, proposal_id="p-0", digest="0" * 64, outcome="success", summary="written")
    cited = [ref(await mesh.say(event, f"e{n}")) for n, event in enumerate((asked, refuted, granted, done))]
    assert 0 == (await resolve(mesh, *cited)).independent


async def test_a_persona_lives_from_its_spawning_until_it_drains() -> None:
    mesh = Mesh()
    assert not (await resolve(mesh)).live
    await mesh.say(spawned(policy=PersonaPolicy(allowed_tools=("file.write",))), "s1")
    alive = await resolve(mesh)
    assert (True, CHARTER, ("file.write",)) == (alive.live, alive.charter, alive.allowed_tools)
    await mesh.say(PersonaDraining(**WHOSE, reason="manual_reap", deadline=at(60)), "d1")
    assert not (await resolve(mesh)).live


async def test_a_proposal_passes_through_the_kernel_to_one_verdict_however_often_it_is_delivered() -> None:
    mesh = Mesh()
    await mesh.say(spawned(), "s1")
    seen = ref(await mesh.say(observed(tainted=False), "o1"))
    created = await mesh.say(proposed(evidence=(seen,)), "p1")
    perform = VerifierEffects(log=mesh.log, library=Library(mesh.log)).perform
    for attempt in (1, 1, 2):
        assert isinstance(await mesh.handle(decider, perform, created, attempt), Done)
    (verdict,) = mesh.events(ProposalVerified)
    assert not mesh.events(ProposalRejected) and verdict.evidence == (seen,)
    assert CHARTER == mesh.newest(ProposalVerified).envelope.charter


async def test_a_strangers_effect_is_a_bug() -> None:
    log = Mesh().log
    with pytest.raises(TypeError, match="no effect"):
        await VerifierEffects(log=log, library=Library(log)).perform(record(observed()))  # type: ignore[arg-type]


async def test_what_an_action_counts_against_is_looked_up_to_the_root_and_what_it_costs_by_the_list() -> None:
    mesh = Mesh()
    can = Capabilities(scopes=(Scope(kinds=("file.write",), targets=("notes/**",), per_day=2, microusd_per_day=9),))
    policy = PersonaPolicy(capabilities=can)
    for identity in (replaced(IDENTITY, id="root"), replaced(IDENTITY, parent_id="root")):
        await mesh.say(spawned(policy=policy, identity=identity), f"s-{identity.id}")
    seen = ref(await mesh.say(observed(tainted=False), "o1"))
    prices = prices_of(("file.write notes/**=5",))
    effects = VerifierEffects(log=mesh.log, library=Library(mesh.log), prices=prices)
    asked = Resolve(**WHOSE, proposal_id="p-1", seq=9, evidence=(seen,), action=NOTE)
    found = await effects.perform(asked)
    assert isinstance(found, Resolved) and 5 == found.cost_microusd
    assert (("alpha", "p01", can), ("alpha", "root", can)) == found.family
    created = proposed(NOTE, charter=found.charter)
    judged = Performed(cause=delivered(created, 9), effect=asked, result=found, now=at(0))
    (verdict,) = decider.decide(decider.initial(), judged).events
    assert isinstance(verdict, ProposalVerified) and ("free", 5) == (verdict.scope, verdict.cost_microusd)
    limit = DailyLimit(swarm="alpha", persona="p01", scope=0, per_day=2, microusd_per_day=9)
    assert (limit, replaced(limit, persona="root")) == verdict.limits
