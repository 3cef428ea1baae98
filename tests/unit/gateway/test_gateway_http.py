"""The control API over HTTP, against a real server over the in-memory log: shapes, defaults, errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest
from gateway_model import Mesh, asked, authorized, claimed, created, executed, mesh, spawned, thought, verified

from services.gateway.projections.projection import Projection
from services.gateway.service import gateway_settings
from services.gateway.settings import GatewaySettings
from services.gateway.wire.ids import GIVEN_PATTERN
from shared.contracts.events import (
    ApprovalGranted,
    BeliefAsserted,
    BudgetGranted,
    BudgetLimited,
    CheckResult,
    Credits,
    ObservationRecorded,
    PersonaReaped,
    PolicyActivated,
    SnapshotCompressed,
    SnapshotCounts,
    SpawnRequested,
)
from shared.contracts.ids import utc_now
from shared.metrics.table import HTTP_REQUESTS
from shared.settings import Approval, Settings

STATUS = {
    "enabled", "running", "loop_interval_ms", "started_at", "last_tick_at", "persona_count", "active_persona_count",
    "events_buffered", "snapshots_buffered",
}  # fmt: skip
RUNTIME_STATE = {
    "identity", "policy", "status", "thought_count", "last_tick_at", "updated_at", "tokens_this_window",
    "compute_ms_this_window", "window_started_at", "last_progress_at", "budget_paused",
}  # fmt: skip
IDENTITY = {"id", "name", "role", "charter", "swarm_id", "parent_id", "depth", "created_at", "tags"}
POLICY = {
    "max_spawn_depth": 4, "max_branching_factor": 4, "token_budget_per_minute": 20000, "compute_ms_per_minute": 10000,
    "idle_ttl_secs": 3600, "share_memory": False, "allowed_tools": [], "capabilities": None,
}  # fmt: skip
SNAPSHOT = {
    "id", "generated_at", "swarm_id", "persona_scope", "summary", "hot_event_count", "warm_fact_count",
    "cold_snapshot_count", "metadata",
}  # fmt: skip
PROPOSAL = {
    "id", "persona_id", "title", "rationale", "evidence_refs", "risk", "status", "created_at", "votes", "vote_deadline",
    "votes_requested", "quorum_needed",
}  # fmt: skip
BELIEF = {
    "id", "belief_key", "claim", "confidence", "evidence_refs", "asserted_by", "confirmed_by", "contested_by",
    "contradicts", "created_at", "updated_at", "review_after", "status",
}  # fmt: skip
ATTENTION = {
    "id", "topic", "topic_tags", "priority", "source_type", "source_id", "assigned_persona", "created_at", "resolved_at",
}  # fmt: skip
RECEIPT = {
    "id", "proposal_id", "inputs", "governance_decision", "capability_leases", "tool_invocations", "outcome", "created_at",
}  # fmt: skip
INVOCATION = {"tool_name", "arguments", "result", "success", "lease_id", "invoked_at"}
WORKSPACE = {"top_beliefs", "top_uncertainties", "top_attention", "active_objectives", "updated_at"}
ROOT = {"persona_id": "root", "name": "Root", "role": "architect", "charter": "watch", "swarm_id": "alpha"}
CHILD = {"persona_id": "kid", "name": "Kid", "role": "reviewer", "charter": "review"}


@pytest.fixture
async def up() -> AsyncIterator[Mesh]:
    async with mesh(GatewaySettings(outcome_timeout_s=2.0)) as found:
        yield found


@pytest.fixture
async def api(up: Mesh) -> AsyncIterator[httpx.AsyncClient]:
    async with up.client() as client:
        yield client


def problem(answer: httpx.Response, status: int) -> dict[str, object]:
    """The problem details, checked for what every error has."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, object] = answer.json()
    assert {"type", "title", "status", "detail"} <= set(body)
    assert body["status"] == status
    return body


