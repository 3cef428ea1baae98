"""What follows from one thing is one trace, and who decides twice says the same."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.envelope import Envelope, enveloped
from shared.contracts.ids import fresh_id
from shared.contracts.trace import carried_on, is_traceparent, trace_id
from tests.examples import CHARTER, NOW

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
THEIRS = f"00-{TRACE}-{SPAN}-00"
W3C = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def first(event_id: str = "e1", traceparent: str | None = None) -> Envelope:
    return enveloped(event_id, source="s", time=NOW, charter=CHARTER, traceparent=traceparent)


def test_what_nobody_caused_begins_a_trace_that_is_its_id() -> None:
    event_id = fresh_id()
    assert carried_on(event_id, event_id, None).split("-")[1] == event_id.replace("-", "") == trace_id(event_id)


def test_what_follows_is_in_the_trace_of_its_cause_with_a_parent_of_its_own() -> None:
    cause = first(traceparent=THEIRS)
    effect = enveloped("e2", source="t", time=NOW, cause=cause)
    again = enveloped("e2", source="t", time=NOW, cause=cause)
    other = enveloped("e3", source="t", time=NOW, cause=effect)
    traces = [envelope.traceparent.split("-") for envelope in (cause, effect, other) if envelope.traceparent]
    assert [("00", TRACE, "00")] * 3 == [(version, trace, flags) for version, trace, _, flags in traces]
    assert 4 == len({SPAN, *(span for _, _, span, _ in traces)})
    assert effect == again
    assert ("e1", "e1", CHARTER) == (effect.correlation, effect.causation, effect.charter)
    assert ("e1", "e2", CHARTER) == (other.correlation, other.causation, other.charter)


def test_what_follows_from_an_older_event_is_in_the_trace_of_their_correlation() -> None:
    older = Envelope(id="e5", source="s", time=NOW, correlation="e1")
    effect, sibling = (enveloped(name, source="s", time=NOW, cause=older).traceparent for name in ("a", "b"))
    assert effect is not None and sibling is not None and effect != sibling
    assert first().traceparent is not None
    assert {trace_id("e1")} == {text.split("-")[1] for text in (effect, sibling, first().traceparent or "")}


@pytest.mark.parametrize(
    "cause",
    [
        "",
        "00-1-2-01",
        THEIRS + "\n",
        THEIRS.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"{THEIRS}-more",
    ],
)
def test_what_is_no_trace_context_is_not_carried_on(cause: str) -> None:
    assert not is_traceparent(cause)
    assert carried_on("e2", "e1", cause) == carried_on("e2", "e1", None)


@given(st.text(max_size=64), st.text(max_size=64), st.none() | st.text(max_size=80) | st.just(THEIRS))
def test_any_ids_at_all_make_a_trace_context(event_id: str, correlation: str, cause: str | None) -> None:
    made = carried_on(event_id, correlation, cause)
    assert W3C.fullmatch(made) and is_traceparent(made)
    assert made == carried_on(event_id, correlation, cause)


def test_an_envelope_with_a_trace_is_in_bounds() -> None:
    assert first() == msgspec.convert(msgspec.to_builtins(first()), Envelope)
