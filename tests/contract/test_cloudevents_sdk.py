"""What we say is CloudEvents 1.0 by the word of the CNCF's own SDK, in binary mode and as JSON."""

from __future__ import annotations

import json

import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from shared.contracts.envelope import Message, decode, structured
from tests.examples import ENVELOPE, EXAMPLES, NOW, on_the_wire
from tests.sdk import parsed


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_every_class_is_read_in_binary_mode(name: str) -> None:
    subject, headers, body = on_the_wire(Message(event=EXAMPLES[name], envelope=ENVELOPE))
    attributes, data = parsed(headers, body)
    assert json.loads(body) == data
    assert (name, subject, "application/json", ENVELOPE.time) == (
        attributes["type"],
        attributes["subject"],
        attributes["datacontenttype"],
        attributes["time"],
    )
    assert (f"swarm:schema/{name}", ENVELOPE.causation) == (attributes["dataschema"], attributes["causationid"])


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_every_class_is_read_as_json_and_says_the_same(name: str) -> None:
    subject, headers, body = on_the_wire(Message(event=EXAMPLES[name], envelope=ENVELOPE))
    recorded = decode(subject, headers, body, seq=1, stored_at=NOW)
    event: BaseCloudEvent = JSONFormat().read(CloudEvent, structured(recorded))
    attributes, data = parsed(headers, body)
    assert attributes == event.get_attributes()
    assert data == event.get_data()


def test_the_sdk_does_refuse_what_is_no_event() -> None:
    _, headers, body = on_the_wire(Message(event=EXAMPLES["hypothesis.raised"], envelope=ENVELOPE))
    with pytest.raises(CloudEventValidationError):
        parsed({**headers, "ce-id": ""}, body)
