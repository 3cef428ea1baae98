"""What a persona asks of people, and their answers."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from shared.contracts.events.common import Event
from shared.contracts.ids import EventId, Instant, LifeId
from shared.contracts.persona import Name

Question = Annotated[str, Meta(min_length=1, max_length=1000)]
Answer = Annotated[str, Meta(min_length=1, max_length=4000)]
Options = Annotated[tuple[Annotated[str, Meta(max_length=120)], ...], Meta(max_length=16)]


class QuestionEvent(Event, frozen=True, kw_only=True):
    """An event in a question's life; its id is the fifth token of the subject."""

    question_id: LifeId


class QuestionAsked(QuestionEvent, frozen=True, kw_only=True, tag="question.asked"):
    """The persona asks people, by that proposal of its own. `wanted`: who is asked, empty for anyone. `tainted`: the proposal was.

    There are so many ids a day for a family of personas, so there are no more questions than that.
    """

    proposal_id: LifeId
    question: Question
    options: Options = ()
    wanted: Annotated[str, Meta(max_length=120)] = ""
    tainted: bool = True
    expires_at: Instant


class QuestionAnswered(QuestionEvent, frozen=True, kw_only=True, tag="question.answered"):
    """A person's answer, the only one, in one batch with the observation that tells the persona."""

    asked_id: EventId
    answer: Answer
    principal: Name
