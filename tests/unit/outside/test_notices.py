"""Notices to people outside: by the operator's templates alone, to whom the row names, whose URLs nobody is told."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from services.actuator.hands import notices
from services.actuator.hands.hand import Task
from services.actuator.hands.notices import NoticeHand
from services.actuator.hands.receipts import Receipts
from services.actuator.rows import declared, of_notices
from services.actuator.terms import Job, Outcome
from shared.contracts.action import Action
from shared.contracts.action_kinds import Problem, classify, held, is_outward, read
from shared.contracts.kinds.arguments import Argument
from shared.contracts.kinds.notices import NoticeSend
from shared.contracts.text import MAX_TITLE, title_trouble
from shared.outside.notices import Notice, notices_of
from shared.settings import SettingsError

SECRET = "hunter2hunter2"
ARGUMENTS = {
    "host": Argument(one_of=("db-1", "web.example.org")),
    "percent": Argument(least=0, most=100),
    "what": Argument(title=True),
}
GIVEN = {"host": "db-1", "percent": 91, "what": "Logs grow since 12:30"}


class Inbox(ThreadingHTTPServer):
    """Of people: what came, by path. `/no` says no, `/broken` that it broke, `/cut` hangs up, `/slow` answers once it is `over`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[str, dict[str, Any], str]] = []
        self.over = threading.Event()
        self.came = threading.Event()

    def url(self, path: str) -> str:
        return f"json://someone:{SECRET}@127.0.0.1:{self.server_port}/{path}"


class _Handler(BaseHTTPRequestHandler):
    server: Inbox

    def do_POST(self) -> None:
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.got.append((self.path.strip("/"), said, self.headers["Authorization"]))
        self.server.came.set()
        match self.path.strip("/"):
            case "cut":
                self.close_connection = True
                return
            case "moved":
                self.send_response(302)
                self.send_header("Location", "/ok")
            case "broken":
                self.send_response(503)
            case "no":
                self.send_response(403)
            case "slow":
                self.server.over.wait(30)
                self.send_response(200)
            case _:
                self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    server = Inbox()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def receipts(tmp_path: Path) -> Iterator[Receipts]:
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    receipts = Receipts(root)
    yield receipts
    receipts.close()
    os.close(root)


def notice(*targets: str, **changed: Any) -> Notice:
    given: dict[str, Any] = {
        "targets": targets,
        "title": "Disk of {host} is {percent} % full",
        "body": "{what}.\nSee the runbook.",
        "arguments": ARGUMENTS,
    }
    return Notice(**{**given, **changed})


def task(receipts: Receipts, key: str = "p-1", arguments: Any = None, **changed: Any) -> Task:
    given = GIVEN if arguments is None else arguments
    action = Action(kind="notice.send", target="disk", params=given)
    what = Task(
        job=Job(swarm="alpha", persona="p01", proposal_id=key, action=action),
        params=NoticeSend(arguments=given),
        claim=cast("Any", SimpleNamespace(id=f"claim-{key}")),
        mark=f"actuator/{receipts.identity}/x",
        timeout_s=20.0,
    )
    return msgspec.structs.replace(what, **changed)


def act(receipts: Receipts, row: Notice, what: Task | None = None) -> Outcome:
    return asyncio.run(NoticeHand({"disk": row}, receipts).act(what or task(receipts)))


# -- rows ------------------------------------------------------------------------------------------------------------

