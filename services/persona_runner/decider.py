"""The cognition loop of one persona: what to think next, and what follows from a thought.

Theory of operation. The state is the fold of the persona's own events (`state.py`). A `Tick` with `Percepts` asks whether the
persona is due (`cadence.py`); if so, the decision is the effect `Think`, with everything the thinker may know. Its result
comes back as `Performed` and becomes one commit: the thought and what follows from it (`drafts.py`), guarded by
`thought.*.<swarm>.<persona>.*`, which the reap seals. Ids derive from persona and step, so a step thought twice is one event and
two runners cannot fork a history. Every call is paid from a grant the thought cites (`spending.py`), and made only if its worst case
fits what is left; the shell answers `Unaffordable` otherwise, and more is asked for.

What the persona was asked (`goals.py`) is worked on in cycles of their own, whose thoughts name the assignment and are charged to it.
It ends by one `intent.answered` (`answers.py`) in the batch of the thought that gave the answer, guarded like every step by the
thoughts, and before it: whoever knows of the last thought knows what it answered, so there is one answer whoever else thinks. Where
the assignment's budget does not allow one more thought, or many came to nothing, the runner itself says what is known so far, or no.

Invariants: no step before the loop interval after the last; no spending beyond a grant; nothing after the final thought;
errors and repetition are never progress; no answer to what is not asked, or no longer is; a hypothesis becomes at most one proposal,
and only once its check confirmed it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

import msgspec

from services.persona_runner.hosting.messages import thought_id
from services.persona_runner.mind import context as contexts
from services.persona_runner.mind.answers import answered, declined, so_far
from services.persona_runner.mind.cadence import due_at, next_phase, rest_ms
from services.persona_runner.mind.drafts import follow_ups
from services.persona_runner.mind.goals import MAX_THOUGHTS, MAX_WORKED, Assigned, current, goal_of, overflowing
from services.persona_runner.mind.guard import digest_of, notice_for, novelty, saying
from services.persona_runner.mind.spending import MAX_COUNT, ask, close, may_ask, usable
from services.persona_runner.mind.state import NOTE_CHARS, State, evolve, moves_on
from services.persona_runner.mind.steps import (
    OverBudget,
    Percepts,
    Think,
    Thoughtful,
    Thoughtless,
    Unaffordable,
)
from shared.contracts import boundaries
from shared.contracts.catalog import about
from shared.contracts.events import (
    AnyEvent,
    Credits,
    EvidenceRef,
    HypothesisRaised,
    IntentAnswered,
    ProposalCreated,
    ThoughtGenerated,
    Usage,
)
from shared.contracts.text import lines, plain
from shared.decider import NOTHING, Boundary, Decision, Delivered, Input, Performed, Result, Tick
from shared.thinker.port import AnswerDraft, Context, Percept, Thought

__all__ = ["boundary", "decide", "evolve", "initial"]

MAX_TEXT = 8000
RUNNER = "runner"
"""The thinker of a last thought no other one could make."""

Status = Literal["ok", "model_error", "empty"]
NO_THOUGHT = Thoughtless(status="empty", detail="")


def initial() -> State:
    """Nobody yet."""
    return State()


def boundary(message: Delivered | Tick) -> Boundary | None:
    """A tick's id names the persona: its own events are read, its thoughts are the guard. Events decide nothing."""
    if not isinstance(message, Tick):
        return None
    return Boundary(reads=about(message.swarm, message.id), guards=(boundaries.thoughts(message.swarm, message.id),))


def decide(state: State, message: Input) -> Decision:
    """What follows from a tick, or from a thought."""
    match message:
        case Tick(facts=Percepts() as facts):
            return _tick(state, message.now, facts)
        case Performed(effect=Think() as think, cause=Tick(facts=Percepts() as facts)):
            return _performed(state, think, message.result, message.now, facts)
        case _:
            return NOTHING


# -- a tick ----------------------------------------------------------------------------------------------------------


def _tick(state: State, now: datetime, facts: Percepts) -> Decision:
    state = current(state, now)
    due = due_at(
        state,
        running=facts.running,
        loop_interval_ms=facts.loop_interval_ms,
        heard_seq=facts.percept.last_seq,
        limits=facts.limits,
        alarm_at=facts.alarm_at,
    )
    if due is None or due > now or state.over(now):
        return NOTHING
    payable = usable(state.grant, now) is not None
    if state.draining:
        think = _think(state, now, facts, final=True)
        if not payable or not facts.running:
            return _conclude(state, think, NO_THOUGHT, now, facts)
        return Decision(effect=think, charter=state.charter)
    assigned = goal_of(state, unseen=_unseen(state, facts, now))
    if assigned is not None and assigned.thoughts >= MAX_THOUGHTS:
        why = f"Gave up after {assigned.thoughts} thoughts that led to no answer."
        return _give_up(state, _think(state, now, facts, final=False), assigned, why, now, facts)
    if _cooling(state, now, facts.percept) or not (payable or may_ask(state, now, facts.limits)):
        return NOTHING
    return Decision(effect=_think(state, now, facts, final=False), charter=state.charter)


