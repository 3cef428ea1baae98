"""Whatever decodes survives everything that is done with it: written, folded by every service, checkpointed and restored, shown by
every view, remembered and put into snapshots. Events of all classes at the edges of their types, in any order, for few ids."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest

from services.actuator import decider as actuator
from services.checker.decider import Checker
from services.gateway.projections.projection import Projection
from services.gateway.projections.projection import State as Projected
from services.gateway.settings import GatewaySettings
from services.governor.decider import Governor
from services.governor.service import limits_of
from services.memory_compactor import decider as compactor
from services.memory_compactor.believing.decider import Believer
from services.memory_compactor.believing.merging import Merger
from services.meta_orchestrator.arbitration import decider as arbitration
from services.meta_orchestrator.arbitration.meeting import CLASSES as MEETING
from services.meta_orchestrator.arbitration.meeting import Meeting
from services.meta_orchestrator.routing import decider as routing
from services.persona_runner.hosting.host import Host, Hosted
from services.policy_gate import decider as gate
from services.verifier import decider as verifier
from shared.contracts.catalog import CLASSES, SHORT_LIVED, class_of
from shared.contracts.envelope import Message, Recorded, decode, encode, structured
from shared.contracts.events import ConflictEvent, ProposalKey, ProposalVerified
from shared.contracts.services import SERVICES
from shared.decider import Decider, Delivered
from shared.log.memory import MemoryLog
from shared.memory.fabric import Fabric
from shared.memory.index.edge import EdgeIndex
from shared.memory.index.embeddings import WordLlamaEmbedder
from shared.memory.items import REMEMBERED
from shared.memory.snapshot import decode as decode_snapshot
from shared.settings import Settings
from tests.examples import on_the_wire
from tests.extremes import Extremes
from tests.unit.gateway.gateway_model import mesh

NOW = datetime(2026, 11, 22, 13, 0, tzinfo=UTC)
SEEDS = range(6)
SETTLED = msgspec.msgpack.Encoder(order="deterministic")
"""Sets have an order of their own in each process."""
DECIDERS: dict[str, Decider[object]] = {
    "governor": Governor(limits=limits_of(Settings())),
    "verifier": verifier,
    "checker": Checker(slot="c1"),
    "policy_gate": gate,
    "actuator": actuator,
    "memory_compactor": compactor.Compactor(),
    "meta_orchestrator-arbitration": arbitration,
    "memory_compactor-beliefs": Believer(),
    "meta_orchestrator": routing,
    "memory_compactor-merging": Merger(),
}


def history(seed: int, rounds: int = 3) -> list[Recorded]:
    """Events of every class but the short-lived ones, so many times and shuffled."""
    dice = random.Random(seed)
    make = Extremes(dice)
    names = [name for name in sorted(CLASSES) if name not in SHORT_LIVED] * rounds
    dice.shuffle(names)
    return [make.event(name, seq) for seq, name in enumerate(names, 1)]


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_what_decodes_is_written_as_it_was_read(name: str) -> None:
    for seed in range(40):
        recorded = Extremes(random.Random(f"{name}{seed}")).event(name, seed + 1)
        message = Message(event=recorded.event, envelope=recorded.envelope)
        again = decode(*on_the_wire(message), seq=recorded.seq, stored_at=recorded.stored_at)
        assert again == recorded
        assert encode(message) == encode(Message(event=again.event, envelope=again.envelope))
        assert json.loads(structured(recorded))["id"] == recorded.id
        for form in (msgspec.msgpack, msgspec.json):
            assert form.decode(form.encode(recorded), type=Recorded) == recorded


@pytest.mark.parametrize("service", DECIDERS)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_decider_takes_it_and_its_state_comes_back(service: str, seed: int) -> None:
    decider = DECIDERS[service]
    states: dict[tuple[str, ...], object] = {}
    past: list[Recorded] = []
    for recorded in history(seed):
        past.append(recorded)
        states = {reads: decider.evolve(state, recorded) for reads, state in states.items()}
        if class_of(recorded.event) not in SERVICES[service.partition("-")[0]].consumes:
            continue
        message = Delivered(recorded=recorded, now=NOW)
        boundary = decider.boundary(message)
        if boundary is None:
            continue
        if boundary.reads not in states:
            state = decider.initial()
            for before in past:
                state = decider.evolve(state, before)
            states[boundary.reads] = state
        decider.decide(states[boundary.reads], message)
    assert states
    for state in states.values():
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=type(state)) == state


@pytest.mark.parametrize("seed", SEEDS)
def test_the_runners_host_takes_it_and_comes_back_from_a_checkpoint(seed: int) -> None:
    host = Host(shards=1, thinker="rules", runner="runner-1")
    host.begin(0)
    host.end(0)
    for recorded in history(seed):
        host.feed(recorded)
        for key in host.due(NOW, 100):
            host.settle(key, NOW)
    saved = SETTLED.encode(host.capture())
    restored = Host(shards=1, thinker="rules", runner="runner-1")
    restored.restore(msgspec.msgpack.decode(saved, type=Hosted), (0,))
    assert SETTLED.encode(restored.capture()) == saved
    host.next_due()


@pytest.mark.parametrize("seed", SEEDS)
def test_who_may_meet_whom_takes_it(seed: int) -> None:
    meeting = Meeting()
    for recorded in history(seed):
        if class_of(recorded.event) in MEETING:
            meeting.apply(recorded)
        if isinstance(event := recorded.event, ProposalVerified):
            key = ProposalKey(swarm=event.swarm, persona=event.persona, proposal_id=event.proposal_id)
            for place in meeting.places(event):
                meeting.others(place, key, NOW)
        meeting.losses(recorded.event.swarm, recorded.event.persona, NOW, recorded.seq)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_gateways_projection_comes_back_from_a_checkpoint(seed: int) -> None:
    projection = Projection()
    for recorded in history(seed):
        assert projection.apply(recorded)
    saved = SETTLED.encode(projection.capture())
    restored = Projection()
    restored.restore(msgspec.msgpack.decode(saved, type=Projected))
    assert SETTLED.encode(restored.capture()) == saved


def paths(document: dict[str, dict[str, dict[str, object]]], past: list[Recorded]) -> Iterator[str]:
    """Every GET of the API, with the ids of what was said where the path names one."""
    personas = sorted({r.event.persona for r in past})
    proposals = sorted({getattr(r.event, "proposal_id", "a") for r in past})
    beliefs = sorted({getattr(r.event, "belief_id", "a") for r in past})
    intents = sorted({getattr(r.event, "intent_id", "a") for r in past})
    conflicts = sorted(
        {f"{r.event.target_id}.{r.event.generation}" for r in past if isinstance(r.event, ConflictEvent)}
    )
    ids = {
        "persona_id": personas,
        "proposal_id": proposals,
        "belief_id": beliefs,
        "intent_id": intents,
        "conflict_id": conflicts,
        "event": [*proposals, *(quote(r.id, safe="") for r in past), *(str(n) for n in range(len(past) + 2))],
    }
    for path, item in document["paths"].items():
        if "get" in item and "stream" not in path:
            name = path.partition("{")[2].partition("}")[0]
            yield from (path.replace(f"{{{name}}}", one) for one in ids[name]) if name else (path,)


@pytest.mark.parametrize("seed", SEEDS[:4])
async def test_every_view_shows_it(seed: int) -> None:
    log, past = MemoryLog(), history(seed)
    for recorded in past:
        await log.commit([Message(event=recorded.event, envelope=recorded.envelope)])
    async with mesh(GatewaySettings(), log) as up, up.client() as client:
        assert log.dead == []
        assert up.gateway.feed.position >= len(past)
        document = (await client.get("/schema/openapi.json")).raise_for_status().json()
        shown = 0
        for path in paths(document, past):
            answer = await client.get(path)
            assert answer.status_code < 500 or path.endswith("/memory"), f"{path}: {answer.text}"
            shown += answer.status_code == 200
        assert shown > 10
        async with client.stream("GET", "/v1/cognition/stream", headers={"Last-Event-ID": "0"}) as stream:
            seen = 0
            async for line in stream.aiter_lines():
                seen += line.startswith("id:")
                if line.startswith("id:") and int(line.partition(":")[2].partition(".")[0]) >= len(past):
                    break
        assert seen > 0


@pytest.mark.parametrize("seed", SEEDS)
async def test_memory_takes_it_recalls_it_and_comes_back_from_snapshots(seed: int, tmp_path: Path) -> None:
    embedder = WordLlamaEmbedder()
    index = await EdgeIndex.open(tmp_path / "index", embedder.dim)
    fabric = await Fabric.open(index, embedder)
    past = [r for r in history(seed) if class_of(r.event) in (*REMEMBERED, "persona.reaped")]
    await fabric.remember(past)
    owners = sorted({(r.event.swarm, r.event.persona) for r in past})
    anew = await EdgeIndex.open(tmp_path / "anew", embedder.dim)
    restored = await Fabric.open(anew, embedder)
    kept = 0
    for swarm, persona in owners:
        captured = await fabric.snapshot(swarm, persona)
        assert decode_snapshot(captured.data) == captured.snapshot
        kept += len(captured.snapshot.items)
        if captured.snapshot.items:
            assert await restored.restore(captured.data)
            assert (await restored.snapshot(swarm, persona)).data == captured.data
        for memory in await fabric.recall(swarm, persona, "what is it", 100, NOW):
            assert msgspec.json.decode(msgspec.json.encode(memory), type=type(memory)) == memory
    assert kept == await index.count() > 0
    await index.close()
    await anew.close()