GOOD = 'targets=["json://127.0.0.1/x"]\n'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (GOOD + "title='a'", "body"),
        (GOOD + "title='a'\nbody='b'\nshell=true", "shell"),
        (GOOD + "title='a {x}'\nbody='b'", "differ in x"),
        (GOOD + "title='a'\nbody='b'\narguments.x.flag=true", "differ in x"),
        (GOOD + "title='a'\nbody='{x}'\narguments.x={chars=9}", "a title is the one text"),
        (GOOD + "title='a'\nbody='{x}'\narguments.x={title=true,optional=true}", "neither optional"),
        (GOOD + "title='a'\nbody='{x}'\narguments.x={title=true,flag=true}", "x: has one of"),
        ("title='a'\nbody='b'", "0 targets"),
        (f"targets=['json://127.0.0.1/x','nothing://{SECRET}@x']\ntitle='a'\nbody='b'", "target 2 is no Apprise URL"),
        (f"targets='json://{SECRET}@x'\ntitle='a'\nbody='b'", "targets"),
        (f"targets=['json://{SECRET}@x'\ntitle='a'", "at line"),
        ("targets_file='/nowhere/on-call'\ntitle='a'\nbody='b'", "/nowhere/on-call"),
    ],
)
def test_a_row_with_a_flaw_stops_the_start_and_says_where_without_its_targets(
    tmp_path: Path, text: str, why: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notices.toml").write_text(f"[notices.disk]\n{text}")
    with caplog.at_level(logging.DEBUG), pytest.raises(SettingsError, match=r"notices\.toml") as error:
        notices_of(str(tmp_path / "notices.toml"))
    assert why in str(error.value)
    assert SECRET not in f"{error.value!r} {error.value.__cause__} {caplog.text} {capfd.readouterr()}"
    assert {} == notices_of("")


def test_targets_are_read_from_their_file_and_told_to_nobody(tmp_path: Path) -> None:
    (tmp_path / "on-call").write_text(f"# who is on call\njson://{SECRET}@127.0.0.1/a\n\n json://127.0.0.1/b\n")
    (tmp_path / "notices.toml").write_text(
        f"[notices.disk]\nabout='a disk'\ntargets_file='{tmp_path}/on-call'\ntitle='a'\nbody='{{what}}'\n"
        "arguments.what.title=true"
    )
    rows = notices_of(str(tmp_path / "notices.toml"))
    assert (f"json://{SECRET}@127.0.0.1/a", "json://127.0.0.1/b") == rows["disk"].targets
    event = declared(of_notices(rows))
    (row,) = event.rows
    assert ("notice.send", "disk", "a disk") == (row.kind, row.target, row.about)
    assert "without links" in row.arguments[0].about
    assert SECRET not in f"{rows} {event}" and b"json:" not in msgspec.json.encode(event)


def test_it_is_outward_and_of_high_risk_and_no_two_of_one_are_sent_at_once() -> None:
    action = Action(kind="notice.send", target="disk", params=GIVEN)
    assert "high" == classify(action, "s", "p") and is_outward("notice.send", None)
    assert held(action, "s", "p") is not None
    for odd in (
        Action(kind="notice.send", target="a/b", params=GIVEN),
        Action(kind="notice.send", target="disk", params={"what": "x" * (MAX_TITLE + 1)}),
        Action(kind="notice.send", target="disk", params={"what": "a\nb"}),
        Action(kind="notice.send", target="disk", params={"what": "a\u202eb"}),
    ):
        assert isinstance(read(odd), Problem), odd


@pytest.mark.parametrize(
    "text",
    [
        *("", " a", "a ", "-a", "# a", "x" * (MAX_TITLE + 1), "a\nb", "a\x1b[31mb", "a\u202eb", "a\u200bb", "a\u2028b"),
        *("<b>a</b>", "a [b](c)", "a *b*", "a _b_", "`a`", "~~a~~", "a | b", "hello @everyone", "hello \uff20everyone"),
        *(
            "see https://a",
            "see HTTPS:a",
            "mailto:a",
            "see //a",
            "www.a",
            "see evil.example",
            "evil\uff0eexample",
            "evil。example",
        ),
        *("see пример.рф", "at 10.0.0.1", "see evil.example/x?y"),
    ],
)
def test_what_is_no_plain_line_is_no_title(text: str) -> None:
    assert title_trouble(text)
    assert Argument(title=True).trouble(text) and Argument(title=True).trouble(1)


@pytest.mark.parametrize(
    "text", ["Disk of db-1 is 91.5 % full", "Since 12:30, twice.", "Größe: 3 GB (of 4)", "磁盘已满", "x" * MAX_TITLE]
)
def test_a_plain_line_is_a_title_as_it_is(text: str) -> None:
    assert "" == Argument(title=True).trouble(text)


def test_arguments_beyond_the_row_are_not_sent(inbox: Inbox, receipts: Receipts) -> None:
    row = notice(inbox.url("ok"))
    for odd in ({**GIVEN, "what": "see evil.example"}, {**GIVEN, "host": "db-2"}, {"host": "db-1"}, {**GIVEN, "x": 1}):
        assert "bad_params" == act(receipts, row, task(receipts, arguments=odd)).error
    like = notice(inbox.url("ok"), title="a", body="{x}", arguments={"x": Argument(like=".*")})
    assert "would be a link" in act(receipts, like, task(receipts, arguments={"x": "evil.example"})).summary
    assert "not_named" == asyncio.run(NoticeHand({}, receipts).act(task(receipts))).error
    assert [] == inbox.got


# -- sending ---------------------------------------------------------------------------------------------------------


def test_each_target_is_told_once_in_the_operators_words(
    inbox: Inbox, receipts: Receipts, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    row = notice(inbox.url("a"), inbox.url("b"))
    with caplog.at_level(logging.DEBUG, "apprise"):
        done = act(receipts, row)
    assert ("success", "2 of 2 targets got disk") == (done.outcome, done.summary)
    assert ["a", "b"] == [path for path, _, _ in inbox.got] and inbox.got[0][2].startswith("Basic ")
    said = inbox.got[0][1]
    assert ("Disk of db-1 is 91 % full", "Logs grow since 12:30.\nSee the runbook.") == (said["title"], said["message"])
    assert SECRET not in f"{done} {caplog.text} {capfd.readouterr()}"
    assert "fenced" == act(receipts, row).error and 2 == len(inbox.got), "a second time it is not begun"


@pytest.mark.parametrize(
    ("paths", "outcome", "error", "summary"),
    [
        (("ok", "no"), "failure", "partly_sent", "1 of 2 targets got disk"),
        (("no", "ok", "ok"), "failure", "partly_sent", "2 of 3 targets got disk"),
        (("no?optional=yes&retry=3",), "failure", "not_sent", "0 of 1 targets got disk"),
        (("moved",), "failure", "not_sent", "0 of 1 targets got disk"),
        (("ok", "cut"), "unknown", "no_answer", "1 of 2 targets got disk; of 1 nobody can tell"),
        (("broken",), "unknown", "no_answer", "0 of 1 targets got disk; of 1 nobody can tell"),
        (("cut?retry=3", "no"), "unknown", "no_answer", "0 of 2 targets got disk; of 1 nobody can tell"),
    ],
)
def test_what_some_did_not_get_is_told_by_number(
    inbox: Inbox,
    receipts: Receipts,
    paths: tuple[str, ...],
    outcome: str,
    error: str,
    summary: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    done = act(receipts, notice(*(inbox.url(path) for path in paths)))
    assert (outcome, error, summary) == (done.outcome, done.error, done.summary)
    assert len(paths) == len(inbox.got), "each once"
    assert SECRET not in f"{done} {caplog.text} {capfd.readouterr()}"


def test_where_nobody_can_be_connected_to_nothing_was_sent(receipts: Receipts) -> None:
    done = act(receipts, notice(f"json://someone:{SECRET}@127.0.0.1:9/x"))
    assert ("failure", "not_sent") == (done.outcome, done.error) and SECRET not in str(done)


def test_what_takes_too_long_is_unknown_and_who_comes_after_is_not_told(inbox: Inbox, receipts: Receipts) -> None:
    row = notice(inbox.url("ok"), inbox.url("slow"), inbox.url("after"), timeout_s=3)
    hand = NoticeHand({"disk": row}, receipts)

    async def late() -> Outcome:
        done = await hand.act(task(receipts))
        inbox.over.set()
        async with asyncio.timeout(10):
            for _ in range(notices.AT_ONCE):  # its thread is free again, so it has ended
                await hand._free.acquire()
        return done

    done = asyncio.run(late())
    assert ("unknown", "no_answer") == (done.outcome, done.error)
    assert "1 of 3 targets got disk; of 2 nobody can tell" == done.summary
    assert ["ok", "slow"] == [path for path, _, _ in inbox.got]


def test_threads_that_hang_are_bounded_and_what_finds_none_is_not_begun(
    inbox: Inbox, receipts: Receipts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "AT_ONCE", 1)
    hand = NoticeHand({"disk": notice(inbox.url("slow"), timeout_s=0.3)}, receipts)

    async def twice() -> tuple[Outcome, Outcome, Outcome]:
        first, second = await hand.act(task(receipts, "p-1")), await hand.act(task(receipts, "p-2"))
        inbox.over.set()
        async with asyncio.timeout(10):
            await hand._free.acquire()
        return first, second, await hand.inquire(task(receipts, "p-2"))

    first, second, asked = asyncio.run(twice())
    assert "unknown" == first.outcome and ("failure", "not_begun") == (second.outcome, second.error)
    assert "not_executed" == asked.error and 1 == len(inbox.got)


# -- after a death ---------------------------------------------------------------------------------------------------


def test_who_died_before_it_began_is_fenced_off_and_after_it_nobody_can_tell(inbox: Inbox, receipts: Receipts) -> None:
    hand = NoticeHand({"disk": notice(inbox.url("ok"))}, receipts)
    fresh = task(receipts, "p-1")
    assert "not_executed" == asyncio.run(hand.inquire(fresh)).error
    assert "fenced" == asyncio.run(hand.act(fresh)).error and [] == inbox.got
    begun = task(receipts, "p-2")
    assert receipts.begin(begun.job.key, begun.claim.id), "and there the process ends"
    assert "unknown" == asyncio.run(hand.inquire(begun)).outcome
    assert "fenced" == asyncio.run(hand.act(begun)).error and [] == inbox.got


def test_one_that_is_cut_off_while_it_sends_is_unknown_and_not_sent_again(inbox: Inbox, receipts: Receipts) -> None:
    hand = NoticeHand({"disk": notice(inbox.url("slow"), inbox.url("after"))}, receipts)
    what = task(receipts)

    async def cut() -> Outcome:
        acting = asyncio.create_task(hand.act(what))
        await asyncio.to_thread(inbox.came.wait, 10)
        acting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await acting
        inbox.over.set()
        async with asyncio.timeout(10):
            for _ in range(notices.AT_ONCE):
                await hand._free.acquire()
        return await hand.inquire(what)

    assert "unknown" == asyncio.run(cut()).outcome and ["slow"] == [path for path, _, _ in inbox.got]


def test_what_hinders_is_asked_right_before(inbox: Inbox, receipts: Receipts) -> None:
    late = Outcome(outcome="failure", summary="the kill switch is on", error="kill_switch")
    assert late == act(receipts, notice(inbox.url("ok")), task(receipts, hindered=lambda: late))
    assert [] == inbox.got
