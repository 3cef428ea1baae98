"""W3C Trace Context (level 1, section 3.2) of events: what follows from one thing is one trace, and each event a span of it.

Everything derives from ids, so deciding twice gives the same. The trace of an event nobody caused is its own id without the
hyphens: whoever has a correlation id has the trace.
"""

from __future__ import annotations

import hashlib
import re

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-((?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")
_TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")
SAMPLED = "01"


def is_traceparent(text: str) -> bool:
    """Whether a trace can be carried on from it."""
    return _TRACEPARENT.fullmatch(text) is not None


def carried_on(event_id: str, correlation: str, cause: str | None) -> str:
    """The event's `traceparent`: in the trace of its cause's, itself the parent of what follows.

    Where the cause has none that can be read, the trace is that of the correlation.
    """
    known = None if cause is None else _TRACEPARENT.fullmatch(cause)
    trace, flags = known.groups() if known else (trace_id(correlation), SAMPLED)
    return f"00-{trace}-{span_id(event_id)}-{flags}"


def span_id(event_id: str) -> str:
    """The span an event is."""
    return hashlib.sha256(event_id.encode()).hexdigest()[:16]


def trace_id(correlation: str) -> str:
    """The trace that begins with this event."""
    plain = correlation.replace("-", "")
    return plain if _TRACE_ID.fullmatch(plain) else hashlib.sha256(correlation.encode()).hexdigest()[:32]
