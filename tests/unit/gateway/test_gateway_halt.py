"""Halting and resuming over HTTP: once, by whom, and what is shown of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from gateway_model import Mesh, asked, authorized, claimed, created, executed, key, mesh, verified

from services.gateway.settings import GatewaySettings
from shared.contracts.events import LostAction, MeshHalted, MeshResumed
from shared.contracts.ids import EVERYONE, utc_now
from shared.halts import BOUNDARY

ALL = {"swarm": EVERYONE, "persona": EVERYONE}


@pytest.fixture
async def up() -> AsyncIterator[Mesh]:
    async with mesh() as found:
        yield found


async def said(up: Mesh) -> list[type]:
    return [type(r.event) for r in await up.log.read((BOUNDARY,))]


async def test_halting_and_resuming_are_said_once_with_who_and_why(up: Mesh) -> None:
    async with up.client() as client:
        before = (await client.get("/v1/halt")).json()
        first = (await client.post("/v1/halt", json={"reason": "the disk looks odd"})).json()
        again = (await client.post("/v1/halt", json={"reason": "me too"})).json()
        assert (False, None) == (before["halted"], before["since"])
        assert (True, "person", "the disk looks odd", "local") == tuple(
            first[name] for name in ("halted", "cause", "reason", "principal")
        )
        assert first == again == (await client.get("/v1/halt")).json()
        for _ in range(2):
            assert not (await client.post("/v1/resume")).json()["halted"]
    assert [MeshHalted, MeshResumed] == await said(up)


async def test_of_many_at_once_one_halts(up: Mesh) -> None:
    async with up.client() as client:
        answers = await asyncio.gather(*(client.post("/v1/halt", json={"reason": str(n)}) for n in range(5)))
    assert {200} == {answer.status_code for answer in answers}
    assert [MeshHalted] == await said(up)


async def test_the_same_key_is_the_same_halt_also_after_a_resume(up: Mesh) -> None:
    async with up.client() as client:
        headers = {"Idempotency-Key": "h1"}
        await client.post("/v1/halt", json={"reason": "x"}, headers=headers)
        await client.post("/v1/resume")
        assert not (await client.post("/v1/halt", json={"reason": "x"}, headers=headers)).json()["halted"]
    assert [MeshHalted, MeshResumed] == await said(up)


async def test_a_halt_nobody_has_looked_at_is_not_resumed(up: Mesh) -> None:
    async with up.client() as client:
        seen = (await client.post("/v1/halt")).json()["seq"]
        await up.put(MeshHalted(**ALL, cause="log_went_back"))
        refused = await client.post("/v1/resume", json={"seq": seen})
        assert (409, "halted_anew") == (refused.status_code, refused.json()["reason"])
        assert (await client.get("/v1/halt")).json()["halted"]
        now = (await client.get("/v1/halt")).json()["seq"]
        assert 200 == (await client.post("/v1/resume", json={"seq": now})).status_code


async def test_what_is_void_or_unknown_since_the_log_went_back_is_listed_until_somebody_has_resumed(up: Mesh) -> None:
    free, people, taken, done, fresh = (created(name) for name in ("free", "people", "taken", "done", "fresh"))
    await up.put(free, verified(free, "low"), authorized(free), people, verified(people), asked(people))
    await up.put(taken, verified(taken, "low"), authorized(taken), claimed(taken))
    await up.put(done, verified(done, "low"), authorized(done), claimed(done), executed(done))
    whose = {"swarm": free.swarm, "persona": free.persona, "digest": "0" * 64, "claimed_at": utc_now()}
    lost = (LostAction(**whose, proposal_id="gone"), LostAction(**whose, proposal_id="people", known=True))
    await up.put(MeshHalted(**ALL, cause="log_went_back", reached=99, lost=lost, lost_total=2))
    await up.put(fresh, verified(fresh, "low"), authorized(fresh))
    async with up.client() as client:
        state = (await client.get("/v1/halt")).json()
        assert state["epoch"] == state["seq"] > 0
        assert [("free", "authorization"), ("people", "approval")] == [
            (held["proposal_id"], held["what"]) for held in state["void"]
        ]
        unknown = {held["proposal_id"]: (held["in_log"], held["what"]) for held in state["unknown"]}
        assert {"gone": (False, "claim"), "people": (True, "claim"), "taken": (True, "claim")} == unknown
        assert (2, 3) == (state["void_total"], state["unknown_total"])
        after = (await client.post("/v1/resume", json={"seq": state["seq"]})).json()
    assert ["taken"] == [held["proposal_id"] for held in after["unknown"]]


async def test_nobody_approves_what_was_asked_before_the_log_went_back_and_anybody_may_deny_it(up: Mesh) -> None:
    people = created("people")
    await up.put(people, verified(people), asked(people), MeshHalted(**ALL, cause="log_went_back"))
    async with up.client() as client:
        refused = await client.post("/v1/approvals/people", json={"decision": "grant", "digest": people.digest})
        assert (409, "void_after_rollback") == (refused.status_code, refused.json()["reason"])
        denied = await client.post("/v1/approvals/people", json={"decision": "deny", "digest": people.digest})
        assert 200 == denied.status_code


async def test_who_may_control_halts_and_only_who_may_approve_resumes() -> None:
    keys = (key("c", "carl", "control"), key("a", "ann", "approve"), key("r", "rob", "read"))
    async with mesh(GatewaySettings(keys=keys)) as up:
        async with up.client("r") as reader:
            assert 403 == (await reader.post("/v1/halt")).status_code
            assert 200 == (await reader.get("/v1/halt")).status_code
        async with up.client("c") as controller:
            assert 200 == (await controller.post("/v1/halt")).status_code
            assert 403 == (await controller.post("/v1/resume")).status_code
        async with up.client("a") as approver:
            assert 200 == (await approver.post("/v1/resume", json={"reason": "seen"})).status_code
            assert 403 == (await approver.post("/v1/halt")).status_code
        assert ["carl", "ann"] == [r.event.principal for r in await up.log.read((BOUNDARY,))]  # type: ignore[union-attr]


async def test_it_is_halted_while_the_file_or_the_log_says_so_and_a_resume_leaves_the_file(tmp_path: Path) -> None:
    switch = tmp_path / "STOP"
    async with mesh(GatewaySettings(kill_switch=switch)) as up, up.client() as client:
        for by_file, by_log in (
            (True, False),
            (True, True),
            (False, True),
            (True, True),
            (True, False),
            (False, False),
        ):
            switch.touch() if by_file else switch.unlink(missing_ok=True)
            asked = await client.post("/v1/halt" if by_log else "/v1/resume", json={"reason": "a look"})
            for state in (asked.json(), (await client.get("/v1/halt")).json()):
                assert (by_file or by_log, by_file) == (state["halted"], state["kill_switch"])
                cause = "person" if by_log else "kill_switch" if by_file else None
                assert (cause, bool(state["seq"])) == (state["cause"], by_log)
                assert (str(switch) in state["reason"]) == (by_file and not by_log)
        assert [MeshHalted, MeshResumed] == await said(up)


async def test_nothing_is_answered_from_a_log_that_is_no_more(up: Mesh) -> None:
    async with up.client() as client:
        assert 200 == (await client.get("/v1/swarm/personas")).status_code
        up.gateway.another = lambda: "it ends at 3, and had reached 5"
        refused = await client.get("/v1/swarm/personas")
        assert (503, "catching_up") == (refused.status_code, refused.json()["reason"])
        assert 200 == (await client.get("/health")).status_code


async def test_halts_outlive_the_gateway_in_its_checkpoint(up: Mesh) -> None:
    await up.put(MeshHalted(**ALL, cause="log_went_back", reason="it ends at 3"))
    from services.gateway.projections.projection import Projection

    again = Projection()
    again.restore(up.gateway.projection.capture())
    assert up.gateway.projection.halts == again.halts and again.halts.halt is not None
