"""Several answers become one: pure, and the same in whatever order they came.

    first    the answer that the log has first
    best     the surest; of equals who cites more
    vote     the choice of most, one vote a persona; a tie chooses nothing, and says so
    combine  all of them, the surest first

Who contributed and who dissents is said with it; the sum is tainted if anything in it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import assert_never

import msgspec

from shared.contracts.events import Contribution, EvidenceRef, IntentAccepted
from shared.contracts.events.intents import Merge
from shared.contracts.text import lines, plain

MAX_EVIDENCE = 256
MAX_RESULT = 8000


class Merged(msgspec.Struct, frozen=True, kw_only=True):
    """What is closed with."""

    result: str = ""
    choice: str = ""
    confidence: float = 0.0
    evidence: tuple[EvidenceRef, ...] = ()
    contributors: tuple[Contribution, ...] = ()
    dissent: tuple[Contribution, ...] = ()
    reason: str = "merged"
    tainted: bool = True


def merged(how: Merge, answers: Sequence[IntentAccepted], options: tuple[str, ...] = ()) -> Merged:
    """The answers as one. There is at least one."""
    match how:
        case "first":
            return _one(sorted(answers, key=lambda a: (a.by.seq, _name(a))))
        case "best":
            return _one(sorted(answers, key=lambda a: (*_surest(a)[:1], -len(a.evidence), _name(a))))
        case "vote":
            return _vote(sorted(answers, key=_surest), options)
        case "combine":
            return _combine(sorted(answers, key=_surest))
        case _:
            assert_never(how)


def _name(answer: IntentAccepted) -> tuple[str, str, str]:
    return (answer.by.swarm, answer.by.persona, answer.by.answer_id)


def _surest(answer: IntentAccepted) -> tuple[float, tuple[str, str, str]]:
    return (-answer.by.confidence, _name(answer))


def _one(answers: Sequence[IntentAccepted]) -> Merged:
    chosen, *others = answers
    return _of((chosen,), others, result=chosen.answer, choice=chosen.by.choice, confidence=chosen.by.confidence)


def _combine(answers: Sequence[IntentAccepted]) -> Merged:
    told = [f"{a.by.swarm}.{a.by.persona} ({a.by.confidence:.2f}): {a.answer or a.by.choice}" for a in answers]
    mean = round(sum(a.by.confidence for a in answers) / len(answers), 3)
    return _of(answers, (), result=_cut(told), confidence=mean)


def _vote(answers: Sequence[IntentAccepted], options: tuple[str, ...]) -> Merged:
    """A vote is one of the options, or where there are none what is said, spaces and case aside."""
    by_word = {_word(option): option for option in reversed(options)}
    ballots: dict[str, list[IntentAccepted]] = {}
    lost: list[IntentAccepted] = []
    for answer in answers:
        said = answer.by.choice or plain(answer.answer, 120)
        choice = by_word.get(_word(said)) if options else said and _word(said)
        (ballots.setdefault(choice, []) if choice else lost).append(answer)
    counted = sorted(ballots, key=lambda choice: (-len(ballots[choice]), choice))
    tally = ", ".join(f"{choice}: {len(ballots[choice])}" for choice in counted) or "nobody voted"
    if not counted or (len(counted) > 1 and len(ballots[counted[0]]) == len(ballots[counted[1]])):
        cast = [a for choice in counted for a in ballots[choice]]
        return _of(cast, lost, result=_cut([f"no choice has more votes than another; {tally}"]), reason="tie")
    winner = counted[0]
    others = [a for a in answers if a not in ballots[winner]]
    share = round(len(ballots[winner]) / len(answers), 3)
    return _of(ballots[winner], others, result=_cut([f"{winner} ({tally})"]), choice=winner, confidence=share)


def _word(said: str) -> str:
    return " ".join(said.casefold().split())[:120]


def _cut(told: Sequence[str]) -> str:
    """Lines as far as there is room, and how many are left out."""
    kept: list[str] = []
    room = MAX_RESULT - 40
    for number, line in enumerate(told):
        if room < 80:
            kept.append(f"and {len(told) - number} more")
            break
        kept.append(lines(line, room))
        room -= len(kept[-1]) + 1
    return "\n".join(kept)


def _of(
    contributors: Sequence[IntentAccepted],
    dissent: Sequence[IntentAccepted],
    *,
    result: str,
    choice: str = "",
    confidence: float = 0.0,
    reason: str = "merged",
) -> Merged:
    cited = {ref.id: ref for answer in contributors for ref in answer.evidence}
    by_age: Callable[[EvidenceRef], tuple[int, str]] = lambda ref: (ref.seq, ref.id)  # noqa: E731
    return Merged(
        result=result,
        choice=choice[:120],
        confidence=confidence,
        evidence=tuple(sorted(cited.values(), key=by_age)[:MAX_EVIDENCE]),
        contributors=tuple(a.by for a in contributors),
        dissent=tuple(a.by for a in dissent),
        reason=reason,
        tainted=any(a.tainted for a in (*contributors, *dissent)),
    )
