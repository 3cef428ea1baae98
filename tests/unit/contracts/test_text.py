"""Whatever comes in, what people are shown has no hidden characters, and Markdown nothing active."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from shared.contracts.text import code, escaped, lines, markdown, plain, trouble

ANYTHING = st.text(st.characters())  # surrogates too
NASTY = st.lists(
    st.sampled_from(
        [*"<>/!?[]()\\`&:#*_~\"'= \t\n\r", "a", "b", "http://x", "javascript:x", "<b>", "</", "<!--", "-->", "<![CDATA[", "](", "![", "]:",
         "`" * 3, "~~~", "    ", "&lt;", "\x1b[31m", "\u202e", "\u200d", "\U000e0041", "\u2028", "> ", "- "]
    ),
    max_size=40,
).map("".join)  # fmt: skip
TEXTS = ANYTHING | NASTY
KEPT = "\u200c\u200d"


def hidden(text: str) -> set[str]:
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in KEPT}


def test_every_hidden_character_is_shown_as_one_that_is_not() -> None:
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        left = lines(character)
        assert len(left) == 1
        assert not hidden(left) - {"\n", "\t"}, hex(number)
        if character not in "\r\v\f\x1c\x1d\x1e\x85\u2028\u2029" and not hidden(character):
            assert left == character or unicodedata.category(character) == "Cn", hex(number)  # of a later Unicode


@given(TEXTS, st.integers(0, 80))
def test_a_line_is_one_line_of_what_can_be_seen_and_stays_so(text: str, limit: int) -> None:
    once = plain(text, limit)
    assert not hidden(once) and "\n" not in once and "\t" not in once
    assert once == plain(once, limit) and (not limit or len(once) <= limit)
    assert once.encode().decode() == once
    assert limit or len(once) <= len(text)


@given(TEXTS, st.integers(0, 80))
def test_lines_and_tabs_stay_where_they_may(text: str, limit: int) -> None:
    once = lines(text, limit)
    assert hidden(once) <= {"\n", "\t"} and once == lines(once, limit)
    assert limit or not trouble(once, is_markdown=False)


@given(TEXTS | st.tuples(TEXTS, TEXTS).map("\n".join), st.integers(0, 80))
def test_markdown_has_no_html_no_link_and_no_image_whatever_it_was(text: str, limit: int) -> None:
    once = markdown(text, limit)
    assert once == markdown(once, limit) and not trouble(once, is_markdown=True)
    for parser in (MarkdownIt("commonmark"), MarkdownIt("commonmark", {"html": True}).enable("table")):
        for token in parser.parse(once):
            for part in (token, *(token.children or ())):
                assert not part.type.startswith("html") and part.type not in ("link_open", "image"), (part, once)


@given(TEXTS)
def test_inline_code_is_one_span_and_nothing_else(text: str) -> None:
    (paragraph,) = [t for t in MarkdownIt("commonmark").parse(f"x {markdown(code(text))}") if t.type == "inline"]
    assert ["text", "code_inline"] == [part.type for part in paragraph.children or ()]


@given(TEXTS)
def test_json_is_the_same_json_without_hidden_characters(text: str) -> None:
    document = json.dumps(text.encode("utf-8", "replace").decode(), ensure_ascii=False)
    assert not hidden(escaped(document)) and json.loads(escaped(document)) == json.loads(document)


@pytest.mark.parametrize(
    ("content", "is_markdown", "said"),
    [
        ("fine\tso\r\nfar\n", True, ""),
        ("a <b> c", False, ""),
        ("1 < 2, <*> and [x] and &lt;b>", True, ""),
        ("a\x1b[31m", False, "U+001B at 1"),
        ("a\rb", False, "U+000D at 1"),
        ("\u202eevil", True, "U+202E at 0"),
        ("a <img src=x>", True, "no raw HTML"),
        ("[here](https://example.org)", True, "links"),
        ("![](x)", True, "links"),
    ],
)
def test_what_a_file_may_not_hold_is_said(content: str, is_markdown: bool, said: str) -> None:
    found = trouble(content, is_markdown=is_markdown)
    assert said in found and bool(said) == bool(found)
