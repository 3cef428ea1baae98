"""Spans to a collector over OTLP/HTTP as JSON (OTLP 1, `POST /v1/traces`): what is told, and what becomes of it when nobody listens.

Traces are for looking, the log is for knowing: what does not fit is dropped and counted, nothing waits for a collector, and what
happened before the gateway followed the log is not told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx
import msgspec
import structlog

from services.gateway.projections.feed import Feed
from services.gateway.tracing.spans import Attribute, Span, Spans
from shared.metrics.table import SPANS

log = structlog.get_logger()

QUEUE, BATCH = 8192, 512
EVERY_S, TIMEOUT_S = 2.0, 2.0
SAID_EVERY_S = 60.0
INTERNAL, ERROR = 1, 2
"""`SpanKind` and `StatusCode` of the protocol."""
HEADERS = {"Content-Type": "application/json"}
Json = dict[str, object]


def document(spans: Sequence[Span], version: str) -> bytes:
    """An `ExportTraceServiceRequest`: spans by the service that said the event."""
    by_service: dict[str, list[Json]] = {}
    for span in spans:
        by_service.setdefault(span.service, []).append(_span(span))
    resources = [
        {
            "resource": {
                "attributes": _attributes(
                    {"service.name": service, "service.namespace": "swarm", "service.version": version}
                )
            },
            "scopeSpans": [{"scope": {"name": "swarm.log"}, "spans": found}],
        }
        for service, found in by_service.items()
    ]
    return msgspec.json.encode({"resourceSpans": resources})


def _span(span: Span) -> Json:
    found: Json = {
        "traceId": span.trace,
        "spanId": span.id,
        "name": span.name,
        "kind": INTERNAL,
        "startTimeUnixNano": str(span.began_ns),
        "endTimeUnixNano": str(span.ended_ns),
        "attributes": _attributes(span.attributes),
    }
    if span.parent:
        found["parentSpanId"] = span.parent
    if span.fault:
        found["status"] = {"code": ERROR, "message": span.fault}
    return found


def _attributes(values: dict[str, Attribute]) -> list[Json]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: Attribute) -> Json:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case _:
            return {"stringValue": value}


class Exporter:
    """Follows a feed and tells what it takes in. `url` is the collector's base, such as `http://127.0.0.1:4318`."""

    def __init__(self, feed: Feed, url: str, version: str) -> None:
        self._feed, self._version = feed, version
        self._url = url.rstrip("/") + "/v1/traces"
        self._spans = Spans()
        self._said = -SAID_EVERY_S

    async def run(self) -> None:
        """Until the feed stops."""
        while not (self._feed.ready or self._feed.stopped):
            await self._feed.turn(EVERY_S)
        subscription = self._feed.subscribe(lambda recorded: True, QUEUE)
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, headers=HEADERS) as client:
                while True:
                    ending = subscription.closed  # what comes before is in what is taken now
                    skipped, events = await subscription.take(EVERY_S)
                    SPANS.by["dropped"] += skipped
                    found = [span for recorded in events for span in self._spans.of(recorded)]
                    while found and await self._send(client, found[:BATCH]):
                        del found[:BATCH]
                    SPANS.by["dropped"] += len(found)
                    if ending:
                        return
                    await self._feed.turn(EVERY_S)  # so that a busy log makes few large batches
        finally:
            self._feed.unsubscribe(subscription)

    async def _send(self, client: httpx.AsyncClient, spans: Sequence[Span]) -> bool:
        """Whether they were taken."""
        try:
            answer = await client.post(self._url, content=document(spans, self._version))
            why = "" if answer.is_success else f"status {answer.status_code}: {answer.text[:200]}"
        except httpx.HTTPError as error:
            why = f"{type(error).__name__}: {error}"
        if not why:
            SPANS.by["sent"] += len(spans)
            return True
        clock = asyncio.get_running_loop().time()
        if clock - self._said >= SAID_EVERY_S:
            self._said = clock
            log.warning("spans_not_sent", url=self._url, why=why)
        return False
