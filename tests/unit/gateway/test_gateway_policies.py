"""Picking policies over HTTP: by whom, what is said of it, and what is no policy."""

from __future__ import annotations

from gateway_model import key, mesh

from services.gateway.settings import GatewaySettings
from shared.contracts.events import PolicyActivated, PolicyPicked
from shared.contracts.ids import EVERYONE
from shared.policy.bundle import found, names, read_folder, version_of
from shared.policy.picks import BOUNDARY

ALL = {"swarm": EVERYONE, "persona": EVERYONE}
REPORTS, OPERATOR = (version_of(read_folder(found(name))) for name in ("reports", "operator"))


async def test_what_is_picked_is_said_with_who_and_why_and_pending_until_a_gate_has_activated_it() -> None:
    async with mesh() as up, up.client() as client:
        await up.put(PolicyActivated(**ALL, digest=REPORTS, gate="policy_gate-1"))
        before = (await client.get("/v1/policies")).json()
        assert (REPORTS, "reports", "", None, None) == tuple(
            before[name] for name in ("version", "name", "principal", "picked", "shadow")
        )
        assert list(names()) == [one["name"] for one in before["policies"]] and [] == before["earlier"]
        headers = {"Idempotency-Key": "p1"}
        for _ in range(2):
            body = {"policy": "operator", "reason": "the night shift"}
            state = (await client.post("/v1/policies/activate", json=body, headers=headers)).json()
            assert ("operator", "local", "the night shift", True) == tuple(
                state["picked"][name] for name in ("policy", "principal", "reason", "pending")
            )
        await up.put(PolicyActivated(**ALL, digest=OPERATOR, gate="policy_gate-1", principal="local"))
        after = (await client.get("/v1/policies")).json()
        assert (OPERATOR, "operator", "local", [REPORTS]) == tuple(
            after[name] for name in ("version", "name", "principal", "earlier")
        )
        assert not after["picked"]["pending"]
        assert 200 == (await client.post("/v1/policies/activate", json={"policy": REPORTS})).status_code, (
            "an earlier one"
        )
        shadow = (await client.post("/v1/policies/shadow", json={"policy": "developer"})).json()["shadow"]
        assert "developer" == shadow["policy"]
        assert None is (await client.post("/v1/policies/shadow", json={})).json()["shadow"]
        said = [r.event for r in await up.log.read((BOUNDARY,))]
        assert [("active", "operator"), ("active", REPORTS), ("shadow", "developer"), ("shadow", "")] == [
            (event.mode, event.which) for event in said if isinstance(event, PolicyPicked)
        ]


async def test_only_who_may_do_everything_picks_and_what_is_no_policy_is_refused() -> None:
    keys = (key("r", "rob", "read"), key("a", "ann", "approve"), key("m", "mia", "admin"))
    async with mesh(GatewaySettings(keys=keys)) as up:
        for token, status in (("r", 403), ("a", 403), ("m", 200)):
            async with up.client(token) as client:
                for what in ("activate", "shadow"):
                    assert (
                        status == (await client.post(f"/v1/policies/{what}", json={"policy": "operator"})).status_code
                    )
                assert (200 if token != "a" else 403) == (await client.get("/v1/policies")).status_code
        async with up.client("m") as client:
            for what, wrong in (("activate", "nobody"), ("shadow", "f" * 64)):
                refused = await client.post(f"/v1/policies/{what}", json={"policy": wrong})
                assert (404, "unknown_policy") == (refused.status_code, refused.json()["reason"])
        assert {"mia"} == {r.event.principal for r in await up.log.read((BOUNDARY,))}  # type: ignore[union-attr]
