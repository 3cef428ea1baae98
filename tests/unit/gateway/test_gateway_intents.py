"""Intents over HTTP: submitted once, listed, shown, made of each other, cancelled with all below; and refused in the user's words."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest
from gateway_model import NOW, Mesh, mesh, spawned

from services.gateway.settings import GatewaySettings
from shared.contracts.boundaries import intent as boundary_of
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    Candidate,
    Credits,
    IntentAccepted,
    IntentCancelled,
    IntentClosed,
    IntentDelegated,
    IntentRouted,
    IntentSubmitted,
)
from shared.contracts.ids import utc_now
from shared.invariants.intents import IntentInvariants

GOAL = {"goal": "why is it slow?", "swarm_id": "web"}


async def submitted(client: httpx.AsyncClient, **fields: object) -> dict[str, Any]:
    answer = await client.post("/v1/intents", json={**GOAL, **fields})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def refused(client: httpx.AsyncClient, path: str = "/v1/intents", **fields: object) -> tuple[int, str, str]:
    answer = await client.post(path, json={**GOAL, **fields})
    problem = answer.json()
    return answer.status_code, problem.get("reason", ""), problem["detail"]


async def lives(up: Mesh) -> list[str]:
    """What the log says that should not be."""
    found: list[str] = []
    judge = IntentInvariants(lambda recorded, what: found.append(f"{recorded.subject}: {what}"))
    for recorded in await up.log.read(("intent.>",)):
        judge.absorb(recorded)
    return found


async def test_a_goal_is_stored_with_what_was_said_of_it_and_listed_newest_first() -> None:
    async with mesh() as up, up.client() as client:
        first = await submitted(client)
        second = await submitted(client, swarm_id="db", tags=["dba"], fan_out=2, merge="vote", options=["a", "b"])
        assert ("submitted", {"tokens": 20_000, "compute_ms": 60_000}) == (
            first["state"],
            {k: v for k, v in first["budget"].items() if v},
        )
        listed = (await client.get("/v1/intents")).json()
        assert [second["id"], first["id"]] == [one["id"] for one in listed]
        assert [first["id"]] == [one["id"] for one in (await client.get("/v1/intents?swarm=web&state=open")).json()]
        page = await client.get("/v1/intents?limit=1")
        following = (await client.get(page.links["next"]["url"])).json()
        assert [first["id"]] == [one["id"] for one in following]
        (stored,) = await up.log.read((boundary_of("db", second["id"]),))
        assert isinstance(stored.event, IntentSubmitted)
        assert (("dba",), 2, "vote", ("a", "b")) == (
            stored.event.tags, stored.event.fan_out, stored.event.merge, stored.event.options,
        )  # fmt: skip


async def test_the_same_key_is_the_same_intent_also_a_little_later_and_for_nothing_else() -> None:
    async with mesh() as up, up.client(**{"Idempotency-Key": "k"}) as client:
        first = await submitted(client)
        again = await submitted(client)
        assert first == again
        status, reason, _ = await refused(client, goal="another")
        assert (422, "idempotency_key_reused") == (status, reason)
        both = await asyncio.gather(*(client.post("/v1/intents", json=GOAL) for _ in range(5)))
        assert {first["id"]} == {answer.json()["id"] for answer in both}
        assert 1 == len(await up.log.read(("intent.submitted.>",)))


@pytest.mark.parametrize(
    ("fields", "status", "reason", "says"),
    [
        ({"budget": {"tokens": 0, "compute_ms": 0, "actions": 9}}, 422, "no_budget", "neither tokens nor compute_ms"),
        ({"deadline": "2020-01-01T00:00:00Z"}, 422, "deadline_passed", "is over"),
        ({"wanted_persona": "nobody"}, 404, "persona_missing", "'nobody'"),
        ({"wanted_swarm": "nowhere"}, 404, "swarm_missing", "'nowhere'"),
        ({"parent_id": "i-0"}, 404, "intent_missing", "'i-0'"),
        ({"goal": ""}, 422, "", "goal"),
        ({"fan_out": 17}, 422, "", "fan_out"),
        ({"options": ["a", "a"], "merge": "vote"}, 422, "bad_intent", "the same"),
        ({"tags": ["no token!"]}, 422, "", "tags"),
    ],
)
async def test_what_cannot_be_asked_is_said(fields: dict[str, object], status: int, reason: str, says: str) -> None:
    async with mesh() as up, up.client() as client:
        code, why, detail = await refused(client, **fields)
        assert (status, reason) == (code, why) and says in detail
        assert [] == await up.log.read(("intent.>",))


async def test_a_swarm_may_have_so_many_open_and_one_that_ends_makes_room() -> None:
    async with mesh(GatewaySettings(swarm_open_intents=2)) as up, up.client() as client:
        first, _ = await submitted(client), await submitted(client)
        code, reason, detail = await refused(client)
        assert (429, "too_many_intents") == (code, reason) and "2 intents are open" in detail
        await submitted(client, swarm_id="db")
        await client.post(f"/v1/intents/{first['id']}/cancel")
        await submitted(client)
        rows = {row["reason"]: row for row in (await client.get("/v1/quotas")).json()}
        assert 1 == rows["too_many_intents"]["refused"]


async def test_a_child_takes_its_budget_from_its_parents_and_no_more_than_there_is() -> None:
    async with mesh() as up, up.client() as client:
        parent = await submitted(client, budget={"tokens": 1000, "compute_ms": 1000})
        part = {"parent_id": parent["id"], "budget": {"tokens": 400, "compute_ms": 300}, "swarm_id": None}
        child = await submitted(client, **part)
        assert (parent["id"], "web", parent["deadline"]) == (child["parent_id"], child["swarm_id"], child["deadline"])
        answers = await asyncio.gather(*(client.post("/v1/intents", json={**GOAL, **part}) for _ in range(4)))
        assert [200, 409, 409, 409] == sorted(a.status_code for a in answers)
        why = next(a.json() for a in answers if a.status_code == 409)
        assert "parent_refuses" == why["reason"] and "200 tokens, 400 compute_ms are left" in why["detail"]
        shown = (await client.get(f"/v1/intents/{parent['id']}")).json()["intent"]
        assert 200 == shown["left"]["tokens"] and 2 == len(shown["children"])
        late = str(utc_now() + timedelta(days=2)).replace(" ", "T")
        code, _, detail = await refused(client, **{**part, "budget": {"tokens": 1}, "deadline": late})
        assert 409 == code and "due before" in detail
        assert [] == await lives(up)


async def test_a_cancellation_ends_the_whole_family_in_one_batch_and_once() -> None:
    async with mesh() as up, up.client() as client:
        parent = await submitted(client, budget={"tokens": 1000})
        child = await submitted(client, parent_id=parent["id"], budget={"tokens": 300}, swarm_id=None)
        below = await submitted(client, parent_id=child["id"], budget={"tokens": 100}, swarm_id=None)
        closed = await submitted(client, parent_id=parent["id"], budget={"tokens": 50}, swarm_id=None)
        await up.put(
            IntentClosed(swarm="web", persona="all", intent_id=closed["id"], outcome="failed", reason="deadline")
        )
        answer = await client.post(
            f"/v1/intents/{parent['id']}/cancel", json={"reason": "enough"}, headers={"Idempotency-Key": "c"}
        )
        assert "cancelled" == answer.json()["state"]
        ended = [r for r in await up.log.read(("intent.>",)) if isinstance(r.event, IntentCancelled)]
        assert {parent["id"], child["id"], below["id"]} == {r.event.intent_id for r in ended}
        assert [r.seq for r in ended] == list(range(ended[0].seq, ended[0].seq + 3))
        again = await client.post(
            f"/v1/intents/{parent['id']}/cancel", json={"reason": "enough"}, headers={"Idempotency-Key": "c"}
        )
        assert 200 == again.status_code and again.json() == answer.json()
        code, reason, detail = await refused(client, f"/v1/intents/{parent['id']}/cancel")
        assert (409, "intent_ended") == (code, reason) and "cancelled already" in detail
        code, _, detail = await refused(client, parent_id=parent["id"], swarm_id=None)
        assert 409 == code and "it has ended" in detail
        assert [] == await lives(up)


async def test_what_came_of_it_is_shown_and_waited_for() -> None:
    async with mesh() as up, up.client() as client:
        await up.put(spawned("watcher", swarm="web"))
        found = await submitted(client, wanted_persona="watcher")
        home = {"swarm": "web", "persona": "all", "intent_id": found["id"]}
        who = Candidate(swarm="web", persona="watcher", total=0.5)
        until = NOW + timedelta(hours=1)
        await up.put(
            IntentRouted(
                **home, to=(who,), until=until, route=1, budget=Credits(tokens=9), why=(who,), reason="it was wanted"
            )
        )
        shown = (await client.get(f"/v1/intents/{found['id']}")).json()
        assert ("assigned", "watcher", 0.5) == (
            shown["intent"]["state"],
            shown["intent"]["assigned"][0]["persona_id"],
            shown["intent"]["considered"][0]["total"],
        )
        assert ["intent.submitted", "intent.routed"] == [event["type"] for event in shown["events"]]
        waiting = asyncio.create_task(client.get(f"/v1/intents/{found['id']}?wait_s=15"))
        by = {"swarm": "web", "persona": "watcher", "answer_id": "e-1", "confidence": 0.9, "text": "the\x1b[2Jdisk"}
        from shared.contracts.events import Contribution

        said = Contribution(**by)  # type: ignore[arg-type]
        await up.put(
            IntentAccepted(**home, by=said, route=1, answer="the disk"),
            IntentClosed(
                **home,
                outcome="answered",
                result="the\x1b[2Jdisk",
                confidence=0.9,
                contributors=(said,),
                reason="merged",
            ),
        )
        ended = (await waiting).json()["intent"]
        assert "answered" == ended["state"] and "\x1b" not in ended["result"] + ended["contributors"][0]["text"]
        assert [] == (await client.get("/v1/intents?state=open")).json()


async def test_an_intent_there_is_none_of_and_two_of_one_id() -> None:
    async with mesh() as up, up.client() as client:
        for path in ("/v1/intents/i-0", "/v1/intents/NONE..", "/v1/intents/core"):
            assert 404 == (await client.get(path)).status_code
        for swarm in ("web", "db"):
            await up.put(
                IntentSubmitted(swarm=swarm, persona="all", intent_id="i-1", goal="g", deadline=NOW, principal="a")
            )
        answer = await client.get("/v1/intents/i-1")
        assert (409, "intent_ambiguous") == (answer.status_code, answer.json()["reason"])
        assert "db" == (await client.get("/v1/intents/i-1?swarm=db")).json()["intent"]["swarm_id"]


async def test_events_of_the_family_are_the_ones_the_invariants_want() -> None:
    async with mesh() as up, up.client() as client:
        parent = await submitted(client, budget={"tokens": 1000})
        await submitted(client, parent_id=parent["id"], budget={"tokens": 300}, swarm_id=None)
        records = await up.log.read(("intent.>",))
        assert [IntentSubmitted, IntentSubmitted, IntentDelegated] == [type(r.event) for r in records]
        assert all(isinstance(r, Recorded) for r in records) and [] == await lives(up)
