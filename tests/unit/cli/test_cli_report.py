"""The report counts from the stream alone; the view says events in plain words; durations are as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import msgspec
import pytest

from services.cli.commands.running.up import readable
from services.cli.terminal.durations import moment, seconds
from services.cli.terminal.output import safe
from services.cli.terminal.report import StreamEvent, Tally, lines, percentile
from services.cli.terminal.target import refusal
from services.cli.terminal.view import describe

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def event(number: int, kind: str, at_ms: int = 0, **payload: object) -> StreamEvent:
    return StreamEvent(
        id=str(number),
        event_type=kind,
        persona_id="p",
        swarm_id="s",
        timestamp=NOW + timedelta(milliseconds=at_ms),
        payload=payload,
    )


LIFE = [
    event(1, "thought_generated", phase="compress", text="t", status="ok"),
    event(2, "hypothesis_raised", claim="c"),
    event(3, "check_requested"),
    event(4, "check_result", outcome="confirmed", findings="f"),
    event(
        5, "proposal_created", 0, proposal_id="q", title="T", action={"kind": "file.write", "target": "findings/a.md"}
    ),
    event(6, "proposal_verified", 5, proposal_id="q", risk="low"),
    event(7, "proposal_authorized", 12, proposal_id="q"),
    event(
        8, "action_executed", 20, proposal_id="q", outcome="success", receipt={"target": "findings/a.md"}, summary="w"
    ),
    event(9, "proposal_created", 0, proposal_id="r", title="R", action={"kind": "http.request", "target": "u"}),
    event(10, "proposal_rejected", 40, proposal_id="r", stage="verify", reasons=["stale"]),
    event(11, "check_result", outcome="inconclusive", findings="g", beside=True),
]


def test_a_run_is_counted_and_its_findings_are_listed_with_their_files() -> None:
    tally = Tally()
    assert all(tally.take(e) for e in LIFE)
    assert not tally.take(LIFE[0])
    report = tally.report(ready=True, seconds=1.0, workspace="/w", data="/d", api_url="u")
    assert report.ok and {"confirmed": 1, "told_beside": 1} == report.check_results
    assert "(1 confirmed, 1 told beside)" in "".join(lines(report))
    assert (report.thoughts, report.hypotheses, report.checks, report.proposals, report.actions) == (1, 1, 1, 2, 1)
    assert report.proposals_by_outcome == {"executed_success": 1, "rejected_by_verify": 1}
    assert (report.decision_p50_ms, report.decision_p95_ms) == (12.0, 40.0)
    assert [(f.title, f.path) for f in report.findings] == [("T", "/w/findings/a.md")]
    assert "    T -> /w/findings/a.md" in lines(report)


def test_proposals_of_one_id_in_two_swarms_are_counted_as_two_and_each_once() -> None:
    tally = Tally()
    here = event(1, "proposal_created", proposal_id="q", title="here")
    there = msgspec.structs.replace(event(2, "proposal_created", proposal_id="q", title="there"), swarm_id="t")
    ended = msgspec.structs.replace(event(3, "proposal_rejected", 5, proposal_id="q", stage="verify"), swarm_id="t")
    for each in (here, there, event(4, "proposal_created", 9, proposal_id="q", title="again"), ended):
        tally.take(each)
    assert (tally.title(here), tally.title(there)) == ("here", "there")
    report = tally.report(ready=True, seconds=1.0, workspace="/w", data="/d", api_url="u")
    assert report.proposals_by_outcome == {"pending": 1, "rejected_by_verify": 1}


def test_what_a_model_wrote_does_not_drive_the_terminal() -> None:
    tally = Tally()
    action = {"kind": "file.write", "target": "findings/a.md"}
    tally.take(event(1, "proposal_created", proposal_id="q", title="\x1b[2Jgone\u202e", action=action))
    told = "\n".join(lines(tally.report(ready=True, seconds=1.0, workspace="/w", data="/d", api_url="u")))
    assert "\x1b" not in told
    assert "\u202e" not in told
    answer = httpx.Response(409, json={"detail": "\x1b]0;title\x07 no"})
    assert "\x1b" not in str(refusal(answer))


def test_a_run_without_a_thought_is_no_success() -> None:
    empty = Tally().report(ready=True, seconds=1.0, workspace="/w", data="/d", api_url="u")
    assert not empty.ok
    assert empty.decision_p95_ms is None


def test_events_are_said_in_plain_words_with_the_title_of_their_proposal() -> None:
    tally = Tally()
    for e in LIFE:
        tally.take(e)
    assert describe(LIFE[6], tally) == "s/p  authorised: T"
    assert describe(LIFE[9], tally) == "s/p  rejected by verify: R (stale)"
    assert describe(event(11, "grant_requested"), tally) is None


def test_the_percentile_is_the_nearest_rank() -> None:
    assert percentile([float(n) for n in range(1, 101)], 95) == 95.0
    assert percentile([3.0], 95) == 3.0


def test_text_from_outside_cannot_move_the_cursor_or_turn_the_line() -> None:
    assert safe("a\x1b[2Jb\u202ec\nd") == "a\ufffd[2Jb\ufffdc d"
    assert safe("abcdef", 4) == "abc…"


def test_json_log_lines_are_made_readable() -> None:
    assert (
        readable('{"event":"service_started","level":"info","health_port":1}') == "info service_started health_port=1"
    )
    assert readable("plain") == "plain"


@pytest.mark.parametrize(
    ("text", "want"), [("90s", 90.0), ("1h30m", 5400.0), ("250ms", 0.25), ("2d", 172800.0), ("7", 7.0)]
)
def test_durations_are_as_people_write_them(text: str, want: float) -> None:
    assert seconds(text) == want


def test_a_moment_is_a_while_ago_or_a_time() -> None:
    assert moment("5m", NOW) == NOW - timedelta(minutes=5)
    assert moment("2025-01-31T12:00:00Z", NOW) == datetime(2025, 1, 31, 12, tzinfo=UTC)
    with pytest.raises(ValueError, match="'soon' is neither"):
        moment("soon", NOW)
    with pytest.raises(ValueError, match="'5 apples' is no duration"):
        seconds("5 apples")