def _think(state: State, now: datetime, facts: Percepts, *, final: bool) -> Think:
    assert state.identity is not None  # only who was born is due
    unseen = _unseen(state, facts, now)
    phase = "compress" if final else next_phase(state, unseen=unseen, now=now, limits=facts.limits)
    assigned = None if final else goal_of(state, unseen=unseen)
    context = contexts.build(
        state,
        state.identity,
        phase or "compress",
        now,
        facts.percept if assigned is None else msgspec.structs.replace(facts.percept, samples=facts.lately),
        facts.findings,
        begins=state.resting and not final,
        final=final,
        assigned=assigned,
        sources=facts.sources,
        rows=facts.rows,
    )
    grant = usable(state.grant, now)
    limit = Credits() if grant is None else grant.left()
    allowance = None if assigned is None else assigned.left()
    grant_id = None if grant is None else grant.id
    return Think(context=context, grant_id=grant_id, limit=limit, allowance=allowance, final=final)


def _unseen(state: State, facts: Percepts, now: datetime) -> bool:
    """Whether there are observations, or silence, that it has not looked at."""
    return facts.percept.last_seq > state.observed_seq or (facts.alarm_at is not None and facts.alarm_at <= now)


def _cooling(state: State, now: datetime, percept: Percept) -> bool:
    """In a cool-down only being asked, a finding not yet dealt with, a check's result or a proposal's outcome wakes it early."""
    if not state.cooling or now >= state.at + timedelta(milliseconds=state.next_in_ms):
        return False
    results = any(h.result is not None and not h.taken for h in state.hypotheses)
    return not (percept.findings or state.outcomes or state.outputs or results or state.assigned)


# -- a thought -------------------------------------------------------------------------------------------------------


def _performed(state: State, think: Think, result: Result, now: datetime, facts: Percepts) -> Decision:
    state = current(state, now)
    if state.over(now) or state.step + 1 != think.context.step:
        return NOTHING
    match result:
        case Thoughtful() | Thoughtless():
            return _conclude(state, think, result, now, facts)
        case OverBudget():
            assigned = _attended(state, think.context)
            return (
                NOTHING if assigned is None else _give_up(state, think, assigned, _short(assigned, result), now, facts)
            )
        case Unaffordable() if think.final:
            return _conclude(state, think, NO_THOUGHT, now, facts)
        case Unaffordable() if may_ask(state, now, facts.limits):
            busy = think.context.phase == "observe" or not state.resting
            wanted = ask(state, result.worst, facts.limits.grant_thoughts if busy else 1)
            return Decision(
                events=(wanted,),
                guards=(boundaries.said("grant.requested", state.swarm, state.persona),),
                charter=state.charter,
            )
        case _:
            return NOTHING


def _attended(state: State, context: Context) -> Assigned | None:
    """The assignment that the thought is made for, while it is open."""
    if context.goal is None:
        return None
    return next((a for a in state.assigned if a.id == context.goal.ref.id), None)


def _short(assigned: Assigned, result: OverBudget) -> str:
    worst, left = result.worst, assigned.left()
    return (
        f"Its budget ends here: a thought may take {worst.tokens} tokens and {worst.compute_ms} ms of compute, "
        f"{left.tokens} tokens and {left.compute_ms} ms are left."
    )


def _give_up(state: State, think: Think, assigned: Assigned, why: str, now: datetime, facts: Percepts) -> Decision:
    """The runner's own thought, which costs nothing: what is known so far, or no."""
    draft = so_far(think.context, why)
    if answered(state, assigned, think.context, draft, Usage()) is None:
        draft = AnswerDraft(text=why, declined=True)
    text = f"Stops working on intent {assigned.intent_id}. {why}"
    spoken = Thoughtful(thought=Thought(text=text, answer=draft), worst=Usage())
    return _conclude(state, think, spoken, now, msgspec.structs.replace(facts, thinker=RUNNER))


def _answers(
    state: State, context: Context, spoken: Thought, usage: Usage, *, final: bool
) -> tuple[IntentAnswered, ...]:
    """What is answered with this thought: its own assignment, and no to those there is no room or time for."""
    if final:
        return tuple(declined(state, a, "It ends before it could answer.") for a in state.assigned)
    assigned = _attended(state, context)
    crowd = f"{MAX_WORKED} others that are more urgent wait to be answered by it."
    said = [declined(state, a, crowd) for a in overflowing(state) if a is not assigned]
    if assigned is not None and spoken.answer is not None:
        own = answered(state, assigned, context, spoken.answer, usage)
        said = said if own is None else [own, *said]
    return tuple(said)


