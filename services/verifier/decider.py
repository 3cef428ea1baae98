"""One verdict per proposal.

Theory of operation. What can be told from the proposal alone (its digest, its charter, its action, its deadline) is told at
once, without any reading. What rests on the log is looked up by one effect, `Resolve`, and judged here.

Invariants: at most one `proposal.verified` or `proposal.rejected` of stage verify per proposal (guarded by the boundary); the risk
comes from the action's kind and target; taint is a union over all that was told to the persona, cited or not, and no citation frees a
proposal of it; what a person files is that person's word, and the verdict says whose.
"""

from __future__ import annotations

import msgspec

from shared.contracts.action import Action, action_digest
from shared.contracts.action_kinds import classify, read
from shared.contracts.boundaries import life
from shared.contracts.capabilities import Capabilities
from shared.contracts.envelope import MAX_BODY_BYTES, Recorded
from shared.contracts.events import (
    EvidenceRef,
    ProposalCreated,
    ProposalFiled,
    ProposalRejected,
    ProposalVerified,
)
from shared.contracts.events.proposals import MAX_LIMITS
from shared.contracts.ids import Sha256, Token
from shared.contracts.kinds.kind import Problem
from shared.contracts.reach import Member, limits_of, reach_of
from shared.contracts.row import Row
from shared.contracts.text import plain
from shared.decider import NOTHING, Boundary, Decision, Delivered, Effect, Input, Performed, Result, Tick

MAX_EVIDENCE = 256
"""Cited events per proposal; each is one read."""
UNGROUNDED = "ungrounded"
"""The label of what rests on nothing but outsiders' and the persona's own words."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the proposal of this id has its verdict."""

    judged: bool = False


class Resolve(Effect, frozen=True, kw_only=True):
    """Look up the cited events, and whose they are, and the persona that cites them; the operator's row of the action, and its cost."""

    swarm: Token
    persona: Token
    proposal_id: Token
    action: Action
    seq: int = 0
    evidence: tuple[EvidenceRef, ...]


class Resolved(Result, frozen=True, kw_only=True):
    """What the log holds of it.

    `missing`: no such event under that id. `foreign`: another swarm's, or private to another persona. `independent` counts
    found events that are neither tainted observations nor the persona's own words. `charter` is None for an unknown persona.
    `outside`: where the first came from that the persona was told by outsiders before it proposed (`told`), in words; `words`: what of
    the cited is theirs; `labels`: of what kind either is. `open`: so many other proposals of the persona are, which is the limit, and
    nothing was looked up; else 0. `row` is the operator's, or `unnamed` says why there is none for this action, where its kind has rows.
    `family`: the persona and those above it that have capabilities stated.
    """

    found: tuple[EvidenceRef, ...] = ()
    missing: tuple[EvidenceRef, ...] = ()
    foreign: tuple[EvidenceRef, ...] = ()
    independent: int = 0
    live: bool = False
    charter: Sha256 | None = None
    allowed_tools: tuple[str, ...] = ()
    capabilities: Capabilities | None = None
    outside: str = ""
    words: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    family: tuple[Member, ...] = ()
    cost_microusd: int = 0
    open: int = 0
    row: Row | None = None
    unnamed: str = ""


def initial() -> State:
    """No verdict yet."""
    return State()


def boundary(message: Delivered | Tick) -> Boundary | None:
    """A proposal's verdicts; the message that asks for one opens it.

    Not what else asks for it: a runner may say that thousands of times, and each of them would read all of them.
    """
    if isinstance(message, Tick) or not isinstance(event := message.recorded.event, ProposalCreated):
        return None
    guard = life(event.swarm, event.persona, event.proposal_id)
    return Boundary(reads=(guard,), guards=(guard,), opens=True)


def evolve(state: State, recorded: Recorded) -> State:
    """Settled by a verdict of this stage, or by any later one (which rests on it)."""
    if isinstance(recorded.event, ProposalVerified | ProposalRejected):
        return State(judged=True)
    return state


def decide(state: State, message: Input) -> Decision:
    """See the module's theory of operation."""
    if state.judged:
        return NOTHING
    match message:
        case Delivered(recorded=recorded, crowd=crowd) if isinstance(recorded.event, ProposalCreated):
            return _crowded(recorded.event, crowd) if crowd else _examine(recorded.event, message)
        case Performed(cause=Delivered(recorded=recorded), result=Resolved() as facts):
            if isinstance(recorded.event, ProposalCreated):
                return _judge(recorded.event, facts, recorded.seq)
    return NOTHING


def _crowded(proposal: ProposalCreated, crowd: int) -> Decision:
    """A verdict at once, so that the queue of one swarm grows no further."""
    why = f"{crowd} proposals of {proposal.swarm} wait already, more than its share; ask again later"
    return _reject(proposal, [("too_many_waiting", why)])


