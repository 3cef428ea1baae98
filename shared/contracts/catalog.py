"""What is said: the classes of events, their subjects and their stream. Who says it is in `services.py`.

A subject is `<entity>.<verb>.<swarm>.<persona>`, and one more token for what has a life of its own: the proposal id for
everything in a proposal's life, the intent id in an intent's, the check id for a check, the question's for a question, the target's
token for conflicts, the topic of a belief. What a runner may say has one more, the last: the slot of who said it, which the broker
enforces. Broker permissions, streams, schemas and docs come from both.
"""

from __future__ import annotations

from typing import get_args

from shared.contracts import events
from shared.contracts.events import (
    AnyEvent,
    BeliefEvent,
    CheckRequested,
    CheckResult,
    ConflictEvent,
    IntentEvent,
    ProposalEvent,
    QuestionEvent,
)
from shared.contracts.ids import is_token

CLASSES: dict[str, type[AnyEvent]] = {cls.__struct_config__.tag: cls for cls in get_args(AnyEvent)}
"""Event class by its name on the bus, such as `proposal.created`."""

SHORT_LIVED = ("recall.requested", "recall.answered")
"""Classes on the memory stream `RECALL`; all others are in the log `SWARM`."""

LOG_CLASSES = tuple(name for name in CLASSES if name not in SHORT_LIVED)
ENTITIES = tuple(sorted({name.partition(".")[0] for name in LOG_CLASSES}))


def _life_field(cls: type[events.Event]) -> str | None:
    """The field that is the token behind the persona in the class's subjects, where there is one."""
    if issubclass(cls, ProposalEvent):
        return "proposal_id"
    if issubclass(cls, IntentEvent):
        return "intent_id"
    if issubclass(cls, ConflictEvent):
        return "target_id"
    if issubclass(cls, BeliefEvent):
        return "key_id"
    if issubclass(cls, QuestionEvent):
        return "question_id"
    return "check_id" if issubclass(cls, CheckRequested | CheckResult) else None


_ADDRESS: dict[type[events.Event], tuple[str, str | None, bool]] = {
    c: (name, _life_field(c), "slot" in c.__struct_fields__ and not issubclass(c, events.ProposalFiled))
    for name, c in CLASSES.items()
}


def class_of(event: events.Event) -> str:
    """The event's class name, such as `proposal.created`."""
    return _ADDRESS[type(event)][0]


def subject_of(event: events.Event) -> str:
    """The subject the event belongs on."""
    name, life, slotted = _ADDRESS[type(event)]
    subject = f"{name}.{event.swarm}.{event.persona}"
    if life is not None:
        subject = f"{subject}.{getattr(event, life)}"
    return f"{subject}.{event.slot}" if slotted else subject  # type: ignore[attr-defined]


def has_life(event_class: str) -> bool:
    """Whether subjects of this class carry the id of a proposal, an intent, a check, a target or a topic."""
    return _ADDRESS[CLASSES[event_class]][1] is not None


def has_slot(event_class: str) -> bool:
    """Whether subjects of this class end with the slot of who said it."""
    return _ADDRESS[CLASSES[event_class]][2]


def class_filter(event_class: str, swarm: str = "*", persona: str = "*", *, slot: str = "*") -> str:
    """The subject filter for all events of one class, or for those of a swarm, of a persona, of a slot where there is one."""
    tail = (".*" if has_life(event_class) else "") + (f".{slot}" if has_slot(event_class) else "")
    return f"{event_class}.{swarm}.{persona}{tail}"


def about(swarm: str, persona: str) -> tuple[str, ...]:
    """The subject filters for everything about one persona; either may be `*`."""
    return f"*.*.{swarm}.{persona}", f"*.*.{swarm}.{persona}.*", f"*.*.{swarm}.{persona}.*.*"


def owner(subject: str) -> tuple[str, str] | None:
    """Swarm and persona of a subject, also of one whose last token is anything; None when these are no tokens."""
    parts = subject.split(".")
    return (parts[2], parts[3]) if len(parts) > 3 and is_token(parts[2]) and is_token(parts[3]) else None


def matches(subject_filter: str, subject: str) -> bool:
    """NATS wildcard matching: `*` is one token, a final `>` one or more."""
    wanted, got = subject_filter.split("."), subject.split(".")
    rest = wanted[-1] == ">"
    if rest:
        wanted.pop()
    if len(got) <= len(wanted) if rest else len(got) != len(wanted):
        return False
    for token, word in zip(wanted, got, strict=False):  # noqa: SIM110 - a generator would cost as much again
        if token != word and token != "*":
            return False
    return True
