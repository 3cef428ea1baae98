"""Routes of what personas ask of people, and of what they may propose to do."""

from __future__ import annotations

from typing import Annotated, Literal

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody, QueryParameter

from services.gateway.commands import filing, questions
from services.gateway.commands.bus import Command
from services.gateway.context import Gateway, needs
from services.gateway.projections.questions import by_age, view
from services.gateway.wire import actions
from services.gateway.wire.asking import ActionKindView, FiledView, QuestionView
from services.gateway.wire.pages import Paging
from services.gateway.wire.problems import AnyRequest
from services.gateway.wire.requests import AnswerQuestion, FileProposal

READ, APPROVE, CONTROL = [needs("read")], [needs("approve")], [needs("control")]


@get("/v1/questions", guards=READ)
async def listed(
    gateway: NamedDependency[Gateway],
    request: AnyRequest,
    page: NamedDependency[Paging],
    wanted: Annotated[Literal["open", "answered", "expired", "all"], QueryParameter(name="state")] = "all",
) -> Response[list[QuestionView]]:
    """What personas ask people; newest first, 100 by default."""
    found = gateway.projection.questions.newest(page.place("questions", int))
    views = ((by_age(entry), view(entry, gateway.clock())) for entry in found)
    return page.of(request, "questions", ((age, one) for age, one in views if wanted in ("all", one.state)))


@post("/v1/questions/{question_id:str}/answer", status_code=200, guards=APPROVE)
async def answered(
    gateway: NamedDependency[Gateway],
    command: NamedDependency[Command],
    question_id: FromPath[str],
    data: JSONBody[AnswerQuestion],
) -> QuestionView:
    """Answer a persona's question, once; the answer comes to it as an observation."""
    return view(await questions.answer(gateway.bus, command, question_id, data), gateway.clock())


@get("/v1/actions", guards=READ)
async def kinds(gateway: NamedDependency[Gateway]) -> list[ActionKindView]:
    """The kinds of action there are, with their parameters and what the operator named; what may be done is decided by the policies."""
    return actions.kinds(gateway.projection.rows)


@post("/v1/proposals", status_code=200, guards=CONTROL)
async def filed(
    gateway: NamedDependency[Gateway], command: NamedDependency[Command], data: JSONBody[FileProposal]
) -> FiledView:
    """File a proposal in the name of a persona; it passes the same gate as the persona's own, and who files it approves none of it."""
    return await filing.file(gateway.bus, command, data)


ROUTES: tuple[HTTPRouteHandler, ...] = (listed, answered, kinds, filed)
