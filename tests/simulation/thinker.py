"""A thinker for the simulation: it finds something in what it sees, checks it, proposes, and answers what it is asked; its price is
random but honest."""

from __future__ import annotations

import random

from services.persona_runner.mind.steps import OverBudget, Think, Thoughtful, Thoughtless, Unaffordable
from shared.contracts.action import Action
from shared.contracts.events import LogResolve, Usage
from shared.decider import Effect, Result
from shared.thinker.port import AnswerDraft, CheckDraft, HypothesisDraft, ProposalDraft, Thought

WORST = Usage(tokens_in=400, tokens_out=400, compute_ms=200)


def spoken(dice: random.Random, serial: int) -> Action:
    """An action that is said to the mesh; what it names is there, or not."""
    names = ("root", "p1", "p2", *(f"k{n}" for n in range(1, 6)))
    match dice.randrange(6):
        case 0 | 5:
            target = dice.choice((f"k{serial}", dice.choice(names)))
            return Action(kind="persona.spawn", target=target, params={"name": "k", "role": "r", "charter": "c"})
        case 1:
            own = {"summary": f"all of it {serial}"} if dice.random() < 0.5 else {}
            return Action(kind="persona.reap", target=dice.choice(names), params={"reason": f"done {serial}", **own})
        case 2:
            return Action(kind="person.ask", target="anyone", params={"question": f"why {serial}"})
        case 3:
            params = {
                "pattern": f"line <*> {serial}",
                "silence_s": dice.choice((0, 30)),
                "for_s": dice.choice((0, 60, 600)),
            }
            return Action(kind="watch.add", target=dice.choice("abc"), params=params)
        case _:
            params = {"goal": f"why {serial}", "tokens": 900, "compute_ms": 900, "due_s": dice.choice((5, 60))}
            return Action(kind="intent.submit", target=dice.choice(("alpha", "alpha/root")), params=params)


def think(effect: Effect, dice: random.Random) -> Result:
    """One step of thinking."""
    assert isinstance(effect, Think)
    context, goal = effect.context, effect.context.goal
    if effect.allowance is not None and not (
        WORST.tokens <= effect.allowance.tokens and WORST.compute_ms <= effect.allowance.compute_ms
    ):
        return OverBudget(worst=WORST)
    if effect.grant_id is None or effect.limit.tokens < WORST.tokens or effect.limit.compute_ms < WORST.compute_ms:
        return Unaffordable(worst=WORST)
    if dice.random() < 0.05:
        return Thoughtless(status="model_error", detail="away", usage=Usage(compute_ms=50), retry_after_s=2.0)
    usage = Usage(tokens_in=dice.randrange(401), tokens_out=dice.randrange(401), compute_ms=dice.randrange(201))
    samples = context.percept.samples
    hypotheses = tuple(
        HypothesisDraft(topic=text, claim=f"{text} is odd", confidence=0.5, evidence=(ref,))
        for ref, text in samples[-2:]
    )
    checks = tuple(
        CheckDraft(hypothesis_id=h.hypothesis_id, probe=LogResolve(evidence=h.evidence)) for h in context.hypotheses
    )
    proposals = tuple(
        ProposalDraft(
            title="write it down",
            rationale=h.claim,
            action=Action(
                kind="file.write",
                target=f"findings/{h.hypothesis_id}.md",
                params={"content": h.claim, "mode": "create_or_replace"},
            )
            if dice.random() < 0.7
            else spoken(dice, context.step),
            evidence=h.evidence,
            hypothesis_id=h.hypothesis_id,
        )
        for h in context.hypotheses
    )
    answer = None
    if goal is not None:  # it is thought about for a while, and now and then it is not known
        hypotheses = (HypothesisDraft(topic=goal.text, claim=goal.text, confidence=0.5, evidence=(goal.ref,)),)
        if dice.random() < 0.5:
            evidence = tuple(ref for ref, _ in samples[-1:])
            chosen = dice.choice(goal.options) if goal.options else ""
            answer = AnswerDraft(
                text=f"{dice.random()}", declined=dice.random() < 0.2, choice=chosen, evidence=evidence
            )
    text = f"{context.phase} {context.step} {dice.random()}"
    thought = Thought(text=text, hypotheses=hypotheses, checks=checks, proposals=proposals, answer=answer, usage=usage)
    return Thoughtful(thought=thought, worst=WORST)
