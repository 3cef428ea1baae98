"""Files of the workspace: what a path may be, whose folder is whose, and the kinds that write there."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Literal

import msgspec

from shared.contracts.events.common import Risk
from shared.contracts.ids import Sha256
from shared.contracts.kinds.kind import ActionKind, Params, Problem, Whose, size_trouble, utf8_bytes
from shared.contracts.targets import Touched, a_file
from shared.contracts.text import trouble as hidden_trouble

MAX_TARGET_BYTES = 1024
MAX_PATH_DEPTH = 16
MAX_NAME_BYTES = 200
"""Per path component: below the 255 of common file systems, so that names derived from it still fit."""

FINDINGS = "findings"
REPORTS = (".md", ".txt", ".json", ".csv")
"""What a persona may write without people: files that nothing opens as a program or a page."""
MARKDOWN = (".md", ".markdown")


class FileWrite(Params, frozen=True, kw_only=True):
    """Write text to a file of the workspace, whole or not at all. `create` refuses when the file exists.

    The text is shown as it is: no control or hidden characters, and in Markdown no raw HTML, links or images
    (`shared.contracts.text` makes it so).
    """

    content: str
    mode: Literal["create", "create_or_replace"] = "create_or_replace"


class FilePatch(Params, frozen=True, kw_only=True):
    """Replace one passage of a text file of the workspace, whole or not at all, if its SHA-256 is still `base`. `find` must occur once."""

    base: Sha256
    find: Annotated[str, msgspec.Meta(min_length=1)]
    replace: str


class FileDelete(Params, frozen=True, kw_only=True):
    """Take a file of the workspace away, if its SHA-256 is still `base`. It is kept for a month, so a person can bring it back."""

    base: Sha256


def patched(old: bytes, params: FilePatch) -> bytes | str:
    """What is there afterwards, or in a sentence why the passage is not found."""
    try:
        text = old.decode()
    except UnicodeDecodeError:
        return "what is there is no UTF-8 text"
    if (times := text.count(params.find)) != 1:
        return f"the passage to replace is there {times} times, and must be there once"
    return text.replace(params.find, params.replace).encode()


def text_trouble(target: str, text: str) -> str | None:
    """What may not be shown to people as it is, of a file so called."""
    return hidden_trouble(text, is_markdown=target.lower().endswith(MARKDOWN))


def own_folder(swarm: str, persona: str) -> str:
    """Where a persona may write on its own word."""
    return f"{FINDINGS}/{swarm}/{persona}/"


def intent_report(intent_id: str) -> str:
    """Where the answer to an intent is written, whoever gives it."""
    return f"{FINDINGS}/intents/{intent_id}.md"


def is_own(target: str, swarm: str, persona: str) -> bool:
    """Whether the path is a report in the persona's own folder."""
    return target.startswith(own_folder(swarm, persona)) and target.lower().endswith(REPORTS)


def path_trouble(target: str) -> str:
    """Why `target` is no relative path for the workspace; empty when it is one.

    Names may not begin with a dot (receipts and temporary files do), nor hold control, format or unassigned characters, and
    must be in NFC, so that one name is one file.
    """
    size = utf8_bytes(target)
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
        if (utf8_bytes(name) or 0) > MAX_NAME_BYTES:
            return f"a file name has more than {MAX_NAME_BYTES} bytes of UTF-8"
    return ""


def _bad_target(target: str) -> Problem | None:
    trouble = path_trouble(target)
    return Problem(code="bad_target", detail=trouble) if trouble else None


def _trouble(target: str, params: FileWrite) -> Problem | None:
    if hidden := text_trouble(target, params.content):
        return Problem(code="bad_params", detail=hidden)
    return size_trouble(params.content) or _bad_target(target)


def _trouble_of_patch(target: str, params: FilePatch) -> Problem | None:
    if hidden := text_trouble(target, params.replace):
        return Problem(code="bad_params", detail=hidden)
    return size_trouble(params.find + params.replace) or _bad_target(target)


def _trouble_of_delete(target: str, params: FileDelete) -> Problem | None:
    return _bad_target(target)


def _grade(target: str, params: Params, whose: Whose) -> Risk:
    return "low" if is_own(target, whose.swarm, whose.persona) else "medium"


def _touches(target: str, params: Params, whose: Whose) -> Touched | None:
    """Nobody else writes to a persona's own folder unless people say so, and then they see whose it is."""
    return None if is_own(target, whose.swarm, whose.persona) else a_file(target)


def _alone(target: str, params: Params, whose: Whose) -> Problem | None:
    if is_own(target, whose.swarm, whose.persona):
        return None
    where = f"{own_folder(whose.swarm, whose.persona)} and files named {', '.join(REPORTS)}"
    said = f"nobody said yes to it, and without people it may write to {where} alone"
    return Problem(code="not_own_folder", detail=said)


def _dry_run(target: str, params: FileWrite) -> str:
    how = ", unless there is a file" if params.mode == "create" else ", over what is there"
    return f"would write {len(params.content.encode())} bytes to {target}{how}"


def _dry_run_of_patch(target: str, params: FilePatch) -> str:
    return f"would replace {len(params.find)} characters of {target} by {len(params.replace)}, if it is still {params.base[:12]}"


def _dry_run_of_delete(target: str, params: FileDelete) -> str:
    return f"would delete {target}, if it is still {params.base[:12]}, and keep it"


_WRITE = ActionKind(
    about="write text to a file of the workspace, whole or not at all; the target is its path",
    hand="workspace",
    params=FileWrite,
    risk="low",
    grade=_grade,
    reversible=True,
    blast_radius="workspace",
    idempotency="fenced",
    timeout_ms=5_000,
    trouble=_trouble,
    touches=_touches,
    exclusive=True,
    alone=_alone,
    dry_run=_dry_run,
)
KINDS: dict[str, ActionKind] = {
    "file.write": _WRITE,
    "file.patch": msgspec.structs.replace(
        _WRITE,
        about="replace one passage of a text file of the workspace; the target is its path, `base` the SHA-256 it has now",
        params=FilePatch,
        trouble=_trouble_of_patch,
        dry_run=_dry_run_of_patch,
    ),
    "file.delete": msgspec.structs.replace(
        _WRITE,
        about="take a file of the workspace away, keeping it for a month; the target is its path, `base` the SHA-256 it has now",
        params=FileDelete,
        trouble=_trouble_of_delete,
        dry_run=_dry_run_of_delete,
    ),
}
