"""`swarm keys` and `swarm bootstrap` against a real nats-server: what is written is what it lets in, and a reload drops nobody."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import nats.errors
import pytest

from services.supervisor import bootstrap
from services.supervisor.secrets import keyring
from services.supervisor.secrets.keys import seed_file
from shared.crypto import new_seed
from tests.keyed import Keyed


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Keyed]:
    broker = Keyed(tmp_path)
    broker.key_command("init", *broker.places())
    await broker.start()
    yield broker
    for client in broker.clients:
        await client.close()
    broker.end()


async def test_a_key_is_made_and_another_replaced_while_everybody_stays_connected(
    broker: Keyed, tmp_path: Path
) -> None:
    await broker.bootstrap("--nats-seed", str(seed_file(broker.keys, "bootstrap")))
    dropped = asyncio.Event()
    names = (
        "verifier-1",
        "verifier-16",
        "gateway-1",
        "persona_runner-1",
        "persona_runner-16",
        "governor-1",
        "operator",
    )
    stay = [await broker.login(name, dropped=dropped) for name in names]

    said = broker.key_command("add", "verifier-17")
    assert "nats-server --signal reload=PID" in said
    with pytest.raises(nats.errors.Error):
        await broker.login("verifier-17")
    await broker.reload(1)
    await broker.login("verifier-17")

    old = tmp_path / "old.nk"
    old.write_text(seed_file(broker.keys, "verifier-1").read_text())
    assert "--end" in broker.key_command("rotate", "verifier-1")
    await broker.reload(2)
    await broker.login("verifier-1", old)
    await broker.login("verifier-1")
    assert "rotating" in broker.key_command("show")
    assert not dropped.is_set()
    assert [True] * len(stay) == [client.is_connected for client in stay]
    answers = [await client.request("$JS.API.STREAM.INFO.SWARM", timeout=5) for client in stay]
    assert all(b'"name":"SWARM"' in answer.data for answer in answers), "and is answered"

    broker.key_command("rotate", "verifier-1", "--end")
    await broker.reload(3)
    await asyncio.wait_for(dropped.wait(), 5)
    with pytest.raises(nats.errors.Error):
        await broker.login("verifier-1", old)
    assert [False] + [True] * (len(stay) - 1) == [client.is_connected for client in stay]


async def test_streams_are_declared_once_and_whoever_may_not_is_told(broker: Keyed, tmp_path: Path) -> None:
    config = tmp_path / "swarm.toml"
    config.write_text(f'[nats]\nseed_file = "{seed_file(broker.keys, "bootstrap")}"\n')
    assert "created SWARM" in await broker.bootstrap("--config", str(config))
    assert "streams are as declared\n" == await broker.bootstrap("--config", str(config))

    said = await broker.bootstrap(code=bootstrap.UNUSABLE)
    assert "SWARM_NATS_SEED_FILE is not set" in said and "swarm keys init" in said
    stranger = tmp_path / "stranger.nk"
    stranger.write_text(new_seed())
    said = await broker.bootstrap("--nats-seed", str(stranger), "--wait", "0.2", code=bootstrap.AWAY)
    assert "does not know the key" in said and "reload" in said
    verifier = str(seed_file(broker.keys, "verifier-1"))
    said = await broker.bootstrap("--nats-seed", verifier, code=bootstrap.REFUSED)
    assert "is not the seed of the user bootstrap" in said


async def test_the_broker_is_waited_for_in_one_line(tmp_path: Path) -> None:
    broker = Keyed(tmp_path)
    broker.key_command("init", *broker.places())
    seed = ("--nats-seed", str(seed_file(broker.keys, "bootstrap")))
    said = (await broker.bootstrap(*seed, "--wait", "0.5", code=bootstrap.AWAY)).splitlines()
    assert 2 == len(said) and "waiting" in said[0] and said[1].startswith("bootstrap: no NATS server answers"), said
    declaring = asyncio.create_task(broker.bootstrap(*seed, "--wait", "30"))
    await asyncio.sleep(0)
    await broker.start()
    assert "created SWARM" in await declaring
    broker.end()


def test_what_others_may_read_is_said_and_nothing_secret_is(tmp_path: Path) -> None:
    broker = Keyed(tmp_path)
    broker.key_command("init")
    said = broker.key_command("show")
    assert said.count("\n") == len(keyring.configured(broker.keys).keys) + 1
    assert [] == re.findall(r"SU[A-Z2-7]{56}", said)
    seed_file(broker.keys, "verifier-1").chmod(0o644)
    assert "may be read by others" in broker.key_command("show", code=1)
