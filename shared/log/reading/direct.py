"""Messages of the log as a direct get gives them (ADR-31)."""

from __future__ import annotations

from datetime import UTC, datetime

from shared.contracts.envelope import Stored, stored
from shared.log.client.wire import Raw

DIRECT_GET = "$JS.API.DIRECT.GET.SWARM"


def decode_direct(message: Raw) -> Stored:
    """The message, which is no status."""
    headers = dict(message.headers)
    subject, seq = headers.pop("Nats-Subject"), int(headers.pop("Nats-Sequence"))
    stored_at = datetime.fromisoformat(headers.pop("Nats-Time-Stamp"))
    headers.pop("Nats-Stream", None)
    return stored(subject, headers, message.data, seq=seq, stored_at=stored_at.astimezone(UTC))
