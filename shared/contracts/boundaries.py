"""The filter strings of boundaries, each in one place.

Everybody who writes on a boundary carries the same string: on several brokers, what is in flight is compared by that string
alone, so two filters over one subject would not see each other's uncommitted writes.
"""

from __future__ import annotations

from shared.contracts.ids import EVERYONE


def thoughts(swarm: str, persona: str) -> str:
    """One history per persona, whichever runner makes it; the governor's seal ends it."""
    return f"thought.*.{swarm}.{persona}.*"


def life(swarm: str, persona: str, life_id: str) -> str:
    """What CORE says in the life of one proposal or check: nothing a runner says has five tokens and ends in its id."""
    return f"*.*.{swarm}.{persona}.{life_id}"


def deeds(swarm: str, persona: str, proposal_id: str) -> str:
    """What is said of the action of one proposal: delayed, claimed, executed."""
    return f"action.*.{swarm}.{persona}.{proposal_id}"


def said(event_class: str, swarm: str, persona: str, life_id: str | None = None) -> str:
    """What runners say of one class about a persona, or in one life, with whoever's slot."""
    return f"{event_class}.{swarm}.{persona}.*" if life_id is None else f"{event_class}.{swarm}.{persona}.{life_id}.*"


def lots(swarm: str) -> str:
    """The action limits of a swarm and its personas."""
    return f"lot.granted.{swarm}.*"


def intent(home: str, intent_id: str) -> str:
    """What CORE says of one intent: submitted, delegated, routed, delayed, cancelled, closed."""
    return f"intent.*.{home}.all.{intent_id}"


def conflict(target_id: str) -> str:
    """The conflicts over one target: at most one is open, and each is ruled once."""
    return f"conflict.*.all.all.{target_id}"


def hold(target_id: str) -> str:
    """Who has one target: at most one exclusive action at a time."""
    return f"target.*.all.{target_id}"


def question(swarm: str, question_id: str) -> str:
    """One question, whoever of the family asks it, and its answer."""
    return f"question.*.{swarm}.*.{question_id}"


def watches(swarm: str, persona: str) -> str:
    """The rules of one persona on what it perceives."""
    return f"watch.*.{swarm}.{persona}.*"


def beliefs(swarm: str) -> str:
    """The blackboard of a swarm."""
    return f"belief.*.{swarm}.>"


def merged_beliefs(key_id: str) -> str:
    """What several swarms believe of one topic."""
    return f"belief.*.{EVERYONE}.{EVERYONE}.{key_id}"


def budget(swarm: str) -> str:
    """A swarm's credits: grants and what they cost, and what the swarm may spend."""
    return f"budget.*.{swarm}.>"


SHARES = "budget.limited.*.*"
"""What all swarms may spend, and what none has: together the global budget."""
ALLOCATION = "allocation.changed.all.all"
"""How the global budget is to be shared."""


def limits(swarm: str) -> str:
    """What people want a swarm to have."""
    return f"limits.changed.{swarm}.all"


def allowance(swarm: str, persona: str) -> str:
    """What the limited scopes of a persona have done of the day, with all below it."""
    return f"allowance.used.{swarm}.{persona}"
