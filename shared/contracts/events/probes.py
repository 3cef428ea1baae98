"""What a check looks for, and what it finds: one struct of parameters a probe, and one of what it brings.

Every list and text here has a bound, and what was left out is said in `cut`. Texts are made harmless to look at where they are found,
and are still the words of whoever wrote them. What these structs say of taint is a checker's word (decision 27).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared.contracts.action import Scalar
from shared.contracts.events.common import MAX_REFS, Count, EvidenceRef, Position, Ratio, Risk, Score, Short, Word
from shared.contracts.ids import Instant, LifeId, Token

MAX_LINES, MAX_LINE = 12, 240
"""Lines shown on either side of one, and characters of each."""
MAX_ROWS = 24
MAX_SLOTS, MAX_SHARES, MAX_VALUE = 8, 5, 80
MAX_MEMORIES, MAX_MEMORY = 8, 400
MAX_PROPOSALS = 12
MAX_REPORT = 4000
"""Characters of a report that are read at once."""
Template = Annotated[str, Meta(min_length=1, max_length=2000)]
Source = Annotated[str, Meta(max_length=200)]
Query = Annotated[str, Meta(min_length=1, max_length=2000)]
Most = Annotated[int, Meta(ge=1, le=MAX_ROWS)]
Around = Annotated[int, Meta(ge=0, le=MAX_LINES)]
Number = Annotated[float, Meta(ge=-1e15, le=1e15)]
Slotted = Annotated[int, Meta(ge=1, le=64)]


class LogCount(msgspec.Struct, frozen=True, kw_only=True, tag_field="probe", tag="log.count"):
    """Count observations whose text matches `template` (words, `<*>` for any word) between two stream sequences.

    Confirmed when the count lies within [at_least, at_most]. Those from `before_seq` to the first sequence are counted as well, and told
    beside it: what is a burst is seen by what was before. `by_source`: told by where they came from, too.
    """

    template: Template
    source: Source | None = None
    first_seq: Position
    last_seq: Position
    at_least: Count = 0
    at_most: Count | None = None
    before_seq: Position | None = None
    by_source: bool = False


class LogSearch(msgspec.Struct, frozen=True, kw_only=True, tag_field="probe", tag="log.search"):
    """Count observations whose text contains `text` (case folded; empty: all) between two stream sequences.

    With `since` or `until` only those whose own time (the source's, else the line's, else when it was stored) is within
    [since, until). Confirmed when the count is at least `at_least`.
    """

    text: Short = ""
    source: Source | None = None
    first_seq: Position
    last_seq: Position
    since: Instant | None = None
    until: Instant | None = None
    at_least: Count = 0


class LogResolve(msgspec.Struct, frozen=True, kw_only=True, tag_field="probe", tag="log.resolve"):
    """Whether every cited event is in the log under the id it is cited by."""

    evidence: Annotated[tuple[EvidenceRef, ...], Meta(max_length=MAX_REFS)]


class MemoryRecall(msgspec.Struct, frozen=True, kw_only=True, tag_field="probe", tag="memory.recall"):
    """Whether the persona's own memory holds something at least this close to the query; the `most` closest are told."""

    query: Query
    min_score: Ratio = 0.5
    most: Annotated[int, Meta(ge=1, le=MAX_MEMORIES)] = 1


class LogAround(msgspec.Struct, frozen=True, kw_only=True, tag_field="probe", tag="log.around"):
    """The lines before and after a cited one: of its own source, or of all that the persona perceives."""

    line: EvidenceRef
    before: Around = 6
    after: Around = 6
    any_source: bool = False


class LogValues(msgspec.Struct, frozen=True, kw_only=True, tag_field="probe", tag="log.values"):
    """What stands where a template varies, between two stream sequences: level and trend of numbers, shares of words.

    `slot` counts the words of the template that vary, from 1; None: all of them.
    """

    template: Template
    source: Source | None = None
    first_seq: Position
    last_seq: Position
    slot: Slotted | None = None


class TemplateTable(msgspec.Struct, frozen=True, kw_only=True, tag_field="probe", tag="template.table"):
    """Which kinds of line there are between two stream sequences, and how many of each, the most frequent first."""

    source: Source | None = None
    first_seq: Position
    last_seq: Position
    most: Most = 12


class BeliefLookup(msgspec.Struct, frozen=True, kw_only=True, tag_field="probe", tag="belief.lookup"):
    """What the swarm, and the mesh where the persona may read that, believes about something."""

    query: Query


class ProposalHistory(msgspec.Struct, frozen=True, kw_only=True, tag_field="probe", tag="proposal.history"):
    """The newest proposals of the persona and how they ended; or of its whole swarm, whose others are told without their words.

    `kind`: only of this kind of action.
    """

    whose: Literal["own", "swarm"] = "own"
    kind: Short = ""
    most: Annotated[int, Meta(ge=1, le=MAX_PROPOSALS)] = 6


class ReportRead(msgspec.Struct, frozen=True, kw_only=True, tag_field="probe", tag="report.read"):
    """The newest file the persona proposed under this target, or under a target that ends with `/` and this; from a character on."""

    target: Annotated[str, Meta(min_length=1, max_length=300)]
    offset: Count = 0


class OutsideLook(msgspec.Struct, frozen=True, kw_only=True, tag_field="probe", tag="outside.look"):
    """What a row of the operator's looks at outside, by its arguments: a file, a URL, a query, a command, a tool."""

    row: Token
    arguments: Annotated[dict[Annotated[str, Meta(max_length=64)], Scalar], Meta(max_length=32)] = {}


