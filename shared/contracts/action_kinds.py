"""The declared kinds of action: what each may touch, what its parameters are, how risky and how repeatable it is.

`read` turns an action into its typed parameters or into a `Problem`; the verifier and the actuator both call it, so nothing
undeclared is ever judged or done. `classify` reads the risk off this table and the target, never off the persona's word.
`touched` says what an action shares with others (`targets`). A new kind is a parameter struct and a row in `KINDS`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import msgspec

from shared.contracts.action import Action
from shared.contracts.events import Risk
from shared.contracts.targets import Touched, a_file, a_url, nothing
from shared.contracts.text import trouble as hidden_trouble

MAX_CONTENT_BYTES = 48 * 1024
MAX_TARGET_BYTES = 1024
MAX_PATH_DEPTH = 16
MAX_NAME_BYTES = 200
"""Per path component: below the 255 of common file systems, so that names derived from it still fit."""

FINDINGS = "findings"
REPORTS = (".md", ".txt", ".json", ".csv")
"""What a persona may write without people: files that nothing opens as a program or a page."""
MARKDOWN = (".md", ".markdown")


class FileWrite(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Write text to a file of the workspace, whole or not at all. `create` refuses when the file exists.

    The text is shown as it is: no control or hidden characters, and in Markdown no raw HTML, links or images
    (`shared.contracts.text` makes it so).
    """

    content: str
    mode: Literal["create", "create_or_replace"] = "create_or_replace"


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request to an allowed host; redirects are not followed."""

    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    body: str | None = None
    content_type: str = "application/json"


class Noop(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing at all, for measuring the way there."""


Params = FileWrite | HttpRequest | Noop