async def test_a_created_persona_has_the_contracts_shape_and_defaults(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/swarm/personas", json={**ROOT, "unknown": 1})
    state = answer.json()
    assert answer.status_code == 200
    assert set(state) == RUNTIME_STATE
    assert set(state["identity"]) == IDENTITY
    assert state["policy"] == POLICY
    assert (state["status"], state["thought_count"], state["last_tick_at"]) == ("active", 0, None)
    assert state["identity"]["parent_id"] is None
    assert state["updated_at"].endswith("Z")
    assert state == (await api.get("/v1/cognition/personas/root")).json()
    assert [p["identity"]["id"] for p in (await api.get("/v1/swarm/personas")).json()] == ["root"]


async def test_a_persona_without_an_id_is_given_one_in_the_default_swarm(api: httpx.AsyncClient) -> None:
    state = (
        await api.post("/v1/swarm/personas", json={"name": "n", "role": "r", "charter": "c", "persona_id": None})
    ).json()
    assert state["identity"]["swarm_id"] == "swarm-core"
    assert state["identity"]["id"].startswith("persona-")


async def test_a_child_lives_in_its_parents_swarm_under_a_clamped_policy(api: httpx.AsyncClient) -> None:
    await api.post("/v1/swarm/personas", json=ROOT)
    wide = {"max_spawn_depth": 40, "token_budget_per_minute": 5}
    state = (await api.post("/v1/swarm/personas/root/spawn", json={**CHILD, "swarm_id": None, "policy": wide})).json()
    assert (state["identity"]["swarm_id"], state["identity"]["depth"]) == ("alpha", 1)
    assert state["policy"] == {**POLICY, "token_budget_per_minute": 5}
    lineage = (await api.get("/v1/swarm/lineage")).json()
    assert lineage == {
        "nodes": [
            {"persona_id": "kid", "parent_id": "root", "children": [], "depth": 1, "status": "active"},
            {"persona_id": "root", "parent_id": None, "children": ["kid"], "depth": 0, "status": "active"},
        ],
        "roots": ["root"],
        "total_edges": 1,
    }


async def test_what_cannot_be_spawned_is_refused_in_the_callers_words(up: Mesh, api: httpx.AsyncClient) -> None:
    await api.post("/v1/swarm/personas", json=ROOT)
    assert problem(await api.post("/v1/swarm/personas", json=ROOT), 409)["reason"] == "duplicate_id"
    problem(await api.post("/v1/swarm/personas", json={**ROOT, "swarm_id": "other"}), 409)
    problem(await api.post("/v1/swarm/personas/none/spawn", json=CHILD), 404)
    problem(await api.post("/v1/swarm/personas", json={**ROOT, "persona_id": "x", "parent_id": "none"}), 404)
    await api.post("/v1/swarm/personas", json={**ROOT, "persona_id": "b", "swarm_id": "beta"})
    refused = problem(await api.post("/v1/swarm/personas/root/spawn", json={**CHILD, "swarm_id": "beta"}), 422)
    assert "other_swarm" == refused["reason"] and "'beta' has or had personas" in str(refused["detail"])
    for reason, status in (("branching_limit", 400), ("no_budget", 400), ("swarm_limit", 400), ("parent_missing", 404)):
        up.governor.refuse = reason
        assert (
            problem(await api.post("/v1/swarm/personas/root/spawn", json={**CHILD, "persona_id": None}), status)[
                "reason"
            ]
            == reason
        )
    up.governor.refuse = None
    await api.post("/v1/swarm/personas/root/reap")
    problem(await api.post("/v1/swarm/personas/root/spawn", json=CHILD), 409)


@pytest.mark.parametrize(
    "body",
    [
        {**ROOT, "persona_id": "Not A Token"},
        {**ROOT, "persona_id": "newline\n"},
        {**ROOT, "swarm_id": "a.b"},
        {**ROOT, "name": None},
        {**ROOT, "policy": {"max_spawn_depth": -1}},
        {"name": "n", "role": "r"},
        [],
        None,
    ],
)
async def test_a_body_that_does_not_match_is_422(api: httpx.AsyncClient, body: object) -> None:
    problem(await api.post("/v1/swarm/personas", json=body), 422)


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"policy": {"share_memory": "true"}}, "policy.share_memory"),
        ({"policy": {"max_spawn_depth": "4"}}, "policy.max_spawn_depth"),
        ({"policy": "null"}, "policy"),
        ({"tags": [1]}, "tags[0]"),
    ],
)
async def test_a_body_is_not_made_to_fit(api: httpx.AsyncClient, wrong: dict[str, object], where: str) -> None:
    said = problem(await api.post("/v1/swarm/personas", json={**ROOT, **wrong}), 422)
    assert [e["field"] for e in said["errors"]] == [where]  # type: ignore[attr-defined]


async def test_the_word_null_is_no_limit_and_a_huge_one_is_the_highest(api: httpx.AsyncClient) -> None:
    for wrong in ("null", "0", "-1", "1.5", "x", "%D9%A3"):
        assert problem(await api.get(f"/v1/audit?limit={wrong}"), 422)["reason"] == "bad_limit"
    assert (await api.get(f"/v1/audit?limit={'9' * 5000}")).status_code == 200


async def test_an_id_that_is_no_token_names_the_pattern(api: httpx.AsyncClient) -> None:
    said = problem(await api.post("/v1/swarm/personas", json={**ROOT, "swarm_id": "A B"}), 422)
    assert GIVEN_PATTERN.partition("$")[0] in str(said["detail"])
    said = problem(await api.post("/v1/swarm/A B/observations", json={"text": "t"}), 422)
    assert GIVEN_PATTERN.partition("$")[0] in str(said["detail"])


@pytest.mark.parametrize("body", [b"{bad", b"\xff\xfe", b'{"name": "\xff"}', b"[" * 200_000, b'{"name": "\\ud800"}'])
async def test_garbage_is_a_client_error(api: httpx.AsyncClient, body: bytes) -> None:
    problem(await api.post("/v1/swarm/personas", content=body, headers={"content-type": "application/json"}), 422)


async def test_a_silent_governor_is_503_and_says_the_command_stands() -> None:
    async with mesh(GatewaySettings(outcome_timeout_s=0.05)) as up, up.client() as api:
        up.governor.silent = True
        answer = await api.post("/v1/swarm/personas", json=ROOT)
        assert "may still take effect" in str(problem(answer, 503)["detail"])
        assert answer.headers["retry-after"] == "1"


