"""`swarm keys` and `swarm bootstrap` against a real nats-server: what is written is what it lets in, and a reload drops nobody."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import nats.errors
import pytest

from services.supervisor import declaring
from services.supervisor.running.ports import free_port
from services.supervisor.secrets import keyring
from services.supervisor.secrets.keys import seed_file
from shared.broker import inbox_prefix
from shared.contracts.envelope import Message, Recorded, Stored, encode
from shared.contracts.services import SERVICES
from shared.crypto import new_seed, public_key
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.signers import BOUNDARY, Signers
from tests.e2e.test_starting import catches_sigterm
from tests.keyed import Keyed
from tests.unit.gate.given import KEY, appointed, message_of


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
    assert (await broker.bootstrap("--config", str(config))).startswith("streams are as declared\n")

    said = await broker.bootstrap(code=declaring.UNUSABLE)
    assert "SWARM_NATS_SEED_FILE is not set" in said and "swarm keys init" in said
    stranger = tmp_path / "stranger.nk"
    stranger.write_text(new_seed())
    said = await broker.bootstrap("--nats-seed", str(stranger), "--wait", "0.2", code=declaring.AWAY)
    assert "does not know the key" in said and "reload" in said
    verifier = str(seed_file(broker.keys, "verifier-1"))
    said = await broker.bootstrap("--nats-seed", verifier, code=declaring.REFUSED)
    assert "is not the seed of the user bootstrap" in said


async def test_the_broker_is_waited_for_in_one_line(tmp_path: Path) -> None:
    broker = Keyed(tmp_path)
    broker.key_command("init", *broker.places())
    seed = ("--nats-seed", str(seed_file(broker.keys, "bootstrap")))
    said = (await broker.bootstrap(*seed, "--wait", "0.5", code=declaring.AWAY)).splitlines()
    assert 2 == len(said) and "waiting" in said[0] and said[1].startswith("bootstrap: no NATS server answers"), said
    declared = asyncio.create_task(broker.bootstrap(*seed, "--wait", "30"))
    await asyncio.sleep(0)
    await broker.start()
    assert "created SWARM" in await declared
    broker.end()


def test_what_others_may_read_is_said_and_nothing_secret_is(tmp_path: Path) -> None:
    broker = Keyed(tmp_path)
    broker.key_command("init")
    said = broker.key_command("show")
    assert said.count("\n") == len(keyring.configured(broker.keys).keys) + 1
    assert [] == re.findall(r"SU[A-Z2-7]{56}", said)
    seed_file(broker.keys, "verifier-1").chmod(0o644)
    assert "may be read by others" in broker.key_command("show", code=1)


async def words(broker: Keyed, name: str = "bootstrap") -> list[Stored]:
    """What the log has of who signs verdicts."""
    connection = await Connection.open(
        broker.url, name=name, seed_file=seed_file(broker.keys, name), inbox_prefix=inbox_prefix(name)
    )
    found = await JetStreamLog(connection, service=name, instance=name).stored((BOUNDARY,))
    await connection.close()
    return found


async def test_who_signs_verdicts_is_said_once_and_again_after_a_rotation_and_an_old_copy_is_refused(
    broker: Keyed, tmp_path: Path
) -> None:
    seed = ("--nats-seed", str(seed_file(broker.keys, "bootstrap")))
    root = (broker.keys / "actuator" / "verdict-root").read_text()
    assert "good now: 1, by number 1" in await broker.bootstrap(*seed)
    assert "good already: 1, by number 1" in await broker.bootstrap(*seed)
    old = shutil.copytree(broker.keys / "bootstrap", tmp_path / "copy")
    assert "run the bootstrap" in broker.key_command("rotate", "verdict", "--overlap", "30m")
    shown = broker.key_command("show")
    assert (2, 1) == (shown.count("\nverdict\t"), shown.count("good until"))
    assert "good now: 2, by number 2" in await broker.bootstrap(*seed)
    said = await broker.bootstrap("--nats-seed", str(old / "bootstrap.nk"), code=declaring.REFUSED)
    assert "the log has number 2 already" in said
    (old / "signers.json").unlink()
    assert "who signs verdicts is not said" in await broker.bootstrap("--nats-seed", str(old / "bootstrap.nk"))
    (old / "signers.json").write_text("{}")
    said = await broker.bootstrap("--nats-seed", str(old / "bootstrap.nk"), code=declaring.UNUSABLE)
    assert "SWARM_VERDICT_SIGNERS: it is not what `swarm keys` writes" in said
    known = Signers()
    for message in await words(broker):
        known.apply(message, (root,))
    held = [public_key(text) for text in (broker.keys / "policy_gate" / "verdict-seed").read_text().split()]
    assert held == [signer.key for signer in known.now] and [1, 2] == [word.event.number for word in known.words]


@pytest.mark.parametrize("name", [*(f"{service}-1" for service in SERVICES), "operator"])
async def test_no_service_and_not_the_operator_may_say_who_signs_verdicts(broker: Keyed, name: str) -> None:
    await broker.bootstrap("--nats-seed", str(seed_file(broker.keys, "bootstrap")))
    violations: list[str] = []

    async def told(error: Exception) -> None:
        violations.append(str(error))

    client = await nats.connect(
        broker.url,
        nkeys_seed=str(seed_file(broker.keys, name)),
        inbox_prefix=inbox_prefix(name).encode(),
        error_cb=told,
    )
    _, lines, body = encode(message_of(appointed(KEY, number=9), id="forged"))
    await client.publish(BOUNDARY, body, headers=dict(line.split(": ", 1) for line in lines.strip().split("\r\n")))
    for _ in range(2):  # nats-py's first ping may overtake what is still in its buffer
        await client.flush()
    await client.close()
    assert ["permissions violation" in said.casefold() and BOUNDARY in said.casefold() for said in violations] == [True]
    assert 1 == len(await words(broker))


async def test_the_bootstraps_key_alone_makes_nobody_a_signer(broker: Keyed) -> None:
    """The broker takes its word; who is to act on it does not, for the root did not sign it."""
    await broker.bootstrap("--nats-seed", str(seed_file(broker.keys, "bootstrap")))
    client = await broker.login("bootstrap")
    for root in (new_seed(), seed_file(broker.keys, "bootstrap").read_text()):
        _, lines, body = encode(message_of(appointed(KEY, number=9, root=root), id=f"forged-{root[-4:]}"))
        headers = dict(line.split(": ", 1) for line in lines.strip().split("\r\n"))
        assert b'"seq"' in (await client.request(BOUNDARY, body, headers=headers, timeout=5)).data
    root = (broker.keys / "actuator" / "verdict-root").read_text()
    known, found = Signers(), await words(broker)
    for message in found:
        known.apply(message, (root,))
    assert (3, 1, found[-1].seq) == (len(found), known.number, known.strange)
    first = found[0]
    broker.key_command("rotate", "verdict")
    await broker.bootstrap("--nats-seed", str(seed_file(broker.keys, "bootstrap")))
    assert isinstance(first, Recorded)
    _, lines, body = encode(Message(event=first.event, envelope=first.envelope))
    headers = dict(line.split(": ", 1) for line in lines.strip().split("\r\n"))
    assert b'"seq"' in (await client.request(BOUNDARY, body, headers=headers, timeout=5)).data
    for message in (await words(broker))[len(found) :]:
        known.apply(message, (root,))
    assert (2, known.position) == (known.number, known.strange), "an old word that is stored again"


async def test_whoever_ends_the_bootstrap_is_obeyed_from_its_first_line_and_not_taken_for_done(tmp_path: Path) -> None:
    env = {
        **os.environ,
        "SWARM_NATS_URL": f"nats://127.0.0.1:{free_port()}",
        "SWARM_NATS_SEED_FILE": str(tmp_path / "b.nk"),
    }
    (tmp_path / "b.nk").write_text(new_seed())
    command = (sys.executable, "-m", "services.supervisor.bootstrap")
    for waits in (False, True):
        with subprocess.Popen(command, env=env, stderr=subprocess.PIPE) as process:
            status = Path(f"/proc/{process.pid}/status")
            async with asyncio.timeout(30):
                while not catches_sigterm(status.read_text()):
                    await asyncio.sleep(0.001)
            if waits:
                assert process.stderr is not None
                line = await asyncio.to_thread(process.stderr.readline)
                assert b"waiting" in line, line
            process.terminate()
            assert 143 == await asyncio.to_thread(process.wait, 20)
