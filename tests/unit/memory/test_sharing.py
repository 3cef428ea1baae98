"""Whose memory is read by whom: what policy does not permit, or its owner does not share, comes out nowhere."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_model import at, record

from services.checker.answers import Answers
from services.checker.decider import Measured, RunProbe
from services.checker.desk import Desk
from services.checker.effects import CheckerEffects
from services.checker.inside.spans import EVIDENCE_KEPT
from services.memory_compactor.believing.decider import REVIEW_S
from services.memory_compactor.decider import Compactor, Recall, Recalled
from services.memory_compactor.effects import MemoryEffects
from services.memory_compactor.feed import Feed
from services.memory_compactor.society import Society
from shared.contracts.envelope import Message, Recorded
from shared.contracts.events import (
    AnyEvent,
    BeliefAsserted,
    BeliefLookup,
    EvidenceRef,
    LogAround,
    LogCount,
    LogResolve,
    LogSearch,
    LogValues,
    MemoryRecall,
    ObservationRecorded,
    PersonaSpawned,
    Probe,
    RecallRequested,
    TemplateTable,
    ThoughtGenerated,
    Wanted,
)
from shared.contracts.ids import EVERYONE
from shared.contracts.persona import Identity, PersonaPolicy
from shared.decider import Boundary, Delivered
from shared.log.memory import MemoryLog
from shared.memory.fabric import Fabric
from shared.memory.index.edge import EdgeIndex
from shared.memory.index.embeddings import WordLlamaEmbedder
from shared.metrics.table import MEMORY_DENIED
from shared.policy.bundle import DEFAULT_BUNDLE, Bundle
from shared.policy.library import Library
from shared.policy.reading import Verdicts
from shared.policy.types import ReadRequest
from shared.runtime.driving import drive
from shared.runtime.handling import Fold, handle
from tests.policies import GOLDEN, InForce, edited

PEOPLE = ("ann",)
FAMILY = {  # name: parent, shares
    "root": (None, False),
    "ada": ("root", True),
    "kid": ("ada", True),
    "shy": ("ada", False),
    "grandkid": ("shy", True),
    "bob": ("root", True),
}
SECRET = "the vault opens with marigold"


def born(swarm: str, name: str, parent: str | None, *, shares: bool) -> PersonaSpawned:
    identity = Identity(
        id=name, name=name, role="r", charter=f"charter of {name}", swarm_id=swarm, parent_id=parent, created_at=at(0)
    )
    return PersonaSpawned(swarm=swarm, persona=name, identity=identity, policy=PersonaPolicy(share_memory=shares))


def thought(swarm: str, name: str, phase: str, step: int) -> ThoughtGenerated:
    return ThoughtGenerated(
        swarm=swarm,
        persona=name,
        step=step,
        cycle=1,
        phase=phase,  # type: ignore[arg-type]
        text=f"{SECRET}, {phase} by {name} of {swarm}",
        thinker="rules",
        digest="0" * 64,
        useful_at=at(0),
    )


def believed(swarm: str, name: str) -> BeliefAsserted:
    return BeliefAsserted(
        swarm=swarm,
        persona=EVERYONE if swarm == EVERYONE else name,
        by=name,
        key_id="k-1",
        belief_id=f"b-{swarm}",
        belief_key="vault",
        claim=f"{SECRET}, believed by {name} of {swarm}",
        confidence=0.9,
        valid_from=at(0),
        review_after=at(REVIEW_S),
    )


def seen(swarm: str, name: str) -> ObservationRecorded:
    return ObservationRecorded(swarm=swarm, persona=name, text=f"{SECRET}, seen by {name} of {swarm}", source="test")


class Mesh:
    """Two families, what they saw and thought, and what three blackboards say; memory answers checks."""

    def __init__(self, tmp_path: Path) -> None:
        self.log = MemoryLog()
        self.policies = InForce(self.log)
        self.society = Society()
        self._path = tmp_path
        self.events: list[Recorded] = []

    async def __aenter__(self) -> Mesh:
        said: list[AnyEvent] = []
        for swarm in ("alpha", "beta"):
            said += [born(swarm, name, parent, shares=shares) for name, (parent, shares) in FAMILY.items()]
            for name in FAMILY:
                said += [thought(swarm, name, "reflect", 1), thought(swarm, name, "compress", 2)]
            said += [seen(swarm, name) for name in (*FAMILY, EVERYONE)]
        said += [believed("alpha", "bob"), believed("beta", "bob"), believed(EVERYONE, "alpha")]
        embedder = WordLlamaEmbedder()
        self._index = await EdgeIndex.open(self._path / "index", embedder.dim)
        self.fabric = await Fabric.open(self._index, embedder)
        for event in said:
            made = record(event, len(self.events) + 1)
            (seq,) = await self.log.commit([Message(event=event, envelope=made.envelope)])
            self.events.append(record(event, seq, event_id=made.id))
            self.society.add(self.events[-1])
        await self.fabric.remember(self.events)
        self.effects = MemoryEffects(
            fabric=self.fabric,
            feed=Feed(self.log, self.fabric),
            cold=None,  # type: ignore[arg-type]
            society=self.society,
            readings=self.policies.readings,
        )
        self.library = Library(self.log, self.policies.readings)
        self._answers = Answers(self.log)
        self._asked = self.log.tail(("recall.requested.>",), stream="RECALL")
        self._at_work = [asyncio.create_task(self._answers.follow()), asyncio.create_task(self._answering())]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._answers.stop()
        await self._asked.stop()
        await asyncio.gather(*self._at_work)
        await self._index.close()

    async def _answering(self) -> None:
        async for recorded in self._asked:
            assert isinstance(recorded, Recorded)
            fold = Fold(Compactor(), Boundary(reads=(), guards=()))
            await drive(
                self.log, handle(fold, Delivered(recorded=recorded, now=at(60)), source="memory"), self.effects.perform
            )

    async def check(self, swarm: str, persona: str, probe: Probe) -> tuple[int, set[str]]:
        """What a check of this persona measures, and the events it names."""
        effect = RunProbe(
            swarm=swarm, persona=persona, probe=probe, check_event_id="c", correlation="c", asked_at=at(60)
        )
        effects = CheckerEffects(Desk(log=self.log, answers=self._answers, library=self.library))
        found = await effects.perform(effect)
        assert isinstance(found, Measured) and found.complete, found
        return found.value, {ref.id for ref in found.evidence}

    async def recall(self, swarm: str, persona: str, person: str = "", wanted: Wanted = "all") -> set[tuple[str, str]]:
        """(whose, what kind) of everything that came out."""
        effect = Recall(swarm=swarm, persona=persona, person=person, query=SECRET, limit=100, now=at(60), wanted=wanted)
        found = await self.effects.perform(effect)
        assert isinstance(found, Recalled)
        by_id = {r.id: r.event for r in self.events}
        out = set()
        for memory in found.memories:
            event = by_id[memory.id]
            kind = event.phase if isinstance(event, ThoughtGenerated) else memory.kind
            out.add((f"{event.swarm}/{memory.persona}" if kind != "belief" else event.swarm, kind))
        return out


OWN = {"charter", "reflect", "compress"}


async def test_by_default_a_persona_reads_its_own_its_swarms_beliefs_and_what_descendants_distilled_that_share(
    tmp_path: Path,
) -> None:
    async with Mesh(tmp_path) as mesh:
        await mesh.policies.put()
        own = {("alpha/ada", kind) for kind in OWN}
        below = {("alpha/kid", "compress"), ("alpha/grandkid", "compress")}
        assert await mesh.recall("alpha", "ada") == own | below | {("alpha", "belief")}
        own = {("alpha/kid", kind) for kind in OWN}
        assert await mesh.recall("alpha", "kid") == own | {("alpha", "belief")}
        assert await mesh.recall("alpha", "kid", "ann") == own


async def test_before_policies_are_in_force_memory_is_private(tmp_path: Path) -> None:
    async with Mesh(tmp_path) as mesh:
        assert await mesh.recall("alpha", "ada") == {("alpha/ada", kind) for kind in OWN}


async def test_a_new_bundle_counts_from_the_next_read_on_and_a_denied_read_is_counted(tmp_path: Path) -> None:
    async with Mesh(tmp_path) as mesh:
        await mesh.policies.put()
        assert ("alpha", "belief") in await mesh.recall("alpha", "bob")
        before = MEMORY_DENIED.by["blackboard"], MEMORY_DENIED.by["own"]
        await mesh.policies.put(
            {
                "memory.cedar": NOTHING,
                "golden.json": GOLDEN,
            }
        )
        assert await mesh.recall("alpha", "bob") == set()
        assert (MEMORY_DENIED.by["blackboard"] - before[0], MEMORY_DENIED.by["own"] - before[1]) == (1, 1)


async def test_another_swarm_is_read_where_a_policy_permits_it(tmp_path: Path) -> None:
    permit = """@id("neighbours") permit (principal is Persona, action == Action::"memory.read", resource)
        when { resource.kind == "blackboard" || resource.kind == "mesh" };"""
    async with Mesh(tmp_path) as mesh:
        await mesh.policies.put({"memory.cedar": permit, "golden.json": GOLDEN})
        assert await mesh.recall("alpha", "bob") == {("alpha", "belief"), ("beta", "belief"), (EVERYONE, "belief")}


CONDITIONS = (
    'resource.kind == "own"',
    'resource.kind == "descendants"',
    'resource.kind == "blackboard"',
    'resource.kind == "mesh"',
    'resource.swarm == "alpha"',
    'resource.persona == "kid"',
    "resource.shared",
    "!resource.shared",
)
READERS = ("principal is Persona", "principal is Person", "principal", 'principal in Swarm::"alpha"')
RULES = st.lists(
    st.tuples(
        st.sampled_from(("permit", "permit", "permit", "forbid")),
        st.sampled_from(READERS),
        st.lists(st.sampled_from(CONDITIONS), max_size=2),
    ),
    min_size=1,
    max_size=5,
)


def written(rules: list[tuple[str, str, list[str]]]) -> str:
    return "\n".join(
        f'@id("r{n}") {effect} ({reader}, action == Action::"memory.read", resource)'
        + (f" when {{ {' && '.join(conditions)} }}" if conditions else "")
        + ";"
        for n, (effect, reader, conditions) in enumerate(rules)
    )


@settings(max_examples=25, deadline=None)
@given(RULES)
def test_what_random_policies_do_not_permit_leaks_nowhere(
    tmp_path_factory: pytest.TempPathFactory, rules: list[tuple[str, str, list[str]]]
) -> None:
    asyncio.run(no_leaks(tmp_path_factory.mktemp("leaks"), written(rules)))


async def no_leaks(tmp_path: Path, policy: str) -> None:
    """Every reader tries every way to everything; what comes out must be what a bundle, asked by itself, permits."""
    bundle = Bundle.of(edited({"memory.cedar": policy, "golden.json": GOLDEN}), "here")

    def may(swarm: str, persona: str, namespace: str, owner: str, whose: str = "", person: str = "") -> bool:
        shared = namespace in ("blackboard", "mesh") or FAMILY[whose][1]
        if not (shared or namespace == "own" or person):
            return False
        reader = {"person": person, "scopes": ("read",)} if person else {"swarm": swarm, "persona": persona}
        asked = {**reader, "namespace": namespace, "owner_swarm": owner, "owner_persona": whose, "shared": shared}
        return bundle.read(msgspec.convert(asked, ReadRequest)).allow

    async with Mesh(tmp_path) as mesh:
        await mesh.policies.put({"memory.cedar": policy, "golden.json": GOLDEN})
        for swarm, persona in itertools.product(("alpha", "beta"), FAMILY):
            for person in ("", *PEOPLE):
                for whose, kind in await mesh.recall(swarm, persona, person):
                    if kind == "belief":
                        assert not person
                        assert may(swarm, persona, "mesh" if whose == EVERYONE else "blackboard", whose), policy
                    elif whose == f"{swarm}/{persona}":
                        assert may(swarm, persona, "own", swarm, persona, person), policy
                    else:
                        owner, _, name = whose.partition("/")
                        assert (owner, kind, person) == (swarm, "compress", "")
                        assert persona in ancestors(name) and may(swarm, persona, "descendants", swarm, name), policy
            boards = {(r.event.swarm, "belief") for r in mesh.events if isinstance(r.event, BeliefAsserted)}
            believed = {
                (board, kind)
                for board, kind in boards
                if may(swarm, persona, "mesh" if board == EVERYONE else "blackboard", board)
            }
            assert believed == await mesh.recall(swarm, persona, wanted="beliefs"), policy
            assert set() == await mesh.recall(swarm, persona, PEOPLE[0], wanted="beliefs")
            citable = {r.id for r in mesh.events if may_cite(may, r.event, swarm, persona)}
            library = {r.id for r in mesh.events if await mesh.library.may_cite(r.event, swarm, persona)}
            assert library == citable, policy
            await checks_leak_nothing(mesh, swarm, persona, citable, own=may(swarm, persona, "own", swarm, persona))
            captured = await mesh.fabric.snapshot(swarm, persona)
            assert {(item.swarm, item.persona) for item in captured.snapshot.items} == {(swarm, persona)}


def may_cite(may: Callable[..., bool], event: AnyEvent, swarm: str, persona: str) -> bool:
    """What the persona may cite, by what a bundle permits."""
    if isinstance(event, BeliefAsserted):
        return may(swarm, persona, "mesh" if event.swarm == EVERYONE else "blackboard", event.swarm)
    if event.swarm != swarm or event.persona in (persona, EVERYONE):
        return event.swarm == swarm
    distilled = isinstance(event, ThoughtGenerated) and event.phase == "compress"
    return (
        distilled and persona in ancestors(event.persona) and may(swarm, persona, "descendants", swarm, event.persona)
    )


async def checks_leak_nothing(mesh: Mesh, swarm: str, persona: str, citable: set[str], *, own: bool) -> None:
    """Every probe over the whole log; `own`: whether it may read its own memory."""
    by_id = {r.id: r.event for r in mesh.events}
    refs = [EvidenceRef(id=r.id, seq=r.seq) for r in mesh.events]
    for n in range(0, len(refs), EVIDENCE_KEPT):  # so many a result names
        some = refs[n : n + EVIDENCE_KEPT]
        readable = citable & {ref.id for ref in some}
        assert (len(readable), readable) == await mesh.check(swarm, persona, LogResolve(evidence=tuple(some)))
    told = {r.id for r in mesh.events if r.event in (seen(swarm, persona), seen(swarm, EVERYONE))}
    search = LogSearch(text=SECRET, first_seq=1, last_seq=10**6)
    count = LogCount(template=f"{SECRET}, seen by <*> of <*>", first_seq=1, last_seq=10**6)
    assert (len(told), told) == await mesh.check(swarm, persona, search) == await mesh.check(swarm, persona, count)
    values = LogValues(template=count.template, first_seq=1, last_seq=10**6)
    assert (len(told), told) == await mesh.check(swarm, persona, values)
    _, named = await mesh.check(swarm, persona, TemplateTable(first_seq=1, last_seq=10**6))
    assert named and named <= told
    for ref in refs:
        if isinstance(by_id[ref.id], ObservationRecorded):
            around = await mesh.check(swarm, persona, LogAround(line=ref, any_source=True))
            assert ((len(told), told) if ref.id in told else (0, set())) == around
    believed = {name for name in citable if isinstance(by_id[name], BeliefAsserted)}
    assert (len(believed), believed) == await mesh.check(swarm, persona, BeliefLookup(query=SECRET))
    close, named = await mesh.check(swarm, persona, MemoryRecall(query=SECRET))
    assert {(swarm, persona)} >= {(by_id[name].swarm, by_id[name].persona) for name in named}
    assert own == (close > 0) == bool(named)


@pytest.mark.parametrize("unasked", ["", "cited", "recalled"])
async def test_a_check_that_does_not_ask_the_policies_is_found_out(
    unasked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Mesh(tmp_path) as mesh:
        forbidding, permitting = Fixed(NOTHING), Fixed(EVERYTHING)
        mesh.library = Library(mesh.log, permitting if unasked == "cited" else forbidding)  # type: ignore[arg-type]
        answering = permitting if unasked == "recalled" else forbidding
        mesh.effects = msgspec.structs.replace(mesh.effects, readings=answering)
        citable = {r.id for r in mesh.events if may_cite(lambda *_: False, r.event, "alpha", "ada")}
        if not unasked:
            await checks_leak_nothing(mesh, "alpha", "ada", citable, own=False)
            return
        with pytest.raises(AssertionError):
            await checks_leak_nothing(mesh, "alpha", "ada", citable, own=False)


async def test_a_check_of_ones_own_memory_is_not_crowded_out_by_what_a_child_remembers(tmp_path: Path) -> None:
    async with Mesh(tmp_path) as mesh:
        await mesh.policies.put()
        question = f"{SECRET}, compress by kid of alpha"
        assert ("alpha/kid", "compress") in await mesh.recall("alpha", "ada")
        close, named = await mesh.check("alpha", "ada", MemoryRecall(query=question))
        assert close > 0 and {"ada"} == {r.event.persona for r in mesh.events if r.id in named}


NOTHING = '@id("none") forbid (principal, action == Action::"memory.read", resource);'
EVERYTHING = '@id("all") permit (principal, action == Action::"memory.read", resource);'


class Fixed:
    """Readings by one policy, whatever is in force."""

    def __init__(self, policy: str) -> None:
        told = edited({"memory.cedar": policy, "golden.json": GOLDEN})
        self.verdicts = Verdicts(Bundle.of(told, "here"))

    async def current(self) -> Verdicts:
        return self.verdicts


def ancestors(name: str) -> set[str]:
    found = set()
    while (parent := FAMILY[name][0]) is not None:
        found.add(parent)
        name = parent
    return found


@pytest.mark.parametrize("namespace", ["descendants", "blackboard", "mesh"])
def test_what_is_not_shared_no_policy_can_open_to_a_persona(namespace: str) -> None:
    verdicts = Fixed(EVERYTHING).verdicts
    asked = {"swarm": "a", "persona": "p", "namespace": namespace, "owner_swarm": "a", "owner_persona": "q"}
    assert verdicts.may(msgspec.convert({**asked, "shared": True}, ReadRequest))
    assert not verdicts.may(msgspec.convert({**asked, "shared": False}, ReadRequest))


def test_a_bundle_that_does_not_speak_of_memory_leaves_it_private() -> None:
    text = (DEFAULT_BUNDLE / "schema.cedarschema").read_text()
    old = text[: text.index("// Whose memory may be read.")]
    contents = edited({"schema.cedarschema": old, "golden.json": GOLDEN})
    bundle = Bundle.of({name: text for name, text in contents.items() if name != "memory.cedar"}, "here")
    own = ReadRequest(swarm="a", persona="p", namespace="own", owner_swarm="a", owner_persona="p")
    assert bundle.read(own).allow
    for namespace in ("descendants", "blackboard", "mesh"):
        assert not bundle.read(msgspec.structs.replace(own, namespace=namespace)).allow  # type: ignore[arg-type]
    assert not bundle.read(msgspec.structs.replace(own, action="memory.merge", namespace="mesh")).allow


def test_only_the_gateway_asks_for_people() -> None:
    question = RecallRequested(swarm="alpha", persona="ada", query="q", principal="ann")
    for source, slot, person in (("gateway", "core", "ann"), ("gateway", "r1", ""), ("checker", "c1", "")):
        asked = record(msgspec.structs.replace(question, slot=slot), 1)
        asked = msgspec.structs.replace(asked, envelope=msgspec.structs.replace(asked.envelope, source=source))
        decider = Compactor()
        decision = decider.decide(decider.initial(), Delivered(recorded=asked, now=at(1)))
        assert isinstance(decision.effect, Recall) and decision.effect.person == person
