"""Keys, scopes, rates, idempotency: who may ask, how often, and that asking twice is asking once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from gateway_model import NOW, SHA, Mesh, asked, created, key, mesh, verified
from hypothesis import given
from hypothesis import strategies as st

from services.cli.commands.asking.proposals import approve
from services.cli.terminal.target import Stop, Target
from services.gateway.app import create_app
from services.gateway.commands.bus import Command
from services.gateway.commands.perception import record
from services.gateway.context import Gateway
from services.gateway.front.access import Buckets, authenticate
from services.gateway.projections.projection import Projection
from services.gateway.service import gateway_settings
from services.gateway.settings import GatewaySettings, Key, Scope, Unsafe
from services.gateway.wire.requests import Observation, RecordObservations
from shared.contracts.envelope import Recorded
from shared.log.memory import DEDUP_WINDOW, MemoryLog
from shared.policy.sides import LOCAL
from shared.settings import Http, HttpKey, Settings, SettingsError

KEYS = (
    key("r-token", "reader", "read"),
    key("c-token", "controller", "control"),
    key("a-token", "approver", "approve"),
    key("all-token", "root", "admin"),
    key("none-token", "nobody"),
)
ROOT = {"persona_id": "root", "name": "Root", "role": "r", "charter": "watch", "swarm_id": "alpha"}
ROUTES: tuple[tuple[str, str, Scope], ...] = (
    ("POST", "/v1/cognition/start", "control"),
    ("POST", "/v1/cognition/stop", "control"),
    ("GET", "/v1/cognition/status", "read"),
    ("GET", "/v1/cognition/stream", "read"),
    ("GET", "/v1/cognition/snapshots/latest", "read"),
    ("POST", "/v1/swarm/personas", "control"),
    ("POST", "/v1/swarm/personas/x/spawn", "control"),
    ("POST", "/v1/swarm/personas/x/reap", "control"),
    ("GET", "/v1/swarm/lineage", "read"),
    ("GET", "/v1/swarm/reconciliation", "read"),
    ("GET", "/v1/cognition/personas/x", "read"),
    ("GET", "/v1/cognition/beliefs", "read"),
    ("GET", "/v1/cognition/beliefs/x", "read"),
    ("GET", "/v1/cognition/attention", "read"),
    ("GET", "/v1/cognition/proposals", "read"),
    ("POST", "/v1/cognition/proposals/x/approve", "approve"),
    ("GET", "/v1/cognition/receipts", "read"),
    ("GET", "/v1/cognition/workspace", "read"),
    ("GET", "/v1/cognition/governance", "read"),
    ("GET", "/v1/audit", "read"),
    ("POST", "/v1/swarm/alpha/observations", "control"),
    ("GET", "/v1/swarm/personas", "read"),
    ("GET", "/v1/swarm/personas/x/memory?q=x", "read"),
    ("GET", "/v1/proposals/x", "read"),
    ("GET", "/v1/approvals", "read"),
    ("POST", "/v1/approvals/x", "approve"),
    ("GET", "/v1/conflicts", "read"),
    ("GET", "/v1/questions", "read"),
    ("POST", "/v1/questions/q-1/answer", "approve"),
    ("GET", "/v1/actions", "read"),
    ("POST", "/v1/proposals", "control"),
    ("GET", "/v1/conflicts/t-1.1", "read"),
    ("POST", "/v1/conflicts/t-1.1/rule", "approve"),
    ("GET", "/v1/actions/unknown", "read"),
    ("POST", "/v1/actions/x/resolve", "approve"),
    ("GET", "/v1/budgets", "read"),
    ("GET", "/metrics", "read"),
)
TOKENS: dict[Scope, str] = {"read": "r-token", "control": "c-token", "approve": "a-token"}


@pytest.fixture
async def up() -> AsyncIterator[Mesh]:
    async with mesh(GatewaySettings(keys=KEYS)) as found:
        yield found


async def ask(client: httpx.AsyncClient, method: str, path: str) -> int:
    async with client.stream(method, path) as answer:
        return answer.status_code


async def test_every_route_wants_a_key_and_its_own_scope(up: Mesh) -> None:
    async with up.client() as bare, up.client("wrong") as wrong, up.client("none-token") as none:
        for method, path, scope in ROUTES:
            assert await ask(bare, method, path) == 401, path
            assert await ask(wrong, method, path) == 401, path
            assert await ask(none, method, path) == 403, path
            for other, token in TOKENS.items():
                async with up.client(token) as client:
                    status = await ask(client, method, path)
                    assert (status == 403) == (other != scope), (path, other, status)
                    assert status not in (401, 500)


async def test_admin_includes_every_scope_and_health_needs_no_key(up: Mesh) -> None:
    async with up.client("all-token") as admin, up.client() as bare:
        for method, path, _ in ROUTES:
            assert await ask(admin, method, path) not in (401, 403), path
        for path in ("/health", "/health/live", "/health/ready"):
            assert await ask(bare, "GET", path) == 200
        for path in ("/schema", "/schema/openapi.json", "/nope", "/"):
            assert await ask(bare, "GET", path) == 401


async def test_a_token_may_come_in_the_query(up: Mesh) -> None:
    async with up.client() as bare:
        assert (await bare.get("/v1/cognition/status?token=r-token")).status_code == 200
        refused = await bare.get("/v1/cognition/status?token=nope")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"


async def test_the_principal_is_on_the_event(up: Mesh) -> None:
    async with up.client("c-token") as client:
        await client.post("/v1/swarm/personas", json=ROOT)
        await client.post("/v1/swarm/alpha/observations", json={"text": "t"})
    for subject in ("spawn.requested.*.*", "observation.recorded.*.*"):
        assert [r.event.principal for r in await up.log.read((subject,))] == ["controller"]  # type: ignore[union-attr]


async def test_each_principal_votes_once(up: Mesh) -> None:
    c = created("p-1")
    await up.put(c, verified(c), asked(c, quorum=2))
    body = {"decision": "grant", "digest": c.digest}
    async with up.client("a-token") as one, up.client("all-token") as two:
        answers = await asyncio.gather(
            *(client.post("/v1/approvals/p-1", json=body) for client in (one, two, one, two))
        )
    assert sorted(a.status_code for a in answers) == [200, 200, 409, 409]
    granted = await up.log.read(("approval.granted.*.*.*",))
    assert {r.event.principal for r in granted} == {"approver", "root"}  # type: ignore[union-attr]


async def test_who_spawned_the_proposer_may_deny_but_not_grant_and_the_request_stays_open_for_others(up: Mesh) -> None:
    c = created("p-1", swarm="alpha", persona="kid")
    async with up.client("all-token") as proposer, up.client("a-token") as other:
        await proposer.post("/v1/swarm/personas", json=ROOT)
        child = {"persona_id": "kid", "name": "Kid", "role": "r", "charter": "watch"}
        assert (await proposer.post("/v1/swarm/personas/root/spawn", json=child)).status_code == 200
        await up.put(c, verified(c), asked(c))
        refused = await proposer.post("/v1/cognition/proposals/p-1/approve", json={"digest": c.digest})
        assert (refused.status_code, refused.json()["reason"]) == (403, "four_eyes")
        assert [a["proposal_id"] for a in (await proposer.get("/v1/approvals")).json()] == ["p-1"]
        assert (await other.post("/v1/cognition/proposals/p-1/approve", json={"digest": c.digest})).status_code == 200
        d = created("p-2", swarm="alpha", persona="kid")
        await up.put(d, verified(d), asked(d))
        denied = {"decision": "deny", "digest": d.digest}
        assert (await proposer.post("/v1/approvals/p-2", json=denied)).status_code == 200


async def test_who_fed_the_proposer_may_not_grant_and_a_restarted_gateway_knows_it_still(up: Mesh) -> None:
    first, second = created("p-1", swarm="alpha", persona="root"), created("p-2", swarm="alpha", persona="root")
    path, say = "/v1/cognition/proposals/{}/approve", {"text": "delete everything", "persona": "root"}
    async with up.client("c-token") as owner, up.client("all-token") as feeder:
        await owner.post("/v1/swarm/personas", json=ROOT)
        await up.put(first, verified(first), asked(first))
        sent = await feeder.post("/v1/swarm/alpha/observations", json=say)
        await up.gateway.feed.reached(sent.json()["sequences"][0], 5)
        early = await feeder.post(path.format("p-1"), json={"digest": first.digest})
        assert early.status_code == 200, "it was proposed before"
        await up.put(second, verified(second), asked(second))
        refused = await feeder.post(path.format("p-2"), json={"digest": second.digest})
        assert (refused.status_code, refused.json()["reason"]) == (403, "four_eyes")
        assert "recorded observations" in refused.json()["detail"]
    restored = Projection()
    restored.restore(up.gateway.projection.capture())
    assert restored.feeders.of("alpha", ("root",), 10**6) == {"root"}


@pytest.mark.parametrize("four_eyes", [True, False])
async def test_the_one_person_of_a_mesh_without_keys_may_approve_and_is_told_why(four_eyes: bool) -> None:
    c, d = created("p-1", swarm="alpha", persona="root"), created("p-2", swarm="alpha", persona="root")
    async with mesh(GatewaySettings(four_eyes=four_eyes)) as up, up.client() as client:
        await client.post("/v1/swarm/personas", json=ROOT)
        await up.put(c, verified(c), asked(c), d, verified(d), asked(d))
        assert (await client.get("/v1/cognition/governance")).json()["four_eyes"] is False
        assert (await client.post("/v1/cognition/proposals/p-1/approve")).status_code == 200
        decided = (await client.post("/v1/approvals/p-2", json={"decision": "grant", "digest": d.digest})).json()
        assert ("the mesh has no keys" in (decided["note"] or "")) is four_eyes
    (yes, _) = await up.log.read(("approval.granted.*.*.*",))
    assert yes.event.principal == LOCAL  # type: ignore[union-attr]


def test_no_key_may_be_named_as_whoever_is_at_a_mesh_without_keys() -> None:
    named = HttpKey(sha256="ab" * 32, principal=LOCAL, scopes=("approve",))
    with pytest.raises(SettingsError, match="'local'"):
        gateway_settings(Settings(http=Http(keys=(named,))))


async def test_a_request_under_another_policy_is_decided_anew(up: Mesh) -> None:
    c = created("p-1")
    await up.put(c, verified(c), asked(c))
    async with up.client("all-token") as client:
        (first,) = (await client.get("/v1/approvals")).json()
        grant = {"decision": "grant", "digest": c.digest, "request_id": first["request_id"]}
        assert (await client.post("/v1/approvals/p-1", json=grant)).status_code == 200
        assert (await client.post("/v1/approvals/p-1", json=grant)).status_code == 409
        await up.put(asked(c))
        refused = await client.post("/v1/approvals/p-1", json=grant)
        assert (refused.status_code, refused.json()["reason"]) == (409, "request_mismatch")
        (second,) = (await client.get("/v1/approvals")).json()
        done = await client.post("/v1/approvals/p-1", json={**grant, "request_id": second["request_id"]})
        assert done.status_code == 200
    granted = await up.log.read(("approval.granted.*.*.*",))
    assert [r.event.request_id for r in granted] == [first["request_id"], second["request_id"]]  # type: ignore[union-attr]


async def test_with_keys_what_is_approved_is_said_by_its_digest_or_it_is_428(up: Mesh) -> None:
    c = created("p-1")
    await up.put(c, verified(c), asked(c, quorum=2))
    async with up.client("a-token") as one, up.client("all-token") as two:
        path = "/v1/cognition/proposals/p-1/approve"
        for nothing in ({}, {"headers": {"If-Match": "*"}}, {"json": {}}, {"json": {"digest": None}}):
            refused = await one.post(path, **nothing)  # type: ignore[arg-type]
            assert (refused.status_code, refused.json()["reason"]) == (428, "digest_required")
        for other in ({"headers": {"If-Match": f'"{SHA}"'}}, {"json": {"digest": SHA}}):
            refused = await one.post(path, **other)  # type: ignore[arg-type]
            assert (refused.status_code, refused.json()["reason"]) == (409, "digest_mismatch")
        assert (await one.post(path, headers={"If-Match": f'"{c.digest}"'})).status_code == 200
        assert (await two.post(path, json={"digest": c.digest})).status_code == 200


async def test_the_command_says_the_digest_too_where_there_are_keys(up: Mesh) -> None:
    c = created("p-1")
    await up.put(c, verified(c), asked(c))
    target = Target(url=up.url, token="all-token")
    for wrong, said in (("", "--digest"), (c.digest[:8], c.digest[:16]), ("0" * 64, c.digest[:16])):
        with pytest.raises(Stop, match=said):
            await asyncio.to_thread(approve, "p-1", digest=wrong, target=target)
    assert await asyncio.to_thread(approve, "p-1", digest=c.digest[:16], target=target) == 0
    assert len(await up.log.read(("approval.granted.*.*.*",))) == 1


def test_no_key_beyond_loopback_refuses_to_start() -> None:
    with pytest.raises(Unsafe, match=r"0\.0\.0\.0"):
        create_app(Gateway(MemoryLog(), GatewaySettings(host="0.0.0.0")))
    create_app(Gateway(MemoryLog(), GatewaySettings(host="0.0.0.0", keys=KEYS)))


def test_keys_of_the_configuration_are_checked_at_the_start() -> None:
    good = HttpKey(sha256="ab" * 32, principal="al", scopes=("read", "approve"))
    assert gateway_settings(Settings(http=Http(keys=(good,)))).keys == (
        Key(sha256="ab" * 32, principal="al", scopes=("read", "approve")),
    )
    for bad in (
        HttpKey(sha256="ab", principal="al", scopes=()),
        HttpKey(sha256="ab" * 32, principal="al", scopes=("all",)),
    ):
        with pytest.raises(SettingsError, match=r"http\.keys"):
            gateway_settings(Settings(http=Http(keys=(bad,))))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Host": "[::1]:4096"}, 200),
        ({"Host": "localhost:4096"}, 200),
        ({"Host": "127.0.0.1:1", "Origin": "http://127.0.0.1:1"}, 200),
        ({"Host": "127.0.0.1:1", "Origin": "http://evil.example"}, 403),
        ({"Host": "127.0.0.1:1", "Origin": "null"}, 403),
        ({"Host": "127.0.0.1:1", "Origin": "http://[::1"}, 403),
    ],
)
async def test_without_keys_another_site_in_a_browser_gets_nowhere(headers: dict[str, str], status: int) -> None:
    async with mesh() as up, up.client() as client:
        assert (await client.get("/v1/cognition/status", headers=headers)).status_code == status


async def test_who_asks_too_often_is_told_when_to_come_back() -> None:
    async with mesh(GatewaySettings(keys=KEYS, rate_per_s=0.5, burst=2)) as up, up.client("r-token") as client:
        answers = [await client.get("/v1/cognition/status") for _ in range(3)]
        assert [a.status_code for a in answers] == [200, 200, 429]
        assert int(answers[2].headers["retry-after"]) >= 1
        assert (await client.get("/health")).status_code == 200


@given(st.lists(st.floats(min_value=0, max_value=3, allow_nan=False), min_size=1, max_size=60))
def test_a_bucket_never_lets_more_pass_than_burst_and_rate(gaps: list[float]) -> None:
    buckets, now, passed = Buckets(2.0, 5), 0.0, 0
    for gap in gaps:
        now += gap
        passed += buckets.take("a", now) == 0
    assert passed <= 5 + 2.0 * now + 1e-6


def test_only_the_right_token_authenticates() -> None:
    assert authenticate(KEYS, "r-token") is not None
    assert authenticate(KEYS, "r-token ") is None
    assert authenticate(KEYS, "") is None


# -- idempotency -----------------------------------------------------------------------------------------------------


async def test_the_same_key_is_the_same_command_also_after_a_restart() -> None:
    log = MemoryLog()
    anonymous = {k: v for k, v in ROOT.items() if k != "persona_id"}
    body = {"observations": [{"text": "a"}, {"text": "b"}]}

    async def once() -> list[object]:
        async with mesh(log=log) as up, up.client(**{"Idempotency-Key": "k1"}) as client:
            up.governor.living = {}
            answers: list[object] = []
            for path, json in (("/v1/swarm/personas", anonymous), ("/v1/swarm/alpha/observations", body)):
                pair = await asyncio.gather(*(client.post(path, json=json) for _ in range(2)))
                assert [a.status_code for a in pair] == [200, 200], [a.text for a in pair]
                pair = [a.json() for a in pair]
                answers += [p.get("identity", p) for p in pair]
            return answers

    first = await once()
    assert first[0] == first[1]
    assert first[2] == first[3]
    assert await once() == first
    assert len(await log.read(("spawn.requested.*.*",))) == 1
    assert len(await log.read(("observation.recorded.*.*",))) == 2


async def test_a_repeat_quicker_than_the_reading_of_the_log_is_the_same_command_however_late() -> None:
    now = NOW
    log = MemoryLog(lambda: now)
    command = Command(principal="local", path="/v1/swarm/alpha/observations", key="k1")
    request = RecordObservations(observations=(Observation(text="a"), Observation(text="b")))
    first = await record(Gateway(log, GatewaySettings()).bus, command, "alpha", request)
    now += DEDUP_WINDOW
    behind = Gateway(log, GatewaySettings())
    repeat = asyncio.create_task(record(behind.bus, command, "alpha", request))
    for _ in range(10):
        await asyncio.sleep(0)
    reading = asyncio.create_task(behind.feed.run())
    assert await repeat == first
    assert len(await log.read(("observation.recorded.*.*",))) == 2
    await behind.stop()
    await reading


async def test_a_key_used_again_for_something_else_is_422() -> None:
    async with mesh() as up, up.client(**{"Idempotency-Key": "k1"}) as client:
        assert (await client.post("/v1/swarm/personas", json=ROOT)).status_code == 200
        for other in ({**ROOT, "charter": "other"}, {**ROOT, "persona_id": "other"}):
            answer = await client.post("/v1/swarm/personas", json=other)
            assert (answer.status_code, answer.json()["reason"]) == (422, "idempotency_key_reused")
        path = "/v1/swarm/alpha/observations"
        assert (await client.post(path, json={"observations": [{"text": "a"}, {"text": "b"}]})).status_code == 200
        for texts in (["a"], ["a", "c"], ["a", "b", "c"]):
            answer = await client.post(path, json={"observations": [{"text": t} for t in texts]})
            assert answer.status_code == 422, texts
        assert (await client.post(path, json={"text": "t"}, headers={"Idempotency-Key": "x" * 201})).status_code == 422


async def test_a_refused_spawn_is_refused_again_under_its_key() -> None:
    async with mesh() as up, up.client(**{"Idempotency-Key": "k1"}) as client:
        up.governor.refuse = "depth_limit"
        assert (await client.post("/v1/swarm/personas", json=ROOT)).status_code == 400
        up.governor.refuse = None
        assert (await client.post("/v1/swarm/personas", json=ROOT)).status_code == 400
        assert (
            await client.post("/v1/swarm/personas", json=ROOT, headers={"Idempotency-Key": "k2"})
        ).status_code == 200


async def test_repeated_reaps_starts_and_votes_answer_the_same() -> None:
    async with mesh() as up, up.client(**{"Idempotency-Key": "k1"}) as client:
        await client.post("/v1/swarm/personas", json=ROOT)
        reaps = [await client.post("/v1/swarm/personas/root/reap") for _ in range(2)]
        assert [r.json() for r in reaps] == [{"reaped_ids": ["root"], "count": 1}] * 2
        await client.post("/v1/cognition/start")
        await client.post("/v1/cognition/stop")
        assert (await client.post("/v1/cognition/start")).json()["running"] is False
        c = created("p-1")
        await up.put(c, verified(c), asked(c))
        votes = [await client.post("/v1/cognition/proposals/p-1/approve") for _ in range(2)]
        assert [v.status_code for v in votes] == [200, 200]
        assert len(await up.log.read(("approval.granted.*.*.*",))) == 1
        denied = await client.post("/v1/approvals/p-1", json={"decision": "deny", "digest": c.digest})
        assert denied.status_code == 409


async def test_only_who_may_approve_vouches_for_an_observation_and_it_is_their_word() -> None:
    settings = GatewaySettings(keys=(key("c", "carl", "control"), key("a", "ann", "control", "approve")))
    async with mesh(settings) as up:
        path, own = "/v1/swarm/alpha/observations", {"text": "We deploy at noon.", "vouched": True}
        several = {"observations": [{"text": "seen"}, {"text": "mine", "vouched": True, "persona": "p1"}]}
        async with up.client("c") as carl:
            for body in (own, several):
                refused = await carl.post(path, json=body)
                assert (403, "missing_scope") == (refused.status_code, refused.json()["reason"])
            assert (
                200 == (await carl.post(path, json={"text": "a line", "vouched": False, "tainted": False})).status_code
            )
        async with up.client("a") as ann:
            posing = await ann.post(path, json={"text": "yes", "source": "answer:q-1"})
            assert (422, "bad_observations") == (posing.status_code, posing.json()["reason"])
            assert 200 == (await ann.post(path, json=own)).status_code
            assert 200 == (await ann.post(path, json=several)).status_code
        found = [r.event for r in await up.log.read(("observation.>",)) if isinstance(r, Recorded)]
        told = [(type(e).__name__, e.text, e.principal, e.tainted) for e in found]  # type: ignore[union-attr]
        assert [
            ("ObservationRecorded", "a line", "carl", True),
            ("ObservationVouched", "We deploy at noon.", "ann", False),
            ("ObservationRecorded", "seen", "ann", True),
            ("ObservationVouched", "mine", "ann", False),
        ] == told
