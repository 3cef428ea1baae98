"""The one table of looks: by its parameters, what each probe does."""

from __future__ import annotations

from services.checker.desk import Look, look
from services.checker.inside.around import around
from services.checker.inside.counting import count, search
from services.checker.inside.filed import history, report
from services.checker.inside.remembering import believe, recall
from services.checker.inside.resolving import resolve
from services.checker.inside.table import table
from services.checker.inside.values import values
from services.checker.outside.asking import ask
from shared.contracts.events import (
    BeliefLookup,
    LogAround,
    LogCount,
    LogResolve,
    LogSearch,
    LogValues,
    MemoryRecall,
    OutsideLook,
    Probe,
    ProposalHistory,
    ReportRead,
    TemplateTable,
)

LOOKS: dict[type[Probe], Look] = dict(
    (
        look(LogCount, count),
        look(LogSearch, search),
        look(LogResolve, resolve),
        look(LogAround, around),
        look(LogValues, values),
        look(TemplateTable, table),
        look(MemoryRecall, recall),
        look(BeliefLookup, believe),
        look(ProposalHistory, history),
        look(ReportRead, report),
        look(OutsideLook, ask),
    )
)
