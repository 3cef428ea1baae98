"""Conflicts and unknown outcomes over HTTP: seen, ruled by people, resolved, each once."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest
from gateway_model import Mesh, claimed, created, executed, mesh, raised, verified

from services.gateway.settings import GatewaySettings
from shared.contracts.boundaries import hold, life
from shared.contracts.events import (
    ActionResolved,
    AnyEvent,
    ConflictExtended,
    ConflictRaised,
    ConflictResolved,
    ConflictRuled,
    ConflictSettled,
    ProposalKey,
    TargetFreed,
    TargetHeld,
)
from shared.contracts.ids import caused_id
from shared.log.port import Expect
from shared.metrics.table import CONFLICTS, RULING_SECONDS
from tests.unit.gateway.gateway_model import message

RAISED = raised(1)
FIRST, SECOND = (ProposalKey(swarm=s.swarm, persona=s.persona, proposal_id=s.proposal_id) for s in RAISED.sides)
RESOLVED = ConflictResolved(
    target_id="t-1", generation=1, resolution="order", kept=(FIRST,), lost=(SECOND,), reason="it was verified first"
)


@pytest.fixture
async def up() -> AsyncIterator[Mesh]:
    async with mesh(GatewaySettings(outcome_timeout_s=2.0)) as found:
        yield found


@pytest.fixture
async def api(up: Mesh) -> AsyncIterator[httpx.AsyncClient]:
    async with up.client() as client:
        yield client


async def said(up: Mesh, cls: type[AnyEvent]) -> list[AnyEvent]:
    return [r.event for r in up.log.store.records if isinstance(r.event, cls)]


async def test_a_conflict_is_shown_with_all_its_sides_and_how_it_ended(up: Mesh, api: httpx.AsyncClient) -> None:
    await up.put(RAISED, ConflictExtended(target_id="t-1", generation=1, side=RAISED.sides[0]))
    (one,) = (await api.get("/v1/conflicts?state=open")).json()
    assert ("t-1.1", "open", "file:notes/1.md", None) == (one["id"], one["state"], one["target"], one["resolution"])
    assert [("s", "waits"), ("t", "waits")] == [(s["swarm_id"], s["place"]) for s in one["sides"]]
    await up.put(RESOLVED)
    assert [] == (await api.get("/v1/conflicts?state=open")).json()
    one = (await api.get("/v1/conflicts/t-1.1")).json()
    assert ["kept", "lost"] == [side["place"] for side in one["sides"]]
    assert ("order", "it was verified first") == (one["resolution"], one["reason"])
    for unknown in ("t-1.2", "t-9.1", "nothing", "t-1.x"):
        assert 404 == (await api.get(f"/v1/conflicts/{unknown}")).status_code


async def test_a_person_rules_once_and_on_what_is_in_it(up: Mesh, api: httpx.AsyncClient) -> None:
    await up.put(RAISED)
    path = "/v1/conflicts/t-1.1/rule"
    assert 404 == (await api.post(path, json={"winner": "c-9"})).status_code
    assert 409 == (await api.post(path, json={"winner": "c-1"})).status_code  # two swarms have a proposal of that id
    which = {"winner": "c-1", "swarm_id": "t", "reason": "hers is better"}
    key = {"Idempotency-Key": "k"}
    first = await api.post(path, json=which, headers=key)
    assert (200, "local") == (first.status_code, first.json()["ruled_by"])
    assert first.json() == (await api.post(path, json=which, headers=key)).json()
    assert 422 == (await api.post(path, json={**which, "reason": "no"}, headers=key)).status_code
    (word,) = await said(up, ConflictRuled)
    assert isinstance(word, ConflictRuled) and (SECOND, "hers is better") == (word.winner, word.reason)
    await up.put(RESOLVED)
    assert 409 == (await api.post(path, json=which)).status_code
    assert 404 == (await api.post("/v1/conflicts/t-1.2/rule", json=which)).status_code


async def test_who_joins_while_a_person_rules_is_not_ruled_past(
    up: Mesh, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await up.put(RAISED)
    real, once = up.log.commit, [1]
    third = ConflictExtended(target_id="t-1", generation=1, side=raised(2).sides[0])

    async def meanwhile(messages: list[object], expect: tuple[Expect, ...] = ()) -> tuple[int, ...]:
        if once:
            once.pop()
            await real([message(third)])
        return await real(messages, expect)  # type: ignore[arg-type]

    monkeypatch.setattr(up.log, "commit", meanwhile)
    word = {"winner": "c-1", "swarm_id": "t"}
    assert 200 == (await api.post("/v1/conflicts/t-1.1/rule", json=word)).status_code
    kinds = [type(r.event) for r in up.log.store.records if r.subject.startswith("conflict.")]
    assert [ConflictRaised, ConflictExtended, ConflictRuled] == kinds


def _holding() -> list[AnyEvent]:
    c = created("u-1")
    key = ProposalKey(swarm=c.swarm, persona=c.persona, proposal_id=c.proposal_id)
    claim = msgspec.structs.replace(claimed(c), hold="t-9")
    return [c, verified(c), claim, TargetHeld(persona="t-9", holder=key, target="file:x"), executed(c, "unknown")]


async def test_an_unknown_outcome_waits_for_a_person_whose_word_frees_the_target_in_one_batch(
    up: Mesh, api: httpx.AsyncClient
) -> None:
    events = _holding()
    await up.put(*events)
    (one,) = (await api.get("/v1/actions/unknown")).json()
    assert ("u-1", True, "unknown") == (one["proposal_id"], one["holds"], one["outcome"])
    path, word = "/v1/actions/u-1/resolve", {"outcome": "success", "reason": "the file is there"}
    assert 422 == (await api.post(path, json={"outcome": "success"})).status_code
    answer = await api.post(path, json=word, headers={"Idempotency-Key": "k"})
    assert (200, "success", "local", False) == (
        answer.status_code, answer.json()["outcome"], answer.json()["resolved_by"], answer.json()["holds"],
    )  # fmt: skip
    assert answer.json() == (await api.post(path, json=word, headers={"Idempotency-Key": "k"})).json()
    assert 409 == (await api.post(path, json=word)).status_code
    resolved, freed = up.log.store.records[-2:]
    assert isinstance(resolved.event, ActionResolved) and isinstance(freed.event, TargetFreed)
    assert (life(*("s", "p", "u-1")), hold("t-9")) == ("*.*.s.p.u-1", "target.*.all.t-9")
    assert [] == (await api.get("/v1/actions/unknown")).json()
    (receipt,) = (await api.get("/v1/cognition/receipts")).json()
    assert "success" == receipt["outcome"]["type"] and "the file is there" in receipt["outcome"]["summary"]
    assert caused_id("local\n/v1/actions/u-1/resolve\nk", "action.resolved") == resolved.id


async def test_what_is_not_unknown_is_not_resolved(up: Mesh, api: httpx.AsyncClient) -> None:
    c = created("d-1")
    await up.put(c, verified(c), claimed(c), executed(c))
    word = {"outcome": "failure", "reason": "no"}
    assert 409 == (await api.post("/v1/actions/d-1/resolve", json=word)).status_code
    assert 404 == (await api.post("/v1/actions/none/resolve", json=word)).status_code


async def test_conflicts_and_holds_are_counted(up: Mesh, api: httpx.AsyncClient) -> None:
    await up.put(RAISED, *_holding())
    projection = up.gateway.projection
    assert (1, {"t-9"}) == (projection.conflicts.open, set(projection.conflicts.held))
    k = created("known-1")
    holder = ProposalKey(swarm=k.swarm, persona=k.persona, proposal_id=k.proposal_id)
    await up.put(k, verified(k), msgspec.structs.replace(claimed(k), hold="t-8"))
    await up.put(TargetHeld(persona="t-8", holder=holder, target="file:y"))
    assert {"t-8", "t-9"} == set(projection.conflicts.held)
    await up.put(executed(k))
    assert {"t-9"} == set(projection.conflicts.held)
    await up.put(RESOLVED)
    c = created("late-1")
    lost = ConflictSettled(
        swarm=c.swarm, persona=c.persona, proposal_id=c.proposal_id, target_id="t-1", generation=1, outcome="lost",
        resolution="standing",
    )  # fmt: skip
    await up.put(c, verified(c), lost)
    counts, ruled = projection.measures.tallies[CONFLICTS.name], projection.measures.spreads[RULING_SECONDS.name]
    assert (0, 1, 1) == (projection.conflicts.open, counts["order"], counts["standing"])
    assert 1 == sum(ruled.counts)
