"""Text from outside made harmless where people will read it: in titles, summaries, reports, on a terminal.

Hidden are control and format characters (Unicode's Cc, Cf, Cs: escape sequences, bidirectional overrides, tags, zero-width
ones), each shown as U+FFFD so that it is seen that something was there; of them only the joiners U+200C and U+200D stay, which
scripts and emoji are written with. In Markdown no raw HTML is left, and no link or image: what would be one is shown as it is written.

Everything here is idempotent: what is made harmless once is left alone the second time, so that others can check it.
"""

from __future__ import annotations

import re
import unicodedata

_BREAKS = re.compile("\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u2064\u2066-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]"
)
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_MARKUP = re.compile(r"[<>\[\]`*_~|\\@]")
_LINKED = re.compile(r"//|\bwww\.|[^\W\d_]:(?=\S)|[^\s.]\.(?=[^\W\d_]{2})|\d+(\.\d+){3}", re.IGNORECASE)
"""What some reader makes a link of: a scheme, a host's name or address."""
MAX_TITLE = 120
_LINK = re.compile(r"(?<!\\)((?:\\\\)*)\](?=[(\[:])")


def plain(text: str, limit: int = 0) -> str:
    """On one line, cut to `limit` characters (0: not), which is shown by `…`."""
    return _cut(_HIDDEN.sub("\ufffd", _BREAKS.sub(" ", text).replace("\t", " ")).strip(), limit)


def lines(text: str, limit: int = 0) -> str:
    """As `plain`, with its lines (`\\n`) and tabs."""
    return _cut(_HIDDEN.sub("\ufffd", _BREAKS.sub("\n", text)), limit)


def markdown(text: str, limit: int = 0) -> str:
    """As `lines`, and Markdown without raw HTML, links and images."""
    return _cut(_LINK.sub(r"\1\\]", _TAG.sub("&lt;", lines(text))), limit)


def code(text: str) -> str:
    """As inline code of Markdown: nothing in it is a heading, emphasis or a fence."""
    return "`" + (" ".join(plain(text).replace("`", "'").split()) or " ") + "`"


def escaped(json: str) -> str:
    """The same JSON, with what is hidden in its strings as `\\u…`."""
    return _HIDDEN.sub(lambda found: json_escape(found[0]), json)


def json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def trouble(content: str, *, is_markdown: bool) -> str:
    """Why the content of a file would not be shown as it is; empty when it would."""
    unix = content.replace("\r\n", "\n")
    if (shown := lines(unix)) != unix:
        at = next(i for i, (a, b) in enumerate(zip(shown, unix, strict=False)) if a != b)
        return f"the content has a control or hidden character, U+{ord(unix[at]):04X} at {at}"
    if is_markdown and markdown(unix) != unix:
        return "Markdown may have no raw HTML, links or images here: write `&lt;` for `<`, and `\\]` for `]` before `(`, `[` or `:`"
    return ""


def title_trouble(text: str) -> str:
    """Why that is no title that is safe wherever it is shown; empty when it is one. It is refused, not changed: what people approved is
    what is shown."""
    if len(text) > MAX_TITLE:
        return f"has {len(text)} characters, the limit is {MAX_TITLE}"
    if not text[:1].isalnum() or text[-1:].isspace():
        return "does not begin with a letter or number, or ends with a space"
    if not text.isprintable():
        return "has a control or hidden character"
    seen = unicodedata.normalize("NFKC", text).replace("\u3002", ".")
    if found := _MARKUP.search(seen):
        return f"has {found[0]}, which is markup or a mention somewhere"
    return "has what would be a link" if _LINKED.search(seen) else ""


def _cut(text: str, limit: int) -> str:
    return text if not limit or len(text) <= limit else text[: limit - 1] + "…"
