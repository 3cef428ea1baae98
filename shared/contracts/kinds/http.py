"""Requests to hosts outside: what a URL may be, and the kinds that send there."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from shared.contracts.events.common import Risk
from shared.contracts.kinds.kind import ActionKind, Params, Problem, Whose, size_trouble
from shared.contracts.targets import Touched, a_url

SAFE_METHODS = ("GET", "HEAD")
MAX_ANSWER_BYTES = 1024 * 1024


class HttpRequest(Params, frozen=True, kw_only=True):
    """One request to an allowed host; redirects are not followed."""

    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    body: str | None = None
    content_type: Annotated[str, Meta(max_length=200)] = "application/json"


def url_trouble(target: str) -> str:
    """Why `target` is no http or https URL we would call; empty when it is one."""
    if not target.isascii() or not target.isprintable() or " " in target or "\\" in target:
        return "the URL must be printable ASCII without spaces or backslashes"
    try:
        parts = urlsplit(target)
        port = parts.port
    except ValueError as error:
        return f"the URL cannot be read: {error}"
    if parts.scheme not in ("http", "https") or not target.startswith(parts.scheme + "://"):
        return "the URL must begin with http:// or https://"
    if not parts.hostname or parts.username is not None or parts.password is not None or "%" in parts.netloc:
        return "the URL must name a host, and neither user nor password"
    if "#" in target or port == 0:
        return "the URL must have no fragment, and no port 0"
    return ""


def endpoint(target: str) -> str:
    """`host:port` of a URL that has no trouble, lower case, with the port its scheme implies; IPv6 in brackets."""
    parts = urlsplit(target)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _trouble(target: str, params: HttpRequest) -> Problem | None:
    said = params.content_type
    if not said.isascii() or not said.isprintable():
        return Problem(code="bad_params", detail="content_type must be printable ASCII characters")
    if too_large := size_trouble(params.body or ""):
        return too_large
    trouble = url_trouble(target)
    return Problem(code="bad_target", detail=trouble) if trouble else None


def _grade(target: str, params: HttpRequest, whose: Whose) -> Risk:
    return "medium" if params.method in SAFE_METHODS else "high"


def _touches(target: str, params: HttpRequest, whose: Whose) -> Touched | None:
    return None if params.method in SAFE_METHODS else a_url(target)


def _dry_run(target: str, params: HttpRequest) -> str:
    body = f" with {len(params.body.encode())} bytes of {params.content_type}" if params.body is not None else ""
    return f"would send {params.method} {target}{body}"


KINDS: dict[str, ActionKind] = {
    "http.request": ActionKind(
        about="one HTTP request to an allowed host; the target is the URL",
        hand="outbound",
        params=HttpRequest,
        risk="medium",
        grade=_grade,
        reversible=False,
        blast_radius="outside",
        idempotency="key",
        timeout_ms=20_000,
        output_bytes=MAX_ANSWER_BYTES,
        trouble=_trouble,
        touches=_touches,
        exclusive=True,
        outward=True,
        dry_run=_dry_run,
    ),
}