class ActionKind(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table.

    `risk` is the least the kind can have. `idempotency`: `fenced` (can be inquired about and fenced off), `key` (the target
    is given an idempotency key, and may or may not heed it), `free` (doing it twice is doing it once).
    `timeout_ms`: after it, the action must no longer begin to have its effect. `touches`: what it shares with others, by target and
    typed parameters, where anything (`targets`). `exclusive`: nobody else may be at that at the same time, so it is held.
    """

    params: type[Params]
    schema_version: int = 1
    risk: Risk
    reversible: bool
    blast_radius: Literal["none", "workspace", "outside"]
    idempotency: Literal["fenced", "key", "free"]
    timeout_ms: int
    touches: Callable[[str, Any], Touched | None] = nothing
    exclusive: bool = False


KINDS: dict[str, ActionKind] = {
    "file.write": ActionKind(
        params=FileWrite,
        risk="low",
        reversible=True,
        blast_radius="workspace",
        idempotency="fenced",
        timeout_ms=5_000,
        touches=a_file,
        exclusive=True,
    ),
    "http.request": ActionKind(
        params=HttpRequest,
        risk="medium",
        reversible=False,
        blast_radius="outside",
        idempotency="key",
        timeout_ms=20_000,
        touches=a_url,
        exclusive=True,
    ),
    "test.noop": ActionKind(
        params=Noop,
        risk="low",
        reversible=True,
        blast_radius="none",
        idempotency="free",
        timeout_ms=1_000,
    ),
}
RISKS: tuple[Risk, ...] = get_args(Risk)
"""From least to most."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why an action is not one of ours: a reason code (unknown_kind, bad_params, bad_target), and a sentence."""

    code: str
    detail: str


def read(action: Action) -> Params | Problem:
    """The action's typed parameters, once kind, schema version, target and parameters are all in order."""
    kind = KINDS.get(action.kind)
    if kind is None:
        return Problem(code="unknown_kind", detail=f"{action.kind} is no declared action kind")
    if action.schema_version != kind.schema_version:
        detail = f"{action.kind} has schema version {kind.schema_version}, not {action.schema_version}"
        return Problem(code="bad_params", detail=detail)
    try:
        params = msgspec.convert(action.params, kind.params)
    except msgspec.ValidationError as error:
        return Problem(code="bad_params", detail=f"{action.kind}: {error}"[:300])
    match params:
        case FileWrite(content=text):
            trouble = path_trouble(action.target)
            if hidden := hidden_trouble(text, is_markdown=action.target.lower().endswith(MARKDOWN)):
                return Problem(code="bad_params", detail=hidden)
        case HttpRequest(body=body, content_type=content_type):
            text = body or ""
            trouble = url_trouble(action.target)
            if not content_type.isascii() or not content_type.isprintable() or len(content_type) > 200:
                return Problem(code="bad_params", detail="content_type must be up to 200 printable ASCII characters")
        case _:
            text, trouble = "", ""
    size = _utf8_bytes(text)
    if size is None or size > MAX_CONTENT_BYTES:
        return Problem(code="bad_params", detail=f"content has {size} bytes of UTF-8, the limit is {MAX_CONTENT_BYTES}")
    return Problem(code="bad_target", detail=trouble) if trouble else params


def own_folder(swarm: str, persona: str) -> str:
    """Where a persona may write on its own word."""
    return f"{FINDINGS}/{swarm}/{persona}/"


def intent_report(intent_id: str) -> str:
    """Where the answer to an intent is written, whoever gives it."""
    return f"{FINDINGS}/intents/{intent_id}.md"


def is_own(target: str, swarm: str, persona: str) -> bool:
    """Whether the path is a report in the persona's own folder."""
    return target.startswith(own_folder(swarm, persona)) and target.lower().endswith(REPORTS)


def classify(action: Action, swarm: str, persona: str) -> Risk:
    """The risk class, by the table and whose action it is. What cannot be read is critical (and is refused anyway)."""
    match read(action):
        case FileWrite():
            return "low" if is_own(action.target, swarm, persona) else "medium"
        case HttpRequest(method=method):
            return "medium" if method in ("GET", "HEAD") else "high"
        case Noop():
            return KINDS[action.kind].risk
        case _:
            return "critical"


def touched(action: Action, swarm: str, persona: str) -> Touched | None:
    """What the action shares with others; None when nothing, as a persona's own reports, or when it is no action of ours.

    Nobody else writes to a persona's own folder unless people say so, and then they see whose it is.
    """
    params = read(action)
    if isinstance(params, Problem) or (isinstance(params, FileWrite) and is_own(action.target, swarm, persona)):
        return None
    return KINDS[action.kind].touches(action.target, params)


def held(action: Action, swarm: str, persona: str) -> Touched | None:
    """What the action must have to itself while it is done, if anything."""
    return touched(action, swarm, persona) if action.kind in KINDS and KINDS[action.kind].exclusive else None


def path_trouble(target: str) -> str:
    """Why `target` is no relative path for the workspace; empty when it is one.

    Names may not begin with a dot (receipts and temporary files do), nor hold control, format or unassigned characters, and
    must be in NFC, so that one name is one file.
    """
    size = _utf8_bytes(target)
    if size is None or size > MAX_TARGET_BYTES:
        return f"the path has {size} bytes of UTF-8, the limit is {MAX_TARGET_BYTES}"
    if any(c == "\\" or unicodedata.category(c).startswith("C") for c in target):
        return "the path holds a backslash or a control, format or unassigned character"
    if unicodedata.normalize("NFC", target) != target:
        return "the path is not in Unicode normal form C"
    names = target.split("/")
    if len(names) > MAX_PATH_DEPTH:
        return f"the path has {len(names)} components, the limit is {MAX_PATH_DEPTH}"
    for name in names:
        if not name or name.startswith(".") or name != name.strip():
            return f"{name[:60]!r} is no file name here: empty, beginning with a dot, or padded with space"
        if (_utf8_bytes(name) or 0) > MAX_NAME_BYTES:
            return f"a file name has more than {MAX_NAME_BYTES} bytes of UTF-8"
    return ""


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


def _utf8_bytes(text: str) -> int | None:
    """The length in UTF-8, or None for text that has none (lone surrogates)."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None
