"""What is declared can be read; what is not is a problem with a name."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.actuator.hands.commands import CommandHand
from services.actuator.hands.outbound import Outbound
from services.actuator.hands.table import hands
from services.actuator.hands.workspace import Workspace
from shared.contracts.action import Action, Scalar
from shared.contracts.action_kinds import KINDS, classify, not_alone, read
from shared.contracts.kinds.files import FileWrite, path_trouble
from shared.contracts.kinds.http import HttpRequest, endpoint, url_trouble
from shared.contracts.kinds.kind import MAX_CONTENT_BYTES, MESH, Params, Problem
from shared.contracts.kinds.testing import Noop


def write(target: str = "findings/a.md", **params: Scalar) -> Action:
    return Action(kind="file.write", target=target, params={"content": "x", **params})


def http(target: str = "https://api.example.org/x", **params: Scalar) -> Action:
    return Action(kind="http.request", target=target, params=params)


BASE = "0" * 64


def patch(target: str = "findings/a.md", **params: Scalar) -> Action:
    return Action(kind="file.patch", target=target, params={"base": BASE, "find": "a", "replace": "b", **params})


def test_declared_actions_are_read_into_their_parameters() -> None:
    assert read(write(mode="create")) == FileWrite(content="x", mode="create")
    assert read(http(method="POST", body="{}")) == HttpRequest(method="POST", body="{}")
    assert read(Action(kind="test.noop", target="nothing")) == Noop()


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (Action(kind="process.start", target="rm"), "unknown_kind"),
        (Action(kind="command.run", target="rm -rf /"), "bad_target"),
        (Action(kind="command.run", target="rm", params={"A": 1}), "bad_params"),
        (Action(kind="command.run", target="rm", params={"a": "x" * 1001}), "bad_params"),
        (Action(kind="command.run", target="rm", params={"a": "b\nc"}), "bad_params"),
        (Action(kind="command.run", target="rm", params={f"a{n}": n for n in range(33)}), "bad_params"),
        (Action(kind="file.write", target="findings/a.md"), "bad_params"),
        (write(extra="field"), "bad_params"),
        (write(content=7), "bad_params"),
        (write(mode="append"), "bad_params"),
        (write(content="x" * (MAX_CONTENT_BYTES + 1)), "bad_params"),
        (write(content="é" * (MAX_CONTENT_BYTES // 2 + 1)), "bad_params"),
        (write(content="\ud800"), "bad_params"),
        (write(content="a <img src=x>"), "bad_params"),
        (write("Notes.MARKDOWN", content="[here](http://example.org)"), "bad_params"),
        (write("notes.txt", content="a\x1b[31m"), "bad_params"),
        (write("notes.txt", content="\u202eexe.txt"), "bad_params"),
        (Action(kind="file.write", schema_version=2, target="a", params={"content": ""}), "bad_params"),
        (patch(base="abc"), "bad_params"),
        (patch(find=""), "bad_params"),
        (patch(target="a.md", replace="<script>"), "bad_params"),
        (patch(find="x" * MAX_CONTENT_BYTES, replace="y"), "bad_params"),
        (patch("../a"), "bad_target"),
        (Action(kind="file.delete", target="a"), "bad_params"),
        (Action(kind="file.delete", target="/a", params={"base": BASE}), "bad_target"),
        (http(method="TRACE"), "bad_params"),
        (http(content_type="text/plain\r\nX-Evil: 1"), "bad_params"),
        (http(target="ftp://example.org/"), "bad_target"),
        (write(target="../a"), "bad_target"),
        (Action(kind="test.noop", target="nothing", params={"x": 1}), "bad_params"),
    ],
)
def test_what_is_not_declared_has_a_problem_with_a_name_and_is_critical(action: Action, code: str) -> None:
    problem = read(action)
    assert isinstance(problem, Problem) and code == problem.code and problem.detail
    assert classify(action, "alpha", "p01") == "critical"


def test_what_is_shown_as_it_is_may_be_written() -> None:
    for target, content in (
        ("notes.txt", "a <b> [c](d)\r\n\tfine\r\n"),
        ("findings/a.md", "1 < 2 &lt;b> [x]\n"),
    ):
        assert isinstance(read(write(target, content=content)), FileWrite)


def test_content_may_be_as_large_as_the_limit() -> None:
    assert isinstance(read(write(content="x" * MAX_CONTENT_BYTES)), FileWrite)


@pytest.mark.parametrize(
    ("action", "risk"),
    [
        (write("findings/alpha/p01/a.md"), "low"),
        (write("findings/alpha/p01/deep/A.TXT"), "low"),
        (write("findings/alpha/p01/a.html"), "medium"),
        (write("findings/alpha/p01"), "medium"),
        (write("findings/alpha/p02/a.md"), "medium"),
        (write("findings/alpha/p010/a.md"), "medium"),
        (write("findings/beta/p01/a.md"), "medium"),
        (write("findings/a.md"), "medium"),
        (write("findings-old/alpha/p01/a.md"), "medium"),
        (write("findings"), "medium"),
        (write("notes/findings/a.md"), "medium"),
        (patch("findings/alpha/p01/a.md"), "low"),
        (patch("notes/a.md"), "medium"),
        (Action(kind="file.delete", target="findings/alpha/p01/a.md", params={"base": BASE}), "low"),
        (Action(kind="file.delete", target="findings/alpha/p02/a.md", params={"base": BASE}), "medium"),
        (http(), "medium"),
        (http(method="HEAD"), "medium"),
        (http(method="POST"), "high"),
        (http(method="DELETE"), "high"),
        (Action(kind="test.noop", target="nothing"), "low"),
        (Action(kind="command.run", target="disk-usage", params={"path": "/srv"}), "high"),
    ],
)
def test_risk_comes_from_the_table_and_the_target(action: Action, risk: str) -> None:
    assert risk == classify(action, "alpha", "p01")


@pytest.mark.parametrize(
    "target",
    [
        "..", "../a", "a/../b", "findings/../../etc/passwd", "/etc/passwd", "//a", "a//b", "a/", "", ".", "./a", "a/./b",
        ".receipts/x", "a/.hidden", "a\\b", "a\x00b", "a\nb", "a\u202eb", "a\u200bb", "e\u0301", " a", "a ", "a/ b",
        "x" * 201, "é" * 101, "/".join("a" * 17), "a" * 1025, "\ud800",
    ],
)  # fmt: skip
def test_paths_that_leave_hide_or_mislead_are_refused(target: str) -> None:
    assert path_trouble(target)


@pytest.mark.parametrize(
    "target", ["a", "findings/2026-01-01 report.md", "Ärger/für/Ünïcode.txt", "日本/語.md", "a..b"]
)
def test_ordinary_paths_are_fine(target: str) -> None:
    assert path_trouble(target) == ""


@pytest.mark.parametrize(
    "target",
    [
        "example.org", "//example.org/", "file:///etc/passwd", "gopher://example.org/", "http:example.org", "http://",
        "http:///x", "http://user@example.org/", "http://user:pw@example.org/", "http://@example.org/",
        "http://exa mple.org/", "http://example.org/\r\nX: 1", "http://example.org\\@evil.org/", "http://example.org:0/",
        "http://example.org:99999/", "http://example.org:x/", "http://exämple.org/", "http://[::1", "http://[fe80::1%25eth0]/",
        "http://example.org/#x", "javascript:alert(1)", "\thttp://example.org/",
    ],
)  # fmt: skip
def test_urls_that_mislead_are_refused(target: str) -> None:
    assert url_trouble(target)


@pytest.mark.parametrize(
    ("target", "where"),
    [
        ("https://API.Example.org/x?y=1", "api.example.org:443"),
        ("http://example.org", "example.org:80"),
        ("http://127.0.0.1:8080/", "127.0.0.1:8080"),
        ("http://[::1]:81/", "[::1]:81"),
    ],
)
def test_the_endpoint_is_host_and_port_however_the_url_writes_them(target: str, where: str) -> None:
    assert url_trouble(target) == ""
    assert where == endpoint(target)


@given(
    kind=st.sampled_from([*KINDS, "process.start"]),
    target=st.text(min_size=1, max_size=80),
    params=st.dictionaries(
        st.text(max_size=12), st.one_of(st.text(max_size=9), st.integers(), st.booleans(), st.none())
    ),
)
def test_reading_and_classifying_are_total(kind: str, target: str, params: dict[str, Scalar]) -> None:
    action = Action(kind=kind, target=target, params=params)
    assert isinstance(read(action), Params | Problem)
    assert classify(action, "alpha", "p01") in ("low", "medium", "high", "critical")


def test_every_row_has_its_hand_and_no_hand_is_nobodys(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert {row.hand for row in KINDS.values()} - {MESH} == set(
        hands(workspace, Outbound(), CommandHand({}, workspace.receipts))
    )
    workspace.close()


@pytest.mark.parametrize(
    ("action", "told"),
    [
        (write("a.md", content="é", mode="create"), "would write 2 bytes to a.md, unless there is a file"),
        (patch("a.md"), "would replace 1 characters of a.md by 1, if it is still 000000000000"),
        (http(method="POST", body="{}"), "would send POST https://api.example.org/x with 2 bytes of application/json"),
    ],
)
def test_a_dry_run_tells_what_would_be_done(action: Action, told: str) -> None:
    assert told == KINDS[action.kind].dry_run(action.target, read(action))


def test_no_row_grades_below_its_own_risk(monkeypatch: pytest.MonkeyPatch) -> None:
    lax = msgspec.structs.replace(KINDS["http.request"], risk="critical")
    monkeypatch.setitem(KINDS, "http.request", lax)
    assert "critical" == classify(http(), "alpha", "p01")


def test_only_a_report_of_its_own_is_written_without_a_yes() -> None:
    assert not_alone(write("findings/alpha/p01/a.md"), "alpha", "p01") is None
    problem = not_alone(write("findings/alpha/p02/a.md"), "alpha", "p01")
    assert problem is not None and "not_own_folder" == problem.code
    assert not_alone(http(method="POST"), "alpha", "p01") is None
