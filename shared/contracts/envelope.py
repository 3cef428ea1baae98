"""CloudEvents 1.0 in NATS binary mode: attributes in `ce-` headers, the body is the event's plain JSON.

`encode` and `decode` are the only way on and off the bus. `decode` refuses whatever a dead-letter reader should see:
it raises `Malformed` with a reason code, never anything else. What is stored and cannot be read is `Unreadable`: it says
nothing to anybody, and still counts wherever the broker counts.
Source: CloudEvents NATS protocol binding 1.0.3, section 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

import msgspec

from shared.contracts.bounds import bound_of, in_bounds
from shared.contracts.catalog import CLASSES, class_of, subject_of
from shared.contracts.events import AnyEvent
from shared.contracts.ids import CORE, EventId, Instant, Sha256
from shared.contracts.trace import carried_on

MAX_BODY_BYTES = 64 * 1024
MAX_ID = 64
MAX_DETAIL = 300
SPEC_VERSION = "1.0"
CONTENT_TYPE = "application/json"
SCHEMA_PREFIX = "swarm:schema/"
TRACE = "ce-traceparent"
"""Not `traceparent`: a broker that sees that makes a map of all headers, each time the message goes through it."""
_HEADERS = (
    ("id", "ce-id"),
    ("source", "ce-source"),
    ("time", "ce-time"),
    ("correlation", "ce-correlationid"),
    ("causation", "ce-causationid"),
    ("charter", "ce-charter"),
    ("traceparent", "traceparent"),  # what is stored from before it had CloudEvents' prefix
    ("traceparent", TRACE),
)

_ENCODER = msgspec.json.Encoder()
_DECODERS = {name: msgspec.json.Decoder(cls) for name, cls in CLASSES.items()}
_BOUNDS = {name: bound_of(msgspec.inspect.type_info(cls)) for name, cls in CLASSES.items()}
_Line = Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,200}$(?!\n)", description="up to 200 visible ASCII characters")]


class Envelope(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Everything about an event but its meaning. `correlation` is the id of the first cause, `causation` of the nearest."""

    id: EventId
    source: _Line
    time: Instant
    correlation: EventId
    causation: EventId | None = None
    charter: Sha256 | None = None
    traceparent: _Line | None = None


def enveloped(
    event_id: str,
    *,
    source: str,
    time: datetime,
    cause: Envelope | None = None,
    charter: str | None = None,
    traceparent: str | None = None,
) -> Envelope:
    """The envelope of what follows from `cause`: its correlation, charter (unless another is said) and trace are carried on.

    Without a cause a correlation begins, and a trace, or the one of `traceparent` is carried on.
    """
    correlation = event_id if cause is None else cause.correlation
    return Envelope(
        id=event_id,
        source=source,
        time=time,
        correlation=correlation,
        causation=None if cause is None else cause.id,
        charter=charter or (None if cause is None else cause.charter),
        traceparent=carried_on(event_id, correlation, traceparent if cause is None else cause.traceparent),
    )


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event about to be committed."""

    event: AnyEvent
    envelope: Envelope

    @property
    def subject(self) -> str:
        return subject_of(self.event)


class Recorded(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event in the log: `seq` is its stream sequence, `stored_at` the broker's time."""

    event: AnyEvent
    envelope: Envelope
    seq: int
    stored_at: datetime
    subject: str

    @property
    def id(self) -> str:
        return self.envelope.id


