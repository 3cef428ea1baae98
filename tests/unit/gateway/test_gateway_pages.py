"""Lists by the page: whole, in order, without repeats, whatever comes in between; and bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from gateway_model import NOW, Mesh, asked, created, executed, key, mesh, raised, spawned, verified

from services.gateway.routes.swarm import lineage
from services.gateway.settings import GatewaySettings
from shared.contracts.events import BeliefAsserted, BudgetGranted, Credits

LISTS = (
    "/v1/swarm/personas",
    "/v1/cognition/beliefs",
    "/v1/cognition/attention",
    "/v1/cognition/proposals",
    "/v1/cognition/receipts",
    "/v1/approvals?state=all",
    "/v1/conflicts",
    "/v1/actions/unknown",
    "/v1/budgets",
    "/v1/audit",
)


async def fill(up: Mesh) -> None:
    """Seven of everything, in two swarms."""
    for n in range(7):
        swarm, late = f"s{n % 2}", created(f"late-{n}", swarm=f"s{n % 2}", deadline=NOW)
        c = created(f"x-{n}", swarm=swarm)
        belief = BeliefAsserted(
            swarm=swarm, persona="p", belief_id=f"b-{n}", key_id="k", by="p", belief_key="k", claim="c",
            confidence=(n % 3) / 10, valid_from=NOW, review_after=NOW,
        )  # fmt: skip
        grant = BudgetGranted(
            swarm=f"g{n}", persona="p", grant_id="g", window=5, credits=Credits(tokens=7), expires_at=NOW
        )
        await up.put(spawned(f"p-{n}", swarm=swarm), belief, late, c, verified(c), asked(c), executed(c), grant)
        u = created(f"u-{n}", swarm=swarm)
        await up.put(raised(n), u, verified(u), executed(u, "unknown"))


@pytest.fixture
async def up() -> AsyncIterator[Mesh]:
    async with mesh() as found:
        await fill(found)
        yield found


async def pages(client: httpx.AsyncClient, url: str, limit: int) -> list[list[object]]:
    found = []
    answer = await client.get(url, params=httpx.URL(url).params.merge({"limit": limit}))
    while True:
        assert answer.status_code == 200, answer.text
        found.append(answer.json())
        if "next" not in answer.links:
            return found
        answer = await client.get(answer.links["next"]["url"])


@pytest.mark.parametrize("url", LISTS)
async def test_every_list_comes_by_the_page_whole_and_in_its_order(up: Mesh, url: str) -> None:
    async with up.client() as client:
        whole = (await client.get(url)).json()
        assert len(whole) >= 7
        for limit in (1, 3, 7, 1000):
            found = await pages(client, url, limit)
            assert [item for page in found for item in page] == whole
            assert all(len(page) == limit for page in found[:-1])


async def test_what_comes_between_two_pages_shifts_nothing(up: Mesh) -> None:
    async with up.client() as client:
        before = [p["id"] for p in (await client.get("/v1/cognition/proposals")).json()]
        first = await client.get("/v1/cognition/proposals?limit=5")
        await up.put(created("new-1"), created("new-2"))
        rest = await client.get(first.links["next"]["url"].replace("limit=5", "limit=1000"))
        assert [p["id"] for p in (*first.json(), *rest.json())] == before


async def test_a_cursor_of_another_list_or_of_nobody_is_422(up: Mesh) -> None:
    async with up.client() as client:
        link = (await client.get("/v1/cognition/proposals?limit=1")).links["next"]["url"]
        cursor = httpx.URL(link).params["after"]
        for after in (cursor, "x", "%00", "W10", "A" * 500):
            answer = await client.get(f"/v1/swarm/personas?after={after}")
            assert (answer.status_code, answer.json()["reason"]) == (422, "bad_cursor")
        assert (await client.get("/v1/swarm/personas?limit=0")).status_code == 422


async def test_a_filter_stays_in_the_link_and_a_token_does_not() -> None:
    settings = GatewaySettings(keys=(key("r-token", "reader", "read"),))
    async with mesh(settings) as up, up.client() as client:
        await up.put(*(spawned(f"p-{n}", swarm=swarm) for n in range(3) for swarm in ("s", "t", "u")))
        answer = await client.get("/v1/swarm/personas?swarm=t&limit=2&token=r-token")
        link = httpx.URL(answer.links["next"]["url"])
        assert dict(link.params) == {"swarm": "t", "limit": "2", "after": link.params["after"]}
        rest = await client.get(link, headers={"Authorization": "Bearer r-token"})
        assert [p["identity"]["id"] for p in (*answer.json(), *rest.json())] == ["p-0", "p-1", "p-2"]
        assert {p["identity"]["swarm_id"] for p in (*answer.json(), *rest.json())} == {"t"}


async def test_ten_thousand_personas_are_a_hundred_at_a_time_and_a_thousand_at_most() -> None:
    async with mesh() as up, up.client() as client:
        await up.put(*(spawned(f"p-{n:05}", swarm=f"s{n % 10}") for n in range(10_000)))
        answer = await client.get("/v1/swarm/personas")
        assert len(answer.json()) == 100
        assert len(answer.content) < 100_000
        assert len((await client.get("/v1/swarm/personas?limit=5000")).json()) == 1000
        assert len((await client.get("/v1/cognition/workspace")).json()["active_objectives"]) == 1
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        beside = asyncio.create_task(others())
        graph = await lineage.fn(gateway=up.gateway)
        beside.cancel()
        assert len(graph.nodes) == 10_000
        assert turns >= 19
