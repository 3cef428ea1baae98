"""What a persona asks of people, what it wants to be told of what it perceives, and what others tell it of their work."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from shared.contracts.events.common import Count, Event, ProposalEvent, Short
from shared.contracts.ids import EventId, Instant, LifeId, Token
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


class WatchAdded(ProposalEvent, frozen=True, kw_only=True, tag="watch.added"):
    """A rule on what the persona perceives, until `until`; a later one of the same `name` takes its place, and one that is over at once
    ends it.

    `pattern` is a line with `<*>` for words that may be anything. With `silence_s` it tells that no such line came for so long, else that
    `at_least` did within `within_s`.
    """

    name: Token
    pattern: Annotated[str, Meta(min_length=1, max_length=1000)]
    source: Annotated[str, Meta(max_length=200)] = ""
    at_least: Annotated[int, Meta(ge=1, le=100_000)] = 1
    within_s: Count = 60
    silence_s: Count = 0
    until: Instant


class ReportGiven(Event, frozen=True, kw_only=True, tag="report.given"):
    """To the persona: what another one of its family, or one it had asked, says of its work; that is evidence, and nobody's but its own.

    `kind`: the `last` words of a child that asks for its own end, the `end` of a child with what was distilled of it, the `answer` to an
    intent of the persona's (`of_intent`), which `by` nobody gave where it is empty. `tainted` as are those whose words these are.
    """

    kind: Literal["last", "end", "answer"]
    by: Annotated[str, Meta(max_length=100, description="<swarm>/<persona>, or empty")] = ""
    text: Annotated[str, Meta(max_length=8000)]
    reason: Short = ""
    of_intent: LifeId | None = None
    tainted: bool = True
