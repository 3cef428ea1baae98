"""Finding a real broker: keys it does not know and keys that are none are said with what to do, and who it is is made sure of."""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path

import pytest

from services.supervisor.running.ports import free_port
from shared.crypto import new_seed, public_key
from shared.log.client.connection import Connection, shown
from shared.log.client.tls import context
from shared.log.port import LogUnavailable
from shared.settings import Nats, SettingsError
from tests.broker import Broker
from tests.tls import pair

WAIT_S = 0.3


def user_seed(folder: Path, name: str) -> tuple[Path, str]:
    """The file of a new user's seed, and the public key."""
    file, seed = folder / f"{name}.nk", new_seed()
    file.write_text(seed)
    return file, public_key(seed)


async def test_a_key_the_broker_does_not_know_is_waited_for_until_it_does(tmp_path: Path) -> None:
    (known, public), (other, added) = user_seed(tmp_path, "known"), user_seed(tmp_path, "other")
    broker = Broker(tmp_path, more=f"authorization {{ users: [ {{ nkey: {public} }} ] }}")
    await broker.start()
    try:
        await (await Connection.open(broker.url, name="known", seed_file=known)).close()
        with pytest.raises(
            LogUnavailable, match=r"does not know the key in .*other\.nk; put that into its configuration"
        ):
            await Connection.open(broker.url, name="other", seed_file=other, wait_s=WAIT_S)
        waiting = asyncio.create_task(Connection.open(broker.url, name="other", seed_file=other, wait_s=None))
        broker.kill()
        broker.config.write_text(
            broker.config.read_text().replace(f"nkey: {public} }}", f"nkey: {public} }}, {{ nkey: {added} }}")
        )
        await broker.start()
        async with asyncio.timeout(20):
            await (await waiting).close()
    finally:
        broker.kill()


async def test_who_hangs_up_before_its_reason_is_read_has_still_given_one(tmp_path: Path) -> None:
    seed, _ = user_seed(tmp_path, "other")
    reasons = iter([b"-ERR 'Authorization Violation'\r\n"])

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"one","version":"2.15.1","max_payload":1048576,"nonce":"n"}\r\n')
        await reader.readuntil(b"PING\r\n")
        if reason := next(reasons, b""):
            writer.write(reason)
            writer.close()
        else:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    server = await asyncio.start_server(refuse, "127.0.0.1")
    url = "nats://127.0.0.1:{1}".format(*server.sockets[0].getsockname())
    async with server:
        with pytest.raises(LogUnavailable, match="does not know the key"):
            await Connection.open(url, name="other", seed_file=seed, wait_s=WAIT_S)


async def test_a_key_that_is_none_and_one_that_is_not_there_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.nk"
    broken.write_text("SUAnothing")
    broker = Broker(
        tmp_path, more="authorization { users: [ { nkey: UAHJLSMYZDJCBHQ2SARL37IEALR3TI7VVPZ2MJ7F4SZKNOG7HJJIYW5T } ] }"
    )
    await broker.start()
    try:
        for path, said in (
            (broken, r"invalid seed in .*broken\.nk; it is to be"),
            (tmp_path / "no.nk", "No such file"),
        ):
            with pytest.raises(LogUnavailable, match=said):
                await Connection.open(broker.url, name="test", seed_file=path, wait_s=WAIT_S)
    finally:
        broker.kill()


async def test_of_several_brokers_one_that_is_there_is_enough(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    try:
        urls = f"nats://127.0.0.1:{free_port()}, {broker.url}"
        await (await Connection.open(urls, name="test", wait_s=5)).close()
    finally:
        broker.kill()


async def test_what_somebody_put_into_a_url_to_log_in_with_is_not_said() -> None:
    url = f"nats://me:hush@127.0.0.1:{free_port()}"
    assert shown(f"{url},tls://h:1") == f"nats://{url.partition('@')[2]},tls://h:1"
    with pytest.raises(LogUnavailable) as refused:
        await Connection.open(url, name="test", wait_s=WAIT_S)
    assert "hush" not in str(refused.value)


# -- TLS ------------------------------------------------------------------------------------------------------------------


async def reached(nats: Nats) -> str:
    """How the connection is: "ok", or why there is none."""
    try:
        connection = await Connection.open(nats.url, name="test", tls=context(nats), wait_s=WAIT_S)
    except LogUnavailable as error:
        return str(error)
    await connection.close()
    return "ok"


async def test_over_tls_only_who_is_believed_is_spoken_to_and_shown_a_certificate(tmp_path: Path) -> None:
    (shown_, key), (mine, my_key), (other, _) = (pair(tmp_path, name) for name in ("broker", "client", "other"))
    tls = f'tls {{\n cert_file: "{shown_}"\n key_file: "{key}"\n ca_file: "{mine}"\n verify: true\n}}'
    broker = Broker(tmp_path, more=tls)
    await broker.start()
    url = broker.url.replace("nats://", "tls://")
    me = {"cert_file": str(mine), "key_file": str(my_key)}
    try:
        assert await reached(Nats(url=url, ca_file=str(shown_), **me)) == "ok"
        assert await reached(Nats(url=broker.url, ca_file=str(shown_), **me)) == "ok"
        several = f"tls://127.0.0.1:{free_port()},{url}"
        assert await reached(Nats(url=several, ca_file=str(shown_), **me)) == "ok"
        for nats in (Nats(url=url, **me), Nats(url=url, ca_file=str(other), **me)):
            assert "CERTIFICATE_VERIFY_FAILED" in await reached(nats)
        assert await reached(Nats(url=url, ca_file=str(shown_))) != "ok"  # it shows nothing
    finally:
        broker.kill()


async def test_nothing_is_said_in_the_clear_to_who_was_to_speak_tls(tmp_path: Path) -> None:
    (ca, _) = pair(tmp_path, "broker")
    broker = Broker(tmp_path)
    await broker.start()
    try:
        for nats in (Nats(url=broker.url.replace("nats://", "tls://")), Nats(url=broker.url, ca_file=str(ca))):
            assert "nothing is said to it in the clear" in await reached(nats)
    finally:
        broker.kill()


def test_certificates_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    shown_, key = pair(tmp_path, "one")
    _, other_key = pair(tmp_path, "other")
    assert context(Nats()) is None
    for nats, said in (
        (Nats(ca_file=str(tmp_path / "no.crt")), r"SWARM_NATS_CA_FILE=.*no\.crt: No such file"),
        (Nats(ca_file=str(key)), r"SWARM_NATS_CA_FILE=.*one\.key: "),
        (
            Nats(cert_file=str(shown_), key_file=str(other_key)),
            r"SWARM_NATS_CERT_FILE=.*one\.crt, SWARM_NATS_KEY_FILE=.*other\.key: ",
        ),
        (Nats(ca_file=str(shown_), key_file=str(key)), "SWARM_NATS_KEY_FILE needs SWARM_NATS_CERT_FILE"),
    ):
        with pytest.raises(SettingsError, match=said):
            context(nats)
