"""What varies in a line is masked, and a template matches exactly the lines it is the template of."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.thinker.perceiving.lines import CRITICAL, ERROR, INFO, WARNING, program, severity, when
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
