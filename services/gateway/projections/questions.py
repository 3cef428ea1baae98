"""Fold of questions to people: those that are open, and of the others the last `KEEP`. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

import msgspec

from services.gateway.wire.asking import QuestionView
from services.gateway.wire.ids import as_given
from shared.contracts.envelope import Recorded
from shared.contracts.events import QuestionAnswered, QuestionAsked
from shared.contracts.text import lines, plain

KEEP = 2000
"""Of one family there are so many a day (`action_kinds`), so those that are open are within it in any mesh there is."""


class Entry(msgspec.Struct, kw_only=True):
    """One question. `seq` is where it was asked, `asked_id` that event's id."""

    asked: QuestionAsked
    asked_id: str
    seq: int
    asked_at: datetime
    answered: QuestionAnswered | None = None
    answered_at: datetime | None = None

    def state(self, now: datetime) -> Literal["open", "answered", "expired"]:
        if self.answered is not None:
            return "answered"
        return "expired" if now >= self.asked.expires_at else "open"


def by_age(entry: Entry) -> int:
    """Its place in a list of the newest first."""
    return entry.seq


class Questions:
    """By id, oldest first."""

    def __init__(self) -> None:
        self.by_id: dict[str, Entry] = {}

    def apply(self, recorded: Recorded) -> None:
        """Take one event in; the first answer stands."""
        match recorded.event:
            case QuestionAsked() as event:
                if event.question_id not in self.by_id:
                    self.by_id[event.question_id] = Entry(
                        asked=event, asked_id=recorded.id, seq=recorded.seq, asked_at=recorded.envelope.time
                    )
                    while len(self.by_id) > KEEP:
                        del self.by_id[next(iter(self.by_id))]
            case QuestionAnswered() as event:
                entry = self.by_id.get(event.question_id)
                if entry is not None and entry.answered is None:
                    entry.answered, entry.answered_at = event, recorded.envelope.time
            case _:
                pass

    def newest(self, below: int | None = None) -> Iterator[Entry]:
        """The youngest first, of a lower sequence than `below`."""
        entries = sorted(self.by_id.values(), key=by_age, reverse=True)
        return (entry for entry in entries if below is None or entry.seq < below)

    def capture(self) -> list[Entry]:
        """Copies, oldest first."""
        return [msgspec.structs.replace(entry) for entry in self.by_id.values()]

    def restore(self, entries: list[Entry]) -> None:
        self.by_id = {entry.asked.question_id: entry for entry in entries}


def view(entry: Entry, now: datetime) -> QuestionView:
    """As people see it."""
    asked, answered = entry.asked, entry.answered
    return QuestionView(
        id=asked.question_id,
        state=entry.state(now),
        swarm_id=as_given(asked.swarm),
        persona_id=as_given(asked.persona),
        proposal_id=as_given(asked.proposal_id),
        question=lines(asked.question, 1000),
        options=tuple(plain(option, 120) for option in asked.options),
        wanted=plain(asked.wanted, 120),
        tainted=asked.tainted,
        asked_at=entry.asked_at,
        expires_at=asked.expires_at,
        answer=lines(answered.answer, 4000) if answered else "",
        answered_by=plain(answered.principal, 120) if answered else None,
        answered_at=entry.answered_at,
    )
