"""The JetStream log over kills of its server and deletions of its consumers: nothing is lost, nobody restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import nats.micro
import pytest

from services.supervisor.running.ports import free_port
from shared.contracts.envelope import Recorded, Unreadable
from shared.log.client.connection import Connection
from shared.log.client.wire import Raw
from shared.log.dead import bury
from shared.log.jetstream import JetStreamLog
from shared.log.port import ConsumerSpec, Expect, LogUnavailable
from shared.log.streams import ensure
from tests.broker import Broker
from tests.contract.test_log import observation, reaped

SPEC = ConsumerSpec(name="test", filters=("observation.recorded.*.*",), ack_wait_s=1)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    broker = Broker(tmp_path)
    await broker.start()
    await ensure(broker.url, None)
    yield broker
    broker.kill()


@pytest.fixture
async def log(broker: Broker) -> AsyncIterator[JetStreamLog]:
    connection = await Connection.open(broker.url, name="test")
    yield JetStreamLog(connection, service="test", instance="test-1")
    await connection.close()


async def test_nobody_without_the_key_can_take_an_events_dedup_id_before_it(broker: Broker, log: JetStreamLog) -> None:
    outcome = observation("what happened")
    connection = await Connection.open(broker.url, name="core")
    core = JetStreamLog(connection, service="test", instance="test-2", dedup_key=b"only CORE holds it")
    try:
        event_id = outcome.envelope.id  # of a caused event, anyone can foretell it
        await log.connection.request("observation.recorded.a.b", b"{}", headers={"Nats-Msg-Id": event_id})
        (seq,) = await core.commit([outcome])
        assert (seq,) == await core.commit([outcome])  # and the broker still knows it again
        stored = await core.get(seq)
        assert isinstance(stored, Recorded) and event_id == stored.id
    finally:
        await connection.close()


async def persist(log: JetStreamLog, text: str) -> None:
    """Commit until it is stored; the same event each time."""
    sent = observation(text)
    while True:
        try:
            await log.commit([sent])
        except LogUnavailable:
            continue
        return


async def test_pull_and_tail_go_on_after_the_server_is_killed(broker: Broker, log: JetStreamLog) -> None:
    pulled: set[str] = set()
    tailed: list[str] = []
    done = asyncio.Event()
    total = 60

    async def pull() -> None:
        async for delivery in log.pull(SPEC):
            assert isinstance(delivery.recorded, Recorded)
            pulled.add(delivery.recorded.event.text)  # type: ignore[union-attr]
            delivery.ack()
            if len(pulled) == total and len(tailed) == total:
                done.set()

    async def tail() -> None:
        async for recorded in log.tail(("observation.recorded.*.*",)):
            tailed.append(recorded.event.text)  # type: ignore[union-attr]
            if len(pulled) == total and len(tailed) == total:
                done.set()

    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(pull()), group.create_task(tail())]
        for n in range(total):
            if n in (20, 40):
                broker.kill()
                await broker.start()
            await persist(log, str(n))
        await asyncio.wait_for(done.wait(), 60)
        for reader in readers:
            reader.cancel()
    assert [str(n) for n in range(total)] == tailed


async def test_a_deleted_consumer_is_made_again(log: JetStreamLog) -> None:
    reader = aiter(log.pull(SPEC))
    await log.commit([observation("before")])
    first = await asyncio.wait_for(anext(reader), 10)
    first.ack()
    await log.connection.request("$JS.API.CONSUMER.DELETE.SWARM.test")
    await log.commit([observation("after")])
    seen = set()
    async with asyncio.timeout(20):
        while "after" not in seen:
            delivery = await anext(reader)
            seen.add(delivery.recorded.event.text)  # type: ignore[union-attr]
            delivery.ack()


async def test_a_tail_whose_consumer_was_deleted_misses_nothing_and_repeats_nothing(log: JetStreamLog) -> None:
    tail = log.tail(("observation.recorded.*.*",))
    reader = aiter(tail)
    await log.commit([observation("before")])
    await asyncio.wait_for(anext(reader), 10)
    await log.connection.request("$JS.API.CONSUMER.DELETE.SWARM.tail-test-1")
    await log.commit([observation("after")])
    again = await asyncio.wait_for(anext(reader), 20)
    assert "after" == again.event.text  # type: ignore[union-attr]


async def test_a_subject_the_broker_knows_and_does_not_give_is_not_read_as_its_last_event_alone(
    log: JetStreamLog,
) -> None:
    for text in ("first", "second"):
        await log.commit([observation(text)])
    request_many = log.connection.request_many

    async def restarting(subject: str, *bodies: bytes, **options: object) -> list[Raw]:
        answers = await request_many(subject, *bodies, **options)  # type: ignore[arg-type]
        if b"multi_last" in bodies[0]:
            return answers
        return [Raw(a.subject, "", b"", b"NATS/1.0 408 Timeout\r\n\r\n") for a in answers]

    log.connection.request_many = restarting  # type: ignore[method-assign, assignment]
    with pytest.raises(LogUnavailable):
        await log.read(("observation.recorded.alpha.*",))


async def test_an_event_the_broker_cannot_give_now_is_not_one_that_is_missing(log: JetStreamLog) -> None:
    assert await log.get(99) is None

    async def busy(subject: str, body: bytes = b"", **options: object) -> Raw:
        return Raw("", "", b"", b"NATS/1.0 500 Busy\r\n\r\n")

    log.connection.request = busy  # type: ignore[method-assign, assignment]
    with pytest.raises(LogUnavailable):
        await log.get(1)


async def test_a_slow_reader_is_given_no_more_than_a_batch_ahead_and_in_the_end_everything(log: JetStreamLog) -> None:
    total = 1500
    for start in range(0, total, 500):
        await log.commit([observation(str(start + n)) for n in range(500)])
    reader = aiter(log.pull(SPEC))
    texts = []
    for _ in range(total):
        delivery = await asyncio.wait_for(anext(reader), 10)
        texts.append(delivery.recorded.event.text)  # type: ignore[union-attr]
        delivery.ack()
        if len(texts) == 1:
            for _ in range(50):  # time enough for the broker to send all it is asked for
                info = (await log.connection.request("$JS.API.CONSUMER.INFO.SWARM.test")).data
            assert msgspec.json.decode(info)["num_pending"] >= total - 2 * 256
    assert [str(n) for n in range(total)] == texts


async def test_an_answer_lost_in_a_kill_is_resolved_by_looking(broker: Broker, log: JetStreamLog) -> None:
    """The guarded commit is in the log, but its answer never came: committing it must say so and not say stale."""
    sent = reaped("p1")
    guard = [Expect(sent.subject, 0)]
    ask = log.connection.ask
    lost = iter((True, False))

    async def lossy(subject: str, body: bytes = b"", **options: object) -> object:
        answer = await ask(subject, body, **options)  # type: ignore[arg-type]
        if subject == sent.subject and next(lost, False):
            raise LogUnavailable("the answer was lost")
        return answer

    log.connection.ask = lossy  # type: ignore[method-assign, assignment]
    (seq,) = await log.commit([sent], guard)
    assert [(seq, sent.envelope.id)] == [(r.seq, r.id) for r in await log.read((sent.subject,))]
    assert True not in lost, "nothing was lost"


async def test_a_batch_whose_answer_was_lost_is_resolved_by_looking(log: JetStreamLog) -> None:
    batch = [reaped("p1"), reaped("p2")]
    guard = [Expect("persona.*.alpha.>", 0)]
    ask = log.connection.ask
    lost = iter((True, False))

    async def lossy(subject: str, *bodies: bytes, **options: object) -> object:
        answer = await ask(subject, *bodies, **options)  # type: ignore[arg-type]
        if subject == batch[1].subject and next(lost, False):
            raise LogUnavailable("the answer was lost")
        return answer

    log.connection.ask = lossy  # type: ignore[method-assign, assignment]
    seqs = await log.commit(batch, guard)
    assert list(seqs) == [r.seq for r in await log.read(("persona.*.alpha.*",))]
    assert True not in lost, "nothing was lost"


async def test_a_large_batch_stored_before_is_found_by_one_reading(log: JetStreamLog) -> None:
    old = observation("old")
    await log.commit([old])
    batch = [observation(f"line {n}") for n in range(300)]
    seqs = await log.commit(batch)
    reads = 0
    request_many = log.connection.request_many

    async def counted(*args: object, **options: object) -> object:
        nonlocal reads
        reads += 1
        return await request_many(*args, **options)  # type: ignore[arg-type]

    log.connection.request_many = counted  # type: ignore[method-assign, assignment]
    assert seqs == await log.commit(batch)
    assert reads <= 2
    assert {old.subject} == {message.subject for message in batch}


async def test_a_page_is_of_events_not_of_messages(log: JetStreamLog) -> None:
    for n in range(3):
        await log.connection.request(
            "observation.recorded.alpha.all", b"{", headers={"ce-type": "observation.recorded"}
        )
        await persist(log, f"line {n}")
    assert ["line 0", "line 1"] == [
        r.event.text for r in await log.read(("observation.recorded.alpha.all",), 0, limit=2)
    ]  # type: ignore[union-attr]


async def test_while_the_server_is_away_a_commit_says_so_and_works_afterwards(
    broker: Broker, log: JetStreamLog
) -> None:
    broker.kill()
    with pytest.raises(LogUnavailable):
        await log.commit([observation()])
    await broker.start()
    await asyncio.wait_for(persist(log, "later"), 20)


async def test_a_malformed_message_goes_to_the_dead_letters_with_its_reason(log: JetStreamLog) -> None:
    await log.connection.request(
        "observation.recorded.alpha.all", b"{not json", headers={"ce-type": "observation.recorded"}
    )
    reader = aiter(log.pull(SPEC))
    delivery = await asyncio.wait_for(anext(reader), 10)
    assert not isinstance(delivery.recorded, Recorded)
    await delivery.dead(delivery.recorded.reason, delivery.recorded.detail)
    answer = await log.connection.request(
        "$JS.API.DIRECT.GET.DEAD", b'{"last_by_subj":"dead.unreadable.SWARM.1.observation.recorded.alpha.all"}'
    )
    assert (b"{not json", "bad_body") == (answer.data, answer.headers["swarm-dead-reason"])


async def test_headers_that_could_not_be_sent_again_keep_no_message_from_the_dead_letters(log: JetStreamLog) -> None:
    head = b"NATS/1.0\r\nce-type: no.such\r\na(b: c\r\nd: e\nf\r\n\r\n"
    subject = b"observation.recorded.alpha.all"
    await log.connection.client._send_command(b"HPUB %b %d %d\r\n%b{}\r\n" % (subject, len(head), len(head) + 2, head))
    await log.connection.client.flush()
    delivery = await asyncio.wait_for(anext(aiter(log.pull(SPEC))), 10)
    await delivery.dead("unknown_class", "no.such\r\nis no class")
    answer = await log.connection.request(
        "$JS.API.DIRECT.GET.DEAD", b'{"last_by_subj":"dead.unreadable.SWARM.1.observation.recorded.alpha.all"}'
    )
    assert ("e f", "no.such is no class") == (answer.headers["d"], answer.headers["swarm-dead-detail"])
    assert "a(b" not in answer.headers


async def test_a_subject_of_any_bytes_reaches_the_dead_letters_and_what_comes_after_is_delivered(
    log: JetStreamLog,
) -> None:
    head = b"NATS/1.0\r\nce-type: observation.recorded\r\n\r\n"
    for token in (b"\xff\xfe", b"a\x0cb", "a\u2003b\u2028".encode(), b"\x00"):
        subject = b"observation.recorded.alpha." + token
        await log.connection.client._send_command(
            b"HPUB %b %d %d\r\n%b{}\r\n" % (subject, len(head), len(head) + 2, head)
        )
    await log.connection.client.flush()
    await log.commit([observation("sound")])
    letters = 0
    async for delivery in log.pull(SPEC):
        if isinstance(delivery.recorded, Recorded):
            assert "sound" == delivery.recorded.event.text  # type: ignore[union-attr]
            break
        await delivery.dead(delivery.recorded.reason, f"{delivery.recorded.detail} on {delivery.subject}")
        letters += 1
    assert 4 == letters
    assert b'"messages":4,' in (await log.connection.request("$JS.API.STREAM.INFO.DEAD")).data


async def test_a_tail_buries_what_it_cannot_read_and_goes_on_and_a_second_tail_buries_it_no_second_time(
    log: JetStreamLog,
) -> None:
    await log.connection.request("observation.recorded.alpha.all", b"{}", headers={"ce-type": "no.such"})
    await log.commit([observation("good")])
    for _ in range(2):
        tail = log.tail(("observation.recorded.*.*",))
        reader = aiter(tail)
        bad, good = [await asyncio.wait_for(anext(reader), 10) for _ in range(2)]
        assert isinstance(bad, Unreadable)
        assert "good" == good.event.text  # type: ignore[union-attr]
        await tail.stop()
    answer = await log.connection.request("$JS.API.STREAM.INFO.DEAD")
    assert b'"messages":1,' in answer.data


async def test_a_subject_of_no_class_is_refused_at_the_door(log: JetStreamLog) -> None:
    with pytest.raises(LogUnavailable, match="nobody answers"):
        await log.connection.request("thought.imagined.alpha.p1", b"{}")


async def test_a_letter_holds_what_fits_and_says_what_it_leaves_out(log: JetStreamLog) -> None:
    client = log.connection.client
    subject, large = f"observation.recorded.alpha.{'x' * 3900}", b"x" * (2**20 - 8)
    await client._send_command(b"PUB %b 2\r\n{}\r\n" % subject.encode())
    await client._send_command(b"PUB observation.recorded.alpha.all %d\r\n%b\r\n" % (len(large), large))
    await client.flush()
    reader = aiter(log.pull(SPEC))
    for _ in range(2):
        delivery = await asyncio.wait_for(anext(reader), 10)
        await delivery.dead("not_an_event", "no headers")
    assert log.connection.is_connected
    letters = [
        await log.connection.request("$JS.API.DIRECT.GET.DEAD", b'{"seq":%d,"next_by_subj":"dead.>"}' % seq)
        for seq in (1, 2)
    ]
    assert subject[:1000] == letters[0].headers["swarm-dead-subject"]
    assert (large[:900_000], str(len(large))) == (letters[1].data, letters[1].headers["swarm-dead-body-bytes"])


async def test_a_tail_that_cannot_bury_begins_again_before_what_it_could_not_read(
    log: JetStreamLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shared.log.reading import tail as tail_module

    refusals = iter((True, True))

    async def refused(*args: object) -> None:
        if next(refusals, False):
            raise LogUnavailable("the dead letters are away")
        await bury(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(tail_module, "bury", refused)
    await log.connection.request("observation.recorded.alpha.all", b"{}", headers={"ce-type": "no.such"})
    await log.commit([observation("good")])
    reader = aiter(log.tail(("observation.recorded.*.*",)))
    bad, good = [await asyncio.wait_for(anext(reader), 20) for _ in range(2)]
    assert ("unknown_class", 1) == (bad.reason, bad.seq)  # type: ignore[union-attr]
    assert "good" == good.event.text  # type: ignore[union-attr]
    assert b'"messages":1,' in (await log.connection.request("$JS.API.STREAM.INFO.DEAD")).data


@pytest.mark.parametrize("status", [b"503", b"404", b"204", b"\xff\xff\xff"])
async def test_a_stored_message_that_looks_like_a_status_ends_no_reading(log: JetStreamLog, status: bytes) -> None:
    head = b"NATS/1.0 " + status + b"\r\n\r\n"
    subject = b"observation.recorded.alpha.all"
    await log.connection.client._send_command(b"HPUB %b %d %d\r\n%b\r\n" % (subject, len(head), len(head), head))
    await log.connection.client.flush()
    sent = observation("good")
    (seq,) = await log.commit([sent])
    assert 2 == seq
    for filters in ((sent.subject,), ("observation.recorded.alpha.*",), ("observation.recorded.alpha.>",)):
        assert [sent.envelope.id] == [r.id for r in await log.read(filters)]
    assert isinstance(await log.get(1), Unreadable)


async def test_batches_tried_in_an_outage_leave_no_halves_behind(broker: Broker, log: JetStreamLog) -> None:
    broker.kill()
    batches = [[observation("a"), observation("b")] for _ in range(60)]
    outcomes = await asyncio.gather(*(log.commit(batch) for batch in batches), return_exceptions=True)
    assert all(isinstance(outcome, LogUnavailable) for outcome in outcomes)
    await broker.start()
    async with asyncio.timeout(20):
        while not log.connection.is_connected:
            await asyncio.sleep(0.02)
        assert 2 == len(await log.commit([observation("c"), observation("d")]))


async def test_a_message_that_breaks_its_handler_does_not_end_the_reading(broker: Broker, log: JetStreamLog) -> None:
    await nats.micro.add_service(log.connection.client, name="x", version="0.1.0")
    _, writer = await asyncio.open_connection("127.0.0.1", broker.port)
    hello = b'CONNECT {"verbose":false,"headers":true}\r\n'
    writer.write(hello + b"PUB $SRV.PING \xff\xfe 0\r\n\r\nHPUB $SRV.PING 4 4\r\nabcd\r\nPING\r\n")
    await writer.drain()
    for n in range(20):
        await log.commit([observation(f"{n}")])
    writer.close()


async def test_a_connection_can_be_closed_while_the_server_is_away_and_nothing_waits_for_it(broker: Broker) -> None:
    connection = await Connection.open(broker.url, name="closing")
    await asyncio.to_thread(broker.kill)
    async with asyncio.timeout(10):
        while not connection.fenced:
            await asyncio.sleep(0.02)
        with pytest.raises(LogUnavailable):
            connection.send("a", b"unsent")
        await connection.close()
        await connection.closed.wait()


async def test_a_server_that_never_comes_is_waited_for_as_long_as_told() -> None:
    async with asyncio.timeout(20):
        with pytest.raises(
            LogUnavailable, match=r"no NATS server answers at nats://127\.0\.0\.1:\d+: .*(Connect call failed|refused)"
        ):
            await Connection.open(f"nats://127.0.0.1:{free_port()}", name="alone", wait_s=0.2)


async def test_more_bytes_than_a_page_holds_are_read_on(log: JetStreamLog) -> None:
    for n in range(12):
        await log.connection.request(f"observation.recorded.alpha.p{n}", b"x" * 900_000)
    sent = observation("behind them", "p99")
    (seq,) = await log.commit([sent])
    for filters in (("observation.recorded.alpha.*",), ("observation.recorded.alpha.>",)):
        assert [seq] == [r.seq for r in await log.read(filters)]
        assert [seq] == [r.seq for r in await log.read(filters, 1)]
        assert [seq] == [r.seq for r in await log.last(filters)]


async def test_a_buried_message_is_settled_and_the_consumer_is_as_its_spec_says(log: JetStreamLog) -> None:
    await log.commit([observation()])
    spec = msgspec.structs.replace(SPEC, ack_wait_s=60, max_ack_pending=7)
    delivery = await asyncio.wait_for(anext(aiter(log.pull(spec))), 10)
    await delivery.dead("for_test", "it is bad")
    async with asyncio.timeout(10):
        pending = 1
        while pending:
            info = msgspec.json.decode((await log.connection.request("$JS.API.CONSUMER.INFO.SWARM.test")).data)
            pending = info["num_ack_pending"]
    assert (7, -1) == (info["config"]["max_ack_pending"], info["config"]["max_deliver"])
