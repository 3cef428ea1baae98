"""People's words are theirs: who may say a class, or in which slot, tells; what a body says of itself counts for nothing."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from services.gateway.projections.journal import principal_of
from shared.contracts.catalog import CLASSES, has_slot
from shared.contracts.envelope import Envelope, Recorded, decode
from shared.contracts.events import AnyEvent, CheckResult, ObservationRecorded
from shared.contracts.ids import CORE, utc_now
from shared.contracts.services import OF_PEOPLE, SERVICES, speakers
from shared.evidence import is_independent, is_tainted
from tests.examples import EXAMPLES

PEOPLES = (
    "observation.vouched",
    "approval.granted",
    "approval.denied",
    "action.resolved",
    "conflict.ruled",
    "mesh.resumed",
    "limits.changed",
    "cognition.started",
    "cognition.stopped",
    "intent.cancelled",
)
"""Yes and no, what became of it, who goes first, going on, how much: nobody else may say so, in no slot."""
OUTSIDE = [row.name for row in SERVICES.values() if not row.trusted]
"""Those whose keys may be a stranger's."""


@pytest.mark.parametrize("name", PEOPLES)
def test_what_only_people_may_cause_no_other_key_may_say(name: str) -> None:
    assert {"gateway"} == speakers(name) and name in OF_PEOPLE
    assert ["gateway"] == [row.name for row in SERVICES.values() if name in row.emits]


@pytest.mark.parametrize("name", [n for n, cls in CLASSES.items() if "principal" in cls.__struct_fields__])
def test_where_a_body_names_a_person_no_stranger_may_say_it_but_in_a_slot_of_its_own(name: str) -> None:
    assert has_slot(name) or not [service for service in OUTSIDE if name in SERVICES[service].emits]
    assert not speakers(name) & set(OUTSIDE)


@pytest.mark.parametrize("name", sorted({name for service in OUTSIDE for name in SERVICES[service].emits}))
def test_of_what_strangers_say_nothing_counts_as_a_persons_or_as_clean(name: str) -> None:
    """Whatever they write into `principal` and `tainted`."""
    assert has_slot(name)
    fields = {**msgspec.to_builtins(EXAMPLES[name]), "slot": "r1", "principal": "ann", "tainted": False}
    event: Any = msgspec.convert(fields, CLASSES[name])
    assert is_tainted(event) and not is_independent(event, "p01") and principal_of(event) is None


def stored(name: str, **body: object) -> AnyEvent:
    """The event of a body as somebody wrote it."""
    whole = {**msgspec.to_builtins(EXAMPLES[name]), **body}
    envelope = Envelope(id="e1", source="gateway/gateway-1", time=utc_now(), correlation="e1")
    subject = f"{name}.{whole['swarm']}.{whole['persona']}"
    headers = {"ce-type": name, "ce-id": "e1", "ce-source": envelope.source, "ce-correlationid": "e1"}
    headers["ce-time"] = msgspec.to_builtins(envelope.time)
    read = decode(subject, headers, json.dumps(whole).encode(), seq=1, stored_at=utc_now())
    assert isinstance(read, Recorded)
    return read.event


def test_an_observation_is_clean_by_its_class_and_never_by_its_body() -> None:
    forged = stored("observation.recorded", tainted=False, principal="ann")
    assert isinstance(forged, ObservationRecorded) and forged.tainted and is_tainted(forged)
    assert not is_independent(forged, "p01")
    for tainted in (True, False):
        vouched = stored("observation.vouched", tainted=tainted)
        assert isinstance(vouched, ObservationRecorded) and not is_tainted(vouched) and is_independent(vouched, "p01")


def test_a_measurement_is_clean_only_where_core_says_so() -> None:
    clean = msgspec.structs.replace(EXAMPLES["check.result"], tainted=False)
    assert isinstance(clean, CheckResult) and getattr(clean, "slot", CORE) == CORE
    assert not is_tainted(clean) and is_independent(clean, "p01")
