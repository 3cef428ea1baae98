"""Finding a real broker: keys it does not know, and keys that are none, are said with what to do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import nkeys
import pytest

from services.supervisor.keys import ensure_keys, seed_file
from services.supervisor.ports import free_port
from shared.log.client.connection import Connection, shown
from shared.log.port import LogUnavailable
from tests.broker import Broker

WAIT_S = 0.3


def user_seed(folder: Path, name: str) -> tuple[Path, str]:
    """The file of a user's seed, and the public key."""
    public = ensure_keys(folder, (name,))[name]
    return seed_file(folder, name), public


async def test_a_key_the_broker_does_not_know_is_waited_for_until_it_does(tmp_path: Path) -> None:
    (known, public), (other, _) = user_seed(tmp_path, "known"), user_seed(tmp_path, "other")
    broker = Broker(tmp_path, more=f"authorization {{ users: [ {{ nkey: {public} }} ] }}")
    await broker.start()
    try:
        await (await Connection.open(broker.url, name="known", seed_file=known)).close()
        with pytest.raises(
            LogUnavailable, match=r"does not know the key in .*other\.nk; put that into its configuration"
        ):
            await Connection.open(broker.url, name="other", seed_file=other, wait_s=WAIT_S)
        waiting = asyncio.create_task(Connection.open(broker.url, name="other", seed_file=other, wait_s=None))
        added = nkeys.from_seed(bytearray(other.read_bytes().strip())).public_key.decode()
        broker.kill()
        broker.config.write_text(
            broker.config.read_text().replace(f"nkey: {public} }}", f"nkey: {public} }}, {{ nkey: {added} }}")
        )
        await broker.start()
        async with asyncio.timeout(20):
            await (await waiting).close()
    finally:
        broker.kill()


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