class Unreadable(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is stored at `seq` and is no event to us, `reason` and `detail` as in `Malformed`; `id` is what it says of itself."""

    id: str
    seq: int
    stored_at: datetime
    subject: str
    reason: str
    detail: str


class Passed(Unreadable, frozen=True, kw_only=True, gc=False):
    """What is stored at `seq` and was not read, because only its subject counts to who reads on; `id` is empty."""


Stored = Recorded | Unreadable
"""A message of the log."""


class Malformed(Exception):
    """Not an event of ours. `reason`: not_an_event, unknown_class, oversized, bad_envelope, bad_body, wrong_address, injected."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def encode(message: Message) -> tuple[str, str, bytes]:
    """Subject, header lines (`Name: value`, each ended by CRLF) and body.

    Raises `Malformed` where `decode` would: what is written can be read.
    """
    event = message.event
    name = class_of(event)
    try:
        body = _ENCODER.encode(event)
        attributes = msgspec.to_builtins(message.envelope)
    except (TypeError, ValueError, OverflowError) as error:
        raise Malformed("bad_body", f"{name} cannot be written: {error}"[:MAX_DETAIL]) from error
    body = _ENCODER.encode(_event(name, body))  # as it will be read: instants in UTC
    envelope = _envelope(attributes)
    subject = subject_of(event)
    lines = (
        f"ce-specversion: {SPEC_VERSION}\r\nce-id: {envelope.id}\r\nce-type: {name}\r\nce-source: {envelope.source}\r\n"
        f"ce-time: {msgspec.to_builtins(envelope.time)}\r\nce-correlationid: {envelope.correlation}\r\n"
        f"ce-dataschema: {SCHEMA_PREFIX}{name}\r\nce-datacontenttype: {CONTENT_TYPE}\r\nce-subject: {subject}\r\n"
    )
    if envelope.causation is not None:
        lines += f"ce-causationid: {envelope.causation}\r\n"
    if envelope.charter is not None:
        lines += f"ce-charter: {envelope.charter}\r\n"
    if envelope.traceparent is not None:
        lines += f"{TRACE}: {envelope.traceparent}\r\n"
    return subject, lines, body


def _event(name: str, body: bytes) -> AnyEvent:
    """Within its bounds. Raises `Malformed`."""
    if len(body) > MAX_BODY_BYTES:
        raise Malformed("oversized", f"{name} has {len(body)} bytes, the limit is {MAX_BODY_BYTES}")
    try:
        event = _DECODERS[name].decode(body)
        bound = _BOUNDS[name]
        return event if bound is None else bound(event)  # type: ignore[return-value]
    except (ValueError, OverflowError, RecursionError) as error:  # what msgspec raises is the first
        raise Malformed("bad_body", f"{name}: {error}"[:MAX_DETAIL]) from error


def _envelope(attributes: Mapping[str, str | None]) -> Envelope:
    """Within its bounds: attributes are handed on from event to event, and become headers, keys and checkpoints. Raises `Malformed`."""
    try:
        envelope = msgspec.convert(attributes, Envelope)
        time = in_bounds(envelope.time)
    except (ValueError, OverflowError) as error:
        raise Malformed("bad_envelope", f"an attribute is missing or unreadable: {error}"[:MAX_DETAIL]) from error
    return envelope if time is envelope.time else msgspec.structs.replace(envelope, time=time)


def decode(subject: str, headers: Mapping[str, str] | None, body: bytes, *, seq: int, stored_at: datetime) -> Recorded:
    """The event stored at `subject`. Raises `Malformed` and nothing else.

    What was stored before subjects had slots has none, and is read as CORE's: no stream takes such a subject any more.
    """
    if not headers or "ce-type" not in headers:
        raise Malformed("not_an_event", "there are no CloudEvents headers; publish with ce-specversion, ce-id, ce-type")
    if "Nats-Stream" in headers or "Nats-Subject" in headers:
        raise Malformed("injected", "a stored server answer is not an event")
    if headers.get("ce-subject", subject) != subject:  # what was stored before events said it has none
        raise Malformed("wrong_address", f"it says {headers['ce-subject'][:200]!r}, it came on {subject}")
    name = headers["ce-type"]
    if name not in CLASSES:
        raise Malformed("unknown_class", f"{name[:80]!r} is no event class")
    event = _event(name, body)
    address = subject_of(event)
    if address not in (
        subject,
        f"{subject}.{CORE}",
    ):  # an event's own subject is valid: its tokens were checked as it was decoded
        raise Malformed("wrong_address", f"the body belongs on {address}, it came on {subject}")
    envelope = _envelope({field: headers[header] for field, header in _HEADERS if header in headers})
    return Recorded(event=event, envelope=envelope, seq=seq, stored_at=stored_at, subject=subject)


def stored(subject: str, headers: Mapping[str, str] | None, body: bytes, *, seq: int, stored_at: datetime) -> Stored:
    """The event stored at `subject`, or why it is none."""
    try:
        return decode(subject, headers, body, seq=seq, stored_at=stored_at)
    except Malformed as error:
        claimed = (headers or {}).get("ce-id", "")[:MAX_ID]
        return Unreadable(
            id=claimed, seq=seq, stored_at=stored_at, subject=subject, reason=error.reason, detail=error.detail
        )


def passed(subject: str, seq: int, stored_at: datetime) -> Passed:
    """What was not read."""
    return Passed(id="", seq=seq, stored_at=stored_at, subject=subject, reason="not_read", detail="")


def structured(recorded: Recorded) -> bytes:
    """CloudEvents JSON format (1.0.2, section 2), for HTTP and archives."""
    envelope = recorded.envelope
    attributes: dict[str, object] = {
        "specversion": SPEC_VERSION,
        "id": envelope.id,
        "type": class_of(recorded.event),
        "source": envelope.source,
        "time": envelope.time,
        "subject": recorded.subject,
        "datacontenttype": CONTENT_TYPE,
        "dataschema": SCHEMA_PREFIX + class_of(recorded.event),
        "correlationid": envelope.correlation,
        "causationid": envelope.causation,
        "charter": envelope.charter,
        "traceparent": envelope.traceparent,
        "data": recorded.event,
    }
    return _ENCODER.encode({k: v for k, v in attributes.items() if v is not None})
