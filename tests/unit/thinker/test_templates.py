"""What varies in a line is masked, and a template matches exactly the lines it is the template of."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.thinker.perceiving.lines import CRITICAL, ERROR, INFO, WARNING, program, severity, when
from shared.thinker.perceiving.records import Record, excerpt
from shared.thinker.perceiving.templates import agrees, matcher, matches, parse, read, words

NEAR = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)
AT = datetime(2026, 11, 22, 13, 0, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("line", "template"),
    [
        (
            "Nov 22 13:00:01 web sshd[812]: Failed password for root from 10.0.0.1 port 22 ssh2",
            "web sshd[<#>]: Failed password for root from <#> port <#> <#>",
        ),
        ("2026-11-22T13:00:01.123Z ERROR cannot open /var/lib/x/17.db", "ERROR cannot open <#>"),
        ("2026-11-22 13:00:01,123 WARNING id=0xdeadbeef user='alice b' took 12ms", "WARNING id=<#> user=<#> took <#>"),
        (
            '10.1.1.1 - - [22/Nov/2026:13:00:01 +0000] "GET /a?b=1 HTTP/1.1" 502 17 "-" "curl"',
            "<#> GET <#> status_502",
        ),
        (
            '{"ts":"2026-11-22T13:00:01Z","level":"error","service":"shop","msg":"lost order 17"}',
            "error shop: lost order <#>",
        ),
        ('ts=1 level=warn msg="queue is full" id=4f9a-11', "ts=<#> level=warn msg=queue is full id=<#>"),
        ("[12345.678901] usb 1-2: reset", "usb <#> reset"),
        ("user can't log in, won't retry", "user can't log in, won't retry"),
        ("   ", "<#>"),
    ],
)
def test_what_varies_in_a_line_is_masked(line: str, template: str) -> None:
    assert " ".join(words(line)) == template


@pytest.mark.parametrize(
    "line",
    [
        "Nov 22 13:00:01 h p: x",
        "<13>Nov 22 13:00:01 h p: x",
        "[Sun Nov 22 13:00:01.000000 2026] [error] x",
        '1.1.1.1 - - [22/Nov/2026:14:00:01 +0100] "GET / HTTP/1.1" 200 1',
        "2026-11-22 13:00:01,000 INFO x",
        "2026-11-22T14:00:01+01:00 x",
        "2026/11/22 13:00:01 [notice] x",
        "1795352401 x",
        "1795352401000 x",
        '{"time":"2026-11-22T13:00:01Z","msg":"x"}',
        '{"ts":1795352401.0,"msg":"x"}',
    ],
)
def test_the_time_of_a_line_is_read_in_the_common_forms(line: str) -> None:
    assert when(read(line).stamp, NEAR) == AT


def test_a_time_without_a_year_is_the_last_one_before_tomorrow() -> None:
    new_year = datetime(2027, 1, 1, 0, 5, tzinfo=UTC)
    assert when("Dec 31 23:59:59", new_year) == datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
    assert when("Jan  1 00:04:00", new_year) == datetime(2027, 1, 1, 0, 4, tzinfo=UTC).timestamp()
    assert (
        when("Jan  1 00:04:00", datetime(2026, 12, 31, 23, 59, tzinfo=UTC))
        == datetime(2027, 1, 1, 0, 4, tzinfo=UTC).timestamp()
    )


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("INFO all good", INFO),
        ("INFO request failed, will retry", WARNING),
        ("backup finished: 3 files, 0 errors", INFO),
        ("web1 sshd[1]: Failed password for root", ERROR),
        ("kernel: Out of memory: Killed process 17", CRITICAL),
        ("[17] FATAL:  sorry, too many clients already", CRITICAL),
        ("<#> GET <#> status_404", WARNING),
        ("<#> GET <#> status_503", ERROR),
        ("level=warn msg=queue is full", WARNING),
        ("java.lang.NullPointerException: x", ERROR),
        ("session opened for user root", INFO),
    ],
)
def test_severity_follows_the_lines_own_level_then_its_words(body: str, wanted: int) -> None:
    assert severity(body) == wanted


def test_the_program_is_the_word_before_the_colon() -> None:
    assert [program(body) for body in ("web1 sshd[1]: x", "kernel: x", "ERROR: x", "no colon here")] == [
        "sshd",
        "kernel",
        "",
        "",
    ]


def test_a_wildcard_is_one_word_and_the_rest_mark_any_words() -> None:
    assert matches(
        "Failed password for <*> from <*> port <*> ssh2", "Failed password for root from 10.0.0.1 port 22 ssh2"
    )
    assert not matches("Failed password for <*> from", "Failed password for invalid user from")
    assert (
        matches("<**>", "anything at all")
        and matches("host <**>", "host cpu=1%")
        and not matches("host <**>", "guest x")
    )


def test_a_line_cannot_smuggle_in_a_wildcard() -> None:
    assert not matches(" ".join(words("<*> <*> <**>")), "three plain words")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300) | st.text(alphabet="ab1 <*>#\"'=[]{}:._-status04", max_size=80))
def test_every_line_has_the_template_of_its_own_words(text: str) -> None:
    own = words(text)
    assert parse(" ".join(own)) == own
    assert matcher(" ".join(own))(text)
    assert agrees(own, own)


SHAPES = tuple((Path(__file__).parent / "shapes.log").read_text(encoding="utf-8").splitlines())
"""Lines of one service as a dozen collectors write them."""
MADE = (
    "Nov 22 13:00:01 web sshd[812]: Failed password for root from 10.0.0.1 port 22 ssh2",
    "2026-11-22 13:00:01,123 WARNING id=0xdeadbeef user='alice b' took 12ms \"in all\"",
    '10.1.1.1 - - [22/Nov/2026:13:00:01 +0000] "GET /a?b=1 HTTP/1.1" 502 17 "-" "curl"',
    '{"ts":"2026-11-22T13:00:01Z","level":"error","service":"shop","msg":"lost order 17"}',
    'ts=1 level=warn msg="queue is full" id=4f9a-11',
    "[12345.678901] usb 1-2: reset",
    " ".join(f"word{n}" for n in range(60)),
    "<34>1 2026-11-22T13:00:01Z host app - - payment of <*> refused <**>",
)


@settings(max_examples=600, deadline=None)
@given(
    st.sampled_from((*SHAPES, *MADE))
    | st.text(min_size=1, max_size=300)
    | st.text(alphabet="ab1 <*>#…\"'=[]{}:._-status04", min_size=1, max_size=80),
    st.data(),
)
def test_a_copy_of_a_line_is_its_template_whichever_words_are_starred(line: str, data: st.DataObject) -> None:
    copied = line.split() or ["<*>"]
    starred = data.draw(st.lists(st.booleans(), min_size=len(copied), max_size=len(copied)))
    template = " ".join("<*>" if star else word for word, star in zip(copied, starred, strict=True))
    if line.split():
        assert matches(template, line)
        assert matches(template, f"  {line}\t")
        assert matches(line, line)


@pytest.mark.parametrize("line", [*SHAPES, *MADE])
def test_a_copy_without_the_time_or_of_what_was_shown_of_a_long_line_is_its_template_too(line: str) -> None:
    assert matches(read(line).body, line)
    for limit in (20, 40, 60):
        assert matches(excerpt(line, limit), line), excerpt(line, limit)


def test_what_a_claim_shows_of_lines_is_their_template() -> None:
    lines = [f"Nov 22 13:00:0{n} web sshd[81{n}]: Failed password for root from 10.0.0.{n} port 22" for n in range(9)]
    record = Record(
        topic="t",
        kind="burst",
        source="s",
        program="sshd",
        words=words(lines[0]),
        severity=ERROR,
        timed=True,
        seq=1,
        first_seq=1,
        first_at=0.0,
        mark=0,
        count=9,
        usual=0.0,
        sample="",
    )
    shown = record.claim().split("'")[1]
    assert "Failed password for root from <*> port <*>" == shown
    assert all(matches(shown, line) for line in lines)
    assert not matches(shown, lines[0].replace("Failed", "Accepted"))
    assert matches("web sshd[<*>]: Failed password for <*> from <*> port <*>", lines[0])


def test_a_copy_of_one_line_is_no_template_of_others() -> None:
    refused, settled = "payment 51850 refused by bank", "payment 51850 settled"
    assert matches(refused, "payment 7 refused by bank") and not matches(refused, settled)
    assert not matches("payment <*> refused <*> bank", settled)
    assert not matches("payment <*> refused by…", settled) and matches("payment 51850 refused b…", refused)
    assert not matches("a<*>b", "a") and matches("a<*>b<*>c", "axbyc") and not matches("ab<*>ba", "aba")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300), st.datetimes(timezones=st.just(UTC)))
def test_times_severity_and_program_are_total(text: str, near: datetime) -> None:
    line = read(text)
    at = when(line.stamp, near)
    assert at is None or at == at
    assert when(text, near) is None or isinstance(when(text, near), float)
    assert severity(line.body) in (INFO, WARNING, ERROR, CRITICAL)
    assert isinstance(program(line.body), str)


def test_reading_a_hostile_line_takes_linear_time() -> None:
    for text in ("a" * 8192, "a." * 4096, "'" * 8192, '"' * 8191, "[" * 8192, "{" * 8192, "9" * 8192, "errors " * 1000):
        assert words(text)
        assert severity(text) >= INFO
