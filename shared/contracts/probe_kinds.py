"""The kinds of probe: a row each, with what it is asked by, what it brings, and how a model is told of it.

What looks is in the checker (`services/checker/looks.py`). A new kind is a struct of parameters and one of what is found in
`events/probes.py`, a row here and a row there.
"""

from __future__ import annotations

import msgspec

from shared.contracts.events import (
    Answer,
    BeliefLookup,
    Counted,
    Found,
    History,
    LogAround,
    LogCount,
    LogResolve,
    LogSearch,
    LogValues,
    MemoryRecall,
    OutsideLook,
    Probe,
    ProposalHistory,
    Recollection,
    Report,
    ReportRead,
    Surroundings,
    Table,
    TemplateTable,
    Values,
)


class ProbeKind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind. `decides`: what it measures confirms or refutes a hypothesis; the others only tell, so they are asked beside.

    `told`: how a model asks for it, with the fields of its answer.
    """

    params: type[Probe]
    found: type[Found] | None
    decides: bool
    told: str


_ROWS = (
    ProbeKind(
        params=LogCount,
        found=Counted,
        decides=True,
        told="counts lines that have `template`, a copy of a log line with <*> for each word that varies, at least `at_least` times; also "
        "how many were before, and from which sources",
    ),
    ProbeKind(
        params=LogSearch,
        found=None,
        decides=True,
        told="counts lines with the words `text` anywhere, whatever their case, at least `at_least` times",
    ),
    ProbeKind(params=LogResolve, found=None, decides=True, told="looks up the cited lines in the log"),
    ProbeKind(
        params=MemoryRecall,
        found=Recollection,
        decides=True,
        told="whether your memory holds something close to `text`, and what",
    ),
    ProbeKind(
        params=LogAround,
        found=Surroundings,
        decides=False,
        told="shows the lines before and after the line with number `line`",
    ),
    ProbeKind(
        params=LogValues,
        found=Values,
        decides=False,
        told="what stands where `template` varies: level and trend of numbers, shares of words; of its `slot`th variable word, 0 is all",
    ),
    ProbeKind(
        params=TemplateTable,
        found=Table,
        decides=False,
        told="which kinds of line there are since the first cited line, and how many",
    ),
    ProbeKind(params=BeliefLookup, found=Recollection, decides=False, told="what your swarm believes about `text`"),
    ProbeKind(
        params=ProposalHistory,
        found=History,
        decides=False,
        told="what you proposed of late and how it ended; with `text` `swarm`, also what others of your swarm did",
    ),
    ProbeKind(
        params=ReportRead,
        found=Report,
        decides=False,
        told="the file you proposed under the name `text`, such as `disk.md`",
    ),
    ProbeKind(
        params=OutsideLook,
        found=Answer,
        decides=False,
        told="what a probe of the operator's answers outside; `text` is its name and arguments, as `load host=web minutes=5`",
    ),
)

PROBE_KINDS: dict[str, ProbeKind] = {str(row.params.__struct_config__.tag): row for row in _ROWS}
"""By its name on the bus, such as `log.count`."""


def name_of(probe: Probe) -> str:
    """The name of the kind."""
    return str(type(probe).__struct_config__.tag)


def decides(probe: Probe) -> bool:
    """Whether its result may confirm or refute a hypothesis."""
    return PROBE_KINDS[name_of(probe)].decides
