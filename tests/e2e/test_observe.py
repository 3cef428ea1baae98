"""`swarm observe --follow` against a real gateway and broker: killed at any line, its next start loses none and doubles none."""

from __future__ import annotations

import asyncio
import gzip
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

import pytest

from shared.contracts.events import ObservationRecorded
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from tests.e2e.processes import Mesh, running

KILLS = 8
SEED = 7


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    async with running(tmp_path) as found:
        yield found
    for process in Swarm.started:
        process.kill()
        process.wait()
    Swarm.started.clear()


class Swarm:
    """`swarm observe …` as a process."""

    started: ClassVar[list[subprocess.Popen[bytes]]] = []

    def __init__(self, mesh: Mesh, folder: Path, *arguments: str, said: Path) -> None:
        env = {"PATH": os.environ["PATH"], "XDG_STATE_HOME": str(folder / "state"), "HOME": str(folder)}
        with said.open("ab") as out:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "services.cli.main",
                    "observe",
                    *arguments,
                    "--url",
                    str(mesh.client.base_url),
                    "--swarm",
                    "alpha",
                ],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        self.started.append(self.process)

    async def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return await asyncio.to_thread(self.process.wait, 20)


async def recorded(mesh: Mesh) -> list[str]:
    """The texts of all observations in the log."""
    connection = await Connection.open(mesh.broker.url, name="test")
    try:
        found = await JetStreamLog(connection, service="test", instance="test").read(
            ("observation.recorded.alpha.all",)
        )
        return [r.event.text for r in found if isinstance(r.event, ObservationRecorded)]
    finally:
        await connection.close()


async def until(mesh: Mesh, last: str) -> list[str]:
    async with asyncio.timeout(60):
        while last not in (texts := await recorded(mesh)):
            await asyncio.sleep(0.1)
    return texts


async def test_a_killed_follower_goes_on_where_it_was(mesh: Mesh, tmp_path: Path) -> None:
    file, said = tmp_path / "app.log", tmp_path / "said"
    dice, written = random.Random(SEED), 0
    file.touch()

    def write(lines: int) -> None:
        nonlocal written
        with file.open("a") as out:
            for _ in range(lines):
                out.write(f"line {written}\n")
                written += 1

    for round_ in range(KILLS):
        write(dice.randrange(1, 400))
        follower = Swarm(mesh, tmp_path, str(file), "--follow", "--batch", "7", "--source", "web", said=said)
        async with asyncio.timeout(60):
            while f"line {written - 1}" not in (texts := await recorded(mesh)) and len(texts) < written - 40:
                await asyncio.sleep(0.02)
        await asyncio.sleep(dice.random() * 0.2)  # where it is killed is left to chance
        await follower.end(signal.SIGKILL)
        if round_ == KILLS // 2:  # and its file is moved away and compressed meanwhile
            write(5)
            file.with_name("app.log.1.gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()
            file.touch()
    write(1)
    follower = Swarm(mesh, tmp_path, str(file), "--follow", "--source", "web", said=said)
    texts = await until(mesh, f"line {written - 1}")
    assert await follower.end(signal.SIGTERM) != 0
    doubled = {text: n for text, n in Counter(texts).items() if n > 1}
    missing = [f"line {n}" for n in range(written) if f"line {n}" not in texts]
    assert (doubled, missing) == ({}, []), said.read_text()
    assert "nobody lives in the swarm 'alpha'" in said.read_text()


async def test_a_batch_that_was_sent_before_its_follower_died_is_not_sent_again(mesh: Mesh, tmp_path: Path) -> None:
    body = {"observations": [{"text": f"a{n}"} for n in range(3)]}
    before = await mesh.posts("/v1/swarm/alpha/observations", body, "k")
    for n in range(25):  # more than a gateway remembers keys for
        many = {"observations": [{"text": f"{n}.{i}"} for i in range(1000)]}
        assert (await mesh.posts("/v1/swarm/alpha/observations", many, f"k{n}")).status_code == 200
    path = "/v1/swarm/alpha/observations?since=0"
    again = await mesh.client.post(path, json=body, headers={"Idempotency-Key": "k"})
    assert again.json() == before.json()
    assert Counter(await recorded(mesh))["a0"] == 1


async def test_a_pipe_is_read_to_its_end_under_its_name(mesh: Mesh, tmp_path: Path) -> None:
    said = tmp_path / "said"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    follower = Swarm(mesh, tmp_path, str(pipe), "--source", "journal", "--encoding", "latin-1", said=said)
    await asyncio.to_thread(pipe.write_bytes, "K\u00e4se\rzwei\n".encode("latin-1"))
    assert await asyncio.to_thread(follower.process.wait, 20) == 0
    assert await recorded(mesh) == ["K\u00e4se", "zwei"]
    assert "2 observations from journal are in alpha" in said.read_text()