async def test_reap_answers_who_drains_and_only_once(api: httpx.AsyncClient) -> None:
    await api.post("/v1/swarm/personas", json=ROOT)
    await api.post("/v1/swarm/personas/root/spawn", json=CHILD)
    await api.post("/v1/swarm/personas/kid/spawn", json={**CHILD, "persona_id": "grandkid"})
    problem(await api.post("/v1/swarm/personas/none/reap"), 404)
    one = await api.post("/v1/swarm/personas/grandkid/reap", content=b"")
    assert one.json() == {"reaped_ids": ["grandkid"], "count": 1}
    rest = await api.post("/v1/swarm/personas/root/reap", json={"cascade": True, "reason": "resource_budget_reclaim"})
    assert rest.json()["reaped_ids"][:2] == ["root", "kid"]
    problem(await api.post("/v1/swarm/personas/root/reap"), 409)
    assert (await api.get("/v1/cognition/personas/root")).json()["status"] == "draining"


async def test_a_cascade_of_several_commits_is_answered_when_all_drain() -> None:
    async with mesh(GatewaySettings(outcome_timeout_s=30)) as up, up.client() as api:
        await api.post("/v1/swarm/personas", json=ROOT)
        await api.post("/v1/swarm/personas/root/spawn", json=CHILD)
        up.governor.reaps_at_once = 1
        asyncio.get_running_loop().call_later(0.6, up.governor.rest_follows.set)
        answer = await api.post("/v1/swarm/personas/root/reap", json={"cascade": True})
        assert answer.json() == {"reaped_ids": ["root", "kid"], "count": 2}


async def test_a_cascade_that_is_not_done_in_time_says_that_it_goes_on_and_where_to_look() -> None:
    async with mesh(GatewaySettings(outcome_timeout_s=0.3)) as up, up.client() as api:
        await api.post("/v1/swarm/personas", json=ROOT)
        await api.post("/v1/swarm/personas/root/spawn", json=CHILD)
        up.governor.reaps_at_once = 1
        answer = await api.post("/v1/swarm/personas/root/reap", json={"cascade": True})
        assert answer.json() == {"reaped_ids": ["root"], "count": 1, "remaining": 1, "look_at": "/v1/swarm/lineage"}
        assert (await api.get(answer.json()["look_at"])).json()["nodes"][0]["status"] == "active"


async def test_an_idle_time_that_nobody_set_is_told_from_one_that_was_and_is_shown_as_an_hour(
    up: Mesh, api: httpx.AsyncClient
) -> None:
    policies: tuple[dict[str, object] | None, ...] = (
        None,
        {"max_spawn_depth": 2},
        {"idle_ttl_secs": None},
        {"idle_ttl_secs": 3600},
        {"idle_ttl_secs": 0},
    )
    shown = []
    for i, policy in enumerate(policies):
        made = await api.post("/v1/swarm/personas", json={**ROOT, "persona_id": f"r{i}", "policy": policy})
        shown.append(made.json()["policy"]["idle_ttl_secs"])
    assert shown == [3600, 3600, 3600, 3600, 0]
    asked = [r.event for r in await up.log.read(("spawn.requested.*.*",))]
    assert [e.hibernate for e in asked if isinstance(e, SpawnRequested)] == [False, True, True, False, False]
    problem(await api.post("/v1/swarm/personas", json={**ROOT, "policy": {"idle_ttl_secs": -1}}), 422)


async def test_null_where_there_is_a_default_is_the_default(up: Mesh, api: httpx.AsyncClient) -> None:
    made = await api.post("/v1/swarm/personas", json={**ROOT, "parent_id": None, "policy": None, "tags": None})
    assert made.json()["identity"]["tags"] == []
    reaped = await api.post("/v1/swarm/personas/root/reap", json={"cascade": None, "reason": None})
    assert reaped.json() == {"reaped_ids": ["root"], "count": 1}
    (asked_for,) = await up.log.read(("reap.requested.*.*",))
    assert (asked_for.event.cascade, asked_for.event.reason) == (False, "manual_reap")  # type: ignore[union-attr]
    nulls = {"source": None, "tags": None, "persona": None, "observed_at": None}
    for body in ({"text": "t", "observations": None, **nulls}, {"observations": [{"text": "t", **nulls}]}):
        seen = (await api.post("/v1/swarm/alpha/observations", json=body)).json()
        stored = await up.log.get(seen["sequences"][0])
        assert stored is not None
        assert stored.event == ObservationRecorded(
            swarm="alpha", persona="all", text="t", source="api", principal="local"
        )
    c = created("p-1")
    await up.put(c, verified(c), asked(c))
    word = {"decision": "deny", "digest": c.digest, "reason": None}
    assert (await api.post("/v1/approvals/p-1", json=word)).status_code == 200


async def test_a_reaped_parent_is_shown_and_refuses_children(up: Mesh, api: httpx.AsyncClient) -> None:
    await api.post("/v1/swarm/personas", json=ROOT)
    await api.post("/v1/swarm/personas/root/reap")
    await up.put(PersonaReaped(swarm="alpha", persona="root", reason="manual_reap"))
    assert (await api.get("/v1/swarm/lineage")).json()["nodes"][0]["status"] == "reaped"
    problem(await api.post("/v1/swarm/personas/root/spawn", json=CHILD), 409)
    problem(await api.post("/v1/swarm/personas/root/reap"), 409)


