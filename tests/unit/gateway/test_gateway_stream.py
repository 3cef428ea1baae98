"""The event stream: nothing lost, nothing repeated, filters, lag, gaps, heartbeats, a clean end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import msgspec
import pytest
from gateway_model import NOW, Mesh, created, executed, key, mesh, message, recorded, spawned, thought

from services.gateway.front.streaming.asked import WORKSPACE_S, Filter, Place
from services.gateway.front.streaming.stream import EventStream, Telling, everything
from services.gateway.projections.feed import Feed, Subscription
from services.gateway.projections.projection import Projection
from services.gateway.settings import GatewaySettings
from shared.contracts.envelope import Envelope, Message, Recorded
from shared.contracts.events import (
    AnyEvent,
    BeliefAsserted,
    BeliefConfirmed,
    BeliefContested,
    BeliefRevised,
    CognitionStarted,
    MeshHalted,
)
from shared.contracts.ids import EVERYONE, fresh_id, utc_now
from shared.log.memory import MemoryLog
from shared.log.port import LogUnavailable
from tests.eventsource import EventSource
from tests.policies import GOLDEN, InForce

PATH = "/v1/cognition/stream"


class Frame(msgspec.Struct, frozen=True):
    """One parsed server-sent event; a comment has only `comment`."""

    event: str = ""
    data: str = ""
    id: str = ""
    retry: str = ""
    comment: str = ""


async def frames(answer: httpx.Response) -> AsyncIterator[Frame]:
    """Parses as the specification says, so a wrong byte shows."""
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if not line:
            if fields:
                yield Frame(**fields)
            fields = {}
        elif line.startswith(":"):
            fields["comment"] = line[1:].strip()
        else:
            name, _, value = line.partition(": ")
            fields[name] = value


async def take(answer: httpx.Response, count: int) -> list[Frame]:
    """The next events, comments and what is told beside events left out."""
    found: list[Frame] = []
    async for frame in frames(answer):
        if frame.event and (frame.id or frame.event != "cognition"):
            found.append(frame)
        if len(found) == count:
            break
    return found


async def opened(answer: httpx.Response) -> None:
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")


@pytest.fixture
async def up() -> AsyncIterator[Mesh]:
    async with mesh() as found:
        yield found


async def test_an_event_arrives_with_the_contracts_shape(up: Mesh) -> None:
    async with up.client() as client, client.stream("GET", PATH) as answer:
        await opened(answer)
        seq = await up.put(thought("p", 1))
        (frame,) = await take(answer, 1)
    assert (frame.event, frame.id) == ("cognition", str(seq))
    body = msgspec.json.decode(frame.data)
    assert set(body) == {"id", "event_type", "persona_id", "swarm_id", "timestamp", "payload"}
    assert (body["event_type"], body["persona_id"], body["swarm_id"]) == ("thought_generated", "p", "s")
    assert body["payload"]["text"] == "thought 1"
    assert body["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("from=beginning", [1, 2, 3, 4]),
        ("from=beginning&swarm=s", [1, 3, 4]),
        ("from=beginning&persona=p", [1, 4]),
        ("from=beginning&type=proposal_created", [4]),
        ("from=beginning&type=proposal.created,persona.spawned&swarm=s", [1, 4]),
        ("from=beginning&swarm=other&type=thought_generated", [2]),
    ],
)
async def test_filters_hold_for_the_past_and_for_what_comes(up: Mesh, query: str, expected: list[int]) -> None:
    past = (spawned("p"), thought("q", 1, swarm="other"), thought("q", 1), created("x"))
    await up.put(*past)
    async with up.client() as client, client.stream("GET", f"{PATH}?{query}") as answer:
        seen = [int(f.id) for f in await take(answer, len(expected))]
        assert seen == expected
    async with up.client() as client, client.stream("GET", f"{PATH}?{query.replace('beginning', 'now')}") as answer:
        await opened(answer)
        await up.put(*past)
        assert [int(f.id) for f in await take(answer, len(expected))] == [n + 4 for n in expected]


ON_B = {"swarm": "s", "key_id": "k", "belief_id": "b"}
BELIEFS: tuple[AnyEvent, ...] = (
    BeliefAsserted(
        **ON_B, persona="p", by="p", belief_key="k", claim="it is so", confidence=0.5, valid_from=NOW, review_after=NOW
    ),
    BeliefConfirmed(**ON_B, persona="q", by="q", claim="it is so", confidence=0.7, review_after=NOW),
    BeliefContested(**ON_B, persona="r", by="r", claim="it is not", confidence=0.4),
    BeliefRevised(**ON_B, persona="p", by="p", confidence=0.2, status="stale", reason="old"),
)


async def told(answer: httpx.Response, last: str) -> list[tuple[str, str | None, dict[str, object]]]:
    """Type, id and payload of each event up to the first of the type `last`."""
    found = []
    async for frame in frames(answer):
        if frame.event == "cognition":
            body = msgspec.json.decode(frame.data)
            found.append((body["event_type"], frame.id, body["payload"]))
            if body["event_type"] == last:
                break
    return found


async def test_beliefs_have_the_names_clients_wait_for_and_attention_is_told_beside_them(up: Mesh) -> None:
    async with up.client() as client, client.stream("GET", PATH) as answer:
        await opened(answer)
        await up.put(*BELIEFS)
        await up.put(spawned("z"))
        seen = await told(answer, "persona_spawned")
    beside = [payload for name, id_, payload in seen if name == "workspace_updated" and not id_]
    assert beside in ([], [{"updated": True}])  # once in a while: what came in one go is told after it
    seen = [one for one in seen if one[0] != "workspace_updated"]
    assert [(name, bool(id_)) for name, id_, _ in seen] == [
        ("belief_extracted", True),
        ("belief_revalidated", True),
        ("attention_created", False),
        ("belief_contested", True),
        ("attention_created", False),
        ("belief_revalidated", True),
        ("persona_spawned", True),
    ]
    asked = seen[2][2]
    assert set(asked) == {"id", "topic", "priority", "source_type", "source_id"}
    assert (asked["source_type"], asked["source_id"]) == ("contested_belief", "b")
    assert {"belief_id", "belief_key", "claim", "confidence"} <= set(seen[0][2])


async def test_what_is_told_beside_events_can_be_asked_for_alone(up: Mesh) -> None:
    await up.put(*BELIEFS)
    async with up.client() as client:
        async with client.stream("GET", f"{PATH}?from=beginning&type=attention_created,belief_extracted") as answer:
            names = [name for name, _, _ in await told(answer, "attention_created")]
            assert names == ["belief_extracted", "attention_created"]
        async with client.stream("GET", f"{PATH}?from=beginning&type=belief_revalidated") as answer:
            found = await take(answer, 2)
            assert [int(f.id) for f in found] == [2, 4]


async def test_the_workspace_is_told_once_in_a_while(up: Mesh) -> None:
    telling = Telling(up.gateway.feed, Filter(), everything)
    await telling.frames([recorded(BELIEFS[0], 1)], 0)
    assert b'"workspace_updated"' in telling.workspace()
    assert telling.workspace() == b""
    await telling.frames([recorded(BELIEFS[1], 2)], 0)
    assert telling.workspace() == b""  # it was told a moment ago
    telling._at -= WORKSPACE_S
    assert b'"updated":true' in telling.workspace()
    telling._at -= WORKSPACE_S
    assert telling.workspace() == b""  # nothing has changed since


async def test_a_stream_tells_no_beliefs_that_the_policies_keep_from_the_key() -> None:
    nobody = '@id("none") forbid (principal, action == Action::"memory.read", resource);'
    async with mesh() as up:
        policies = InForce(up.log)
        up.gateway._readings = policies.readings
        await policies.put({"memory.cedar": nobody, "golden.json": GOLDEN})
        async with up.client() as client:
            async with client.stream("GET", PATH) as answer:
                await opened(answer)
                await up.put(*BELIEFS, spawned("z"))
                assert [name for name, _, _ in await told(answer, "persona_spawned")] == ["persona_spawned"]
            async with client.stream("GET", f"{PATH}?from=beginning") as answer:
                names = {name for name, _, _ in await told(answer, "persona_spawned")}
                assert not any(name.startswith(("belief", "attention")) for name in names)
            assert (await client.get("/v1/cognition/beliefs")).json() == []
            assert (await client.get("/v1/cognition/beliefs/b")).status_code == 404
            assert (await client.get("/v1/cognition/attention")).json() == []
            assert (await client.get("/v1/cognition/workspace")).json()["top_beliefs"] == []
            assert (await client.get("/v1/cognition/snapshots/latest")).status_code == 404
        await policies.put()
        async with up.client() as client:
            assert [b["id"] for b in (await client.get("/v1/cognition/beliefs?swarm=s&status=stale")).json()] == ["b"]
            assert (await client.get("/v1/cognition/beliefs?swarm=other")).json() == []
            assert len((await client.get("/v1/cognition/attention?swarm=s")).json()) == 2
            assert (await client.get("/v1/cognition/attention?swarm=other")).json() == []
            assert (await client.get("/v1/cognition/workspace?swarm=other")).json()["top_attention"] == []


@pytest.mark.parametrize("query", ["type=nonsense", "swarm=A.B", "persona=>", "from=yesterday"])
async def test_a_filter_that_makes_no_sense_is_422(up: Mesh, query: str) -> None:
    async with up.client() as client:
        answer = await client.get(f"{PATH}?{query}")
        assert answer.status_code == 422
        assert (await client.get(PATH, headers={"Last-Event-ID": "x"})).status_code == 422


async def test_clients_that_break_off_and_resume_see_every_event_once_while_others_write(up: Mesh) -> None:
    total, writers = 1200, 3

    async def write(number: int) -> None:
        for step in range(1, total // writers + 1):
            await up.log.commit([message(thought(f"w{number}", step))])
            if step % 50 == 0:
                await asyncio.sleep(0)

    async def read(chunk: int) -> list[int]:
        seen: list[int] = []
        async with up.client() as client:
            while len(seen) < total:
                headers = {"Last-Event-ID": str(seen[-1])} if seen else {}
                async with client.stream("GET", f"{PATH}?from=beginning", headers=headers) as answer:
                    got = await take(answer, min(chunk, total - len(seen)))
                    assert {f.event for f in got} == {"cognition"}
                    seen += [int(f.id) for f in got]
        return seen

    results = await asyncio.gather(*(read(chunk) for chunk in (37, 200, 1200)), *(write(n) for n in range(writers)))
    for seen in results[:3]:
        assert seen == list(range(1, total + 1))


async def test_a_long_past_is_paged_and_joined_to_the_present() -> None:
    log = MemoryLog()
    async with mesh(GatewaySettings(stream_buffer=10), log=log) as up:
        await up.put(*(thought("p", n) for n in range(1, 1301)))
        async with up.client() as client, client.stream("GET", f"{PATH}?from=beginning") as answer:
            past = await take(answer, 1300)
            await up.put(thought("p", 1301))
    assert [int(f.id) for f in past] == list(range(1, 1301))


async def test_a_slow_client_is_told_how_much_it_missed() -> None:
    feed = Feed(MemoryLog(), Projection())
    stream = EventStream(MemoryLog(), feed, buffer=3, heartbeat_s=5, max_clients=1, max_total=1)
    feed.caught_up.set()
    chunks = await stream.open("p", Filter(), None)
    assert [await anext(chunks), await anext(chunks)] == [b": open\n\n", b"id: 0\n\n"]
    for seq in range(1, 11):
        feed.take(recorded(thought("p", seq), seq))
    said = await anext(chunks)
    assert said.startswith(b"event: lag\ndata: skipped 7\n\nid: 8\n")
    assert said.count(b"event: cognition") == 3
    await chunks.aclose()  # type: ignore[attr-defined]
    assert not feed.subscriptions


async def test_a_quiet_stream_breathes(up: Mesh) -> None:
    async with (
        mesh(GatewaySettings(heartbeat_s=0.02)) as quick,
        quick.client() as client,
        client.stream("GET", PATH) as answer,
    ):
        said = []
        async for frame in frames(answer):
            said.append(frame)
            if len(said) == 4:
                break
    assert said == [Frame(comment="open"), Frame(id="0"), Frame(comment="heartbeat"), Frame(comment="heartbeat")]


async def test_a_filtered_client_learns_how_far_it_is_without_an_event() -> None:
    async with mesh(GatewaySettings(heartbeat_s=0.02)) as up, up.client() as client:
        await up.put(thought("p", 1), thought("p", 2))
        async with client.stream("GET", f"{PATH}?persona=other") as answer:
            told = []
            async for frame in frames(answer):
                if frame.id:
                    told.append(frame)
                if len(told) == 1:
                    await up.put(thought("p", 3))
                if len(told) == 2:
                    break
    assert [frame.id for frame in told] == ["2", "3"]
    assert not any(frame.event for frame in told)


async def test_while_the_gateway_catches_up_a_stream_is_open_and_says_so_and_then_brings_everything() -> None:
    log = MemoryLog()
    await log.commit([message(thought("p", 1))])
    async with mesh(GatewaySettings(heartbeat_s=0.01), log, behind=True) as up, up.client() as client:
        assert (await client.get("/v1/cognition/status")).status_code == 503
        async with client.stream("GET", f"{PATH}?from=beginning") as answer:
            await opened(answer)
            lines = answer.aiter_lines()
            while await anext(lines) != ": the log is still being read":
                pass
            up.follow()
            while not (line := await anext(lines)).startswith("id: "):
                pass
    assert line == "id: 1"


async def test_a_stream_that_waits_for_the_past_ends_with_the_gateway() -> None:
    async with mesh(behind=True) as up, up.client() as client, client.stream("GET", PATH) as answer:
        await opened(answer)
        await up.gateway.stop()
        assert [frame async for frame in frames(answer)][-1] == Frame(retry="500")


async def test_the_bus_away_while_a_client_resumes_is_a_comment_and_then_it_gets_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.gateway.front.streaming.stream.AWAY_RETRY_S", 0.01)
    async with mesh() as up, EventSource(f"{up.url}{PATH}?from=beginning") as source:
        await up.put(thought("p", 1))
        await source.has(1)
        read, get, away = up.log.read, up.log.get, 6

        async def failing(*args: object, **rest: object) -> list[Recorded]:
            nonlocal away
            away -= 1
            if away > 0:
                raise LogUnavailable("no broker")
            return await read(*args, **rest)  # type: ignore[arg-type]

        async def gone(seq: int) -> Recorded | None:
            nonlocal away
            away -= 1
            if away > 3:
                raise LogUnavailable("no broker")
            return await get(seq)

        monkeypatch.setattr(up.log, "read", failing)
        monkeypatch.setattr(up.log, "get", gone)
        async with EventSource(f"{up.url}{PATH}?from=beginning") as other:
            other.last_event_id = "1"
            await other.opened(1)
            await up.put(thought("p", 2))
            assert [e.last_event_id for e in await other.has(2)] == ["2"]
        assert away <= 0
        assert "the event bus is away, what is missing follows" in other.comments


async def test_clients_over_restarts_of_the_gateway_see_every_event_once_and_none_gives_up() -> None:
    """On one port: each time a client comes back it finds the gateway gone, catching up, or there."""
    log = MemoryLog()
    sources: list[EventSource] = []
    port = 0
    for life in range(3):
        async with mesh(GatewaySettings(heartbeat_s=0.05), log, behind=True, port=port) as up:
            port = int(up.url.rpartition(":")[2])
            if not sources:
                sources = [EventSource(f"{up.url}{PATH}?from=beginning", reconnect_s=0.02) for _ in range(5)]
            await asyncio.gather(*(s.opened(life + 1) for s in sources))
            up.follow()
            await up.put(*(thought("p", life * 10 + n) for n in range(1, 11)))
            await asyncio.gather(*(s.has(life * 10 + 10) for s in sources))
    for source in sources:
        async with source:
            assert [int(e.last_event_id) for e in source.seen] == list(range(1, 31))
            assert source.failed is None


async def test_the_end_is_clean_and_says_when_to_come_back() -> None:
    async with mesh() as up, up.client() as client, client.stream("GET", PATH) as answer:
        await opened(answer)
        await up.put(thought("p", 1))
        await up.gateway.stop()
        last = [frame async for frame in frames(answer)]
    assert [f.id for f in last if f.event] == ["1"]
    assert last[-1].retry == "500"


async def test_an_end_in_the_middle_of_a_long_past_comes_at_once() -> None:
    log = MemoryLog()
    async with mesh(log=log) as up:
        await up.put(*(thought("p", n) for n in range(1, 1301)))
        chunks = await up.gateway.stream.open("p", Filter(), Place(0))
        assert await anext(chunks) == b": open\n\n"
        assert (await anext(chunks)).count(b"event: cognition") == 500
        await up.gateway.stop()
        rest = [chunk async for chunk in chunks]
    assert rest == [b"retry: 500\n\n"]


async def test_a_position_the_log_never_had_is_told_as_a_gap(up: Mesh) -> None:
    await up.put(thought("p", 1), thought("p", 2))
    async with up.client() as client, client.stream("GET", PATH, headers={"Last-Event-ID": "999"}) as answer:
        await opened(answer)
        await up.put(thought("p", 3))
        gap, event = await take(answer, 2)
    assert gap.event == "gap"
    assert msgspec.json.decode(gap.data) == {"last_event_id": 999, "first_event_id": 1, "resumed_after": 2}
    assert event.id == "3"


async def test_a_log_that_is_another_one_is_told_as_a_gap_before_the_end(up: Mesh) -> None:
    await up.put(spawned("p"))
    up.gateway.stream._another = lambda: "it ends at 1, and had reached 7"
    async with up.client() as client, client.stream("GET", PATH) as answer:
        await opened(answer)
        await up.gateway.stop()
        *_, gap, goodbye = [frame async for frame in frames(answer)]
    assert ("gap", "0", "500") == (gap.event, gap.id, goodbye.retry)
    note = msgspec.json.decode(gap.data)
    assert ("the log is another one: it ends at 1, and had reached 7", 0) == (note["why"], note["resumed_after"])


@pytest.mark.parametrize("before", ["1", "2", "4", "2.1", "999.7"])
async def test_a_client_of_before_the_log_went_back_is_told_so_and_goes_on_with_the_halt(up: Mesh, before: str) -> None:
    """Also one whose id is of a sequence that there is again: what it saw there was perhaps another event."""
    await up.put(spawned("p"), thought("p", 1))
    halted = MeshHalted(swarm=EVERYONE, persona=EVERYONE, cause="log_went_back")
    await up.put(halted, thought("p", 2), thought("p", 3))
    async with up.client() as client, client.stream("GET", PATH, headers={"Last-Event-ID": before}) as answer:
        gap, *events = await take(answer, 4)
    assert ("gap", "2.3") == (gap.event, gap.id) and 2 == msgspec.json.decode(gap.data)["resumed_after"]
    assert ["3.3", "4.3", "5.3"] == [event.id for event in events]
    async with up.client() as client, client.stream("GET", PATH, headers={"Last-Event-ID": "4.3"}) as answer:
        assert ["5.3"] == [event.id for event in await take(answer, 1)]
    async with up.client() as client, client.stream("GET", f"{PATH}?from=beginning") as answer:
        assert [f"{n}.3" for n in range(1, 6)] == [event.id for event in await take(answer, 5)]


@pytest.mark.parametrize("bad", ["4.", ".4", "4.x", "4.3.2", "-1", "\u0664"])
async def test_what_is_no_id_of_this_stream_is_refused(up: Mesh, bad: str) -> None:
    async with up.client() as client:
        assert 422 == (await client.get(PATH, headers={"Last-Event-ID": bad.encode()})).status_code


async def test_a_position_older_than_the_log_is_told_as_a_gap_and_goes_on_at_its_beginning(
    up: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    await up.put(*(thought("p", n) for n in range(1, 6)))
    whole = up.log.read

    async def trimmed(filters: tuple[str, ...], after: int = 0, **rest: int | None) -> list[object]:
        return list(await whole(filters, max(after, 3), **rest))

    async def forgotten(seq: int) -> None:
        return None

    monkeypatch.setattr(up.log, "read", trimmed)
    monkeypatch.setattr(up.log, "get", forgotten)
    async with up.client() as client, client.stream("GET", PATH, headers={"Last-Event-ID": "1"}) as answer:
        gap, *events = await take(answer, 3)
    assert msgspec.json.decode(gap.data) == {"last_event_id": 1, "first_event_id": 4, "resumed_after": 3}
    assert [e.id for e in events] == ["4", "5"]


async def test_the_limit_of_streams_is_exact_and_each_principals_own() -> None:
    keys = (key("a-token", "al", "read"), key("b-token", "bo", "read"))
    settings = GatewaySettings(keys=keys, max_streams=7, max_streams_total=10)
    async with mesh(settings) as up, AsyncExitStack() as streams:

        async def statuses(token: str, count: int) -> list[int]:
            client = await streams.enter_async_context(up.client(token))
            answers = (streams.enter_async_context(client.stream("GET", PATH)) for _ in range(count))
            return sorted([a.status_code for a in await asyncio.gather(*answers)])

        assert await statuses("a-token", 20) == [200] * 7 + [429] * 13
        assert await statuses("b-token", 20) == [200] * 3 + [429] * 17
        await streams.aclose()
        while up.gateway.feed.subscriptions:
            await asyncio.sleep(0)
        assert await statuses("a-token", 7) == [200] * 7


async def test_who_comes_again_where_too_many_are_is_told_when_to_come_back_and_gets_in_then() -> None:
    async with mesh(GatewaySettings(max_streams=1)) as up, up.client() as client, client.stream("GET", PATH) as answer:
        await opened(answer)
        refused = await client.get(PATH)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        again = await client.get(PATH, headers={"Last-Event-ID": "0"})
        await opened(again)
        assert again.text == ": local has 1 event streams open, the limit\nretry: 5000\n\n"


async def test_who_opens_streams_too_often_is_told_when_to_come_back_and_does_not_give_up() -> None:
    async with mesh(GatewaySettings(rate_per_s=0.01, burst=1)) as up, up.client() as client:
        assert (await client.get("/v1/cognition/status")).status_code == 200
        answer = await client.get(PATH)
        await opened(answer)
        assert re.search(r"^retry: \d\d000\n\n\Z|^retry: 100000\n\n\Z", answer.text, re.MULTILINE)
        assert (await client.get("/v1/cognition/status")).status_code == 429


async def test_no_proxy_may_hold_a_stream_back(up: Mesh) -> None:
    async with up.client() as client, client.stream("GET", PATH) as answer:
        assert answer.headers["cache-control"] == "no-store, no-transform"
        assert answer.headers["x-accel-buffering"] == "no"


async def test_a_subscription_that_times_out_brings_nothing() -> None:
    assert await Subscription(lambda _: True, 1).take(0.001) == (0, [])


async def test_five_token_subjects_are_found_by_the_filter(up: Mesh) -> None:
    await up.put(created("x"), executed(created("x")))
    async with (
        up.client() as client,
        client.stream("GET", f"{PATH}?from=beginning&persona=p&type=action_executed") as answer,
    ):
        (frame,) = await take(answer, 1)
    assert frame.id == "2"


async def test_a_client_ahead_of_the_projection_is_not_sent_again_what_it_has() -> None:
    log = MemoryLog()
    feed = Feed(log, Projection())
    for step in range(1, 5):
        await log.commit([message(thought("p", step))])
    feed.take(log.store.records[0])
    stream = EventStream(log, feed, buffer=10, heartbeat_s=5, max_clients=1, max_total=1)
    feed.caught_up.set()
    chunks = await stream.open("p", Filter(), Place(3, 0))
    assert [await anext(chunks), await anext(chunks)] == [b": open\n\n", b"id: 3\n\n"]
    following = asyncio.create_task(anext(chunks))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    for event in log.store.records[1:]:
        feed.take(event)
    assert (await following).startswith(b"id: 4\n")
    await chunks.aclose()  # type: ignore[attr-defined]


async def test_an_event_the_fold_cannot_take_is_buried_and_those_after_it_are_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, projection = MemoryLog(), Projection()
    fold = projection.journal.apply
    broken = iter((True,))

    def apply(recorded: Recorded) -> None:
        if next(broken, False):
            raise OverflowError("date value out of range")
        fold(recorded)

    monkeypatch.setattr(projection.journal, "apply", apply)
    log.store.publish("cognition.started.all.all", b"{}")
    for _ in range(2):
        event_id = fresh_id()
        envelope = Envelope(id=event_id, source="test", time=utc_now(), correlation=event_id)
        await log.commit([Message(event=CognitionStarted(swarm="all", persona="all"), envelope=envelope)])
    feed = Feed(log, projection)
    running = asyncio.create_task(feed.run())
    await asyncio.wait_for(feed.caught_up.wait(), 10)
    await feed.stop()
    await running
    assert [("cognition.started.all.all", "not_taken")] == [letter[:2] for letter in log.dead]
    assert (3, 3, 1) == (feed.position, projection.loop.seq, len(projection.journal))
