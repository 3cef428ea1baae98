"""What a thinker gets and gives. A thinker sees only its context and holds no hands: its words become events or nothing.

The runner turns a `Thought` into events: it alone assigns ids, checks that cited evidence was really in the context, and
bounds sizes. So a thinker (a model above all) can be wrong, but not dangerous.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import msgspec

from shared.contracts.action import Action
from shared.contracts.events import CheckResult, DeclaredRow, EvidenceRef, Memory, Phase, Probe, Usage
from shared.contracts.persona import Identity


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something out of the ordinary that perception found in the observations, by counting, not by opinion.

    `topic` is a stable key (the same anomaly keeps its topic as it grows), `seq` the sequence of the observation that made
    it a finding, `claim` one plain sentence with its numbers, `probe` the read-only check that would confirm or refute it.
    """

    topic: str
    kind: str
    seq: int
    claim: str
    confidence: float
    evidence: tuple[EvidenceRef, ...]
    probe: Probe
    source: str = ""
    sample: str = ""
    at: datetime | None = None
    """The time of its last line, where lines bring theirs."""


class SourceSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A source as perception has it: its lines, and where they bring their own time the first and the last."""

    name: str
    lines: int
    first_at: datetime | None = None
    last_at: datetime | None = None


class Percept(msgspec.Struct, frozen=True, kw_only=True):
    """What a persona newly perceives: observations after its cursor, summed up so that thousands of lines fit a context."""

    first_seq: int = 0
    last_seq: int = 0
    new: int = 0
    total: int = 0
    templates: int = 0
    findings: tuple[Finding, ...] = ()
    samples: tuple[tuple[EvidenceRef, str], ...] = ()
    """A few of the new observations, verbatim, newest last."""
    traces: dict[str, str] = {}
    """`traceparent` by id of observations that are part of a trace somebody else began."""


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """An earlier thought of the same persona."""

    id: str
    phase: Phase
    text: str


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """What the persona was asked by somebody; `ref` is the event that assigned it. `options`: what an answer chooses among.

    `tainted`: the words are an outsider's. `thoughts`: so many were made for it. `report`: the file that the answer is to be proposed
    as, too, where that is wanted.
    """

    ref: EvidenceRef
    intent_id: str
    text: str
    options: tuple[str, ...] = ()
    asked_at: datetime
    tainted: bool = True
    thoughts: int = 0
    report: str | None = None


class OpenHypothesis(msgspec.Struct, frozen=True, kw_only=True):
    """A hypothesis not yet settled; `finding` is what it came from, when it came from perception. `for_goal`: it was raised for what
    somebody asked. `result_ref` is the event with the result; `told` is what checks beside it found, which decide nothing."""

    hypothesis_id: str
    topic: str
    claim: str
    confidence: float
    evidence: tuple[EvidenceRef, ...]
    finding: Finding | None = None
    result: CheckResult | None = None
    result_ref: EvidenceRef | None = None
    told: tuple[CheckResult, ...] = ()
    for_goal: bool = False


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """What came back of an action the persona had proposed under this title, or what a child or who was asked tells of its work: an
    outsider's words. `ref` is the event."""

    ref: EvidenceRef
    title: str
    text: str


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """All a thinker may know for one step. `notice` is a word from the loop guard ("you repeat yourself").

    With a `goal` the step is made to answer it, and the thinker also gets all that stands out at all and the sources it came from. A
    hypothesis that cites the goal's event is raised for it. `kinds` are those of `action_kinds` the persona may propose, `rows` what the
    operator named for them.
    """

    identity: Identity
    phase: Phase
    cycle: int
    step: int
    now: datetime
    percept: Percept = Percept()
    recent: tuple[Note, ...] = ()
    memories: tuple[Memory, ...] = ()
    hypotheses: tuple[OpenHypothesis, ...] = ()
    notice: str = ""
    outputs: tuple[Output, ...] = ()
    goal: Goal | None = None
    findings: tuple[Finding, ...] = ()
    sources: tuple[SourceSeen, ...] = ()
    kinds: tuple[str, ...] = ("file.write",)
    rows: tuple[DeclaredRow, ...] = ()


class HypothesisDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A claim a thinker would raise."""

    topic: str
    claim: str
    confidence: float
    evidence: tuple[EvidenceRef, ...]


class CheckDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A check a thinker wants, of an open hypothesis: the first decides on it, a few more are told beside it."""

    hypothesis_id: str
    probe: Probe


class ProposalDraft(msgspec.Struct, frozen=True, kw_only=True):
    """What a thinker would have done about a confirmed hypothesis."""

    title: str
    rationale: str
    action: Action
    evidence: tuple[EvidenceRef, ...]
    hypothesis_id: str | None = None


class AnswerDraft(msgspec.Struct, frozen=True, kw_only=True):
    """What a thinker would answer to the goal; or, `declined`, that it does not, and `text` says why. `choice` is one of the options."""

    text: str
    declined: bool = False
    choice: str = ""
    confidence: float = 0.0
    evidence: tuple[EvidenceRef, ...] = ()


class Thought(msgspec.Struct, frozen=True, kw_only=True):
    """One step of thinking. Hypotheses only in reflect, checks only in test, proposals only in compress, an answer only when there is
    a goal; others are dropped. `refused`: reasons, one for each check that was asked for and could not be; the text says them in words.
    `left_out`: the same of proposals: for no hypothesis it was shown, one no check confirmed, of a kind the persona may not propose,
    without title, rationale or content (`metrics.table.LEFT_OUT`)."""

    text: str
    hypotheses: tuple[HypothesisDraft, ...] = ()
    checks: tuple[CheckDraft, ...] = ()
    proposals: tuple[ProposalDraft, ...] = ()
    answer: AnswerDraft | None = None
    refused: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    usage: Usage = Usage()
    model: str | None = None


class ThinkerUnavailable(Exception):
    """No endpoint answered in time. `retry_after_s` says when to try again; `usage` what was spent all the same."""

    def __init__(self, detail: str, *, retry_after_s: float = 5.0, usage: Usage | None = None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s
        self.usage = usage or Usage()


class ThinkerFailed(Exception):
    """An endpoint answered, but with nothing usable even after the repair turn."""

    def __init__(self, detail: str, *, usage: Usage | None = None) -> None:
        super().__init__(detail)
        self.usage = usage or Usage()


class Thinker(Protocol):
    """One way of thinking; `name` goes on every thought."""

    name: str

    def worst_case(self, context: Context) -> Usage:
        """The most the next `think` on this context may cost: input estimate plus output limit, in tokens and ms."""

    async def think(self, context: Context) -> Thought:
        """One bounded step. Raises `ThinkerUnavailable` or `ThinkerFailed`, nothing else."""

    async def close(self) -> None: ...
