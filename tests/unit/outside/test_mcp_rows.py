"""Which tools there are is the operator's file, and what an argument may be is one language for all rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.contracts.action import Action
from shared.contracts.action_kinds import classify, held, is_outward, read, touched
from shared.contracts.kinds.arguments import Argument, flaw_of, trouble_of
from shared.contracts.kinds.kind import Problem
from shared.contracts.row import Row
from shared.outside.mcp.servers import row_of, servers_of
from shared.settings import SettingsError

PIN = "a" * 64
ONE = "[servers.a]\nurl='https://a.example.org'"
FILES = f"""
[servers.files]
argv = ["/usr/bin/mcp-files", "/srv"]
read = ["/srv"]
[servers.files.tools.read_file]
digest = "{PIN}"
risk = "low"
reads = true
outward = false
arguments.path.like = "[a-z/]+"
[servers.bank]
url = "https://bank.example.org/mcp"
[servers.bank.tools.pay]
digest = "{PIN}"
arguments.amount = {{least = 0, most = 500, places = 2}}
arguments.to.one_of = ["rent", "power"]
arguments.cc = {{like = "[a-z]+@example[.]org", many = 3, optional = true}}
"""


def call(target: str, **arguments: Any) -> Action:
    return Action(kind="mcp.call", target=target, params=arguments)


@pytest.fixture
def servers(tmp_path: Path) -> Any:
    (tmp_path / "mcp.toml").write_text(FILES)
    return servers_of(str(tmp_path / "mcp.toml"))


def test_a_row_says_what_is_judged_by_and_without_one_there_is_nothing(servers: Any) -> None:
    row = row_of(servers, call("files/read_file", path="a/b"))
    assert isinstance(row, Row) and ("low", True, False) == (row.risk, row.reads, row.outward)
    pay = row_of(servers, call("bank/pay", amount="12.50", to="rent"))
    assert isinstance(pay, Row) and ("high", False, True, True) == (pay.risk, pay.reads, pay.outward, pay.exclusive)
    for target in ("bank/steal", "files/pay", "nobody/pay", "files"):
        assert f"the operator has named no tool {target}" == row_of(servers, call(target))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"amount": "12.505", "to": "rent"}, "amount is no number of 0 to 500, with 2 places"),
        ({"amount": 501, "to": "rent"}, "amount is no number"),
        ({"amount": "-1", "to": "rent"}, "amount is no number"),
        ({"amount": "1e2", "to": "rent"}, "amount is no number"),
        ({"amount": True, "to": "rent"}, "amount is no number"),
        ({"amount": 5, "to": "me"}, "to is none of rent, power"),
        ({"amount": 5}, "missing or too many: to"),
        ({"amount": 5, "to": "rent", "memo": "x"}, "missing or too many: memo"),
        ({"amount": 5, "to": "rent", "cc": "a@example.org\nb@evil.org"}, "cc is not as its pattern says"),
        ({"amount": 5, "to": "rent", "cc": "a@example.org\n"}, "cc is not as its pattern says"),
        ({"amount": 5, "to": "rent", "cc": "\n".join(["a@example.org"] * 4)}, "cc has 4 lines, the limit is 3"),
    ],
)
def test_arguments_beyond_the_row_are_told_before_anybody_is_asked(
    servers: Any, arguments: dict[str, Any], why: str
) -> None:
    said = row_of(servers, call("bank/pay", **arguments))
    assert isinstance(said, str) and why in said


def test_the_digest_is_of_all_that_the_operator_said(tmp_path: Path) -> None:
    def digest(text: str) -> str:
        (tmp_path / "mcp.toml").write_text(text)
        row = row_of(servers_of(str(tmp_path / "mcp.toml")), call("files/read_file", path="a"))
        assert isinstance(row, Row)
        return row.digest

    assert digest(FILES) == digest(FILES)
    for one, other in (("/srv", "/etc"), ("[a-z/]+", "[a-z/.]+"), ('"low"', '"medium"'), (PIN, "b" * 64)):
        assert digest(FILES) != digest(FILES.replace(one, other)), one


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[servers.a]", "one of argv, url"),
        ("[servers.a]\nargv=['/bin/a']\nurl='https://a.example.org'", "one of argv, url"),
        ("[servers.a]\nargv=['a']", "whole path"),
        ("[servers.a]\nurl='ftp://a.example.org'", "http:// or https://"),
        ("[servers.a]\nurl='https://u:p@a.example.org'", "neither user nor password"),
        ("[servers.A]\nurl='https://a.example.org'", "regex"),
        (f"{ONE}\n[servers.a.tools.t]\nrisk='low'", "digest"),
        (f"{ONE}\n[servers.a.tools.'t/u']\ndigest='{PIN}'", "regex"),
        (f"{ONE}\n[servers.a.tools.t]\ndigest='{PIN}'\nreads=true", "reads alone"),
        (f"{ONE}\n[servers.a.tools.t]\ndigest='{PIN}'\n[servers.a.tools.t.arguments.x]", "x: has one of"),
        (f"{ONE}\nshell=true", "shell"),
    ],
)  # fmt: skip
def test_a_flaw_stops_the_start_and_says_where(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "mcp.toml").write_text(text)
    with pytest.raises(SettingsError, match=r"mcp\.toml") as error:
        servers_of(str(tmp_path / "mcp.toml"))
    assert why in str(error.value)
    assert {} == servers_of("")


def test_risk_and_what_is_held_come_from_the_row_and_at_worst_without_one() -> None:
    action = call("files/move", path="a")
    assert "high" == classify(action, "s", "p") and is_outward("mcp.call", None)
    assert "medium" == classify(action, "s", "p", Row(risk="medium"))
    assert not is_outward("mcp.call", Row(outward=False))
    assert held(action, "s", "p") is not None and held(action, "s", "p") == touched(action, "s", "p", Row())
    assert held(action, "s", "p", Row(reads=True)) is None is held(action, "s", "p", Row(exclusive=False))
    other = touched(call("files/move", path="b"), "s", "p")
    assert other is not None and other != touched(action, "s", "p") and other.id == held(action, "s", "p").id  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (call("files"), "bad_target"),
        (call("Files/read"), "bad_target"),
        (call("files/a/b"), "bad_target"),
        (call("files/../b"), "bad_target"),
        (call("files/read", **{"a b": 1}), "bad_params"),
        (call("files/read", a="\x1b[31m"), "bad_params"),
        (call("files/read", a="\u202eb"), "bad_params"),
        (call("files/read", a="x" * 20_001), "bad_params"),
        (call("files/read", a="x" * 20_000, b="x" * 20_000, c="x" * 20_000), "bad_params"),
        (call("files/read", **{f"a{n}": n for n in range(33)}), "bad_params"),
    ],
)
def test_what_no_row_could_admit_has_a_problem(action: Action, code: str) -> None:
    problem = read(action)
    assert isinstance(problem, Problem) and code == problem.code
    assert "critical" == classify(action, "s", "p", Row(risk="low"))


@pytest.mark.parametrize(
    ("argument", "good", "bad"),
    [
        (Argument(one_of=("a", "b")), ["a"], ["c", 1, None]),
        (Argument(least=1, most=9), [1, 9], [0, 10, "3", True, None]),
        (Argument(least=0, most=1, places=2), [0, "0.25", "1"], ["0.255", "1.01", "x", "0,5", " 0.5", "٣"]),
        (Argument(like="[a-z]+"), ["ab"], ["aB", "a\n", "", 1]),
        (Argument(chars=5), ["a\nb", ""], ["123456", 1]),
        (Argument(time=True), ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.5+02:00"], ["2026-01-31T12:00:00", "now", 5, "-"]),
        (Argument(flag=True), [True, False], ["true", 1, None]),
        (Argument(like="[a-z]+", many=2), ["a", "a\nb"], ["a\nb\nc", "a\n", "", 1]),
        (Argument(least=1, most=9, many=3), ["1\n9", 5 and "5"], ["0\n5", 5, "1.5"]),
    ],
)  # fmt: skip
def test_arguments_are_what_their_rows_say_and_nothing_else(
    argument: Argument, good: list[Any], bad: list[Any]
) -> None:
    assert "" == argument.flaw() and argument.said
    assert [""] * len(good) == [argument.trouble(value) for value in good]
    assert all(argument.trouble(value) for value in bad)


def test_an_argument_is_told_as_json_has_it() -> None:
    assert 12.5 == Argument(least=0, most=99, places=2).outside("12.50")
    assert ["a", "b"] == Argument(like="[a-z]", many=2).outside("a\nb")
    assert [1, 2] == Argument(least=0, most=9, many=2).outside("1\n2")
    assert [3, True, "x\ny"] == [
        Argument(least=0, most=9).outside(3), Argument(flag=True).outside(True), Argument(chars=9).outside("x\ny")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "flawed",
    [
        Argument(),
        Argument(one_of=("a",), like="a"),
        Argument(least=1),
        Argument(like="("),
        Argument(places=2, chars=3),
        Argument(flag=True, many=2),
        Argument(chars=9, many=2),
    ],
)
def test_a_row_that_says_nothing_or_too_much_is_flawed(flawed: Argument) -> None:
    assert flaw_of({"x": flawed}).startswith("x: ")
    assert "" == flaw_of({"x": Argument(flag=True)}) and "" == trouble_of({"x": Argument(flag=True, optional=True)}, {})
