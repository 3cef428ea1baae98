"""Who asks for more than there is for one swarm or key is turned away, told how much and when, and counted; others are not touched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from operator import attrgetter

import httpx
import pytest

from services.gateway.commands.admission import Admission
from services.gateway.front.access import Impatient
from services.gateway.projections.refusals import Refusals
from services.gateway.settings import GatewaySettings
from services.gateway.wire.problems import Problem
from shared.contracts.events import BudgetRefused, Credits, ProposalRejected, SpawnRefused
from shared.contracts.ids import utc_now
from shared.quotas import QUOTAS
from shared.settings import Settings
from tests.unit.gateway.gateway_model import SHA, Mesh, key, mesh

KEYS = (key("loud", "loud", "control", "read"), key("quiet", "quiet", "control", "read"))
SETTINGS = GatewaySettings(
    keys=KEYS, swarm_open_requests=3, observations_per_minute=1000, recalls_per_minute=2, outcome_timeout_s=5
)


def root(swarm: str, name: str) -> dict[str, str]:
    return {"persona_id": name, "name": name, "role": "r", "charter": "c", "swarm_id": swarm}


async def spawn(client: httpx.AsyncClient, swarm: str, name: str) -> httpx.Response:
    return await client.post("/v1/swarm/personas", json=root(swarm, name))


async def requested(up: Mesh, swarm: str, count: int) -> None:
    """Returns when so many spawns of the swarm are in the log."""
    async with asyncio.timeout(10):
        while len(await up.log.read((f"spawn.requested.{swarm}.*",))) < count:
            await asyncio.sleep(0.01)


async def refused(client: httpx.AsyncClient) -> dict[str, int]:
    return {row["reason"]: row["refused"] for row in (await client.get("/v1/quotas")).json() if row["refused"]}


async def test_a_swarm_has_so_many_requests_open_and_others_are_answered_as_ever() -> None:
    async with mesh(SETTINGS) as up, up.client("loud") as loud, up.client("quiet") as quiet:
        up.governor.deaf_to = {"loud"}
        waiting = [asyncio.create_task(spawn(loud, "loud", f"p{n}")) for n in range(3)]
        await requested(up, "loud", 3)
        turned_away = await spawn(quiet, "loud", "p9")  # whoever asks
        assert 429 == turned_away.status_code
        assert "1" == turned_away.headers["retry-after"]
        assert "too_many_open_requests" == turned_away.json()["reason"]
        assert "3 requests of this kind (spawn)" in turned_away.json()["detail"]
        assert 200 == (await spawn(quiet, "quiet", "p1")).status_code
        assert {"too_many_open_requests": 1} == await refused(quiet)
        await requested(up, "loud", 3)  # what is turned away is in no log
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_while_a_swarm_is_full_every_way_in_tells_so_and_whatever_else_is_read_as_ever() -> None:
    async with mesh(SETTINGS) as up, up.client("loud") as client:
        assert [200, 200] == [(await spawn(client, swarm, f"root-{swarm}")).status_code for swarm in ("loud", "quiet")]
        up.governor.deaf_to = {"loud"}
        waiting = [asyncio.create_task(spawn(client, "loud", f"p{n}")) for n in range(3)]
        await requested(up, "loud", 4)
        child = {"name": "n", "role": "r", "charter": "c"}
        for path, body in (
            ("/v1/swarm/personas/root-loud/spawn", child),
            ("/v1/swarm/personas/root-loud/spawn?swarm=loud", child),
            ("/v1/swarm/personas", {**child, "parent_id": "root-loud"}),
            ("/v1/swarm/personas", {**child, "parent_id": "root-loud", "swarm_id": "loud"}),
            ("/v1/swarm/personas", root("loud", "p9")),
        ):
            answer = await client.post(path, json=body)
            assert (429, "too_many_open_requests") == (answer.status_code, answer.json()["reason"]), (path, body)
        many = b'{"name":"n","role":"r","charter":"c","swarm_id":"quiet"' + b" " * 100_000 + b"}"
        in_pieces = (many[start : start + 10_000] for start in range(0, len(many), 10_000))
        media = {"Content-Type": "application/json"}
        assert 200 == (await client.post("/v1/swarm/personas", content=_slowly(in_pieces), headers=media)).status_code
        for path, body in (
            ("/v1/swarm/personas/root-quiet/spawn", child),
            ("/v1/swarm/loud/observations", {"text": "a line"}),
            ("/v1/swarm/personas", {**child, "swarm_id": "another"}),
            ("/v1/swarm/personas", child),
        ):
            assert 200 == (await client.post(path, json=body)).status_code, (path, body)
        assert 422 == (await client.post("/v1/swarm/personas", content=b'{"swarm_id":1}', headers=media)).status_code
        assert 404 == (await client.post("/v1/swarm/personas/nobody/spawn", json=child)).status_code
        assert {"too_many_open_requests": 5} == await refused(client)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_who_asks_again_before_its_time_is_answered_late_and_nobody_else_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Impatient, "LATE_S", 3600.0)
    settings = GatewaySettings(keys=KEYS, rate_per_s=0.1, burst=1)
    async with mesh(settings) as up, up.client("loud") as loud, up.client("quiet") as quiet:
        assert [200, 429] == [(await loud.get("/v1/quotas")).status_code for _ in range(2)]
        late = asyncio.create_task(loud.get("/v1/quotas"))
        assert 200 == (await quiet.get("/v1/quotas")).status_code
        assert 429 == (await quiet.get("/v1/quotas")).status_code  # the first refusal is at once
        assert not late.done()
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)


def test_patience_pays_and_not_everybody_can_be_made_to_wait() -> None:
    impatient = Impatient()
    assert [0.0, Impatient.LATE_S, 0.0] == [impatient.delay_s("a", now, 2) for now in (0.0, 1.0, 3.5)]
    assert 0.0 == impatient.delay_s("b", 1.0, 2)
    impatient.late = Impatient.MAX_LATE
    assert 0.0 == impatient.delay_s("b", 1.5, 2)


async def _slowly(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def test_a_swarm_that_is_flooded_with_spawns_can_still_be_reaped() -> None:
    async with mesh(SETTINGS) as up, up.client("quiet") as quiet:
        assert 200 == (await spawn(quiet, "loud", "root")).status_code
        up.governor.deaf_to = {"loud"}
        waiting = [asyncio.create_task(spawn(quiet, "loud", f"p{n}")) for n in range(3)]
        await requested(up, "loud", 4)
        assert 429 == (await spawn(quiet, "loud", "p9")).status_code
        up.governor.deaf_to = set()
        assert 200 == (await quiet.post("/v1/swarm/personas/root/reap", json={})).status_code
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_spawn_quota_that_is_used_up_is_told_once_by_the_governor_and_then_at_the_door() -> None:
    async with mesh(SETTINGS) as up, up.client("loud") as loud:
        up.governor.refuse, up.governor.again_s = "spawn_rate", 17
        answers = [await spawn(loud, "loud", f"p{n}") for n in range(3)]
        assert [429] * 3 == [a.status_code for a in answers]
        assert ["spawn_rate"] * 3 == [a.json()["reason"] for a in answers]
        assert all(15 <= int(a.headers["retry-after"]) <= 17 for a in answers)
        assert 1 == len(await up.log.read(("spawn.requested.*.*",)))
        assert {"spawn_rate": 3} == await refused(loud)
        up.governor.refuse = None
        assert 200 == (await spawn(loud, "quiet", "p1")).status_code


async def test_spawns_a_minute_are_the_swarms_whoever_asks_and_whatever_becomes_of_them() -> None:
    settings = GatewaySettings(keys=KEYS, spawns_per_minute=3)
    async with mesh(settings) as up, up.client("loud") as loud, up.client("quiet") as quiet:
        up.governor.refuse = "branching_limit"
        assert [400] * 3 == [(await spawn(loud, "loud", f"p{n}")).status_code for n in range(3)]
        answer = await spawn(quiet, "loud", "p9")
        assert (429, "spawn_rate") == (answer.status_code, answer.json()["reason"])
        assert "limit of 3 a minute in swarm 'loud'" in answer.json()["detail"]
        assert 3 == len(await up.log.read(("spawn.requested.*.*",)))
        up.governor.refuse = None
        assert 200 == (await spawn(loud, "quiet", "p1")).status_code


async def test_observations_a_minute_are_of_one_key_in_one_swarm() -> None:
    async with mesh(SETTINGS) as up, up.client("loud") as loud, up.client("quiet") as quiet:
        many = {"observations": [{"text": "a line"}] * 600}
        assert 200 == (await loud.post("/v1/swarm/alpha/observations", json=many)).status_code
        answer = await loud.post("/v1/swarm/alpha/observations", json=many)
        assert (429, "observation_rate") == (answer.status_code, answer.json()["reason"])
        assert 10 <= int(answer.headers["retry-after"]) <= 12  # 200 of 1000 a minute
        assert "limit of 1000 a minute for loud in swarm 'alpha'" in answer.json()["detail"]
        assert 200 == (await loud.post("/v1/swarm/beta/observations", json=many)).status_code
        assert 200 == (await quiet.post("/v1/swarm/alpha/observations", json=many)).status_code
        assert 1800 == len(await up.log.read(("observation.recorded.*.*",)))


async def test_recalls_a_minute_are_bounded() -> None:
    async with mesh(SETTINGS) as up, up.client("loud") as loud, up.client("quiet") as quiet:
        await spawn(quiet, "alpha", "p1")
        statuses = [(await loud.get("/v1/swarm/personas/p1/memory?q=x")).status_code for _ in range(3)]
        assert [200, 200, 429] == statuses
        assert 200 == (await quiet.get("/v1/swarm/personas/p1/memory?q=x")).status_code


async def test_what_others_refused_is_told_with_its_last_words_and_survives_a_restart() -> None:
    async with mesh(SETTINGS) as up, up.client("quiet") as quiet:
        rejected = ProposalRejected(
            swarm="s",
            persona="p",
            proposal_id="x",
            stage="verify",
            reasons=("too_many_waiting",),
            digest=SHA,
            detail="64 open",
        )
        unpaid = BudgetRefused(
            swarm="s", persona="q", reason="no_grant", window=1, credits=Credits(tokens=70, compute_ms=9), upto=3
        )
        limit = SpawnRefused(swarm="s", persona="r", reason="branching_limit", detail="a limit of the family, no quota")
        await up.put(rejected, unpaid, unpaid, limit)
        rows = {row["reason"]: row for row in (await quiet.get("/v1/quotas")).json()}
        assert {"too_many_waiting": 1, "no_grant": 2} == await refused(quiet)
        assert ("s", "p", "64 open") == tuple(
            rows["too_many_waiting"][f"last_{k}"] for k in ("swarm_id", "persona_id", "detail")
        )
        assert "70 tokens and 9 ms were spent without a grant, and charged" == rows["no_grant"]["last_detail"]
        kept = up.gateway.projection.capture()
    async with mesh(SETTINGS) as again, again.client("quiet") as quiet:
        again.gateway.projection.restore(kept)
        assert {"too_many_waiting": 1, "no_grant": 2} == await refused(quiet)


def test_every_quota_has_its_setting_and_its_reason_once() -> None:
    settings = Settings()
    assert all(
        attrgetter(quota.setting.replace("global.", "global_."))(settings) > 0
        for quota in QUOTAS
        if quota.setting is not None
    )
    assert len({quota.reason for quota in QUOTAS}) == len(QUOTAS)


def test_a_hold_ends_by_itself_and_its_rest_is_told() -> None:
    now = 0.0
    refusals = Refusals()
    admission = Admission(refusals, open_requests=1, per_minute={}, wall=utc_now, clock=lambda: now)
    admission.hold("loud", "spawn_rate", "600 were spawned", 30)
    now = 10.0
    with pytest.raises(Problem) as problem:
        admission.assert_not_held("loud")
    assert 20 == problem.value.retry_after_s
    admission.assert_not_held("quiet")
    now = 30.0
    admission.assert_not_held("loud")
    assert 1 == refusals.lines["spawn_rate"].count


def test_requests_that_ended_however_count_no_more() -> None:
    admission = Admission(Refusals(), open_requests=1, per_minute={}, wall=utc_now)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), admission.open("spawn", "loud"):
            raise ZeroDivisionError
    others = admission.open("reap", "loud"), admission.open("spawn", "quiet")
    with admission.open("spawn", "loud"), others[0], others[1], pytest.raises(Problem), admission.open("spawn", "loud"):
        pytest.fail("it is full")
