"""Our events as the CNCF's own SDK for CloudEvents sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloudevents.core.bindings.http import HTTPMessage, from_binary
from cloudevents.core.formats.json import JSONFormat


def parsed(headers: Mapping[str, str], body: bytes) -> tuple[dict[str, Any], Any]:
    """The attributes and the data of an event in binary mode. Raises what the SDK raises for what is no CloudEvent.

    The SDK knows no NATS; its HTTP binding differs in one header (CloudEvents NATS protocol binding 1.0.3, section 3.1).
    """
    attributes = {name: value for name, value in headers.items() if name.startswith("ce-")}
    content_type = attributes.pop("ce-datacontenttype")
    event = from_binary(HTTPMessage(headers={**attributes, "content-type": content_type}, body=body), JSONFormat())
    return event.get_attributes(), event.get_data()
