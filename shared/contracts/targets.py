"""What actions touch, in one spelling each: so that two that touch the same are known to.

Kinds of action use these functions to say what they touch (`kinds/`); the target is one without trouble.
`name` is deliberately coarse (two names that some file system takes for one are one here): what only nearly meets is told apart by
`exact`, and then both go on.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from urllib.parse import urlsplit

import msgspec

_ESCAPE = re.compile("%([0-9A-Fa-f]{2})")
_PORTS = {"http": 80, "https": 443}
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")


class Touched(msgspec.Struct, frozen=True, kw_only=True):
    """One thing outside that an action changes: what it is called, and what tells it from its nearest namesakes."""

    name: str
    exact: str

    @property
    def id(self) -> str:
        """The token of it in subjects."""
        return target_id(self.name)


def target_id(name: str) -> str:
    """The token of what is so called."""
    return f"t-{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def a_file(target: str) -> Touched:
    """A file of the workspace; names that differ in case alone, or in how they are composed, may be one file."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFKC", target).casefold())
    return Touched(name=f"file:{folded}", exact=f"file:{target}")


def a_command(name: str, arguments: str) -> Touched:
    """A command that the operator named: no two of one name at once, and with the same arguments it is the same again."""
    return Touched(name=f"command:{name}", exact=f"command:{name} {arguments}")


def a_tool(name: str, arguments: str) -> Touched:
    """A tool that the operator named, likewise."""
    return Touched(name=f"tool:{name}", exact=f"tool:{name} {arguments}")


def a_subject(name: str, arguments: str) -> Touched:
    """A subject that the operator named, likewise."""
    return Touched(name=f"subject:{name}", exact=f"subject:{name} {arguments}")


def a_notice(name: str, arguments: str) -> Touched:
    """A notice that the operator named, likewise."""
    return Touched(name=f"notice:{name}", exact=f"notice:{name} {arguments}")


def a_url(target: str) -> Touched:
    """What a request that changes something is sent to, by host, port, path and query, whatever the method (RFC 3986, section 6.2)."""
    host, port, rest = _address(target)
    name = f"url:{host}:{port}{rest}"
    return Touched(name=name, exact=name)


def scoped_url(target: str) -> str | None:
    """A URL as patterns of scopes spell it, without the port its scheme implies; None where servers may read its path in several ways."""
    host, port, rest = _address(target)
    scheme = urlsplit(target).scheme
    if re.search("%2F|%5C|%00|//", rest.partition("?")[0]):
        return None
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}{'' if port == _PORTS[scheme] else f':{port}'}{rest}"


def _address(target: str) -> tuple[str, int, str]:
    """Host, port, and path with query."""
    parts = urlsplit(target)
    query = f"?{_escaped(parts.query)}" if parts.query else ""
    path = _no_dots(_escaped(parts.path)) or "/"
    return (parts.hostname or "").rstrip("."), parts.port or _PORTS[parts.scheme], path + query


def _escaped(text: str) -> str:
    """Escapes in upper case, and none for what needs none."""

    def one(found: re.Match[str]) -> str:
        letter = chr(int(found[1], 16))
        return letter if _UNRESERVED.fullmatch(letter) else found[0].upper()

    return _ESCAPE.sub(one, text)


def _no_dots(path: str) -> str:
    """Without `.` and `..` (RFC 3986, section 5.2.4)."""
    kept: list[str] = []
    parts = path.split("/")
    for part in parts[1:]:
        if part == "..":
            del kept[-1:]
        elif part != ".":
            kept.append(part)
    if parts[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept) if kept else ""
