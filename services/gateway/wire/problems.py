"""What went wrong, told in the caller's words: RFC 9457 problem details."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

import msgspec
from litestar import Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException

from shared.contracts.envelope import Malformed
from shared.log.port import LogUnavailable

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1
MAX_CANDIDATES = 50
AnyRequest = Request[None, None, State]


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One thing wrong with the body or the query."""

    field: str
    message: str


class Candidate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of those an id may mean; `?swarm=` and `?persona=` tell them apart."""

    swarm_id: str
    persona_id: str
    proposal_id: str | None = None


class ProblemDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of every error. `reason` is a code a program may branch on."""

    type: str
    title: str
    status: int
    detail: str
    reason: str | None = None
    retry_after_s: int | None = None
    event_id: str | None = None
    errors: tuple[Field, ...] = ()
    candidates: tuple[Candidate, ...] = ()


class Problem(Exception):
    """A request that is not answered with what it asked for."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        reason: str | None = None,
        retry_after_s: int | None = None,
        event_id: str | None = None,
        errors: tuple[Field, ...] = (),
        candidates: tuple[Candidate, ...] = (),
        allow: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.allow = allow
        self.retry_after_s = retry_after_s
        self.details = ProblemDetails(
            type="about:blank",
            title=HTTPStatus(status).phrase,
            status=status,
            detail=detail,
            reason=reason,
            retry_after_s=retry_after_s,
            event_id=event_id,
            errors=errors,
            candidates=candidates[:MAX_CANDIDATES],
        )

    def headers(self) -> dict[str, str]:
        headers = {"Content-Type": MEDIA_TYPE}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        if self.allow is not None:
            headers["Allow"] = self.allow
        return headers

    def body(self) -> bytes:
        return msgspec.json.encode(self.details)


def ambiguous(what: str, given: str, candidates: tuple[Candidate, ...], remedy: str) -> Problem:
    """409 for an id that may mean several."""
    detail = f"{len(candidates)} {what}s have the id {given[:60]!r}; say which by {remedy}"
    return Problem(409, detail, reason=f"{what}_ambiguous", candidates=candidates)


def unavailable(detail: str) -> Problem:
    return Problem(503, detail, reason="bus_away", retry_after_s=RETRY_AFTER_S)


def from_http(error: HTTPException) -> Problem:
    """What the framework refused: a body or query that does not match is 422 here, everything else keeps its status."""
    status = 422 if error.status_code == HTTPStatus.BAD_REQUEST else error.status_code
    extra = error.extra if isinstance(error.extra, list) else []
    fields = tuple(
        Field(field=str(e.get("key", "")), message=_said(str(e.get("message", ""))))
        for e in extra
        if isinstance(e, dict)
    )
    detail = "; ".join(f"{f.field}: {f.message}" for f in fields) or error.detail
    allow = (error.headers or {}).get("allow")
    return Problem(status, detail, errors=fields, allow=None if allow is None else allow_of(allow.split(", ")))


def allow_of(methods: Iterable[str]) -> str:
    """The header `Allow` of a resource with these methods; GET brings HEAD."""
    found = set(methods)
    return ", ".join(sorted(found | {"HEAD"} if "GET" in found else found))


def from_error(error: Exception) -> Problem | None:
    """The problem an exception is, None when it is a fault of ours."""
    match error:
        case Problem():
            return error
        case HTTPException():
            return from_http(error)
        case LogUnavailable():
            return unavailable(
                f"the event bus does not serve this now: {error}. Whether a command is in the log is not known: sent with an "
                "Idempotency-Key, send it again with the same and it is done once; without one, look at the state first"
            )
        case Malformed(reason="oversized"):
            return Problem(413, error.detail, reason="oversized")
        case Malformed():
            return Problem(422, error.detail, reason=error.reason)
        case UnicodeDecodeError():
            return Problem(422, f"the body is not UTF-8: {error.reason} at byte {error.start} of a text")
        case RecursionError():
            return Problem(422, "the body is nested too deeply")
        case _:
            return None


def respond(problem: Problem) -> Response[bytes]:
    return Response(problem.body(), status_code=problem.status, headers=problem.headers(), media_type=MEDIA_TYPE)


def _said(message: str) -> str:
    return "the body is missing" if message == "'data'" else message
