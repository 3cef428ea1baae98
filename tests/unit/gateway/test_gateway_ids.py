"""Ids of the base contract: taken as they are given, one token each, and shown as they were given everywhere."""

from __future__ import annotations

import msgspec
import pytest
from gateway_model import asked, created, mesh, thought, verified
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.wire.ids import as_given, as_token
from shared.contracts.ids import is_token
from tests.eventsource import EventSource

IDS = st.text("abzABZ019-_x", min_size=1, max_size=20)
SWARM, PERSONA, KID = "Swarm_Alpha", "Root-Thinker_1", "_kid"


@given(IDS | st.lists(st.sampled_from(["x--", "-", "--", "-0", "a", "A"]), min_size=1).map(lambda p: "".join(p)[:20]))
def test_every_id_is_one_token_and_back(given_id: str) -> None:
    token = as_token(given_id)
    assert is_token(token)
    assert as_given(token) == given_id


@given(st.lists(IDS, unique=True, max_size=30))
def test_two_ids_are_never_one_token(ids: list[str]) -> None:
    assert len({as_token(i) for i in ids}) == len(ids)


@given(st.from_regex(r"[a-z0-9][a-z0-9-]{0,40}", fullmatch=True).filter(lambda i: not i.startswith("x--")))
def test_what_is_a_token_stands_for_itself(token: str) -> None:
    assert as_token(token) == token == as_given(token)


@pytest.mark.parametrize("nonsense", ["", "a b", "ä", "a.b", "a\n", "x" * 65])
def test_what_can_be_no_id_stays_as_it_is(nonsense: str) -> None:
    assert as_token(nonsense) == nonsense


async def test_personas_and_swarms_are_taken_and_shown_as_they_were_given() -> None:
    async with mesh() as up, up.client() as client:
        root = {"persona_id": PERSONA, "name": "n", "role": "r", "charter": "c", "swarm_id": SWARM}
        answer = await client.post("/v1/swarm/personas", json=root)
        assert (answer.json()["identity"]["id"], answer.json()["identity"]["swarm_id"]) == (PERSONA, SWARM)
        kid = {"persona_id": KID, "name": "n", "role": "r", "charter": "c"}
        spawned = (await client.post(f"/v1/swarm/personas/{PERSONA}/spawn", json=kid)).json()
        assert (spawned["identity"]["id"], spawned["identity"]["parent_id"]) == (KID, PERSONA)
        assert (await client.post("/v1/swarm/personas", json=root)).status_code == 409
        graph = (await client.get("/v1/swarm/lineage")).json()
        assert [(n["persona_id"], n["children"]) for n in graph["nodes"]] == [(PERSONA, [KID]), (KID, [])]
        assert graph["roots"] == [PERSONA]
        for path in (f"/v1/cognition/personas/{KID}", f"/v1/cognition/personas/{KID}?swarm={SWARM}"):
            assert (await client.get(path)).json()["identity"]["id"] == KID
        rows = (await client.get(f"/v1/swarm/personas?swarm={SWARM}")).json()
        assert sorted(p["identity"]["id"] for p in rows) == [PERSONA, KID]
        recorded = await client.post(f"/v1/swarm/{SWARM}/observations", json={"text": "t", "persona": KID})
        assert recorded.status_code == 200
        memory = (await client.get(f"/v1/swarm/personas/{KID}/memory?q=x")).json()
        assert (memory["persona_id"], memory["memories"][0]["persona"]) == (KID, KID)
        async with EventSource(f"{up.url}/v1/cognition/stream?from=beginning&swarm={SWARM}&persona={KID}") as source:
            await up.put(thought(as_token(KID), 1, swarm=as_token(SWARM)))
            seen = [msgspec.json.decode(e.data) for e in await source.has(up.gateway.feed.position)]
        assert {(e["swarm_id"], e["persona_id"]) for e in seen} == {(SWARM, KID)}
        (born,) = [e for e in seen if e["event_type"] == "persona_spawned"]
        assert born["payload"]["identity"]["parent_id"] == PERSONA
        audit = (await client.get("/v1/audit")).json()
        assert {(e["swarm_id"], e["persona_id"]) for e in audit} == {(SWARM, PERSONA), (SWARM, KID)}
        reaped = await client.post(f"/v1/swarm/personas/{PERSONA}/reap", json={"cascade": True})
        assert sorted(reaped.json()["reaped_ids"]) == [PERSONA, KID]
        missing = await client.get("/v1/cognition/personas/No_Body")
        assert (missing.status_code, "No_Body" in missing.json()["detail"]) == (404, True)


async def test_proposals_are_taken_and_shown_as_they_were_given() -> None:
    async with mesh() as up, up.client() as client:
        c = created(as_token("Fix_It"), swarm=as_token(SWARM), persona=as_token(PERSONA))
        await up.put(c, verified(c), asked(c))
        (listed,) = (await client.get("/v1/cognition/proposals")).json()
        assert (listed["id"], listed["persona_id"]) == ("Fix_It", PERSONA)
        assert (await client.get(f"/v1/proposals/Fix_It?swarm={SWARM}&persona={PERSONA}")).status_code == 200
        (waits,) = (await client.get("/v1/approvals")).json()
        assert (waits["proposal_id"], waits["swarm_id"], waits["persona_id"]) == ("Fix_It", SWARM, PERSONA)
        done = await client.post("/v1/cognition/proposals/Fix_It/approve")
        assert done.json() == {"approved": True, "proposal_id": "Fix_It"}


async def test_an_id_that_is_none_or_too_long_is_422_where_it_is_taken() -> None:
    async with mesh() as up, up.client() as client:
        root = {"name": "n", "role": "r", "charter": "c"}
        for bad in ("a b", "ä", "", "A" * 40):
            answer = await client.post("/v1/swarm/personas", json={**root, "persona_id": bad})
            assert answer.status_code == 422, bad
        assert (await client.post("/v1/swarm/a.b/observations", json={"text": "t"})).status_code == 422
        assert (await client.get("/v1/cognition/stream?persona=a.b")).status_code == 422
