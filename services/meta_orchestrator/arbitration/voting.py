"""A conflict put to the vote: an intent to personas of the swarms concerned, whose end rules. Pure.

The intent is named by the conflict, and is said in one batch with it, so there is one vote a conflict. It is due before the conflict is,
so that votes which came in time are counted by then; whoever has no vote by then is not waited for, and the order rules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from shared.conflicts import key_of
from shared.contracts.events import ConflictRaised, Credits, IntentClosed, IntentSubmitted, ProposalKey, Side
from shared.contracts.text import lines, plain

PRINCIPAL = "arbitration"
VOTERS = 8
"""At most so many are asked; as many of each swarm, as far as they go."""
BUDGET = Credits(tokens=36_000, compute_ms=180_000)
"""Of all of them together."""
ROUNDS = 2
"""Who declines is made up for once."""
COUNTING = timedelta(seconds=2)
"""Between the last vote and the ruling without it."""
_PREFIX = "vote-"


def ballot(raised: ConflictRaised, now: datetime) -> IntentSubmitted | None:
    """The question; None when there is no time for it. Its home is the swarm of the side that was verified first."""
    deadline = raised.until - COUNTING
    if deadline <= now + COUNTING:
        return None
    told = [
        f"{option}: of {side.persona} in {side.swarm}, {side.risk} risk, {side.evidence} events of evidence"
        for option, side in zip(options(raised.sides), raised.sides, strict=True)
    ]
    asked = f"Which of these proposals is to go first? They cannot all be done: {plain(raised.target, 300)}"
    swarms = tuple(sorted({side.swarm for side in raised.sides}))
    return IntentSubmitted(
        swarm=min(raised.sides, key=lambda side: side.seq).swarm,
        persona="all",
        intent_id=ballot_id(raised.target_id, raised.generation),
        goal=lines("\n".join((asked, *told)), 2000),
        deadline=deadline,
        budget=BUDGET,
        among=swarms,
        fan_out=VOTERS,
        merge="vote",
        options=options(raised.sides),
        max_routes=ROUNDS,
        principal=PRINCIPAL,
        tainted=True,  # titles are the personas' words
    )


def options(sides: Sequence[Side]) -> tuple[str, ...]:
    """What there is to choose, in the order of the sides; no two are equal."""
    return tuple(
        plain(f"{number}: {side.title or side.proposal_id}", 120) for number, side in enumerate(sides, start=1)
    )


def ballot_id(target_id: str, generation: int) -> str:
    """The id of the intent."""
    return f"{_PREFIX}{target_id.removeprefix('t-')}-{generation}"


def conflict_of(intent_id: str) -> tuple[str, int] | None:
    """The target and the number of the conflict that this intent is the vote of, if any."""
    target, _, generation = intent_id.removeprefix(_PREFIX).rpartition("-")
    if not intent_id.startswith(_PREFIX) or not target or not generation.isdigit():
        return None
    return f"t-{target}", int(generation)


def votes(sides: Sequence[Side], closed: IntentClosed) -> Mapping[ProposalKey, int]:
    """How many are for whom, one vote a persona: its first. What is none of the options is no vote."""
    by_option = {_word(option): key_of(side) for option, side in zip(options(sides), sides, strict=True)}
    counted: Counter[ProposalKey] = Counter()
    voted: set[tuple[str, str]] = set()
    for vote in sorted((*closed.contributors, *closed.dissent), key=lambda one: one.seq):
        chosen = by_option.get(_word(vote.choice))
        if chosen is not None and (vote.swarm, vote.persona) not in voted:
            voted.add((vote.swarm, vote.persona))
            counted[chosen] += 1
    return counted


def _word(said: str) -> str:
    return " ".join(said.casefold().split())
