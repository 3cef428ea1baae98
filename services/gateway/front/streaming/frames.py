"""What goes over the wire of an event stream: events, what is told beside them, places, and words about the stream itself.

An id is the stream sequence, and `<sequence>.<epoch>` since the log went back once.
Source: WHATWG HTML, section 9.2 (server-sent events).
"""

from __future__ import annotations

import msgspec

from services.gateway.wire.ids import as_given, shown
from services.gateway.wire.views import ThoughtEvent
from shared.contracts.catalog import class_of
from shared.contracts.envelope import Recorded
from shared.contracts.events import PersonaSpawned
from shared.contracts.ids import caused_id

OPEN = b": open\n\n"
CATCHING_UP = b": the log is still being read\n\n"
AWAY = b": the event bus is away, what is missing follows\n\n"
HEARTBEAT = b": heartbeat\n\n"
GOODBYE = b"retry: 500\n\n"
NAMES = {
    "belief.asserted": "belief_extracted",
    "belief.confirmed": "belief_revalidated",
    "belief.contested": "belief_contested",
    "belief.revised": "belief_revalidated",
}
"""What clients of the base contract wait for; any other class is called as it is, with `_`."""


def event_id(seq: int, epoch: int) -> bytes:
    return b"%d.%d" % (seq, epoch) if epoch else b"%d" % seq


def frame(recorded: Recorded, epoch: int = 0) -> bytes:
    """One event as it goes over the wire."""
    event = recorded.event
    body = msgspec.to_builtins(event)
    payload = {k: v for k, v in body.items() if k not in ("type", "swarm", "persona")}
    if isinstance(event, PersonaSpawned):
        payload["identity"] = msgspec.to_builtins(shown(event.identity))
    for name in ("proposal_id", "parent_id"):
        if isinstance(payload.get(name), str):
            payload[name] = as_given(payload[name])
    shaped = ThoughtEvent(
        id=recorded.id,
        event_type=NAMES.get(class_of(event)) or class_of(event).replace(".", "_"),
        persona_id=as_given(event.persona),
        swarm_id=as_given(event.swarm),
        timestamp=recorded.envelope.time,
        payload=msgspec.Raw(msgspec.json.encode(payload)),
    )
    data = msgspec.json.encode(shaped)
    return b"id: %b\nevent: cognition\ndata: %b\n\n" % (event_id(recorded.seq, epoch), data)


def beside(recorded: Recorded, name: str, payload: object, persona: str | None) -> bytes:
    """What is told beside an event has no id: a client that resumes after the event has seen it."""
    shaped = ThoughtEvent(
        id=caused_id(recorded.id, name),
        event_type=name,
        persona_id=persona,
        swarm_id=as_given(recorded.event.swarm),
        timestamp=recorded.envelope.time,
        payload=msgspec.Raw(msgspec.json.encode(payload)),
    )
    return b"event: cognition\ndata: %b\n\n" % msgspec.json.encode(shaped)


def at(position: int, epoch: int) -> bytes:
    """Sets the client's last event id and brings no event."""
    return b"id: %b\n\n" % event_id(position, epoch)


def of_another_log(why: str) -> bytes:
    """Tells a client that what it has seen is of a log that is no more; it resumes from the beginning of the one there is."""
    note = msgspec.json.encode({"why": f"the log is another one: {why}", "first_event_id": 0, "resumed_after": 0})
    return b"id: 0\nevent: gap\ndata: %b\n\n" % note


def later(why: str, retry_after_s: int) -> bytes:
    """A whole stream that says when to come back; `why` has one line."""
    return b": %b\nretry: %d\n\n" % (why.encode(), retry_after_s * 1000)
