"""Events as spans of their traces: pure. Who wrote an event knows nothing of it, so being traced costs nobody anything.

An event is a span from the storing of its cause to its own, child of that cause's; the ids are those in `traceparent`, so whoever
tells of the same event tells of the same span. Observations, of which most are followed by nothing, are told when something
follows. What anybody thought or wants is not in a span: ids, names, kinds, outcomes and counts are.

Sources: OTLP 1 (`opentelemetry/proto/trace/v1/trace.proto`, and its JSON mapping); OpenTelemetry semantic conventions for generative
AI (`gen_ai.*`), by which a compatible server of unknown maker is `openai`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from datetime import datetime

import msgspec

from shared.contracts.catalog import class_of
from shared.contracts.envelope import Envelope, Recorded
from shared.contracts.events import (
    ActionExecuted,
    CheckResult,
    ObservationRecorded,
    ProposalCreated,
    ProposalEvent,
    ProposalRejected,
    ProposalVerified,
    ThoughtGenerated,
)
from shared.contracts.trace import carried_on, span_id

KEEP = 20_000
"""So many events are known as causes."""
UNTOLD = frozenset(("grant", "budget", "lot", "placement"))
"""Entities that tell how the mesh keeps house."""
MODEL = "model:"
"""How a thinker's name begins that asks a model."""
Attribute = str | int | float | bool


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One span; times in nanoseconds since 1970. `fault`: why it is an error."""

    trace: str
    id: str
    parent: str
    name: str
    service: str
    began_ns: int
    ended_ns: int
    attributes: dict[str, Attribute]
    fault: str = ""


class Known(msgspec.Struct):
    """A cause. `untold`: an observation nothing followed from yet."""

    trace: str
    stored_ns: int
    untold: Span | None = None


class Spans:
    """Makes spans of events in the order of the log; remembers the last `keep` of them."""

    def __init__(self, keep: int = KEEP) -> None:
        self._keep = keep
        self._known: OrderedDict[str, Known] = OrderedDict()

    def of(self, recorded: Recorded) -> Iterator[Span]:
        """What is to be told now."""
        event, envelope = recorded.event, recorded.envelope
        name = class_of(event)
        if name.partition(".")[0] in UNTOLD:
            return
        _, trace, own, _ = (envelope.traceparent or carried_on(envelope.id, envelope.correlation, None)).split("-")
        ended = _ns(recorded.stored_at)
        cause = self._known.get(envelope.causation or "")
        parent = "" if envelope.causation is None else span_id(envelope.causation)
        attributes = _attributes(recorded, name)
        if cause is not None and cause.trace != trace:
            parent, attributes["swarm.cause_trace"] = "", cause.trace
        span = Span(
            trace=trace,
            id=own,
            parent=parent,
            name=_name(event, name),
            service=envelope.source.partition("/")[0],
            began_ns=min(ended, _ns(envelope.time) if cause is None else cause.stored_ns),
            ended_ns=ended,
            attributes=attributes,
            fault=_fault(event),
        )
        yield from self._roots(envelope, cause)
        if isinstance(event, ObservationRecorded):
            self._remember(envelope.id, Known(trace, ended, span))
            return
        self._remember(envelope.id, Known(trace, ended))
        yield span

    def _roots(self, envelope: Envelope, cause: Known | None) -> Iterator[Span]:
        """Observations that something follows from now for the first time."""
        for known in (self._known.get(envelope.correlation), cause):
            if known is not None and known.untold is not None:
                yield known.untold
                known.untold = None

    def _remember(self, event_id: str, known: Known) -> None:
        self._known[event_id] = known
        while len(self._known) > self._keep:
            self._known.popitem(last=False)


def _ns(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1000


def _name(event: object, name: str) -> str:
    if isinstance(event, ThoughtGenerated) and event.thinker.startswith(MODEL):
        return f"chat {event.thinker.removeprefix(MODEL)}"
    return name


def _fault(event: object) -> str:
    match event:
        case ActionExecuted(outcome="failure" | "unknown" as outcome, error=error):
            return error or outcome
        case ThoughtGenerated(status="model_error" | "empty" as status):
            return status
        case _:
            return ""


def _attributes(recorded: Recorded, name: str) -> dict[str, Attribute]:
    event = recorded.event
    found: dict[str, Attribute] = {
        "swarm.event.class": name,
        "swarm.event.id": recorded.id,
        "swarm.event.seq": recorded.seq,
        "swarm.swarm": event.swarm,
        "swarm.persona": event.persona,
        "swarm.correlation": recorded.envelope.correlation,
    }
    if isinstance(event, ProposalEvent):
        found["swarm.proposal"] = event.proposal_id
    match event:
        case ThoughtGenerated():
            found |= {"swarm.phase": event.phase, "swarm.step": event.step, "swarm.compute_ms": event.usage.compute_ms}
            if event.thinker.startswith(MODEL):
                found |= _model(event)
        case CheckResult(outcome=outcome):
            found["swarm.outcome"] = outcome
        case ProposalCreated(action=action):
            found["swarm.action.kind"] = action.kind
        case ProposalVerified(risk=risk):
            found["swarm.risk"] = risk
        case ProposalRejected(stage=stage, reasons=reasons):
            found |= {"swarm.stage": stage, "swarm.reasons": ",".join(reasons)}
        case ActionExecuted(outcome=outcome, duration_ms=duration_ms):
            found |= {"swarm.outcome": outcome, "swarm.duration_ms": duration_ms}
        case _:
            pass
    return found


def _model(event: ThoughtGenerated) -> dict[str, Attribute]:
    usage = event.usage
    found: dict[str, Attribute] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": event.thinker.removeprefix(MODEL),
        "gen_ai.agent.id": f"{event.swarm}.{event.persona}",
        "gen_ai.conversation.id": f"{event.swarm}.{event.persona}.{event.cycle}",
        "gen_ai.usage.input_tokens": usage.tokens_in,
        "gen_ai.usage.output_tokens": usage.tokens_out,
        "swarm.cost_microusd": usage.cost_microusd,
    }
    return found if event.status == "ok" else {**found, "error.type": event.status}