async def test_the_loop_stands_until_started_and_a_start_seeds_only_an_empty_mesh(api: httpx.AsyncClient) -> None:
    before = (await api.get("/v1/cognition/status")).json()
    assert set(before) == STATUS
    assert (before["running"], before["started_at"], before["loop_interval_ms"]) == (False, None, 2000)
    started = (await api.post("/v1/cognition/start")).json()
    assert (started["running"], started["persona_count"], started["active_persona_count"]) == (True, 1, 1)
    seed = (await api.get("/v1/cognition/personas/root-thinker")).json()["identity"]
    assert (seed["name"], seed["role"], seed["swarm_id"]) == ("root-thinker", "orchestrator", "swarm-core")
    again = (await api.post("/v1/cognition/start", json={"loop_interval_ms": 5})).json()
    assert (again["started_at"], again["loop_interval_ms"]) == (started["started_at"], 2000)
    stopped = (await api.post("/v1/cognition/stop", json={"reason": None})).json()
    assert stopped["running"] is False
    assert (await api.post("/v1/cognition/stop")).json()["running"] is False
    clamped = (await api.post("/v1/cognition/start", json={"loop_interval_ms": 5, "seed_persona": ROOT})).json()
    assert (clamped["loop_interval_ms"], clamped["persona_count"]) == (100, 1)


async def test_a_given_seed_is_used_and_two_starts_at_once_are_one(up: Mesh, api: httpx.AsyncClient) -> None:
    seed = {"name": "root-orchestrator", "role": "orchestrator", "charter": "Monitor", "swarm_id": "swarm-alpha"}
    body = {"loop_interval_ms": 750, "seed_persona": {**seed, "persona_id": "seed"}}
    answers = await asyncio.gather(*(api.post("/v1/cognition/start", json=body) for _ in range(4)))
    assert [a.status_code for a in answers] == [200] * 4
    assert len({a.json()["started_at"] for a in answers}) == 1
    assert len(await up.log.read(("cognition.started.all.all",))) == 1
    assert (await api.get("/v1/cognition/personas/seed")).json()["identity"]["swarm_id"] == "swarm-alpha"


async def test_a_start_is_400_where_cognition_is_disabled() -> None:
    async with mesh(GatewaySettings(cognition_enabled=False)) as up, up.client() as api:
        problem(await api.post("/v1/cognition/start"), 400)
        assert (await api.get("/v1/cognition/status")).json()["enabled"] is False


async def test_thoughts_show_in_the_personas_state(up: Mesh, api: httpx.AsyncClient) -> None:
    await api.post("/v1/swarm/personas", json=ROOT)
    await up.put(*(thought("root", n, swarm="alpha") for n in (1, 2)))
    state = (await api.get("/v1/cognition/personas/root")).json()
    assert state["thought_count"] == 2
    assert (await api.get("/v1/cognition/status")).json()["last_tick_at"] is not None


async def test_snapshots_latest_is_404_then_the_newest(up: Mesh, api: httpx.AsyncClient) -> None:
    assert problem(await api.get("/v1/cognition/snapshots/latest"), 404)["detail"] == "No snapshots available"
    await api.post("/v1/swarm/personas", json=ROOT)
    await up.put(
        SnapshotCompressed(
            swarm="alpha", persona="root", snapshot_id="snap", key="k", sha256="ab" * 32, seq=3, summary="calm",
            counts=SnapshotCounts(thoughts=8, kept=3), metadata={"phase": "compress", "completion_tokens": "120"},
        )
    )  # fmt: skip
    snapshot = (await api.get("/v1/cognition/snapshots/latest")).json()
    assert set(snapshot) == SNAPSHOT
    assert (snapshot["hot_event_count"], snapshot["warm_fact_count"], snapshot["cold_snapshot_count"]) == (8, 3, 1)
    assert snapshot["metadata"]["completion_tokens"] == 120


async def test_a_proposal_is_listed_approved_and_leaves_a_receipt(up: Mesh, api: httpx.AsyncClient) -> None:
    c = created("p-1")
    await up.put(c)
    (listed,) = (await api.get("/v1/cognition/proposals")).json()
    assert set(listed) == PROPOSAL
    assert (listed["status"], listed["risk"], listed["votes_requested"], listed["votes"]) == (
        "created",
        "medium",
        False,
        {},
    )
    problem(await api.post("/v1/cognition/proposals/p-1/approve"), 409)
    problem(await api.post("/v1/cognition/proposals/none/approve"), 404)
    problem(await api.post("/v1/cognition/proposals/Bad%20Id/approve"), 404)
    await up.put(verified(c), asked(c))
    assert (await api.post("/v1/cognition/proposals/p-1/approve")).json() == {"approved": True, "proposal_id": "p-1"}
    (listed,) = (await api.get("/v1/cognition/proposals")).json()
    assert (listed["status"], listed["risk"], listed["votes"]) == ("verified", "high", {"local": "approve"})
    problem(await api.post("/v1/cognition/proposals/p-1/approve"), 409)
    await up.put(authorized(c), claimed(c), executed(c))
    (receipt,) = (await api.get("/v1/cognition/receipts")).json()
    assert set(receipt) == RECEIPT
    assert set(receipt["tool_invocations"][0]) == INVOCATION
    assert receipt["outcome"] == {"type": "success", "summary": "wrote 5 bytes"}
    life = (await api.get("/v1/proposals/p-1")).json()
    assert [e["type"] for e in life["events"]] == [
        "proposal.created", "proposal.verified", "approval.requested", "approval.granted", "proposal.authorized",
        "action.claimed", "action.executed",
    ]  # fmt: skip
    assert life["policy_ids"] == ["allow"]
    assert life["events"][3]["causation_id"] == life["events"][2]["id"]
    assert life["events"][3]["correlation_id"] == life["events"][2]["correlation_id"]


