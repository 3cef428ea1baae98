"""What a log promises, proved on every log there is: in memory, and JetStream on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from shared.contracts.boundaries import SHARES, budget
from shared.contracts.envelope import Envelope, Malformed, Message, Passed, Recorded, Unreadable
from shared.contracts.events import (
    AnyEvent,
    BudgetGranted,
    BudgetLimited,
    Credits,
    ObservationRecorded,
    PersonaReaped,
    RecallRequested,
    SpawnRefused,
)
from shared.contracts.ids import fresh_id, utc_now
from shared.log.client.connection import Connection
from shared.log.dead import buried
from shared.log.jetstream import JetStreamLog
from shared.log.memory import MemoryLog
from shared.log.port import ConsumerSpec, Delivery, DuplicateEvent, Expect, Log, Puller, StaleBoundary, Tail
from shared.log.streams import drift, ensure, sizes
from shared.settings import STORE_BYTES
from tests.broker import LOGS, Broker, serving


@pytest.fixture(params=LOGS)
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Log]:
    if request.param == "memory":
        yield MemoryLog()
        return
    async with serving(request.param, tmp_path) as (url, replicas):
        await ensure(url, None, replicas=replicas)
        connection = await Connection.open(url, name="test")
        yield JetStreamLog(connection, service="test", instance="test-1", replicated=replicas > 1, groups=True)
        await connection.close()


def message(event: AnyEvent, event_id: str | None = None) -> Message:
    event_id = event_id or fresh_id()
    return Message(event=event, envelope=Envelope(id=event_id, source="test", time=utc_now(), correlation=event_id))


def observation(text: str = "a line", persona: str = "all") -> Message:
    return message(ObservationRecorded(swarm="alpha", persona=persona, text=text))


def reaped(persona: str) -> Message:
    return message(PersonaReaped(swarm="alpha", persona=persona, reason="test"))


def granted(persona: str) -> Message:
    return message(
        BudgetGranted(swarm="alpha", persona=persona, grant_id="g", window=1, credits=Credits(), expires_at=utc_now())
    )


async def garbage(log: Log, subject: str, body: bytes = b"{}", event_class: str = "no.such") -> int:
    """Store what no decider may see, as anybody could who has a key; its sequence."""
    headers = {"ce-type": event_class, "ce-id": "claimed"}
    if isinstance(log, MemoryLog):
        seq = log.store.publish(subject, body, headers)
        log.wake()
        return seq
    assert isinstance(log, JetStreamLog)
    answer = await log.connection.request(subject, body, headers=headers)
    return int(msgspec.json.decode(answer.data)["seq"])


async def take(source: Tail | Puller, count: int) -> list[Recorded | Delivery]:
    taken: list[Recorded | Delivery] = []
    async with asyncio.timeout(20):
        async for item in source:
            taken.append(item)
            if len(taken) == count:
                break
    return taken


async def test_a_committed_event_reads_back_equal(log: Log) -> None:
    sent = observation("höchst ungewöhnlich\n\t☃")
    (seq,) = await log.commit([sent])
    (read,) = await log.read(("observation.recorded.alpha.*",))
    assert (read.event, read.envelope, read.seq, read.subject) == (sent.event, sent.envelope, seq, sent.subject)
    assert await log.get(seq) == read


@pytest.mark.parametrize("seq", [2, 2**53, 2**63 - 1, 2**63, 2**64, 10**30])
async def test_at_a_sequence_the_log_has_not_reached_there_is_nothing(log: Log, seq: int) -> None:
    sent = observation()
    assert (1,) == await log.commit([sent])
    assert await log.get(seq) is None
    assert [] == await log.read((sent.subject,), seq)
    assert [] == await log.read(("observation.recorded.*.*",), seq - 1, upto=seq + 1)


async def test_reading_begins_after_a_sequence_and_ends_where_it_is_told(log: Log) -> None:
    seqs = [(await log.commit([observation(str(n))]))[0] for n in range(6)]
    everything = ("observation.recorded.*.*",)
    assert seqs[2:] == [r.seq for r in await log.read(everything, seqs[1])]
    assert seqs[2:4] == [r.seq for r in await log.read(everything, seqs[1], upto=seqs[3])]
    assert seqs[:2] == [r.seq for r in await log.read(everything, limit=2)]
    assert [] == await log.read(everything, seqs[-1])


async def test_reading_pages_over_many_events_in_stream_order(log: Log) -> None:
    for start in range(0, 1200, 100):
        await log.commit([observation(str(start + n), persona=f"p{n % 3}") for n in range(100)])
    read = await log.read(
        ("observation.recorded.alpha.p0", "observation.recorded.alpha.p1", "observation.recorded.alpha.p2")
    )
    assert [str(n) for n in range(1200)] == [r.event.text for r in read]  # type: ignore[union-attr]


@pytest.mark.parametrize("personas", [1, 3, 40, 1100])
async def test_a_wildcard_reads_every_event_of_few_subjects_and_of_many(log: Log, personas: int) -> None:
    await log.commit([reaped("other")])
    events = [granted(f"p{n % personas}") for n in range(max(7, personas + 5))]
    for start in range(0, len(events), 400):
        await log.commit(events[start : start + 400])
    read = await log.read(("budget.*.alpha.*",))
    assert [m.envelope.id for m in events] == [r.id for r in read]
    assert read[2:5] == await log.read(("budget.*.alpha.*",), read[1].seq, upto=read[4].seq)
    assert read[:5] == await log.read(("budget.*.alpha.*",), upto=read[4].seq)


async def test_an_exact_boundary_that_moved_refuses_the_event(log: Log) -> None:
    first = reaped("p1")
    (seq,) = await log.commit([first], [Expect(first.subject, 0)])
    with pytest.raises(StaleBoundary):
        await log.commit([reaped("p1")], [Expect(first.subject, 0)])
    await log.commit([reaped("p1")], [Expect(first.subject, seq)])
    assert 2 == len(await log.read((first.subject,)))


async def test_a_wildcard_boundary_guards_all_its_subjects(log: Log) -> None:
    (seq,) = await log.commit([reaped("p1")], [Expect("persona.*.alpha.>", 0)])
    with pytest.raises(StaleBoundary):
        await log.commit([reaped("p2")], [Expect("persona.*.alpha.>", 0)])
    await log.commit([reaped("p2")], [Expect("persona.*.alpha.>", seq)])


async def test_a_boundary_may_be_of_other_subjects_than_the_event(log: Log) -> None:
    await log.commit([reaped("p1")])
    refusal = message(SpawnRefused(swarm="alpha", persona="p9", reason="depth_limit", detail=""))
    with pytest.raises(StaleBoundary):
        await log.commit([refusal], [Expect("persona.*.alpha.>", 0)])
    await log.commit([refusal], [Expect("persona.*.alpha.>", 1)])


async def test_a_batch_is_contiguous_and_all_or_nothing(log: Log) -> None:
    seqs = await log.commit([reaped("p1"), granted("p1"), reaped("p2")], [Expect("persona.*.alpha.>", 0)])
    assert list(range(seqs[0], seqs[0] + 3)) == list(seqs)
    with pytest.raises(StaleBoundary):
        await log.commit([granted("p3"), reaped("p3")], [Expect("persona.*.alpha.>", 0)])
    assert [] == await log.read(("*.*.alpha.p3",))


async def test_a_batch_may_hold_one_boundary_for_each_event(log: Log) -> None:
    (first,) = await log.commit([granted("p0")])
    await log.commit([reaped("p1"), granted("p1")], [Expect("persona.*.alpha.>", 0), Expect("budget.*.alpha.>", first)])
    with pytest.raises(StaleBoundary):
        await log.commit(
            [reaped("p2"), granted("p2")], [Expect("persona.*.alpha.>", first + 1), Expect("budget.*.alpha.>", 0)]
        )
    assert [] == await log.read(("*.*.alpha.p2",))


async def test_a_share_is_guarded_by_all_shares_and_by_what_is_granted_of_it(log: Log) -> None:
    """Two boundaries of which one has all of the batch, the other a part."""
    left, share = (
        message(BudgetLimited(swarm=s, persona="all", credits=Credits(), window=0)) for s in ("all", "alpha")
    )
    (granted_at,) = await log.commit([granted("p1")])
    first, last = await log.commit([left, share], [Expect(SHARES, 0), Expect(budget("alpha"), granted_at)])
    assert (last, last) == await log.ends((SHARES, budget("alpha"))) and first == last - 1
    for shares, grants in ((last, granted_at), (first, last), (0, last)):
        again = [message(msgspec.structs.replace(m.event)) for m in (left, share)]
        with pytest.raises(StaleBoundary):
            await log.commit(again, [Expect(SHARES, shares), Expect(budget("alpha"), grants)])
    with pytest.raises(StaleBoundary):
        await log.commit([granted("p2")], [Expect(budget("alpha"), granted_at)])
    again = [message(msgspec.structs.replace(m.event)) for m in (left, share)]
    await log.commit(again, [Expect(SHARES, last), Expect(budget("alpha"), last)])


async def test_a_repeated_unguarded_event_is_stored_once(log: Log) -> None:
    sent = observation()
    assert await log.commit([sent]) == await log.commit([sent])
    assert 1 == len(await log.read((sent.subject,)))


async def test_an_event_whose_id_another_subject_took_is_refused_and_not_taken_for_stored(log: Log) -> None:
    taken = observation("first come")
    await log.commit([taken])
    verdict = message(PersonaReaped(swarm="alpha", persona="p", reason="test"), taken.envelope.id)
    with pytest.raises(DuplicateEvent):
        await log.commit([verdict], [Expect("persona.*.alpha.>", 0)])
    assert await log.read(("persona.reaped.*.*",)) == []


async def test_a_repeated_guarded_event_is_refused(log: Log) -> None:
    sent = reaped("p1")
    await log.commit([sent], [Expect(sent.subject, 0)])
    with pytest.raises(StaleBoundary):
        await log.commit([sent], [Expect(sent.subject, 0)])


async def test_a_batch_with_an_event_that_is_in_already_stores_nothing(log: Log) -> None:
    sent = observation()
    await log.commit([sent])
    with pytest.raises(DuplicateEvent):
        await log.commit([observation("new"), sent])
    assert 1 == len(await log.read((sent.subject,)))


async def test_a_batch_another_decided_under_the_same_ids_is_not_ours(log: Log) -> None:
    """Two runners at the same step of a persona give their events the same ids, and say different things."""
    guard = [Expect("observation.recorded.alpha.all", 0)]
    await log.commit([message(observation(text).event, f"event-{n}") for n, text in enumerate(("a", "b"))], guard)
    with pytest.raises((StaleBoundary, DuplicateEvent)):
        await log.commit([message(observation(text).event, f"event-{n}") for n, text in enumerate(("a", "c"))], guard)


async def test_an_oversized_event_is_refused_before_it_is_sent(log: Log) -> None:
    sent = observation()
    huge = Message(event=msgspec.structs.replace(sent.event, text="x" * 70_000), envelope=sent.envelope)
    with pytest.raises(Malformed, match="oversized"):
        await log.commit([huge])


async def test_last_gives_the_newest_event_of_each_subject(log: Log) -> None:
    for text in ("old", "new"):
        for persona in ("p1", "p2"):
            await log.commit([observation(text, persona)])
    assert ["new", "new"] == [r.event.text for r in await log.last(("observation.recorded.alpha.*",))]  # type: ignore[union-attr]


async def test_last_takes_more_subjects_than_one_page_when_they_are_named(log: Log) -> None:
    names = [f"p{n}" for n in range(1300)]
    for start in range(0, 1300, 100):
        await log.commit([observation("x", name) for name in names[start : start + 100]])
    found = await log.last(tuple(f"observation.recorded.alpha.{name}" for name in names))
    assert names == [r.event.persona for r in found]


async def test_what_cannot_be_read_does_not_hide_the_event_before_it(log: Log) -> None:
    await garbage(log, "persona.spawned.alpha.p2", event_class="persona.spawned")
    await log.commit([reaped("p1")])
    for persona in ("p1", "p1", "p3"):
        await garbage(log, f"persona.reaped.alpha.{persona}", event_class="persona.reaped")
    found = await log.last(("persona.reaped.alpha.*", "persona.spawned.alpha.*"))
    assert ["persona.reaped.alpha.p1"] == [r.subject for r in found]


async def test_what_cannot_be_read_is_stored_all_the_same_and_is_no_event(log: Log) -> None:
    guarded = ("persona.*.alpha.>",)
    await log.commit([reaped("p1")])
    bad = await garbage(log, "persona.spawned.alpha.p2", event_class="persona.spawned")
    everything = await log.stored(guarded)
    assert [("persona.reaped.alpha.p1", ""), ("persona.spawned.alpha.p2", "bad_body")] == [
        (m.subject, m.reason if isinstance(m, Unreadable) else "") for m in everything
    ]
    assert everything[1:] == await log.stored(("persona.spawned.alpha.*",), bad - 1, upto=bad)
    assert [] == await log.stored(guarded, bad)
    assert ["persona.reaped.alpha.p1"] == [r.subject for r in await log.read(guarded)]
    assert ["persona.reaped.alpha.p1"] == [r.subject for r in await log.last(guarded)]
    found = await log.get(bad)
    assert isinstance(found, Unreadable)
    assert (found.seq, found.id) == (bad, "claimed")


async def test_a_guard_is_compared_with_what_is_stored_readable_or_not(log: Log) -> None:
    guarded = "persona.*.alpha.>"
    (seq,) = await log.commit([reaped("p1")])
    bad = await garbage(log, "persona.spawned.alpha.p2")
    assert (bad, seq, 0) == await log.ends((guarded, "persona.reaped.alpha.p1", "budget.*.alpha.>"))
    with pytest.raises(StaleBoundary):
        await log.commit([reaped("p3")], [Expect(guarded, seq)])
    await log.commit([reaped("p3")], [Expect(guarded, bad)])


async def test_the_first_of_many_events_are_read_over_what_cannot_be_read(log: Log) -> None:
    subject = "observation.recorded.alpha.all"
    for text in ("a", "b", "c"):
        await garbage(log, subject)
        await log.commit([observation(text)])
    assert ["a", "b"] == [r.event.text for r in await log.read((subject,), limit=2)]  # type: ignore[union-attr]


async def test_a_stored_event_can_be_buried_and_stays(log: Log) -> None:
    (seq,) = await log.commit([observation()])
    for _ in range(2):
        await log.bury(seq, "not_taken", "KeyError: 'x'")
    assert isinstance(await log.get(seq), Recorded)
    if isinstance(log, JetStreamLog):
        assert {"observation.recorded in alpha": 1} == await buried(log.connection, "test")


async def test_a_tail_and_a_consumer_tell_of_what_cannot_be_read(log: Log) -> None:
    await garbage(log, "observation.recorded.alpha.all")
    await log.commit([observation("good")])
    filters = ("observation.recorded.*.*",)
    tail = log.tail(filters)
    assert ["unknown_class", "good"] == [_told(m) for m in await take(tail, 2)]
    delivered = await take(log.pull(ConsumerSpec(name="test", filters=filters)), 2)
    assert ["unknown_class", "good"] == [_told(d.recorded) for d in delivered]  # type: ignore[union-attr]


def _told(message: object) -> str:
    if isinstance(message, Unreadable):
        return message.reason
    assert isinstance(message, Recorded)
    return message.event.text  # type: ignore[union-attr]


async def test_a_tail_yields_what_was_and_what_comes_in_order(log: Log) -> None:
    await log.commit([observation("1")])
    await log.commit([reaped("p1")])
    tail = log.tail(("observation.recorded.*.*",))
    reading = asyncio.create_task(take(tail, 3))
    await asyncio.wait_for(tail.caught_up(), 10)
    await log.commit([observation("2")])
    await log.commit([observation("3")])
    assert ["1", "2", "3"] == [r.event.text for r in await reading]  # type: ignore[union-attr]


async def test_what_a_tail_does_not_want_is_told_of_and_not_read(log: Log) -> None:
    await log.commit([reaped("p1")])
    await garbage(log, "observation.recorded.alpha.p2")
    await log.commit([observation("good")])
    tail = log.tail(("*.*.*.*",), wanted=lambda subject: subject.endswith(".all"))
    passed, unknown, good = await take(tail, 3)
    assert [1, 2, 3] == [message.seq for message in (passed, unknown, good)]
    assert [(Passed, "persona.reaped.alpha.p1"), (Passed, "observation.recorded.alpha.p2")] == [
        (type(message), message.subject) for message in (passed, unknown)
    ]
    assert _told(good) == "good"


async def test_a_tail_of_nothing_is_caught_up_at_once(log: Log) -> None:
    tail = log.tail(("observation.recorded.*.*",))
    reading = asyncio.create_task(take(tail, 1))
    await asyncio.wait_for(tail.caught_up(), 10)
    await tail.stop()
    assert [] == await reading


async def test_a_tail_stopped_by_its_own_reader_ends(log: Log) -> None:
    for n in range(3):
        await log.commit([observation(str(n))])
    tail = log.tail(("observation.recorded.*.*",))

    async def read() -> list[Recorded]:
        taken = []
        async for recorded in tail:
            taken.append(recorded)
            if len(taken) == 3:
                await tail.stop()
        return taken

    assert ["0", "1", "2"] == [r.event.text for r in await asyncio.wait_for(read(), 10)]  # type: ignore[union-attr]


async def test_a_delivery_that_was_acked_does_not_come_again_and_one_that_was_not_does(log: Log) -> None:
    spec = ConsumerSpec(name="test", filters=("observation.recorded.*.*",), ack_wait_s=1)
    await log.commit([observation("kept")])
    await log.commit([observation("acked")])
    puller = log.pull(spec)
    seen: list[tuple[str, int]] = []
    async with asyncio.timeout(15):
        async for delivery in puller:
            assert isinstance(delivery.recorded, Recorded)
            seen.append((delivery.recorded.event.text, delivery.attempt))  # type: ignore[union-attr]
            if delivery.recorded.event.text == "acked" or delivery.attempt == 2:  # type: ignore[union-attr]
                delivery.ack()
            if len(seen) == 3:
                break
    assert [("kept", 1), ("acked", 1), ("kept", 2)] == seen


async def test_a_naked_delivery_comes_again_after_its_delay(log: Log) -> None:
    await log.commit([observation()])
    puller = log.pull(ConsumerSpec(name="test", filters=("observation.recorded.*.*",), ack_wait_s=30))
    attempts = []
    async with asyncio.timeout(15):
        async for delivery in puller:
            attempts.append(delivery.attempt)
            if len(attempts) == 2:
                break
            delivery.nak(0.2)
    assert [1, 2] == attempts


async def test_a_delivery_nobody_could_bury_comes_again_however_often(log: Log) -> None:
    await log.commit([observation()])
    reader = aiter(log.pull(ConsumerSpec(name="test", filters=("observation.recorded.*.*",), max_deliver=2)))
    for attempt in range(1, 6):
        delivery = await asyncio.wait_for(anext(reader), 10)
        assert attempt == delivery.attempt
        delivery.nak(0.01)


async def test_in_progress_keeps_a_delivery_from_coming_again(log: Log) -> None:
    await log.commit([observation("slow")])
    puller = log.pull(ConsumerSpec(name="test", filters=("observation.recorded.*.*",), ack_wait_s=1))
    reader = aiter(puller)
    slow = await asyncio.wait_for(anext(reader), 10)
    again = asyncio.ensure_future(anext(reader))
    for _ in range(8):
        slow.in_progress()
        await asyncio.wait([again], timeout=0.25)
    assert not again.done()
    second = await asyncio.wait_for(again, 10)
    assert 2 == second.attempt


async def test_a_dead_letter_is_not_delivered_again(log: Log) -> None:
    spec = ConsumerSpec(name="test", filters=("observation.recorded.*.*",), ack_wait_s=1)
    await log.commit([observation("bad")])
    await log.commit([observation("good")])
    texts = []
    async with asyncio.timeout(15):
        async for delivery in log.pull(spec):
            texts.append(delivery.recorded.event.text)  # type: ignore[union-attr]
            if texts[-1] == "bad":
                await delivery.dead("for_test", "it is bad")
            else:
                break
    assert ["bad", "good"] == texts


async def test_recall_events_live_on_their_own_stream(log: Log) -> None:
    await log.commit([message(RecallRequested(swarm="alpha", persona="p1", query="what"))])
    assert [] == await log.read(("recall.>",))
    tail = log.tail(("recall.requested.*.*.*",), stream="RECALL")
    (asked,) = await take(tail, 1)
    assert "what" == asked.event.query  # type: ignore[union-attr]


async def test_reconciled_streams_have_no_drift_and_a_changed_one_has(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    created = await ensure(broker.url, None)
    assert [] == await ensure(broker.url, None)
    connection = await Connection.open(broker.url, name="test")
    assert [] == await drift(connection)
    await connection.request("$JS.API.STREAM.DELETE.HOT")
    assert ["HOT is missing"] == await drift(connection)
    assert len(created) > 3
    await connection.close()
    broker.kill()


@pytest.mark.parametrize(
    ("stream", "key", "value", "declared"),
    [
        ("SWARM", "max_age", 3600 * 10**9, "0"),
        ("SWARM", "max_bytes", 2**30, str(sizes(STORE_BYTES)["SWARM"])),
        ("SWARM", "max_msgs", 10**6, "-1"),
        ("SWARM", "max_msgs_per_subject", 10, "-1"),
        ("SWARM", "max_msg_size", 10**5, "-1"),
        ("SWARM", "discard", "old", "'new'"),
        ("SWARM", "duplicate_window", 10**9, "120000000000"),
        ("SWARM", "republish", {"src": ">", "dest": "copy.>"}, "None"),
        ("SWARM", "subject_transform", {"src": "thought.>", "dest": "thought.>"}, "None"),
        ("DEAD", "max_msgs_per_subject", 1, "-1"),
        ("HOT", "max_age", 3600 * 10**9, "0"),
        ("KV_checkpoints", "max_age", 3600 * 10**9, "0"),
        ("KV_leases", "discard", "old", "'new'"),
        ("PROBE", "max_msgs_per_subject", 100, "1"),
    ],
)
async def test_a_stream_differs_in_any_field_somebody_changed_declared_or_not_and_reconciling_mends_it(
    tmp_path: Path, stream: str, key: str, value: object, declared: str
) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    await ensure(broker.url, None)
    connection = await Connection.open(broker.url, name="test")
    try:
        info = msgspec.json.decode((await connection.request(f"$JS.API.STREAM.INFO.{stream}")).data)
        changed = msgspec.json.encode({**info["config"], key: value})
        answer = await connection.request(f"$JS.API.STREAM.UPDATE.{stream}", changed)
        assert "error" not in msgspec.json.decode(answer.data)
        (line,) = await drift(connection)
        assert line.startswith(f"{stream} differs in ") and f"{key} (" in line and f" instead of {declared})" in line
        assert any(change.startswith(f"updated {stream}: ") for change in await ensure(broker.url, None))
        assert [] == await drift(connection)
    finally:
        await connection.close()
        broker.kill()
