"""The objectives of `shared/metrics/slo.py` on what the gateway has folded: pure, the clock is an argument.

Windows are made of whole hours: the current one and those before it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from operator import add

from services.gateway.projections.measures import HOUR_S, Hour, Measures, by_hour
from services.gateway.projections.personas import Personas
from services.gateway.wire.mesh import SloFigure, SloView, SloWindow
from shared.metrics import table
from shared.metrics.instruments import Level
from shared.metrics.slo import SLOS, Figure, Slo, Term, quantile

WINDOWS = {"24h": 24, "30d": 30 * 24}


def views(measures: Measures, personas: Personas, now: datetime) -> tuple[SloView, ...]:
    """Every objective, in every window."""
    live = personas.count("live")
    current = int(now.timestamp()) // HOUR_S
    windows = {
        name: _together([hour for at, hour in measures.hours.items() if current - hours < at <= current])
        for name, hours in WINDOWS.items()
    }
    return tuple(_view(slo, windows, live) for slo in SLOS)


def _together(hours: Sequence[Hour]) -> Hour:
    """What they counted, as if it had been one."""
    counts: dict[str, float] = {}
    decided = table.DECISION_SECONDS.empty()
    for hour in hours:
        for name, count in hour.counts.items():
            counts[name] = counts.get(name, 0.0) + count
        decided.counts = list(map(add, decided.counts, hour.decided.counts))
    return Hour(at=0, counts=counts, decided=decided)


def _view(slo: Slo, windows: dict[str, Hour], live: int) -> SloView:
    return SloView(
        id=slo.id,
        title=slo.title,
        meaning=slo.meaning,
        objective=slo.objective,
        direction="at_most" if slo.at_most else "at_least",
        runbook=slo.runbook,
        windows=tuple(_window(slo, name, counted, live) for name, counted in windows.items()),
    )


def _window(slo: Slo, name: str, counted: Hour, live: int) -> SloWindow:
    read = partial(_read, counted, live)
    burn = slo.burn(read)
    return SloWindow(
        window=name,
        value=slo.value(read),
        of=slo.total.value(read),
        burn=burn,
        met=burn <= 1,
        figures=tuple(SloFigure(name=figure.name, value=_figure(figure, counted, live)) for figure in slo.figures),
    )


def _read(counted: Hour, live: int, term: Term) -> float:
    """A term in that time. The one gauge there is are the live personas."""
    if isinstance(table.BY_NAME[term.metric], Level):
        return live
    if term.metric == table.DECISION_SECONDS.name:
        upto = None if term.at_most is None else bisect_right(table.DECISION_SECONDS.bounds, term.at_most)
        return sum(counted.decided.counts[:upto])
    return sum(counted.counts.get(by_hour(term.metric, key), 0.0) for key in term.keys)


def _figure(figure: Figure, counted: Hour, live: int) -> float | None:
    """None where there is nothing to reckon it from."""
    if figure.quantile is not None:
        return quantile(table.DECISION_SECONDS.bounds, counted.decided.counts, figure.quantile)
    under = figure.under.value(partial(_read, counted, live))
    return figure.over.value(partial(_read, counted, live)) / under if under else None
