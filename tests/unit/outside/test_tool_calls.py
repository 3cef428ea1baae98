"""Tools of a real MCP server: called once, within the row, while they are what it pins; and what misbehaves ends as an outcome."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from services.actuator.hands.hand import Task
from services.actuator.hands.receipts import Receipts
from services.actuator.hands.tools import ToolHand
from services.actuator.terms import Job, Outcome
from shared.contracts.action import Action
from shared.contracts.kinds.arguments import Argument
from shared.contracts.kinds.tools import McpCall
from shared.outside import sandbox
from shared.outside.mcp.servers import Server, Tool, named
from shared.outside.mcp.session import NoServer
from tests.tools import by_http, by_process, digests, no_sandbox

NO_SANDBOX = no_sandbox()
confined = pytest.mark.skipif(bool(NO_SANDBOX), reason=NO_SANDBOX)
ANY = Argument(like="[a-z0-9]+")
ARGUMENTS: dict[str, dict[str, Argument]] = {
    "add": {
        "a": Argument(least=0, most=9),
        "b": Argument(least=0, most=9, places=1),
        "names": Argument(like="[a-z]+", many=2, optional=True),
    },
    "count": {"word": ANY},
    "dies": {"word": ANY},
    "many": {"size": Argument(least=0, most=10**9)},
}
NAMES = ("add", "count", "dies", "many", "hostile", "picture", "fails", "hangs", "secrets", "asks")


def rows(pins: dict[str, str], **changed: Any) -> dict[str, Tool]:
    return {name: Tool(digest=pins[name], arguments=ARGUMENTS.get(name, {}), **changed) for name in NAMES}


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    calls = tmp_path_factory.mktemp("calls") / "calls"
    with by_http({}, calls) as server:
        yield msgspec.structs.replace(server, tools=rows(asyncio.run(digests(server)))), calls


@pytest.fixture
def receipts(tmp_path: Path) -> Iterator[Receipts]:
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    receipts = Receipts(root)
    yield receipts
    receipts.close()
    os.close(root)


def task(receipts: Receipts, server: Server, tool: str, key: str = "p-1", **arguments: Any) -> Task:
    found = named({"odd": server}, f"odd/{tool}")
    action = Action(kind="mcp.call", target=f"odd/{tool}", params=arguments)
    row = found.row.digest if found else ""
    return Task(
        job=Job(swarm="alpha", persona="p01", proposal_id=key, action=action, row=row),
        params=McpCall(arguments=arguments),
        claim=cast("Any", SimpleNamespace(id=f"claim-{key}")),
        mark=f"actuator/{receipts.identity}/x",
        timeout_s=20.0,
    )


def act(receipts: Receipts, server: Server, tool: str, key: str = "p-1", **arguments: Any) -> Outcome:
    hand = ToolHand({"odd": server}, receipts)
    return asyncio.run(hand.act(task(receipts, server, tool, key, **arguments)))


def test_a_tool_is_called_with_typed_arguments_and_its_answer_is_the_output(
    http: tuple[Server, Path], receipts: Receipts
) -> None:
    server, _ = http
    done = act(receipts, server, "add", a=1, b="2.5", names="x\ny")
    assert ("success", "3.5 ['x', 'y']") == (done.outcome, done.output), done
    assert done.receipt is not None and "odd/add" == done.receipt.target and 14 == done.receipt.size_bytes
    assert "[image image/png, 5 bytes]" == act(receipts, server, "picture", "p-2").output
    failing = act(receipts, server, "fails", "p-3")
    assert ("failure", "tool_error") == (failing.outcome, failing.error) and "fails" in failing.output


def test_what_it_asks_back_is_refused(http: tuple[Server, Path], receipts: Receipts) -> None:
    server, _ = http
    said = act(receipts, server, "asks").output.splitlines()
    assert ["sampling refused", "roots refused", "elicitation refused"] == [line.partition(":")[0] for line in said]


def test_more_than_the_row_admits_is_cut_and_said(http: tuple[Server, Path], receipts: Receipts) -> None:
    server = msgspec.structs.replace(
        http[0], tools=rows({name: tool.digest for name, tool in http[0].tools.items()}, output_bytes=100)
    )
    done = act(receipts, server, "many", size=5000)
    assert ("success", 100) == (done.outcome, len(done.output)) and "cut off there" in done.summary
    assert done.receipt is not None and done.receipt.sha256 is None
    whole = act(receipts, http[0], "many", "p-2", size=30_000_000)
    assert ("unknown", "no_answer") == (whole.outcome, whole.error), "an answer that is not read to its end"


@pytest.mark.parametrize(
    ("tool", "arguments", "code"),
    [
        ("add", {"a": 99, "b": 1}, "bad_params"),
        ("add", {"a": 1}, "bad_params"),
        ("steal", {}, "not_named"),
    ],
)
def test_what_has_no_row_or_is_beyond_it_is_not_called(
    http: tuple[Server, Path], receipts: Receipts, tool: str, arguments: dict[str, Any], code: str
) -> None:
    done = act(receipts, http[0], tool, **arguments)
    assert ("failure", code) == (done.outcome, done.error)


def test_a_tool_that_is_no_longer_what_the_row_pins_is_refused_and_told(
    http: tuple[Server, Path], receipts: Receipts
) -> None:
    server, calls = http
    before = calls.read_text() if calls.exists() else ""
    pins = {name: tool.digest for name, tool in server.tools.items()}
    changed = msgspec.structs.replace(server, tools=rows({**pins, "count": "0" * 64}))
    hand = ToolHand({"odd": changed}, receipts)
    done = asyncio.run(hand.act(task(receipts, changed, "count", word="x")))
    assert ("failure", "tool_changed") == (done.outcome, done.error) and pins["count"] in done.summary
    assert hand.trouble is not None and "odd/count" in hand.trouble
    assert before == (calls.read_text() if calls.exists() else "")
    other = task(receipts, changed, "add", "p-2", a=1, b=1)
    judged = msgspec.structs.replace(other, job=msgspec.structs.replace(other.job, row="1" * 64))
    assert "row_changed" == asyncio.run(hand.act(judged)).error


def test_it_is_called_once_and_what_gave_no_answer_is_unknown(http: tuple[Server, Path], receipts: Receipts) -> None:
    server, calls = http
    hand = ToolHand({"odd": server}, receipts)
    what = task(receipts, server, "count", word="once")
    assert "success" == asyncio.run(hand.act(what)).outcome
    assert "fenced" == asyncio.run(hand.act(what)).error and 1 == calls.read_text().splitlines().count("once")
    assert "unknown" == asyncio.run(hand.inquire(what)).outcome
    slow = msgspec.structs.replace(task(receipts, server, "hangs", "p-2"), timeout_s=1.0)
    assert ("unknown", "no_answer") == ((done := asyncio.run(hand.act(slow))).outcome, done.error)


def test_an_inquiry_fences_off_what_was_not_called(http: tuple[Server, Path], receipts: Receipts) -> None:
    server, calls = http
    hand = ToolHand({"odd": server}, receipts)
    what = task(receipts, server, "count", word="fenced")
    found = asyncio.run(hand.inquire(what))
    assert ("failure", "not_executed") == (found.outcome, found.error)
    assert "fenced" == asyncio.run(hand.act(what)).error and "fenced" not in calls.read_text().split()
    assert "unknown" == asyncio.run(hand.inquire(msgspec.structs.replace(what, mark="actuator/other/x"))).outcome
    assert "unknown" == asyncio.run(hand.inquire(msgspec.structs.replace(what, age=timedelta(days=20)))).outcome


def test_what_hinders_at_the_last_moment_is_obeyed(http: tuple[Server, Path], receipts: Receipts) -> None:
    late = Outcome(outcome="failure", summary="the kill switch is on", error="kill_switch")
    what = task(receipts, http[0], "count", word="hindered")
    hand = ToolHand({"odd": http[0]}, receipts)
    assert late == asyncio.run(hand.act(msgspec.structs.replace(what, hindered=lambda: late)))
    assert "success" == asyncio.run(hand.act(what)).outcome, "and it left no receipt"


def test_a_server_at_a_private_address_is_not_called_unless_its_row_says_so(
    http: tuple[Server, Path], receipts: Receipts
) -> None:
    public = msgspec.structs.replace(http[0], private=False)
    done = act(receipts, public, "add", a=1, b=1)
    assert ("failure", "not_connected") == (done.outcome, done.error) and "not public" in done.summary
    nobody = msgspec.structs.replace(http[0], url="http://127.0.0.1:9/mcp")
    assert "not_connected" == act(receipts, nobody, "add", a=1, b=1).error


def test_without_a_sandbox_no_process_is_begun_and_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, receipts: Receipts
) -> None:
    monkeypatch.setattr(sandbox, "BWRAP", "no-such-bwrap")
    server = by_process({"add": Tool(digest="0" * 64)})
    hand = ToolHand({"odd": server}, receipts)
    done = asyncio.run(hand.act(task(receipts, server, "add")))
    assert ("failure", "no_sandbox") == (done.outcome, done.error)
    assert hand.trouble is not None and "apt-get install bubblewrap" in hand.trouble
    remote = ToolHand({"odd": Server(url="https://a.example.org")}, receipts)
    asyncio.run(remote.look())
    assert remote.trouble is None, "a server of its own needs none"


@confined
def test_a_process_in_the_sandbox_is_called_and_sees_nothing_of_ours(receipts: Receipts, tmp_path: Path) -> None:
    os.environ["SWARM_SECRET"] = "swordfish"
    try:
        server = by_process({})
        server = msgspec.structs.replace(server, tools=rows(asyncio.run(digests(server))))
        done = act(receipts, server, "add", a=1, b="2.5")
        assert ("success", "3.5") == (done.outcome, done.output), done
        seen = act(receipts, server, "secrets", "p-2").output
        assert "swordfish" not in seen and "root" not in seen and "HOME=/tmp" in seen
        gone = act(receipts, server, "dies", "p-3", word="x")
        assert ("unknown", "no_answer") == (gone.outcome, gone.error)
    finally:
        del os.environ["SWARM_SECRET"]
    silent = msgspec.structs.replace(server, argv=("/usr/bin/false",))
    assert "not_connected" == act(receipts, silent, "add", "p-4", a=1, b=1).error
    with pytest.raises(NoServer):
        asyncio.run(digests(silent))
    noisy = msgspec.structs.replace(server, argv=("/usr/bin/yes", "{}"))
    wait = msgspec.structs.replace(task(receipts, noisy, "add", "p-5", a=1, b=1), timeout_s=2.0)
    assert "not_connected" == asyncio.run(ToolHand({"odd": noisy}, receipts).act(wait)).error
