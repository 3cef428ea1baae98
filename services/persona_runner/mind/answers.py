"""From what a thinker would answer to `intent.answered`: only for an assignment the persona has, cited, within bounds.

A thinker may answer badly, but not for somebody else, not twice, and with nothing it was not shown: made-up citations are left out, a
choice is one of the options, and an answer that rests on nothing is none.
"""

from __future__ import annotations

from services.persona_runner.mind.context import cited, references
from services.persona_runner.mind.drafts import ratio, well_formed
from services.persona_runner.mind.goals import Assigned
from services.persona_runner.mind.state import State
from shared.contracts.events import Credits, IntentAnswered, Usage
from shared.contracts.text import lines, plain
from shared.thinker.port import AnswerDraft, Context

MAX_ANSWER, MAX_REASON = 8000, 1000
MAX_SPENT = 2**53
NOTHING_SPENT = Usage()
PARTIAL = 0.5
"""The most confidence of an answer that had to be given before the work was done."""


def answered(
    state: State, assigned: Assigned, context: Context, draft: AnswerDraft, usage: Usage
) -> IntentAnswered | None:
    """The answer, with the thought it comes with paid for; None when it is none."""
    if draft.declined:
        return declined(
            state, assigned, lines(draft.text.strip(), MAX_REASON), usage, tainted=_tainted(assigned, context)
        )
    evidence = tuple(ref for ref in cited(draft.evidence, references(context)) if ref != assigned.ref)
    choice = _choice(assigned, draft.choice)
    text = lines(draft.text.strip(), MAX_ANSWER)
    if not text or not evidence or choice is None:
        return None
    answer = IntentAnswered(
        swarm=state.swarm,
        persona=state.persona,
        intent_id=assigned.intent_id,
        home=assigned.home,
        route=assigned.route,
        answer=text,
        choice=choice,
        confidence=ratio(draft.confidence),
        evidence=evidence,
        spent=_spent(assigned, usage),
        tainted=_tainted(assigned, context),
    )
    return answer if well_formed(answer) else None


def declined(
    state: State, assigned: Assigned, why: str, usage: Usage = NOTHING_SPENT, *, tainted: bool | None = None
) -> IntentAnswered:
    """No, and why. The runner's own words carry no more taint than the goal."""
    return IntentAnswered(
        swarm=state.swarm,
        persona=state.persona,
        intent_id=assigned.intent_id,
        home=assigned.home,
        route=assigned.route,
        declined=True,
        answer=why or "It gave no reason.",
        spent=_spent(assigned, usage),
        tainted=assigned.tainted if tainted is None else tainted,
    )


def so_far(context: Context, why: str) -> AnswerDraft:
    """What the runner itself says when work has to stop: what was confirmed until now, or no."""
    known = [
        h
        for h in context.hypotheses
        if h.for_goal and h.finding is not None and h.result is not None and h.result.outcome == "confirmed"
    ]
    if not known or (context.goal is not None and context.goal.options):
        return AnswerDraft(text=why, declined=True)
    told = "; ".join(plain(h.claim, 240) for h in known)
    evidence = tuple(h.result_ref for h in known if h.result_ref is not None)
    evidence += tuple(ref for h in known for ref in h.evidence)
    least = min(h.confidence for h in known)
    return AnswerDraft(text=f"So far: {told}. {why}", confidence=min(PARTIAL, least), evidence=evidence)


def _choice(assigned: Assigned, said: str) -> str | None:
    """The option that was chosen, as it was offered; empty where nothing is to be chosen; None where none was."""
    if not assigned.options:
        return ""
    wanted = " ".join(said.split()).casefold()
    return next((option for option in assigned.options if " ".join(option.split()).casefold() == wanted), None)


def _spent(assigned: Assigned, usage: Usage) -> Credits:
    spent = assigned.after(usage)
    return Credits(tokens=min(spent.tokens, MAX_SPENT), compute_ms=min(spent.compute_ms, MAX_SPENT))


def _tainted(assigned: Assigned, context: Context) -> bool:
    """By the goal, and by all that was shown while it was thought about: cited or not, it may be in the words."""
    shown = context.percept.samples or context.percept.findings or context.findings or context.recent
    return (
        assigned.tainted
        or bool(shown or context.outputs)
        or any(memory.tainted for memory in context.memories)
        or any(h.result is None or h.result.tainted for h in context.hypotheses)
        or any(beside.tainted for h in context.hypotheses for beside in h.told)
    )