async def test_a_failed_action_asks_for_attention(up: Mesh, api: httpx.AsyncClient) -> None:
    c = created("p-1")
    await up.put(c, executed(c, "unknown"))
    await up.put(CheckResult(swarm="s", persona="p", check_id="c", hypothesis_id="h", outcome="refuted", findings="no"))
    items = (await api.get("/v1/cognition/attention")).json()
    assert [i["source_type"] for i in items] == ["failed_execution", "failed_check"]
    assert set(items[0]) == ATTENTION
    outcome = (await api.get("/v1/cognition/receipts")).json()[0]["outcome"]
    assert outcome == {"type": "failure", "error": "unknown: disk_full", "follow_up_attention": items[0]["id"]}
    workspace = (await api.get("/v1/cognition/workspace")).json()
    assert set(workspace) == WORKSPACE
    assert workspace["top_attention"] == [i["id"] for i in items]


async def test_beliefs_are_folded_and_filtered(up: Mesh, api: httpx.AsyncClient) -> None:
    assert (await api.get("/v1/cognition/beliefs")).json() == []
    for name, confidence in (("a", 0.2), ("b", 0.9)):
        await up.put(
            BeliefAsserted(
                swarm="s",
                persona=name,
                by=name,
                key_id="k",
                belief_id=name,
                belief_key=name,
                claim="c",
                confidence=confidence,
                valid_from=utc_now(),
                review_after=utc_now(),
            )
        )
    found = (await api.get("/v1/cognition/beliefs")).json()
    assert [b["id"] for b in found] == ["b", "a"]
    assert set(found[0]) == BELIEF
    assert [b["id"] for b in (await api.get("/v1/cognition/beliefs?status=active&persona=a")).json()] == ["a"]
    assert (await api.get("/v1/cognition/beliefs/a")).json()["confidence"] == 0.2
    problem(await api.get("/v1/cognition/beliefs/none"), 404)
    assert (await api.get("/v1/cognition/beliefs?status=odd")).json() == []
    assert [b["id"] for b in (await api.get("/v1/cognition/beliefs?status=act&persona=a")).json()] == ["a"]


async def test_governance_is_what_the_gate_goes_by() -> None:
    settings = gateway_settings(Settings(approval=Approval(ttl_s=120, four_eyes=False)))
    async with mesh(settings) as up, up.client() as client:
        assert (await client.get("/v1/cognition/governance")).json() == {
            "quorum_fraction": 0.0, "required_approvers_by_role": {}, "veto_roles": ["approve"],
            "vote_timeout_secs": 120, "quorum_by_risk": {"low": 1, "medium": 1, "high": 1, "critical": 2},
            "four_eyes": False, "policy_version": None,
        }  # fmt: skip
        for mode, version in (("active", "ab" * 32), ("shadow", "cd" * 32)):
            await up.put(PolicyActivated(swarm="all", persona="all", digest=version, mode=mode, gate="policy_gate-1"))
        assert (await client.get("/v1/cognition/governance")).json()["policy_version"] == "ab" * 32
        restored = Projection()
        restored.restore(up.gateway.projection.capture())
        assert restored.policies == up.gateway.projection.policies


async def test_a_workspace_of_nothing_was_never_updated(up: Mesh, api: httpx.AsyncClient) -> None:
    assert (await api.get("/v1/cognition/workspace")).json()["updated_at"] is None
    await up.put(thought("p", 1))
    assert (await api.get("/v1/cognition/workspace")).json()["updated_at"] is not None


async def test_the_audit_is_newest_first_bounded_and_by_category(up: Mesh, api: httpx.AsyncClient) -> None:
    await api.post("/v1/swarm/personas", json=ROOT)
    await up.put(*(thought("root", n, swarm="alpha") for n in range(1, 4)))
    entries = (await api.get("/v1/audit")).json()
    assert [e["action"] for e in entries] == ["thought.generated"] * 3 + ["persona.spawned", "spawn.requested"]
    assert entries[-1]["principal"] == "local"
    assert len((await api.get("/v1/audit?limit=2&category=thought")).json()) == 2
    assert (await api.get("/v1/audit?limit=5000&category=proposal")).json() == []
    problem(await api.get("/v1/audit?category=nonsense"), 400)
    problem(await api.get("/v1/audit?limit=x"), 422)
    problem(await api.get("/v1/audit?limit=0"), 422)


async def test_observations_are_stored_all_or_none_and_answer_their_sequences(up: Mesh, api: httpx.AsyncClient) -> None:
    body = {"observations": [{"text": f"line {n}", "source": "syslog", "tags": ["x"]} for n in range(3)]}
    answer = (await api.post("/v1/swarm/alpha/observations", json=body)).json()
    assert answer["sequences"] == [1, 2, 3]
    stored = await up.log.read(("observation.recorded.alpha.all",))
    assert [(r.id, r.event.text) for r in stored] == [(i, f"line {n}") for n, i in enumerate(answer["ids"])]
    assert stored[0].event.principal == "local"
    one = await api.post("/v1/swarm/alpha/observations", json={"text": "t", "observed_at": "2026-01-01T01:00:00+01:00"})
    assert one.json()["sequences"] == [4]
    problem(await api.post("/v1/swarm/alpha/observations", json={}), 422)
    problem(await api.post("/v1/swarm/alpha/observations", json={"text": "t", "observations": [{"text": "u"}]}), 422)
    problem(
        await api.post("/v1/swarm/alpha/observations", json={"text": "t", "observed_at": "0001-01-01T00:00:00+14:00"}),
        422,
    )
    problem(await api.post("/v1/swarm/alpha/observations", json={"observations": [{"text": "t"}] * 1001}), 422)
    problem(await api.post("/v1/swarm/alpha/observations", json={"observations": [{"text": "t"}, {"text": ""}]}), 422)
    assert len(await up.log.read(("observation.recorded.*.*",))) == 4


