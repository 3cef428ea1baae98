"""The faster paths of the client do what nats-py's own do: a release of nats-py that changes them fails here."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.errors import BadHeaderError, OutboundBufferLimitError, ProtocolError
from nats.protocol.parser import Parser

from shared.log.client.wire import Raw, WireClient, read_headers, write_headers
from tests.broker import Broker

NAMES = st.one_of(st.from_regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}", fullmatch=True), st.text(min_size=1, max_size=6))
VALUES = st.text(max_size=20)
SUBJECTS = st.from_regex(r"[a-z]{1,8}(\.[a-z0-9]{1,5}){0,3}", fullmatch=True)
BODIES = st.one_of(st.binary(max_size=40), st.sampled_from([b"\r\n", b"MSG a 1 2\r\n", b"PING\r\n" * 3, b"x" * 5000]))


class Sink(Client):
    """nats-py's own publish path, up to the bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []

    async def _send_command(self, cmd: bytes, priority: bool = False) -> None:
        self.sent.append(bytes(cmd))


async def _published(subject: str, body: bytes, reply: str, headers: dict[str, str] | None) -> bytes | None:
    client = Sink()
    try:
        await client._send_publish(subject, reply, body, len(body), headers)
    except BadHeaderError:
        return None
    return client.sent[0]


async def _sent(subject: str, body: bytes, reply: str, headers: dict[str, str] | None) -> bytes | None:
    client = WireClient()
    client._max_pending_size = client._max_payload = 1_000_000
    client._status = Client.RECONNECTING
    try:
        client.send(subject, body, reply, write_headers(headers or {}))
    except ValueError:
        return None
    return client._pending[0]


@given(SUBJECTS, BODIES, st.one_of(st.just(""), SUBJECTS), st.dictionaries(NAMES, VALUES, max_size=4))
def test_what_is_sent_is_what_nats_py_would_have_sent(
    subject: str, body: bytes, reply: str, headers: dict[str, str]
) -> None:
    theirs = asyncio.run(_published(subject, body, reply, headers or None))
    if any(name != name.strip() for name in headers):
        return  # nats-py mends such names, we refuse them
    assert asyncio.run(_sent(subject, body, reply, headers)) == theirs


@pytest.mark.parametrize(
    ("subject", "reply"), [("", ""), ("a b", ""), ("a\r\nPUB x 1", ""), ("a", "b c"), ("a", "b\tc"), (" ", "x")]
)
def test_a_subject_cannot_bring_in_a_line_of_its_own(subject: str, reply: str) -> None:
    assert asyncio.run(_sent(subject, b"", reply, None)) is None
    assert asyncio.run(_sent(subject, b"", reply, {"n": "v"})) is None


@given(
    st.lists(st.tuples(st.one_of(NAMES, st.sampled_from((" a ", "a b", "a\x1f"))), VALUES), max_size=5),
    st.binary(max_size=12),
)
def test_headers_come_in_as_nats_py_reads_them(pairs: list[tuple[str, str]], rest: bytes) -> None:
    raw = b"".join(f"{name}:{value}\r\n".encode() for name, value in pairs) + rest + b"\r\n\r\n"
    expected = {name: value for name, value in Client._parse_header_lines(raw).items() if name}
    assert expected == read_headers(raw)


@pytest.mark.parametrize(
    "head",
    [
        b"NATS/1.0 404\r\n\r\n",
        b"NATS/1.0 404 No Messages\r\n\r\n",
        b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1016\r\nNats-Last-Stream: 1024\r\n\r\n",
        b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 3\r\nNats-Pending-Bytes: 0\r\n\r\n",
        b"NATS/1.0\r\nce-id: 1\r\nce-type: a.b\r\n\r\n",
    ],
)
async def test_a_status_comes_in_as_nats_py_reads_it(head: bytes) -> None:
    raw = Raw("a", "", b"", head)
    theirs = await Client()._process_headers(head) or {}
    assert (theirs.pop("Status", ""), theirs.pop("Description", "")) == (raw.status, raw.description)
    assert theirs == raw.headers


class Heard:
    """What a parser hands on."""

    def __init__(self) -> None:
        self.all: list[tuple[Any, ...]] = []
        self.takers: dict[int, Any] = {}

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        self.all.append((sid, bytes(subject), bytes(reply), data, headers or b""))

    async def _process_ping(self) -> None:
        self.all.append(("ping",))

    async def _process_pong(self) -> None:
        self.all.append(("pong",))

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.all.append(("info", info))

    async def _process_err(self, error: str) -> None:
        self.all.append(("err", error))


