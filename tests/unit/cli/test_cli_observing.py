"""Batches reach the API whole, bounded and once, whatever the API answers meanwhile."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from services.cli import observing
from services.cli.host import HostSensor
from services.cli.observing import MAX_BODY, Observer
from services.cli.target import Stop
from shared.thinker.sensors import readings


class Api:
    """Answers with the given statuses in turn, then 200; keeps what it was sent."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 0:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(status, json={"detail": "no such swarm"})

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self), base_url="http://mesh")

    def texts(self) -> list[list[str]]:
        return [[o["text"] for o in json.loads(r.content)["observations"]] for r in self.requests]


async def test_batches_are_bounded_in_number_and_in_bytes() -> None:
    api = Api()
    async with api.client() as client:
        observer = Observer(client, "alpha", "a.log", batch=3)
        await observer.send(["1", "2", "3", "4"])
        await observer.send(["x" * 8000] * 90)
    assert api.texts()[:2] == [["1", "2", "3"], ["4"]]
    assert all(len(r.content) <= MAX_BODY + 20 for r in api.requests)
    assert observer.sent == 94
    assert all(r.url.path == "/v1/swarm/alpha/observations" for r in api.requests)


async def test_a_batch_is_tried_under_one_key_until_it_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "FIRST_WAIT_S", 0.0)
    api = Api(0, 503, 429)
    said: list[str] = []
    async with api.client() as client:
        await Observer(client, "alpha", "a.log", notice=said.append).send(["one"])
    assert len({r.headers["Idempotency-Key"] for r in api.requests}) == 1
    assert len({r.content for r in api.requests}) == 1
    assert len(api.requests) == 4
    assert said == [
        "nobody answers at http://mesh (ConnectError); trying again until it does",
        "the mesh answers again",
    ]


async def test_a_refusal_for_good_ends_it_in_the_apis_words() -> None:
    api = Api(422)
    async with api.client() as client:
        with pytest.raises(Stop, match="no such swarm"):
            await Observer(client, "alpha", "a.log").send(["one"])


async def test_the_host_sensor_writes_what_perception_reads() -> None:
    line = await asyncio.to_thread(lambda: HostSensor().read())
    assert [r.name for r in readings(line)] == ["cpu", "mem", "disk", "load1", "procs"]
    assert line.startswith("host cpu=")
    assert " top=" in line