def _examine(proposal: ProposalCreated, message: Delivered) -> Decision:
    """What the proposal alone tells; if nothing is wrong with it, the evidence is looked up."""
    problems: list[tuple[str, str]] = []
    action = read(proposal.action)
    if isinstance(action, Problem):
        problems.append((action.code, action.detail))
    if _digest(proposal) != proposal.digest:
        problems.append(("digest_mismatch", "the digest is not that of the action"))
    if message.recorded.envelope.charter != proposal.charter:
        problems.append(("charter_mismatch", "the charter in the envelope differs from the proposal's"))
    if not proposal.evidence and not isinstance(proposal, ProposalFiled):
        problems.append(("no_evidence", "nothing is cited"))
    elif len(proposal.evidence) > MAX_EVIDENCE:
        problems.append(("too_much_evidence", f"{len(proposal.evidence)} events cited, the limit is {MAX_EVIDENCE}"))
    if message.now >= proposal.deadline:
        problems.append(("deadline_passed", f"it was due before {proposal.deadline.isoformat()}"))
    if problems:
        return _reject(proposal, problems)
    cited = tuple({(ref.seq, ref.id): ref for ref in proposal.evidence}.values())
    who = {"swarm": proposal.swarm, "persona": proposal.persona, "proposal_id": proposal.proposal_id}
    resolve = Resolve(**who, action=proposal.action, seq=message.recorded.seq, evidence=cited)
    return Decision(effect=resolve)


def _judge(proposal: ProposalCreated, facts: Resolved, seq: int) -> Decision:
    """What the log tells."""
    if facts.open:
        many = f"{proposal.persona} has {facts.open} proposals that are neither decided nor done"
        why = f"{many}, which is the limit; propose again when one is"
        return _reject(proposal, [("too_many_open", why)])
    problems: list[tuple[str, str]] = []
    if not facts.live:
        problems.append(("persona_not_live", "the persona is unknown, draining or reaped"))
    elif facts.charter != proposal.charter:
        problems.append(("charter_mismatch", "the charter is not the one the persona was spawned with"))
    if facts.allowed_tools and proposal.action.kind not in facts.allowed_tools:
        problems.append(("tool_not_allowed", f"{proposal.action.kind} is not among the persona's tools"))
    if facts.unnamed:
        problems.append(("not_named", facts.unnamed))
    if facts.missing:
        problems.append(("evidence_missing", f"not in the log: {_names(facts.missing)}"))
    if facts.foreign:
        problems.append(("evidence_foreign", f"not this persona's to read: {_names(facts.foreign)}"))
    whose = proposal.swarm, proposal.persona
    risk = classify(proposal.action, *whose, facts.row)
    filed = isinstance(proposal, ProposalFiled)
    outside = tuple(line for line in (facts.outside, *facts.words) if line)
    if problems or not (facts.found or filed):
        return _reject(proposal, problems or [("no_evidence", "nothing cited was found")])
    tainted = not filed and bool(
        outside or not facts.independent
    )  # a person's is not: by a class only a gateway may say
    labels = facts.labels if facts.independent else (*facts.labels, UNGROUNDED)
    whose = proposal.swarm, proposal.persona
    limits = limits_of(facts.family, proposal.action, *whose)
    if len(limits) > MAX_LIMITS:
        many = f"it counts against {len(limits)} limits of the family, at most {MAX_LIMITS} can be kept"
        return _reject(proposal, [("too_many_limits", many)])
    verified = ProposalVerified(
        swarm=proposal.swarm,
        persona=proposal.persona,
        proposal_id=proposal.proposal_id,
        digest=proposal.digest,
        risk=risk,
        findings=(f"{len(facts.found)} cited events are in the log, {facts.independent} of them independent",),
        evidence=facts.found,
        tainted=tainted,
        outside=outside,
        labels=labels if tainted else (),
        scope=reach_of(
            facts.capabilities, proposal.action, *whose, tainted=tainted, row=facts.row, costs=facts.cost_microusd > 0
        ),
        cost_microusd=facts.cost_microusd,
        limits=limits,
        proposal=proposal.proposal if isinstance(proposal, ProposalFiled) else proposal,
        proposed_seq=seq,
        row=facts.row,
        filed_by=proposal.principal if isinstance(proposal, ProposalFiled) else "",
    )
    if (size := len(msgspec.json.encode(verified))) > MAX_BODY_BYTES:
        return _reject(
            proposal, [("too_large", f"with what was found it has {size} bytes, the limit is {MAX_BODY_BYTES}")]
        )
    return Decision(events=(verified,), charter=proposal.charter)


def _digest(proposal: ProposalCreated) -> str | None:
    """The digest of the action as it stands, or None when it cannot be hashed."""
    who = {"swarm": proposal.swarm, "persona": proposal.persona, "charter": proposal.charter}
    try:
        return action_digest(**who, action=proposal.action)
    except ValueError:
        return None


def _reject(proposal: ProposalCreated, problems: list[tuple[str, str]]) -> Decision:
    rejected = ProposalRejected(
        swarm=proposal.swarm,
        persona=proposal.persona,
        proposal_id=proposal.proposal_id,
        stage="verify",
        reasons=tuple(dict.fromkeys(code for code, _ in problems)),
        detail=plain("; ".join(detail for _, detail in problems), 2000),
        digest=proposal.digest,
    )
    return Decision(events=(rejected,), charter=proposal.charter)


def _names(refs: tuple[EvidenceRef, ...]) -> str:
    shown = ", ".join(f"{ref.id} at {ref.seq}" for ref in refs[:5])
    return shown if len(refs) <= 5 else f"{shown} and {len(refs) - 5} more"
