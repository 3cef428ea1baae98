"""A person's answer to a question: once, in one batch with the observation that tells the persona that asked."""

from __future__ import annotations

from services.gateway.commands.bus import Bus, Command
from services.gateway.projections.questions import Entry
from services.gateway.wire.problems import Problem
from services.gateway.wire.requests import AnswerQuestion
from shared.contracts.boundaries import question as boundary_of
from shared.contracts.events import AnyEvent, ObservationRecorded, ObservationVouched, QuestionAnswered
from shared.contracts.text import lines, plain
from shared.evidence import ANSWER
from shared.log.port import Expect, StaleBoundary
from shared.policy.sides import LOCAL


async def answer(bus: Bus, command: Command, question_id: str, request: AnswerQuestion) -> Entry:
    """The question with its answer.

    Raises `Problem`: 404 there is none, 403 it is for somebody else, 409 it is answered or over, 422 it is none of its options.
    """
    entry = _found(bus, question_id)
    asked = entry.asked
    said = lines(request.answer.strip(), 4000)
    event = QuestionAnswered(
        swarm=asked.swarm,
        persona=asked.persona,
        question_id=question_id,
        asked_id=entry.asked_id,
        answer=said,
        principal=command.principal,
    )
    event_id = command.event_id("question.answered")
    if not await bus.repeated(event_id, event):
        _may_answer(bus, entry, command.principal, said)
    kind = ObservationRecorded if asked.tainted else ObservationVouched  # with the question's labels
    told = kind(
        swarm=asked.swarm,
        persona=asked.persona,
        text=f"{plain(command.principal, 120)} answers your question {plain(asked.question)!r}: {said}"[:8192],
        source=f"{ANSWER}{question_id}",
        tags=("answer",),
    )  # no principal: who answers what was asked is on nobody's side
    events: list[tuple[str, AnyEvent]] = [(event_id, event), (command.event_id("observation.answer"), told)]
    messages = [bus.message(command, one, each) for one, each in events]
    try:
        await bus.send(command, messages, [Expect(boundary_of(asked.swarm, question_id), entry.seq)])
    except StaleBoundary:
        (end,) = await bus.log.ends((boundary_of(asked.swarm, question_id),))
        await bus.feed.reached(end, bus.timeout_s)
        raise _answered(_found(bus, question_id)) from None
    return _found(bus, question_id)


def _found(bus: Bus, question_id: str) -> Entry:
    entry = bus.feed.projection.questions.by_id.get(question_id)
    if entry is None:
        raise Problem(404, f"there is no question {question_id[:60]!r}", reason="question_missing")
    return entry


def _may_answer(bus: Bus, entry: Entry, principal: str, said: str) -> None:
    asked = entry.asked
    if entry.answered is not None:
        raise _answered(entry)
    if bus.clock() >= asked.expires_at:
        raise Problem(409, f"the question was open until {asked.expires_at.isoformat()}", reason="question_over")
    if asked.wanted and principal not in (asked.wanted, LOCAL):
        raise Problem(403, f"the question is for {plain(asked.wanted)!r}, not for {principal!r}", reason="not_asked")
    if not said:
        raise Problem(422, "answer: it is empty", reason="no_answer_given")
    if asked.options and said not in asked.options:
        raise Problem(422, f"answer: it must be one of {', '.join(map(repr, asked.options))}", reason="not_an_option")


def _answered(entry: Entry) -> Problem:
    by = entry.answered.principal if entry.answered is not None else "somebody else"
    return Problem(409, f"{by} has answered it already", reason="already_answered")
