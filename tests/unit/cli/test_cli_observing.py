"""Batches reach the API whole, bounded and once, whatever the API answers meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from services.cli.observe import kept, sending
from services.cli.observe.follow import Chunk, Follower
from services.cli.observe.host import HostSensor
from services.cli.observe.kept import Kept, State
from services.cli.observe.sending import MAX_BODY, Observer
from services.cli.terminal.target import Stop
from shared.thinker.perceiving.sensors import readings


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
    monkeypatch.setattr(sending, "FIRST_WAIT_S", 0.0)
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


class Mesh:
    """Keeps observations by key, as the API does; its answer is lost when `lost` says so."""

    def __init__(self) -> None:
        self.kept: dict[str, list[str]] = {}
        self.lost = False
        self.queries: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        texts = [o["text"] for o in json.loads(request.content)["observations"]]
        known = self.kept.setdefault(request.headers["Idempotency-Key"], texts)
        assert texts == known
        self.queries.append(request.url.query.decode())
        if self.lost:
            raise Killed
        return httpx.Response(200, json={"sequences": [sum(map(len, self.kept.values()))], "ids": [], "count": 1})

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self), base_url="http://mesh")


class Killed(BaseException):
    """The process is gone."""


async def once(file: Path, mesh: Mesh, state: Path) -> None:
    """A follower that reads what there is and ends."""
    kept = Kept(state, lambda text: None)
    follower = Follower(file, lambda text: None, places=kept.state.places)
    try:
        async with mesh.client() as client:

            async def chunks() -> AsyncIterator[Chunk]:
                for chunk in follower.look():
                    yield chunk

            await Observer(client, "alpha", "a.log", batch=2).follow(chunks(), kept)
    finally:
        kept.close()
        follower.close()


async def test_whoever_dies_before_the_answer_sends_the_same_batch_under_the_same_key(tmp_path: Path) -> None:
    file, state, mesh = tmp_path / "a.log", tmp_path / "state.json", Mesh()
    file.write_bytes(b"1\n2\n3\n4\n5\n")
    await once(file, mesh, state)
    file.write_bytes(file.read_bytes() + b"6\n7\n8\n")
    mesh.lost = True
    with pytest.raises(Killed):
        await once(file, mesh, state)
    mesh.lost = False
    file.write_bytes(file.read_bytes() + b"9\n")
    await once(file, mesh, state)
    assert [["1", "2"], ["3", "4"], ["5"], ["6", "7"], ["8", "9"]] == list(mesh.kept.values())
    assert ["", "", "", "", "since=5", ""] == mesh.queries
    await once(file, mesh, state)
    assert len(mesh.queries) == 6


async def test_one_follower_at_a_time_has_a_place(tmp_path: Path) -> None:
    first = Kept(tmp_path / "state.json", lambda text: None)
    with pytest.raises(Stop, match="is at work"):
        Kept(tmp_path / "state.json", lambda text: None)
    first.close()
    Kept(tmp_path / "state.json", lambda text: None).close()


async def test_a_place_that_cannot_be_read_ends_it_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_bytes(b'{"places": 1}')
    with pytest.raises(Stop, match="remove it to begin"):
        Kept(tmp_path / "state.json", lambda text: None)


async def test_a_disk_that_is_full_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    store = Kept(tmp_path / "state.json", said.append)
    fails = [OSError(28, "No space left on device")] * 2
    write = kept._write

    def full(file: Path, content: bytes) -> None:
        if fails:
            raise fails.pop()
        write(file, content)

    monkeypatch.setattr(kept, "_write", full)
    monkeypatch.setattr(kept, "WAIT_S", 0.0)
    await store.save(State(sequence=5))
    store.close()
    assert len(said) == 1
    assert "No space left" in said[0]
    again = Kept(tmp_path / "state.json", said.append)
    assert again.state == State(sequence=5)
    again.close()
