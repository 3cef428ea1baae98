"""On and off the bus: what was said comes back, and what nobody of ours said is `Malformed` with its reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.catalog import CLASSES, subject_of
from shared.contracts.envelope import (
    MAX_BODY_BYTES,
    Envelope,
    Malformed,
    Message,
    Recorded,
    decode,
    encode,
    structured,
)
from shared.contracts.events import CheckRequested, ObservationRecorded, ProposalCreated
from tests.examples import ENVELOPE, EXAMPLES, NOW, OF, PROBES, on_the_wire

OLDER_LACK = {"ce-subject", "ce-datacontenttype", "ce-traceparent"}
REASONS = {"not_an_event", "unknown_class", "oversized", "bad_envelope", "bad_body", "wrong_address", "injected"}
SUBJECT, HEADERS, BODY = on_the_wire(Message(event=EXAMPLES["hypothesis.raised"], envelope=ENVELOPE))
OLDER = {name: value for name, value in HEADERS.items() if name not in OLDER_LACK}
optional_text = st.none() | st.text(max_size=80)


def read(subject: str = SUBJECT, headers: dict[str, str] | None = HEADERS, body: bytes = BODY) -> Recorded:
    return decode(subject, headers, body, seq=7, stored_at=NOW)


def reason_of(subject: str = SUBJECT, headers: dict[str, str] | None = HEADERS, body: bytes = BODY) -> str:
    with pytest.raises(Malformed) as caught:
        read(subject, headers, body)
    assert str(caught.value).startswith(caught.value.reason)
    return caught.value.reason


def test_there_is_an_example_of_every_class() -> None:
    assert set(EXAMPLES) == set(CLASSES)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_every_class_comes_back_as_it_was_said(name: str) -> None:
    message = Message(event=EXAMPLES[name], envelope=ENVELOPE)
    subject, headers, body = on_the_wire(message)
    expected = Recorded(event=message.event, envelope=ENVELOPE, seq=7, stored_at=NOW, subject=message.subject)
    assert expected == read(subject, headers, body)
    assert (name, f"swarm:schema/{name}") == (headers["ce-type"], headers["ce-dataschema"])


@pytest.mark.parametrize("probe", PROBES)
def test_every_probe_comes_back_as_it_was_asked(probe: object) -> None:
    event = CheckRequested(**OF, check_id="c-1", hypothesis_id="h-1", probe=probe)  # type: ignore[arg-type]
    assert event == read(*on_the_wire(Message(event=event, envelope=ENVELOPE))).event


def test_an_envelope_may_lack_what_is_optional() -> None:
    envelope = Envelope(id="e1", source="s", time=NOW, correlation="e1")
    _, headers, body = on_the_wire(Message(event=EXAMPLES["hypothesis.raised"], envelope=envelope))
    assert envelope == read(headers=headers, body=body).envelope
    assert not {"ce-causationid", "ce-charter", "ce-traceparent"} & set(headers)


def test_what_was_stored_before_events_said_subject_type_and_trace_is_read() -> None:
    assert len(HEADERS) - 3 == len(OLDER)
    older = read(headers=OLDER)
    assert (EXAMPLES["hypothesis.raised"], None) == (older.event, older.envelope.traceparent)


def test_a_trace_is_read_under_the_name_it_had_before() -> None:
    older = {("traceparent" if name == "ce-traceparent" else name): value for name, value in HEADERS.items()}
    assert older != HEADERS and ENVELOPE == read(headers=older).envelope


@pytest.mark.parametrize("said", ["hypothesis.raised.beta.p01.core", "", SUBJECT + "\n"])
def test_an_event_that_says_another_subject_is_malformed(said: str) -> None:
    assert "wrong_address" == reason_of(headers={**HEADERS, "ce-subject": said})


def test_unknown_fields_of_a_newer_speaker_are_ignored() -> None:
    newer = json.dumps({**json.loads(BODY), "mood": "calm"}).encode()
    assert EXAMPLES["hypothesis.raised"] == read(body=newer).event


@pytest.mark.parametrize(
    ("reason", "headers"),
    [
        ("not_an_event", None),
        ("not_an_event", {}),
        ("not_an_event", {"ce-id": "x"}),
        ("unknown_class", {**HEADERS, "ce-type": "thought.stolen"}),
        ("injected", {**HEADERS, "Nats-Stream": "SWARM"}),
        ("injected", {**HEADERS, "Nats-Subject": SUBJECT}),
        ("bad_envelope", {k: v for k, v in HEADERS.items() if k != "ce-id"}),
        ("bad_envelope", {k: v for k, v in HEADERS.items() if k != "ce-correlationid"}),
        ("bad_envelope", {**HEADERS, "ce-time": "yesterday"}),
        ("bad_envelope", {**HEADERS, "ce-time": "2026-11-22T12:00:00"}),
    ],
)
def test_headers_that_are_not_ours_are_malformed(reason: str, headers: dict[str, str] | None) -> None:
    assert reason == reason_of(headers=headers)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"{}",
        b"[" * 60_000,
        BODY.replace(b"0.9", b"1.1"),
        BODY.replace(b"alpha", b"Alpha"),
        BODY.replace(b"hypothesis.raised", b"check.result"),
        BODY.replace(b'"confidence":0.9,', b""),
    ],
)
def test_a_body_that_is_not_the_class_is_malformed(body: bytes) -> None:
    assert body != BODY
    assert reason_of(body=body) == "bad_body"


@pytest.mark.parametrize(
    "subject",
    [
        "hypothesis.raised.alpha.p02",
        "hypothesis.raised.beta.p01",
        "hypothesis.raised.alpha.p01.x",
        "hypothesis.raised.alpha",
        "thought.generated.alpha.p01",
        "hypothesis.raised.alpha.*",
        "",
    ],
)
def test_a_body_on_anothers_subject_is_malformed(subject: str) -> None:
    assert reason_of(subject=subject) == "wrong_address"


def test_what_was_stored_before_subjects_had_slots_is_read_as_cores() -> None:
    older = BODY.replace(b',"slot":"core"', b"")
    assert older != BODY
    assert EXAMPLES["hypothesis.raised"] == read("hypothesis.raised.alpha.p01", OLDER, older).event


@pytest.mark.parametrize("slot", ["r2", "core"])
def test_a_body_in_anothers_slot_is_malformed(slot: str) -> None:
    event = msgspec.structs.replace(EXAMPLES["hypothesis.raised"], slot="r1")
    _, headers, body = on_the_wire(Message(event=event, envelope=ENVELOPE))
    assert reason_of(subject_of(msgspec.structs.replace(event, slot=slot)), headers, body) == "wrong_address"
    assert reason_of(subject_of(event).rpartition(".")[0], headers, body) == "wrong_address"


def test_a_proposal_on_another_proposals_subject_is_malformed() -> None:
    event = EXAMPLES["proposal.created"]
    assert isinstance(event, ProposalCreated)
    _, headers, body = on_the_wire(Message(event=event, envelope=ENVELOPE))
    elsewhere = subject_of(msgspec.structs.replace(event, proposal_id="p-other"))
    assert reason_of(elsewhere, headers, body) == "wrong_address"


def test_what_is_too_big_is_refused_on_both_sides() -> None:
    evidence = EXAMPLES["hypothesis.raised"].evidence * 2000  # type: ignore[union-attr]
    event = msgspec.structs.replace(EXAMPLES["hypothesis.raised"], evidence=evidence)
    with pytest.raises(
        Malformed, match=f"oversized: hypothesis.raised has [0-9]+ bytes, the limit is {MAX_BODY_BYTES}"
    ):
        on_the_wire(Message(event=event, envelope=ENVELOPE))
    assert reason_of(body=BODY + b" " * MAX_BODY_BYTES) == "oversized"


@pytest.mark.parametrize("field", ["id", "source", "correlation", "causation", "charter", "traceparent"])
@pytest.mark.parametrize("break_", ["\n", "\r", "\r\nNats-Batch-Commit: 1"])
def test_an_attribute_cannot_bring_in_headers_of_its_own(field: str, break_: str) -> None:
    envelope = msgspec.structs.replace(ENVELOPE, **{field: f"a{break_}b"})
    with pytest.raises(Malformed, match="bad_envelope"):
        on_the_wire(Message(event=EXAMPLES["hypothesis.raised"], envelope=envelope))
    header = {"correlation": "ce-correlationid", "causation": "ce-causationid", "traceparent": "ce-traceparent"}
    assert reason_of(headers={**HEADERS, header.get(field, f"ce-{field}"): f"a{break_}b"}) == "bad_envelope"


@given(
    subject=st.text(max_size=60) | st.just(SUBJECT),
    changes=st.dictionaries(st.sampled_from((*HEADERS, "Nats-Stream")), optional_text, max_size=4),
    body=st.binary(max_size=200)
    | st.just(BODY)
    | st.builds(lambda i, b: BODY[:i] + b + BODY[i:], st.integers(0, 300), st.binary(max_size=3)),
    keep=st.booleans(),
)
def test_anything_at_all_is_an_event_or_malformed(
    subject: str, changes: dict[str, str | None], body: bytes, keep: bool
) -> None:
    headers = {k: v for k, v in {**(HEADERS if keep else {}), **changes}.items() if v is not None}
    outcome: Recorded | Malformed
    try:
        outcome = read(subject, headers, body)
    except Malformed as malformed:
        outcome = malformed
    if isinstance(outcome, Malformed):
        assert outcome.reason in REASONS
    else:
        assert outcome.subject == subject == subject_of(outcome.event)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(("type", "swarm", "persona", "probe", "evidence", "x")), inner, max_size=4
            )
        ),
    ),
    st.sampled_from(sorted(CLASSES)),
)
def test_any_json_at_all_is_an_event_or_malformed(value: object, name: str) -> None:
    with pytest.raises(Malformed):
        read(headers={**HEADERS, "ce-type": name}, body=json.dumps(value).encode())


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("ce-time", "0001-01-01T00:00:00+23:59"),
        ("ce-time", "9999-12-31T23:59:59-23:59"),
        ("ce-time", "2200-01-01T00:00:00Z"),
        ("ce-time", "2026-01-01T00:00:00"),
        ("ce-id", "x" * 65),
        ("ce-correlationid", "x" * 65),
        ("ce-causationid", "two words"),
        ("ce-source", "s" * 201),
        ("ce-charter", "no digest"),
        ("ce-traceparent", "t" * 201),
    ],
)
def test_an_attribute_out_of_bounds_is_no_envelope(header: str, value: str) -> None:
    headers = {**HEADERS, header: value}
    if header == "ce-id":
        headers.pop("Nats-Msg-Id", None)
    with pytest.raises(Malformed, match="bad_envelope"):
        read(headers=headers)


@pytest.mark.parametrize("instant", ["0001-01-01T00:00:00+23:59", "1999-12-31T23:59:59Z", "2200-01-01T00:30:00+00:00"])
def test_an_instant_out_of_bounds_is_neither_read_nor_written(instant: str) -> None:
    body = {"type": "observation.recorded", "swarm": "alpha", "persona": "p01", "text": "t", "observed_at": instant}
    with pytest.raises(Malformed, match="2000 to 2199"):
        read(headers={**HEADERS, "ce-type": "observation.recorded"}, body=json.dumps(body).encode())
    event = ObservationRecorded(swarm="alpha", persona="p01", text="t", observed_at=datetime.fromisoformat(instant))
    envelope = Envelope(id="e", source="test", time=datetime(2026, 1, 1, tzinfo=UTC), correlation="e")
    with pytest.raises(Malformed, match="2000 to 2199"):
        encode(Message(event=event, envelope=envelope))


@given(
    text=st.text(min_size=1, max_size=200).filter(lambda t: not any("\ud800" <= c <= "\udfff" for c in t)),
    hours=st.integers(-12, 14),
    at=st.datetimes(min_value=datetime(2000, 1, 2), max_value=datetime(2199, 12, 30)),
)
def test_any_text_and_any_zone_come_back(text: str, hours: int, at: datetime) -> None:
    observed = at.replace(tzinfo=timezone(timedelta(hours=hours)))
    event = ObservationRecorded(swarm="alpha", persona="p01", text=text, observed_at=observed)
    envelope = Envelope(id="e1", source="s", time=observed, correlation="e1")
    recorded = read(*on_the_wire(Message(event=event, envelope=envelope)))
    assert (event, observed) == (recorded.event, recorded.envelope.time)


def test_structured_json_has_the_cloudevents_attributes_that_are_known() -> None:
    document = json.loads(structured(read()))
    assert document["type"] == "hypothesis.raised"
    assert document["data"] == json.loads(BODY)
    assert (document["specversion"], document["subject"], document["id"]) == ("1.0", SUBJECT, ENVELOPE.id)
    bare = Envelope(id="e1", source="s", time=NOW, correlation="e1")
    recorded = msgspec.structs.replace(read(), envelope=bare)
    assert not {"causationid", "charter"} & set(json.loads(structured(recorded)))