async def test_recall_asks_the_personas_memory(api: httpx.AsyncClient) -> None:
    await api.post("/v1/swarm/personas", json=ROOT)
    answer = (await api.get("/v1/swarm/personas/root/memory", params={"q": "what broke"})).json()
    assert (answer["persona_id"], answer["seq"], answer["memories"][0]["text"]) == ("root", 7, "what broke")
    crowded = await api.get("/v1/swarm/personas/root/memory?q=crowd")
    assert ("too_many_waiting", "5") == (problem(crowded, 429)["reason"], crowded.headers["retry-after"])
    problem(await api.get("/v1/swarm/personas/none/memory?q=x"), 404)
    problem(await api.get("/v1/swarm/personas/root/memory"), 422)
    problem(await api.get("/v1/swarm/personas/root/memory?q="), 422)


async def test_an_approval_is_bound_to_its_digest_and_given_once(up: Mesh, api: httpx.AsyncClient) -> None:
    c = created("p-1")
    await up.put(c, verified(c), asked(c, quorum=2))
    (waiting,) = (await api.get("/v1/approvals")).json()
    assert (waiting["digest"], waiting["quorum"], waiting["state"]) == (c.digest, 2, "pending")
    wrong = {"decision": "grant", "digest": "00" * 32}
    assert problem(await api.post("/v1/approvals/p-1", json=wrong), 409)["reason"] == "digest_mismatch"
    problem(await api.post("/v1/approvals/none", json=wrong), 404)
    problem(await api.post("/v1/approvals/p-1", json={"decision": "grant"}), 422)
    right = {"decision": "grant", "digest": c.digest, "reason": "looks right"}
    answers = await asyncio.gather(*(api.post("/v1/approvals/p-1", json=right) for _ in range(3)))
    assert sorted(a.status_code for a in answers) == [200, 409, 409]
    assert len(await up.log.read(("approval.granted.*.*.*",))) == 1
    granted = next(a.json() for a in answers if a.status_code == 200)
    assert granted["approval"]["granted_by"] == ["local"]
    yes = ApprovalGranted(
        swarm="s",
        persona="p",
        proposal_id="p-1",
        digest=c.digest,
        request_id=granted["approval"]["request_id"],
        principal="bo",
    )
    await up.put(msgspec.structs.replace(yes, request_id="another"))
    assert (await api.get("/v1/approvals")).json()[0]["granted_by"] == ["local"]
    await up.put(yes)
    assert (await api.get("/v1/approvals")).json() == []
    assert (await api.get("/v1/approvals?state=granted")).json()[0]["granted_by"] == ["local", "bo"]


async def test_an_id_that_means_several_proposals_is_409_with_the_candidates_until_it_is_said_which(
    up: Mesh, api: httpx.AsyncClient
) -> None:
    one, two, three = created("x", persona="al"), created("x", swarm="t", persona="al"), created("x", persona="bo")
    await up.put(one, two, three, *(verified(c) for c in (one, two, three)), *(asked(c) for c in (one, two, three)))
    grant = {"decision": "grant", "digest": two.digest}
    for answer in (
        await api.get("/v1/proposals/x"),
        await api.get("/v1/proposals/x?swarm=s"),
        await api.post("/v1/cognition/proposals/x/approve"),
        await api.post("/v1/approvals/x", json=grant),
    ):
        refused = problem(answer, 409)
        assert refused["reason"] == "proposal_ambiguous"
        candidates = [
            {"swarm_id": s, "persona_id": p, "proposal_id": "x"} for s, p in (("s", "al"), ("t", "al"), ("s", "bo"))
        ]
        assert [c for c in candidates if c in refused["candidates"]] == refused["candidates"]  # type: ignore[operator]
    assert (await api.get("/v1/proposals/x?swarm=s&persona=bo")).json()["proposal"]["persona_id"] == "bo"
    assert (await api.get("/v1/proposals/x?swarm=t")).json()["swarm_id"] == "t"
    problem(await api.get("/v1/proposals/x?swarm=none"), 404)
    granted = await api.post("/v1/approvals/x?swarm=t", json=grant)
    assert granted.json()["approval"]["swarm_id"] == "t"
    assert (await api.post("/v1/cognition/proposals/x/approve?persona=bo")).status_code == 200
    assert [a["persona_id"] for a in (await api.get("/v1/approvals")).json()] == ["al"]
    assert len((await api.get("/v1/cognition/proposals")).json()) == 3


