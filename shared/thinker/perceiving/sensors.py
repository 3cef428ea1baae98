"""The host sensor's lines, such as `host cpu=93.1% mem=41.0% disk=71% load1=3.2 procs=312 top=python:87%`. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from shared.contracts.events import EvidenceRef, ObservationRecorded
from shared.thinker.perceiving.lines import WARNING
from shared.thinker.perceiving.rates import SUSTAINED_VALUES, Metric, shift
from shared.thinker.perceiving.records import Record, excerpt

_FIELD = re.compile(r"(?<=\s)([a-z][a-z0-9_]{0,19})=(-?\d{1,15}(?:\.\d{1,6})?)(%?)(?=\s|$)", re.ASCII)
_WORSE_WHEN_LOW = ("free", "avail", "available", "idle")


class Reading(NamedTuple):
    """One numeric field; `percent` fields are judged in points, others by ratio."""

    name: str
    value: float
    percent: bool


def readings(text: str) -> list[Reading]:
    """The numeric fields of a sensor line."""
    return [Reading(name, float(value), percent == "%") for name, value, percent in _FIELD.findall(text[:600])]


def take(metric: Metric, reading: Reading, ref: EvidenceRef) -> tuple[float, float] | None:
    """Fold in a reading; (usual, new) level when it completes a shift for the worse."""
    found = shift(metric, reading.value, reading.percent, reading.name in _WORSE_WHEN_LOW)
    metric.refs = [*metric.refs, ref][-SUSTAINED_VALUES:] if metric.run else []
    return found


def begin(event: ObservationRecorded, metric: Metric, reading: Reading, levels: tuple[float, float]) -> Record:
    """The record of a shift that the current line completed; it cites the whole run."""
    last = metric.refs[-1]
    return Record(
        topic=metric.topic,
        kind="metric_shift",
        source=event.source,
        program="host",
        words=(reading.name,),
        severity=WARNING,
        timed=False,
        seq=last.seq,
        first_seq=metric.refs[0].seq,
        first_at=0.0,
        last_seq=last.seq,
        mark=0,
        count=SUSTAINED_VALUES,
        raised=SUSTAINED_VALUES,
        usual=levels[0],
        level=levels[1],
        sample=excerpt(event.text),
        refs=metric.refs[:-1],
    )