Probe = (
    LogCount
    | LogSearch
    | LogResolve
    | MemoryRecall
    | LogAround
    | LogValues
    | TemplateTable
    | BeliefLookup
    | ProposalHistory
    | ReportRead
    | OutsideLook
)


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """So many have this value."""

    value: Annotated[str, Meta(max_length=MAX_VALUE)]
    count: Count


class Counted(msgspec.Struct, frozen=True, kw_only=True, tag_field="found", tag="counted"):
    """Of `log.count`: how many, how many before, and by source where that was asked for, the most first."""

    count: Count
    before: Count | None = None
    by_source: Annotated[tuple[Share, ...], Meta(max_length=MAX_SHARES)] = ()
    cut: Short = ""


class SeenLine(msgspec.Struct, frozen=True, kw_only=True):
    """An observation."""

    ref: EvidenceRef
    source: Source
    at: Instant
    text: Annotated[str, Meta(max_length=MAX_LINE)]


class Surroundings(msgspec.Struct, frozen=True, kw_only=True, tag_field="found", tag="surroundings"):
    """Of `log.around`: the lines in stream order, the cited one among them."""

    lines: Annotated[tuple[SeenLine, ...], Meta(max_length=2 * MAX_LINES + 1)]
    cut: Short = ""


class Numbers(msgspec.Struct, frozen=True, kw_only=True):
    """The values that are numbers, in stream order. `trend` is `rising` or `falling` where the order alone explains half of how they
    differ."""

    count: Count
    first: Number
    last: Number
    least: Number
    most: Number
    mean: Number
    trend: Literal["rising", "falling", "level"] = "level"


class Varying(msgspec.Struct, frozen=True, kw_only=True):
    """One slot: the words before it, how many different values, the most frequent of them, and how many have none of these."""

    slot: Slotted
    after: Annotated[str, Meta(max_length=MAX_VALUE)] = ""
    distinct: Count = 0
    shares: Annotated[tuple[Share, ...], Meta(max_length=MAX_SHARES)] = ()
    others: Count = 0
    numbers: Numbers | None = None


class Values(msgspec.Struct, frozen=True, kw_only=True, tag_field="found", tag="values"):
    """Of `log.values`: of so many lines that have the template, each slot."""

    lines: Count
    slots: Annotated[tuple[Varying, ...], Meta(max_length=MAX_SLOTS)]
    cut: Short = ""


class TemplateRow(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of line, with the first of them."""

    template: Annotated[str, Meta(max_length=MAX_LINE)]
    source: Source
    count: Count
    first: EvidenceRef


class Table(msgspec.Struct, frozen=True, kw_only=True, tag_field="found", tag="table"):
    """Of `template.table`: of so many lines, the kinds; `others` have none of these."""

    lines: Count
    rows: Annotated[tuple[TemplateRow, ...], Meta(max_length=MAX_ROWS)]
    others: Count = 0
    cut: Short = ""


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """A memory or a belief; `semantic` is how close to the query it is, of a belief which part of its words it has."""

    ref: EvidenceRef
    kind: Short
    by: Token
    at: Instant
    text: Annotated[str, Meta(max_length=MAX_MEMORY)]
    semantic: Score = 0.0
    tainted: bool = True


class Recollection(msgspec.Struct, frozen=True, kw_only=True, tag_field="found", tag="recollection"):
    """Of `memory.recall` and `belief.lookup`, the closest first."""

    memories: Annotated[tuple[Remembered, ...], Meta(max_length=MAX_MEMORIES)]
    cut: Short = ""


class Filed(msgspec.Struct, frozen=True, kw_only=True):
    """A proposal and where it stands. What another persona proposed has no title, target and reasons here."""

    ref: EvidenceRef
    persona: Token
    proposal_id: LifeId
    kind: Short
    at: Instant
    ended: Literal["open", "waits", "authorized", "claimed", "rejected", "success", "failure", "unknown"]
    title: Annotated[str, Meta(max_length=72)] = ""
    target: Annotated[str, Meta(max_length=200)] = ""
    risk: Risk | None = None
    why: Word = ""


class History(msgspec.Struct, frozen=True, kw_only=True, tag_field="found", tag="history"):
    """Of `proposal.history`, the newest first."""

    proposals: Annotated[tuple[Filed, ...], Meta(max_length=MAX_PROPOSALS)]
    cut: Short = ""


class Report(msgspec.Struct, frozen=True, kw_only=True, tag_field="found", tag="report"):
    """Of `report.read`: a part of the file, which is of `size` characters, as it was proposed, and how that ended."""

    filed: Filed
    text: Annotated[str, Meta(max_length=MAX_REPORT)]
    offset: Count = 0
    size: Count = 0
    cut: Short = ""


class Answer(msgspec.Struct, frozen=True, kw_only=True, tag_field="found", tag="answer"):
    """Of `outside.look`: what the row of that kind answered, from where; of so many bytes as were read the beginning, in an outsider's
    words. `status` is a code of HTTP, or what a command ended with."""

    row: Token
    kind: Short
    where: Short
    status: Annotated[int, Meta(ge=-255, le=999)] | None = None
    size: Count = 0
    text: Annotated[str, Meta(max_length=MAX_REPORT)] = ""
    cut: Short = ""


Found = Counted | Surroundings | Values | Table | Recollection | History | Report | Answer