async def test_an_id_that_means_several_personas_is_409_until_the_swarm_is_named(
    up: Mesh, api: httpx.AsyncClient
) -> None:
    await up.put(spawned("x"), spawned("x", swarm="t"))
    path = "/v1/swarm/personas/x"
    for answer in (
        await api.get("/v1/cognition/personas/x"),
        await api.post(f"{path}/reap"),
        await api.post(f"{path}/spawn", json=CHILD),
        await api.get(f"{path}/memory?q=a"),
    ):
        refused = problem(answer, 409)
        assert refused["candidates"] == [{"swarm_id": s, "persona_id": "x"} for s in ("s", "t")]
    assert (await api.get("/v1/cognition/personas/x?swarm=t")).json()["identity"]["swarm_id"] == "t"
    assert (await api.get(f"{path}/memory?q=a&swarm=t")).status_code == 200
    kid = (await api.post(f"{path}/spawn?swarm=t", json=CHILD)).json()
    assert kid["identity"]["swarm_id"] == "t"
    assert (await api.post(f"{path}/reap?swarm=t")).json()["reaped_ids"] == ["x"]


async def test_budgets_show_what_is_granted(up: Mesh, api: httpx.AsyncClient) -> None:
    await up.put(
        BudgetGranted(swarm="s", persona="p", grant_id="g", window=5, credits=Credits(tokens=7), expires_at=utc_now())
    )
    (account,) = (await api.get("/v1/budgets")).json()
    assert (
        account["granted"] == account["outstanding"] == {"tokens": 7, "compute_ms": 0, "actions": 0, "cost_microusd": 0}
    )


async def test_a_limit_is_set_as_a_version_and_shown_with_what_the_swarm_may_spend(
    up: Mesh, api: httpx.AsyncClient
) -> None:
    share = Credits(tokens=900, compute_ms=60, actions=1)
    await up.put(BudgetLimited(swarm="s", persona="all", credits=share, window=5, reason="allocated"))
    await up.put(BudgetLimited(swarm="all", persona="all", credits=Credits(tokens=1), window=5, reason="left"))
    (account,) = (await api.get("/v1/budgets")).json()
    assert (account["share"]["tokens"], account["version"], account["ceiling"]["tokens"]) == (900, 0, 200_000)
    body = {"ceiling": {"tokens": 5000}, "floor": {"tokens": 10}, "weight": 300, "version": 0, "reason": "it is dear"}
    told = (await api.put("/v1/budgets/s", json=body)).json()
    assert (told["version"], told["ceiling"]["tokens"], told["ceiling"]["actions"]) == (1, 5000, 120)
    assert (told["weight"], told["set_by"], told["in_force"]) == (300, "local", True)
    assert problem(await api.put("/v1/budgets/s", json=body), 409)["reason"] == "changed_meanwhile"
    for wrong, status, reason in (
        ({"floor": {"tokens": 300_000}}, 409, "floor_above_ceiling"),
        ({"ceiling": {"tokens": 3_000_000}}, 409, "above_global"),
        ({"ceiling": {"tokens": 2_000_000}, "floor": {"tokens": 1_999_995}}, 409, "floors_above_global"),
    ):
        assert problem(await api.put("/v1/budgets/t", json=wrong), status)["reason"] == reason
    assert problem(await api.put("/v1/budgets/all", json={}), 422)["reason"] == "reserved_id"
    key = {"Idempotency-Key": "once"}
    first = (await api.put("/v1/budgets/s", json={"weight": 50}, headers=key)).json()
    again = (await api.put("/v1/budgets/s", json={"weight": 50}, headers=key)).json()
    assert (first["version"], again["version"], again["set"]["tokens"]) == (2, 2, None)


async def test_a_limit_no_governor_obeys_yet_is_said_not_to_be_in_force(up: Mesh, api: httpx.AsyncClient) -> None:
    await up.put(BudgetLimited(swarm="s", persona="all", credits=Credits(tokens=900), window=5))
    told = (await api.put("/v1/budgets/s", json={"ceiling": {"tokens": 100}})).json()
    assert (told["version"], told["in_force"]) == (1, False)
    await up.put(BudgetLimited(swarm="s", persona="all", credits=Credits(tokens=100), window=5, reason="limited"))
    (account,) = (await api.get("/v1/budgets")).json()
    assert account["in_force"]


async def test_operations_and_contracts_are_served_without_reaching_out(api: httpx.AsyncClient) -> None:
    for path in ("/health", "/health/live", "/health/ready"):
        assert (await api.get(path)).json()["status"] == "ok"
    metrics = await api.get("/metrics")
    assert HTTP_REQUESTS.by["/health/ready", "2xx"] >= 1
    assert 'swarm_http_requests_total{route="/health/ready",status="2xx"} ' in metrics.text
    assert 'swarm_http_requests_total{route="/v1/halt",status="5xx"} ' in metrics.text
    assert 'swarm_http_seconds_count{route="/health/ready"} ' in metrics.text
    assert metrics.headers["content-type"].count("charset") == 1
    page = (await api.get("/schema")).text
    assert "/v1/cognition/start" in page
    assert "http://" not in page
    assert "https://" not in page


async def test_unknown_paths_methods_types_and_sizes_have_their_statuses(api: httpx.AsyncClient) -> None:
    problem(await api.get("/nope"), 404)
    refused = await api.get("/v1/cognition/start")
    problem(refused, 405)
    assert set(refused.headers["allow"].split(", ")) == {"OPTIONS", "POST"}
    assert (await api.options("/v1/swarm/personas")).headers["allow"] == "GET, HEAD, OPTIONS, POST"
    problem(await api.post("/v1/swarm/personas", content=b"a=b", headers={"content-type": "text/plain"}), 415)
    big = b'{"name":"' + b"x" * (256 * 1024) + b'"}'
    problem(await api.post("/v1/swarm/personas", content=big, headers={"content-type": "application/json"}), 413)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * 65536

    problem(await api.post("/v1/swarm/personas", content=chunks(), headers={"content-type": "application/json"}), 413)


