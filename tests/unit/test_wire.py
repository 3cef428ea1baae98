"""The faster paths of the client do what nats-py's own do: a release of nats-py that changes them fails here."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import BadHeaderError

from shared.log.wire import WireClient
from tests.broker import Broker

NAMES = st.one_of(st.from_regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}", fullmatch=True), st.text(min_size=1, max_size=6))
VALUES = st.text(max_size=20)


class Sink(Client):
    """nats-py's own publish path, up to the bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []

    async def _send_command(self, cmd: bytes, priority: bool = False) -> None:
        self.sent.append(bytes(cmd))


class WireSink(WireClient, Sink):
    """Ours, up to the bytes."""


async def _published(client: Sink, headers: dict[str, str]) -> list[bytes] | str:
    try:
        await client._send_publish("a.b", "_INBOX.x", b"body", 4, headers)
    except BadHeaderError:
        return "refused"
    return client.sent


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_headers_go_out_as_nats_py_writes_them(headers: dict[str, str]) -> None:
    expected = asyncio.run(_published(Sink(), headers))
    assert expected == asyncio.run(_published(WireSink(), headers))


@given(
    st.lists(st.tuples(st.one_of(NAMES, st.just(" a "), st.just("a b")), VALUES), max_size=5), st.binary(max_size=12)
)
def test_headers_come_in_as_nats_py_reads_them(pairs: list[tuple[str, str]], rest: bytes) -> None:
    raw = b"".join(f"{name}:{value}\r\n".encode() for name, value in pairs) + rest + b"\r\n\r\n"
    expected = {name: value for name, value in Client._parse_header_lines(raw).items() if name}
    assert expected == WireClient._parse_header_lines(raw)


async def test_a_direct_subscription_gets_messages_in_order_and_outlives_its_callbacks_errors(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    errors: list[Exception] = []
    taken: list[Msg] = []
    done = asyncio.Event()

    async def note(error: Exception) -> None:
        errors.append(error)

    async def take(message: Msg) -> None:
        taken.append(message)
        if len(taken) == 2:
            raise RuntimeError("the second one is too much")
        if len(taken) == 3:
            done.set()

    client = WireClient()
    await client.connect(broker.url, error_cb=note)
    subscription = await client.subscribe_direct("x.*", take)
    for n in range(3):
        await client.publish(f"x.{n}", b"%d" % n, reply="back", headers={"n": f"{n} ☃"})
    async with asyncio.timeout(5):
        await done.wait()
    assert [("x.0", "back", b"0", "0 ☃"), ("x.1", "back", b"1", "1 ☃"), ("x.2", "back", b"2", "2 ☃")] == [
        (m.subject, m.reply, m.data, m.headers["n"]) for m in taken if m.headers
    ]
    assert ["the second one is too much"] == [str(error) for error in errors]
    await subscription.unsubscribe()
    await client.publish("x.9", b"")
    await client.flush()
    assert 3 == len(taken)
    await client.close()
    await asyncio.to_thread(broker.kill)
