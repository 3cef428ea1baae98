"""From a thinker's drafts to events: what is not allowed, not new, not grounded or not well formed is left out.

A thinker can be wrong, but not dangerous: ids are ours, citations must be in the context, sizes are the contract's, a topic is
raised again only with newer evidence (or when somebody asks), and only a hypothesis confirmed by its check becomes a proposal, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from services.persona_runner.mind.context import MAX_EVIDENCE, cited, references, true_probe
from services.persona_runner.mind.goals import topic_for
from services.persona_runner.mind.state import (
    MAX_BESIDE,
    MAX_LOOKS,
    MAX_OPEN_HYPOTHESES,
    MAX_OPEN_PROPOSALS,
    Held,
    State,
    topic_key,
)
from shared.contracts.action import action_digest
from shared.contracts.catalog import CLASSES, class_of
from shared.contracts.envelope import MAX_BODY_BYTES
from shared.contracts.events import AnyEvent, CheckRequested, EvidenceRef, HypothesisRaised, Probe, ProposalCreated
from shared.contracts.ids import caused_token
from shared.contracts.reach import may_propose
from shared.contracts.text import lines, plain
from shared.thinker.port import CheckDraft, Context, HypothesisDraft, ProposalDraft, Thought

_DECODERS = {name: msgspec.json.Decoder(cls) for name, cls in CLASSES.items()}


def follow_ups(
    state: State, context: Context, thought: Thought, thought_id: str, *, proposal_deadline: datetime
) -> tuple[AnyEvent, ...]:
    """What follows from the thought in its phase."""
    events: Sequence[AnyEvent]
    match context.phase:
        case "reflect":
            events = _hypotheses(state, context, thought.hypotheses, thought_id)
        case "test":
            events = _checks(state, context, thought.checks, thought_id)
        case "compress":
            events = _proposals(state, context, thought.proposals, proposal_deadline)
        case _:
            events = ()
    return tuple(events)


def well_formed(event: AnyEvent) -> bool:
    """Whether every reader of the bus would accept the event: structs check their fields only when decoded."""
    try:
        body = msgspec.json.encode(event)
        _DECODERS[class_of(event)].decode(body)
    except (msgspec.MsgspecError, UnicodeError, TypeError, OverflowError, RecursionError):
        return False
    return len(body) <= MAX_BODY_BYTES


def ratio(value: float) -> float:
    """Into [0, 1]; what is no number is 0."""
    return min(1.0, max(0.0, value)) if value == value else 0.0


def _hypotheses(
    state: State, context: Context, drafts: Sequence[HypothesisDraft], thought_id: str
) -> list[HypothesisRaised]:
    known = references(context)
    grown = {f.topic: f.seq for f in context.percept.findings}
    raised_at = dict(state.topics)
    open_topics = {h.topic for h in state.hypotheses}
    events: list[HypothesisRaised] = []
    for i, draft in enumerate(drafts[: 4 * MAX_OPEN_HYPOTHESES]):
        evidence = cited(draft.evidence, known)
        asked = context.goal.ref if context.goal is not None and context.goal.ref in evidence else None
        topic = plain(draft.topic if asked is None else topic_for(asked.id, draft.topic), 300)
        newest = max((ref.seq for ref in evidence), default=0)
        before = raised_at.get(topic_key(topic))
        old = before is not None and min(newest, grown.get(topic, newest)) <= before
        if not topic or not evidence or (old and asked is None) or topic in open_topics:
            continue
        event = HypothesisRaised(
            swarm=state.swarm,
            persona=state.persona,
            hypothesis_id=caused_token(thought_id, "h", i),
            topic=topic,
            claim=plain(draft.claim, 2000),
            confidence=ratio(draft.confidence),
            evidence=evidence,
            assignment=None if asked is None else asked.id,
        )
        if well_formed(event) and len(state.hypotheses) + len(events) < MAX_OPEN_HYPOTHESES:
            events.append(event)
            open_topics.add(topic)
    return events


def _checks(state: State, context: Context, drafts: Sequence[CheckDraft], thought_id: str) -> list[CheckRequested]:
    """Of each hypothesis the first that is asked for decides, the others tell something beside it, each once. Where it is decided
    already, more may be looked at, within what there is room for."""
    known = references(context)
    open_ = {h.id: h for h in state.hypotheses}
    asked: dict[str, list[Probe]] = {}
    room = {h.id: MAX_BESIDE - len(h.beside) for h in state.hypotheses}
    looks = MAX_LOOKS
    events: list[CheckRequested] = []
    for i, draft in enumerate(drafts[: 4 * MAX_OPEN_HYPOTHESES]):
        probe = true_probe(draft.probe, known)
        held = open_.get(draft.hypothesis_id)
        if probe is None or held is None:
            continue
        before = asked.setdefault(held.id, [])
        beside = bool(before) or held.check_id is not None
        if probe in before or (beside and min(looks, room[held.id]) <= 0):
            continue
        event = CheckRequested(
            swarm=state.swarm,
            persona=state.persona,
            check_id=caused_token(thought_id, "c", i),
            hypothesis_id=held.id,
            probe=probe,
            beside=beside,
            assignment=held.assignment,
        )
        if well_formed(event):
            events.append(event)
            before.append(probe)
            looks -= beside
            room[held.id] -= beside
    return events


def _proposals(
    state: State, context: Context, drafts: Sequence[ProposalDraft], proposal_deadline: datetime
) -> list[ProposalCreated]:
    known = references(context)
    confirmed = {h.id: h for h in state.hypotheses if h.result is not None and h.result.outcome == "confirmed"}
    room = MAX_OPEN_PROPOSALS - len(state.proposals)
    events: list[ProposalCreated] = []
    for draft in drafts[: 4 * MAX_OPEN_PROPOSALS]:
        held = confirmed.get(draft.hypothesis_id or "")
        if held is None or len(events) >= room or not may_propose(state.policy, draft.action.kind):
            continue
        event = _proposal(state, draft, held, cited(draft.evidence, known) or held.evidence, proposal_deadline)
        if event is not None and well_formed(event):
            events.append(event)
            del confirmed[held.id]
    return events


def _proposal(
    state: State, draft: ProposalDraft, held: Held, evidence: tuple[EvidenceRef, ...], proposal_deadline: datetime
) -> ProposalCreated | None:
    try:
        digest = action_digest(swarm=state.swarm, persona=state.persona, charter=state.charter, action=draft.action)
    except (ValueError, TypeError, RecursionError):
        return None
    asked = tuple(ref for ref in held.evidence if ref.id == held.assignment)
    return ProposalCreated(
        swarm=state.swarm,
        persona=state.persona,
        proposal_id=caused_token(held.id, "p"),
        title=plain(draft.title, 72),
        rationale=lines(draft.rationale.strip(), 900),
        action=draft.action,
        evidence=tuple(dict.fromkeys((*evidence[: MAX_EVIDENCE - len(asked)], *asked))),
        hypothesis_id=held.id,
        charter=state.charter,
        digest=digest,
        deadline=proposal_deadline,
        assignment=held.assignment,
    )