def _conclude(state: State, think: Think, result: Thoughtful | Thoughtless, now: datetime, facts: Percepts) -> Decision:
    """The one commit of a step: perhaps a request that closes the grant, the thought, what follows from it."""
    context, spoken, worst, usage, retry_after_s = think.context, Thought(text=""), None, Usage(), 0.0
    status: Status
    match result:
        case Thoughtful():
            spoken, worst, usage = result.thought, result.worst, result.thought.usage
            context = msgspec.structs.replace(context, memories=result.memories)
            text = lines(spoken.text.strip(), MAX_TEXT)
            status = "ok" if text else "empty"
        case Thoughtless():
            status, text, worst, usage = result.status, plain(result.detail, 300), result.worst, result.usage
            retry_after_s = result.retry_after_s
    thinker = facts.thinker
    if think.final and status != "ok":
        status, text, thinker = "ok", _last_words(state), RUNNER
    follows: tuple[AnyEvent, ...] = ()
    if status == "ok" and not think.final:
        acting_until = now + timedelta(seconds=facts.limits.proposal_ttl_s)
        follows = follow_ups(state, context, spoken, thought_id(state), proposal_deadline=acting_until)
    ok, own = status == "ok", context.goal is None
    answers = _answers(state, context, spoken, _bounded(usage), final=think.final) if ok else ()
    digest = digest_of(text)
    said = saying(context.phase, digest)
    progress = ok and not (own and said in state.said) and _useful(state, context, (*answers, *follows))
    perceives = own and moves_on(status, state.errors) and context.phase in ("observe", "reflect")
    thought = ThoughtGenerated(
        swarm=state.swarm,
        persona=state.persona,
        step=context.step,
        cycle=context.cycle,
        phase=context.phase,
        text=text,
        status=status,
        thinker=thinker[:120],
        context_ids=contexts.context_ids(context),
        evidence=_evidence(context, (*answers, *follows)),
        observed_seq=max(state.observed_seq, context.percept.last_seq if perceives else 0),
        usage=_bounded(usage),
        novelty=round(novelty(text[:NOTE_CHARS], (n.text for n in state.recent)), 4) if ok else 0.0,
        digest=digest,
        progress=progress,
        useful_at=now if progress else state.useful_at,
        grant_id=think.grant_id,
        runner=facts.runner[:120],
        notice=notice_for(state.said, said) if ok and own else "",
        final=think.final,
        assignment=None if context.goal is None else context.goal.ref.id,
    )
    if not think.final:
        thought = msgspec.structs.replace(
            thought,
            next_in_ms=rest_ms(
                state,
                thought,
                raises=any(isinstance(e, HypothesisRaised) for e in follows),
                retry_after_s=retry_after_s,
                loop_interval_ms=facts.loop_interval_ms,
                limits=facts.limits,
            ),
        )
    events: tuple[AnyEvent, ...] = (*answers, thought, *follows)  # whoever knows of the thought knows what it answered
    guards: tuple[str, ...] = (boundaries.thoughts(state.swarm, state.persona),)
    closing = close(state, thought, worst, now, facts.loop_interval_ms, facts.limits)
    if closing is not None:
        events, guards = (closing, *events), (boundaries.said("grant.requested", state.swarm, state.persona), *guards)
    return Decision(events=events, guards=guards, charter=state.charter)


def _useful(state: State, context: Context, follows: tuple[AnyEvent, ...]) -> bool:
    """Something came of it: a finding taken up, a result taken in, a hypothesis raised or a proposal made."""
    if any(isinstance(e, HypothesisRaised | ProposalCreated) for e in follows):
        return True
    if any(isinstance(e, IntentAnswered) and not e.declined for e in follows):
        return True
    match context.phase:
        case "observe":
            return any(f.seq > state.observed_seq for f in context.percept.findings)
        case "test":
            taken = {h.id for h in state.hypotheses if h.taken}
            return any(h.result is not None and h.hypothesis_id not in taken for h in context.hypotheses)
        case _:
            return False


def _evidence(context: Context, follows: tuple[AnyEvent, ...]) -> tuple[EvidenceRef, ...]:
    """What the thought rests on: the evidence of what follows from it, else what it newly perceived."""
    refs: list[EvidenceRef] = []
    for event in follows:
        if isinstance(event, HypothesisRaised | ProposalCreated | IntentAnswered):
            refs += event.evidence
    if not refs and context.phase == "observe":
        refs += contexts.references(context)
    return tuple(dict.fromkeys(refs))[: contexts.MAX_EVIDENCE]


def _bounded(usage: Usage) -> Usage:
    """What a thinker says it used, as counts the contract can carry."""
    fields = (usage.tokens_in, usage.tokens_out, usage.compute_ms, usage.cost_microusd)
    tokens_in, tokens_out, compute_ms, cost = (min(max(0, n), MAX_COUNT) for n in fields)
    return Usage(tokens_in=tokens_in, tokens_out=tokens_out, compute_ms=compute_ms, cost_microusd=cost)


def _last_words(state: State) -> str:
    """A last thought without a thinker: how far it came, and what it said last."""
    said = f" Last: {state.recent[-1].text}" if state.recent else ""
    left_open = f" {len(state.hypotheses)} hypotheses were open." if state.hypotheses else ""
    return f"Ends after {state.step} steps in {state.cycle} cycles.{left_open}{said}"
