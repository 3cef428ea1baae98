"""The answer to an intent as a file: proposed by whoever answers, for what was confirmed; all of them propose the same file."""

from __future__ import annotations

import msgspec

from shared.contracts.action import Action
from shared.contracts.text import code, markdown, plain
from shared.thinker.port import Context, Goal, OpenHypothesis, ProposalDraft, Thought


def is_confirmed(hypothesis: OpenHypothesis) -> bool:
    return hypothesis.result is not None and hypothesis.result.outcome == "confirmed"


def written(context: Context, goal: Goal, said: Thought, mine: tuple[OpenHypothesis, ...]) -> Thought:
    """The thought with its report proposed, where one is wanted and something was confirmed; only compress proposes."""
    answer = said.answer
    confirmed = [h for h in mine if is_confirmed(h)]
    if context.phase != "compress" or goal.report is None or answer is None or answer.declined or not confirmed:
        return said
    draft = ProposalDraft(
        title=plain(f"Report on intent {goal.intent_id}", 72),
        rationale=plain(f"Was asked {goal.text!r}. {answer.text}", 900),
        action=Action(
            kind="file.write",
            target=goal.report,
            params={"content": _report(context, goal, answer.text, confirmed), "mode": "create_or_replace"},
        ),
        evidence=answer.evidence[:16],
        hypothesis_id=confirmed[0].hypothesis_id,
    )
    return msgspec.structs.replace(said, proposals=(draft,))


def _report(context: Context, goal: Goal, told: str, confirmed: list[OpenHypothesis]) -> str:
    """As Markdown; what came from outside is inline code."""
    who = context.identity
    measured = [f"- {code(h.claim)}: measured {h.result.measured}" for h in confirmed if h.result is not None]
    cited = dict.fromkeys(ref for h in confirmed for ref in h.evidence if ref != goal.ref)
    return markdown(
        "\n".join(
            [
                f"# Intent `{goal.intent_id}`",
                "",
                code(goal.text),
                "",
                code(told),
                "",
                f"- Answered by: {code(who.name)} (`{who.id}`, swarm `{who.swarm_id}`)",
                f"- Reported: {context.now.isoformat(timespec='seconds')}",
                "",
                "## Measured",
                "",
                *measured,
                "",
                "## Evidence",
                "",
                *(f"- sequence {ref.seq}, event `{ref.id}`" for ref in [*cited][:16]),
                "",
            ]
        )
    )
