"""A person files a proposal over HTTP: in a persona's name, once, through the same gate, and approves none of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from gateway_model import Mesh, asked, key, mesh, spawned, verified

from services.gateway.settings import GatewaySettings
from shared.contracts.action import action_digest
from shared.contracts.boundaries import life
from shared.contracts.catalog import matches, subject_of
from shared.contracts.events import ProposalFiled
from shared.contracts.persona import charter_sha256
from tests.unit.gateway.gateway_model import message

NOTE = {"kind": "file.write", "target": "notes/a.md", "params": {"content": "a note"}}
ROOT = spawned("root", swarm="web")


@pytest.fixture
async def up() -> AsyncIterator[Mesh]:
    async with mesh(GatewaySettings(outcome_timeout_s=2.0)) as found:
        yield found


@pytest.fixture
async def api(up: Mesh) -> AsyncIterator[httpx.AsyncClient]:
    async with up.client() as client:
        yield client


def filed(up: Mesh) -> list[Any]:
    return [r for r in up.log.store.records if isinstance(r.event, ProposalFiled)]


async def test_what_is_filed_is_a_proposal_of_the_persona_that_says_whose_it_is(
    up: Mesh, api: httpx.AsyncClient
) -> None:
    await up.put(ROOT)
    answer = (await api.post("/v1/proposals", json=NOTE)).json()
    assert ("medium", "root", "web") == (answer["risk"], answer["persona_id"], answer["swarm_id"])
    (recorded,) = filed(up)
    event, charter = recorded.event, charter_sha256(ROOT.identity)
    assert recorded.envelope.charter == charter == event.charter
    assert event.digest == action_digest(swarm="web", persona="root", charter=charter, action=event.action)
    assert matches(life("web", "root", event.proposal_id), subject_of(event))
    shown = (await api.get(f"/v1/proposals/{answer['proposal_id']}")).json()
    assert "local" == shown["proposal"]["filed_by"]


async def test_a_dry_run_stores_nothing(up: Mesh, api: httpx.AsyncClient) -> None:
    seq = await up.put(ROOT)
    answer = (await api.post("/v1/proposals", json={**NOTE, "dry_run": True})).json()
    assert (None, "would write 6 bytes to notes/a.md, over what is there") == (answer["proposal_id"], answer["would"])
    assert seq == up.log.store.records[-1].seq


async def test_one_key_is_one_proposal(up: Mesh, api: httpx.AsyncClient) -> None:
    await up.put(ROOT)
    headers = {"Idempotency-Key": "k"}
    first, again = [await api.post("/v1/proposals", json=NOTE, headers=headers) for _ in range(2)]
    assert first.json() == again.json() and 1 == len(filed(up))
    other = await api.post("/v1/proposals", json={**NOTE, "target": "notes/b.md"}, headers=headers)
    assert 422 == other.status_code


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({**NOTE, "kind": "file.burn"}, 422, "unknown_kind"),
        ({**NOTE, "target": "../a"}, 422, "bad_target"),
        ({**NOTE, "params": {}}, 422, "bad_params"),
        ({**NOTE, "persona_id": "nobody"}, 404, "persona_missing"),
        (NOTE, 409, "which_persona"),
    ],
)
async def test_what_is_no_proposal_is_refused_with_its_reason(
    up: Mesh, api: httpx.AsyncClient, body: dict[str, Any], status: int, reason: str
) -> None:
    await up.put(ROOT, spawned("other", swarm="web"))
    answer = await api.post("/v1/proposals", json=body)
    assert (status, reason) == (answer.status_code, answer.json()["reason"]) and [] == filed(up)


async def test_who_files_does_not_approve() -> None:
    keys = (key("a", "ada", "admin"), key("b", "bob", "approve"))
    async with mesh(GatewaySettings(outcome_timeout_s=2.0, keys=keys)) as up:
        await up.put(ROOT)
        async with up.client("a") as ada, up.client("b") as bob:
            answer = (await ada.post("/v1/proposals", json=NOTE)).json()
            (recorded,) = filed(up)
            event = recorded.event
            for one in (verified(event.proposal), asked(event.proposal)):
                (seq,) = await up.log.commit([message(one)])
            await up.gateway.feed.reached(seq, 5)
            path, body = f"/v1/approvals/{answer['proposal_id']}", {"decision": "grant", "digest": event.digest}
            got = await ada.post(path, json=body)
            assert (403, "four_eyes") == (got.status_code, got.json()["reason"])
            assert 200 == (await bob.post(path, json=body)).status_code