def _message(subject: str, reply: str, head: bytes, body: bytes) -> bytes:
    words = f"{subject} 7 {reply}".rstrip()
    if head:
        return f"HMSG {words} {len(head)} {len(head) + len(body)}\r\n".encode() + head + body + b"\r\n"
    return f"MSG {words} {len(body)}\r\n".encode() + body + b"\r\n"


MESSAGES = st.builds(
    _message,
    SUBJECTS,
    st.one_of(st.just(""), SUBJECTS),
    st.sampled_from([b"", b"NATS/1.0\r\na: b\r\n\r\n", b"NATS/1.0 503\r\n\r\n"]),
    BODIES,
)
LINES = st.one_of(
    MESSAGES, MESSAGES, st.sampled_from([b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b"-ERR 'no'\r\n", b'INFO {"a":1}\r\n'])
)


async def _parsed(parser: Any, chunks: list[bytes]) -> None:
    for chunk in chunks:
        await parser.parse(chunk)


@given(st.lists(LINES, max_size=8), st.lists(st.integers(1, 60), max_size=12))
def test_whatever_the_chunks_the_parser_hands_on_what_nats_py_would(lines: list[bytes], cuts: list[int]) -> None:
    stream, chunks = b"".join(lines), []
    for cut in cuts:
        chunks.append(stream[:cut])
        stream = stream[cut:]
    chunks.append(stream)
    ours, theirs = Heard(), Heard()
    asyncio.run(_parsed(WireClient.parser(ours), chunks))
    asyncio.run(_parsed(Parser(theirs), [b"".join(lines)]))
    assert theirs.all == ours.all


@pytest.mark.parametrize(
    "line", [b"MSG a x 3\r\n", b"HMSG a 1 3\r\n", b"MSG a\r\n", b"HMSG a 1 9 3\r\n", b"MSG a 1 -4\r\n"]
)
async def test_what_is_no_message_ends_the_connection_and_not_the_process(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        await WireClient.parser(Heard()).parse(line + b"abc\r\n")


async def test_a_direct_subscription_gets_messages_in_order_and_outlives_its_callbacks_errors(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    errors: list[Exception] = []
    taken: list[Raw] = []
    done = asyncio.Event()

    async def note(error: Exception) -> None:
        errors.append(error)

    def take(message: Raw) -> None:
        taken.append(message)
        if len(taken) == 2:
            raise RuntimeError("the second one is too much")
        if len(taken) == 4:
            done.set()

    client = WireClient()
    await client.connect(broker.url, error_cb=note)
    subscription = await client.subscribe_direct("x.*", take)
    for n in range(3):
        client.send(f"x.{n}", b"%d" % n, "back", write_headers({"n": f"{n} ☃"}))
    await client.publish("x.3", b"3", reply="back", headers={"n": "3 ☃"})
    async with asyncio.timeout(5):
        await done.wait()
    assert [(f"x.{n}", "back", b"%d" % n, f"{n} ☃") for n in range(4)] == [
        (m.subject, m.reply, m.data, m.headers["n"]) for m in taken
    ]
    assert ["the second one is too much"] == [str(error) for error in errors]
    await subscription.unsubscribe()
    client.send("x.9", b"")
    await client.flush()
    assert 4 == len(taken)
    await client.close()
    await asyncio.to_thread(broker.kill)


async def test_more_than_the_socket_takes_arrives_whole_and_a_full_buffer_says_so(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    client, other = WireClient(), WireClient()
    await client.connect(broker.url, pending_size=4_000_000)
    await other.connect(broker.url)
    sizes: list[int] = []
    done = asyncio.Event()

    def take(message: Raw) -> None:
        sizes.append(len(message.data))
        if message.data == b"end":
            done.set()

    await other.subscribe_direct("big", take)
    await other.flush()
    sent = 0
    for _ in range(40):
        try:
            client.send("big", b"x" * 900_000)
            sent += 1
        except OutboundBufferLimitError:
            await client.flush()
    assert 0 < sent < 40, "the buffer was never full"
    await client.flush()
    client.send("big", b"end")
    async with asyncio.timeout(10):
        await done.wait()
    assert [900_000] * sent + [3] == sizes
    await client.close()
    await other.close()
    await asyncio.to_thread(broker.kill)
