"""Traces: every event of a story is a span of one trace, from the observation to the outcome, and a collector gets them or nobody waits."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any

import msgspec
from gateway_model import NOW, authorized, claimed, created, executed, mesh, recorded, thought, verified

from services.gateway.settings import GatewaySettings
from services.gateway.tracing.export import Exporter, document
from services.gateway.tracing.spans import Span, Spans
from shared.contracts.envelope import Recorded
from shared.contracts.events import AnyEvent, BudgetGranted, Credits, ObservationRecorded, Usage
from shared.contracts.trace import carried_on, span_id, trace_id
from shared.metrics.table import SPANS
from shared.runtime.vitals.health import server

P = created("one")
SEEN = ObservationRecorded(swarm="s", persona="all", text="a password somebody mistyped")


def story(*events: AnyEvent, first: str = "e-1") -> list[Recorded]:
    """Each caused by the one before it, a second later."""
    told: list[Recorded] = []
    for seq, event in enumerate(events, 1):
        one = recorded(event, seq, at=NOW + timedelta(seconds=seq), cause=told[-1].id if told else None)
        trace = carried_on(one.id, first, None)
        envelope = msgspec.structs.replace(one.envelope, correlation=first, traceparent=trace)
        told.append(msgspec.structs.replace(one, envelope=envelope))
    return told


def spans(*events: Recorded) -> list[Span]:
    found = Spans()
    return [span for one in events for span in found.of(one)]


def test_a_story_is_one_trace_from_the_observation_to_the_outcome_each_span_child_of_its_cause() -> None:
    told = spans(*story(SEEN, thought("p", 1), P, verified(P), authorized(P), claimed(P), executed(P)))
    assert [
        "observation.recorded", "thought.generated", "proposal.created", "proposal.verified", "proposal.authorized",
        "action.claimed", "action.executed",
    ] == [span.name for span in told]  # fmt: skip
    assert {trace_id("e-1")} == {span.trace for span in told}
    assert ["", *(span.id for span in told[:-1])] == [span.parent for span in told]
    assert all(later.began_ns == before.ended_ns for before, later in pairwise(told))
    assert {10**9} == {span.ended_ns - span.began_ns for span in told[1:]}
    assert [] == [span.fault for span in told if span.fault]


def test_an_observation_nothing_follows_from_is_not_told_and_one_that_something_does_is_told_once() -> None:
    alone = story(SEEN)
    assert [] == spans(*alone)
    story_ = story(SEEN, thought("p", 1))
    again = msgspec.structs.replace(story_[1], envelope=msgspec.structs.replace(story_[1].envelope, id="e-9"), seq=9)
    assert ["observation.recorded", "thought.generated", "thought.generated"] == [s.name for s in spans(*story_, again)]


def test_how_the_mesh_keeps_house_is_not_told_and_what_was_said_or_wanted_never() -> None:
    grant = BudgetGranted(swarm="s", persona="p", grant_id="g", window=1, credits=Credits(), expires_at=NOW)
    told = spans(*story(SEEN, thought("p", 1), grant, P))
    assert "budget.granted" not in [span.name for span in told]
    text = repr(told)
    assert "password" not in text and "thought 1" not in text and P.title not in text and "burst" not in text


def test_a_thought_of_a_model_has_the_names_of_generative_ai_and_one_of_rules_has_none() -> None:
    asked = msgspec.structs.replace(
        thought("p", 3, status="model_error"), thinker="model:small-1", usage=Usage(tokens_in=90, tokens_out=7)
    )
    (span,) = spans(*story(asked))
    assert ("chat small-1", "model_error") == (span.name, span.fault)
    found = {name: value for name, value in span.attributes.items() if not name.startswith("swarm.")}
    assert found == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "small-1",
        "gen_ai.agent.id": "s.p", "gen_ai.conversation.id": "s.p.0", "gen_ai.usage.input_tokens": 90,
        "gen_ai.usage.output_tokens": 7, "error.type": "model_error",
    }  # fmt: skip
    (ruled,) = spans(*story(thought("p", 1)))
    assert not [name for name in ruled.attributes if name.startswith("gen_ai")]


def test_what_is_remembered_is_bounded_and_a_forgotten_cause_is_still_the_parent() -> None:
    few = Spans(keep=2)
    first, *rest = story(thought("p", 1), *(thought("q", n) for n in range(5)))
    for one in (first, *rest):
        list(few.of(one))
    late = recorded(verified(P), 99, at=NOW + timedelta(seconds=60), cause=first.id)
    (span,) = few.of(late)
    assert span.parent == span_id(first.id)
    assert span.began_ns == span.ended_ns


def test_a_document_is_as_the_protocol_writes_json() -> None:
    failed = executed(P, "failure")
    sent = msgspec.json.decode(document(spans(*story(P, failed)), "1.2"))
    (one,) = sent["resourceSpans"]
    assert {"key": "service.name", "value": {"stringValue": "test"}} in one["resource"]["attributes"]
    proposal, outcome = one["scopeSpans"][0]["spans"]
    assert {"traceId", "spanId", "name", "kind", "startTimeUnixNano", "endTimeUnixNano", "attributes"} == set(proposal)
    assert (32, 16) == (len(proposal["traceId"]), len(proposal["spanId"]))
    assert outcome["parentSpanId"] == proposal["spanId"]
    assert {"code": 2, "message": "disk_full"} == outcome["status"]
    assert {"key": "swarm.event.seq", "value": {"intValue": "2"}} in outcome["attributes"]


class Collector:
    """Takes what is posted, with `status`."""

    def __init__(self) -> None:
        self.status = 200
        self.got: asyncio.Queue[tuple[str, dict[bytes, bytes], dict[str, Any]]] = asyncio.Queue()

    async def app(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.got.put_nowait((scope["path"], dict(scope["headers"]), msgspec.json.decode(body)))
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


@asynccontextmanager
async def collecting() -> AsyncIterator[tuple[Collector, str]]:
    collector = Collector()
    http = server(collector.app, "127.0.0.1", 0)
    running = asyncio.create_task(http.serve())
    while not http.started:
        await asyncio.sleep(0.01)
    try:
        yield collector, f"http://127.0.0.1:{http.servers[0].sockets[0].getsockname()[1]}"
    finally:
        http.should_exit = True
        await running


def counted() -> tuple[float, float]:
    return SPANS.by["sent"], SPANS.by["dropped"]


async def test_a_collector_gets_what_happens() -> None:
    async with collecting() as (collector, url), mesh(GatewaySettings()) as up:
        exporter = Exporter(up.gateway.feed, url, "1")
        running = asyncio.create_task(exporter.run())
        while not up.gateway.feed.subscriptions:
            await asyncio.sleep(0.01)
        sent, dropped = counted()
        await up.put(P, verified(P))
        path, headers, body = await asyncio.wait_for(collector.got.get(), 10)
        assert ("/v1/traces", b"application/json") == (path, headers[b"content-type"])
        names = [s["name"] for r in body["resourceSpans"] for s in r["scopeSpans"][0]["spans"]]
        assert names and set(names) <= {"proposal.created", "proposal.verified"}
        await up.gateway.feed.stop()
        await asyncio.wait_for(running, 10)
        assert (sent + 2, dropped) == counted()


async def test_a_collector_that_refuses_or_is_away_costs_the_spans_and_nothing_else() -> None:
    async with collecting() as (collector, url), mesh(GatewaySettings()) as up:
        collector.status = 503
        running = asyncio.create_task(Exporter(up.gateway.feed, url, "1").run())
        while not up.gateway.feed.subscriptions:
            await asyncio.sleep(0.01)
        sent, dropped = counted()
        await up.put(P)
        await asyncio.wait_for(collector.got.get(), 10)
        await up.gateway.feed.stop()
        await asyncio.wait_for(running, 10)
        assert (sent, dropped + 1) == counted()


def test_nothing_of_it_is_imported_by_a_gateway_that_sends_none() -> None:
    script = "import sys, services.gateway.service; print([m for m in sys.modules if 'tracing' in m])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "[]" == done.stdout.strip()