async def test_the_bus_away_is_503_with_a_time_to_retry(
    up: Mesh, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shared.log.port import LogUnavailable

    async def away(*_: object, **__: object) -> None:
        raise LogUnavailable("no broker")

    monkeypatch.setattr(up.log, "commit", away)
    answer = await api.post("/v1/swarm/alpha/observations", json={"text": "t"})
    problem(answer, 503)
    assert answer.headers["retry-after"] == "1"
    assert (await api.get("/v1/cognition/status")).status_code == 200


async def test_while_the_store_is_held_back_observations_are_507_and_decisions_go_on(
    up: Mesh, api: httpx.AsyncClient
) -> None:
    why = "the log has 90.0 MiB of 100.0 MiB; raise SWARM_STORE_BYTES"
    up.gateway.bus.held = lambda: why
    one = created("prop-1", swarm="alpha")
    await up.put(spawned("p", swarm="alpha"), one, verified(one), asked(one))
    for body in ({"text": "t"}, {"observations": [{"text": "t"}, {"text": "u"}]}):
        answer = await api.post("/v1/swarm/alpha/observations", json=body)
        said = problem(answer, 507)
        assert (said["reason"], said["detail"], answer.headers["retry-after"]) == ("held_back", why, "10")
    assert [] == await up.log.read(("observation.recorded.>",))
    assert (await api.post("/v1/swarm/personas", json=ROOT)).status_code == 200
    assert (await api.post("/v1/cognition/proposals/prop-1/approve")).status_code == 200
    assert (await api.post("/v1/cognition/stop")).status_code == 200
    up.gateway.bus.held = lambda: None
    assert (await api.post("/v1/swarm/alpha/observations", json={"text": "t"})).status_code == 200


async def test_while_its_clock_is_off_the_gateway_takes_no_command_and_still_shows_everything() -> None:
    off = "this clock is 3600.0 s ahead of the broker's"
    async with mesh(clock_off=lambda: off) as up, up.client() as api:
        for path, body in (
            ("/v1/swarm/personas", ROOT),
            ("/v1/swarm/alpha/observations", {"text": "t"}),
            ("/v1/cognition/start", {}),
        ):
            said = problem(await api.post(path, json=body), 503)
            assert (said["reason"], said["detail"]) == ("clock_off", off)
        assert [] == await up.log.read((">",))
        assert (await api.get("/v1/swarm/personas")).status_code == 200


async def test_not_ready_names_every_cause_and_what_is_held_back_is_told(up: Mesh, api: httpx.AsyncClient) -> None:
    async def problems() -> dict[str, str]:
        return {"store": "the broker stores nothing: no space left", "streams": "SWARM differs in max_age"}

    up.gateway.problems = problems
    up.gateway.warnings = lambda: {"held_back": "the log is full"}
    answer = await api.get("/health/ready")
    said = answer.json()
    assert (answer.status_code, said["status"], said["problems"]) == (503, "not_ready", await problems())
    up.gateway.connected = lambda: False
    assert ("bus_away", await problems()) == (
        (said := (await api.get("/health/ready")).json())["status"],
        said["problems"],
    )
    assert {"held_back": "the log is full"} == said["warnings"]


async def test_without_the_bus_the_gateway_lives_and_is_not_ready(up: Mesh, api: httpx.AsyncClient) -> None:
    up.gateway.connected = lambda: False
    assert (await api.get("/health/live")).status_code == 200
    answer = await api.get("/health/ready")
    assert (answer.status_code, answer.json()["status"]) == (503, "bus_away")
    up.gateway.connected = lambda: True
    assert (await api.get("/health/ready")).json()["status"] == "ok"


async def test_every_route_is_counted_under_a_name_that_was_there_from_the_start(api: httpx.AsyncClient) -> None:
    before = {route for route, _ in HTTP_REQUESTS.by}
    for path in ("/v1/proposals/none", "/v1/swarm/personas/none/memory?q=a", "/v1/nothing-there", "/schema"):
        await api.get(path)
    assert {"/schema"} >= {route for route, _ in HTTP_REQUESTS.by} - before


async def test_a_child_begins_a_swarm_of_its_own(up: Mesh, api: httpx.AsyncClient) -> None:
    """Asked for by `swarm_id`; the lineage has the edge, and what the governor says about swarms turns nobody else away."""
    await api.post("/v1/swarm/personas", json=ROOT)
    answer = await api.post("/v1/swarm/personas/root/spawn", json={**CHILD, "persona_id": "c1", "swarm_id": "new"})
    assert 200 <= answer.status_code < 300, answer.text
    identity = answer.json()["identity"]
    assert ("new", "root", 1) == (identity["swarm_id"], identity["parent_id"], identity["depth"])
    nodes = {n["persona_id"]: n for n in (await api.get("/v1/swarm/lineage")).json()["nodes"]}
    assert (["c1"], "root") == (nodes["root"]["children"], nodes["c1"]["parent_id"])
    up.governor.refuse = "too_many_swarms"
    problem(await api.post("/v1/swarm/personas/root/spawn", json={**CHILD, "persona_id": "c2", "swarm_id": "n2"}), 429)
    up.governor.refuse = None
    assert (await api.post("/v1/swarm/personas/root/spawn", json={**CHILD, "persona_id": "c3"})).status_code < 300
