"""A named command runs within its bounds, in a sandbox it cannot leave, once; and after a crash the answer is true."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvloop

from services.actuator.decider import Job, Outcome
from services.actuator.hands.commands import Command, CommandHand, commands_of
from services.actuator.hands.hand import Task
from services.actuator.hands.receipts import Receipts
from shared.contracts.action import Action
from shared.contracts.kinds.arguments import Argument
from shared.contracts.kinds.commands import CommandRun
from shared.outside import sandbox
from shared.outside.sandbox import Confined, NoSandbox, available, run
from shared.settings import SettingsError


def _sandbox() -> str:
    try:
        uvloop.run(available())
    except NoSandbox as error:
        return str(error)
    return ""


NO_SANDBOX = _sandbox()
confined = pytest.mark.skipif(bool(NO_SANDBOX), reason=NO_SANDBOX)
ECHO = Command(
    about="says it again",
    argv=("/usr/bin/printf", "%s/%s", "{word}", "--times={times}"),
    parameters={"word": Argument(like="[a-z ;$()]+"), "times": Argument(least=1, most=9)},
)
SLOW = Command(about="takes its time", argv=("/usr/bin/sleep", "30"), timeout_s=0.5)


@pytest.fixture
def receipts(tmp_path: Path) -> Iterator[Receipts]:
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    receipts = Receipts(root)
    yield receipts
    receipts.close()
    os.close(root)


def task(receipts: Receipts, target: str = "echo", claim: str = "claim-1", **arguments: Any) -> Task:
    action = Action(kind="command.run", target=target, params=arguments)
    return Task(
        job=Job(swarm="alpha", persona="p01", proposal_id="p-1", action=action),
        params=CommandRun(arguments=arguments),
        claim=cast("Any", SimpleNamespace(id=claim)),
        mark=f"actuator/{receipts.identity}/x",
        timeout_s=20.0,
    )


def told(hand: CommandHand, what: Task) -> tuple[str, str | None]:
    outcome = uvloop.run(hand.act(what))
    return outcome.outcome, outcome.error


# -- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"word": "a", "times": 10}, "times is no number of 1 to 9"),
        ({"word": "a", "times": True}, "times is no number"),
        ({"word": "a", "times": "3"}, "times is no number"),
        ({"word": "-a", "times": 3}, "word begins with a dash"),
        ({"word": "A", "times": 3}, "word is not as its pattern says"),
        ({"word": "a\n", "times": 3}, "word is not as its pattern says"),
        ({"word": 3, "times": 3}, "word is no text"),
        ({"times": 3}, "missing or too many: word"),
        ({"word": "a", "times": 3, "more": 1}, "missing or too many: more"),
    ],
)
def test_arguments_beyond_the_row_are_refused(arguments: dict[str, Any], why: str) -> None:
    said = ECHO.filled(arguments)
    assert isinstance(said, str) and why in said


def test_a_row_is_the_whole_argument_vector_and_nothing_in_it_is_a_shells() -> None:
    assert ECHO.filled({"word": "a; $(b)", "times": 3}) == ("/usr/bin/printf", "%s/%s", "a; $(b)", "--times=3")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[commands.Echo]\nabout='x'\nargv=['/bin/echo']", "regex"),
        ("[commands.echo]\nargv=['/bin/echo']", "about"),
        ("[commands.echo]\nabout='x'\nargv=[]", "length"),
        ("[commands.echo]\nabout='x'\nargv=['echo']", "whole path"),
        ("[commands.echo]\nabout='x'\nargv=['/bin/{p}']\nparameters.p.like='a'", "whole path"),
        ("[commands.echo]\nabout='x'\nargv=['/bin/echo','{p}']", "differ in p"),
        ("[commands.echo]\nabout='x'\nargv=['/bin/echo']\nparameters.p.like='a'", "differ in p"),
        ("[commands.echo]\nabout='x'\nargv=['/bin/echo','{p}']\nparameters.p.like='('", "no pattern"),
        ("[commands.echo]\nabout='x'\nargv=['/bin/echo','{p}']\nparameters.p.least=1", "least with most"),
        ("[commands.echo]\nabout='x'\nargv=['/bin/echo','{p}']\n[commands.echo.parameters.p]", "one of one_of"),
        ("[commands.echo]\nabout='x'\nargv=['/bin/echo']\nwrite=['srv']", "regex"),
        ("[commands.echo]\nabout='x'\nargv=['/bin/echo']\nshell=true", "shell"),
        ("[commands", "table declaration"),
    ],
)
def test_a_row_with_a_flaw_stops_the_start_and_says_where(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "commands.toml").write_text(text)
    with pytest.raises(SettingsError, match=r"commands\.toml") as error:
        commands_of(str(tmp_path / "commands.toml"))
    assert why in str(error.value)


def test_rows_are_read_as_they_stand(tmp_path: Path) -> None:
    (tmp_path / "commands.toml").write_text(
        "[commands.disk-usage]\nabout = 'free space'\nargv = ['/usr/bin/df', '-h', '{path}']\nread = ['/srv']\n"
        "timeout_s = 5\nparameters.path.one_of = ['/srv', '/var']\n"
    )
    (row,) = commands_of(str(tmp_path / "commands.toml")).values()
    assert row.filled({"path": "/srv"}) == ("/usr/bin/df", "-h", "/srv") and not row.changes
    assert {} == commands_of("")
    with pytest.raises(SettingsError, match="No such file"):
        commands_of(str(tmp_path / "none.toml"))


# -- running ---------------------------------------------------------------------------------------------------------


def test_without_a_sandbox_nothing_is_run_and_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, receipts: Receipts
) -> None:
    monkeypatch.setattr(sandbox, "BWRAP", "no-such-bwrap")
    hand = CommandHand({"echo": ECHO}, receipts)
    assert ("failure", "no_sandbox") == told(hand, task(receipts, word="a", times=1))
    assert hand.trouble is not None and "apt-get install bubblewrap" in hand.trouble
    nothing = CommandHand({}, receipts)
    uvloop.run(nothing.look())
    assert nothing.trouble is None, "who names no commands needs no sandbox"


def test_what_the_operator_has_not_named_is_not_run(receipts: Receipts) -> None:
    hand = CommandHand({"echo": ECHO}, receipts)
    assert ("failure", "unknown_command") == told(hand, task(receipts, "reboot"))
    assert ("failure", "bad_params") == told(hand, task(receipts, word="a", times=99))


@confined
def test_a_command_runs_once_and_its_end_is_told(receipts: Receipts) -> None:
    hand = CommandHand({"echo": ECHO, "false": Command(about="fails", argv=("/usr/bin/false",))}, receipts)
    done = uvloop.run(hand.act(task(receipts, word="hello", times=2)))
    assert "success" == done.outcome and "echo said 15 bytes, and ended with 0" == done.summary
    assert done.receipt is not None and (0, 15) == (done.receipt.status, done.receipt.size_bytes)
    assert "hello/--times=2" == done.output and "hello" not in done.summary
    assert ("failure", "fenced") == told(hand, task(receipts, word="hello", times=2))
    other = Job(swarm="alpha", persona="p01", proposal_id="p-2", action=Action(kind="command.run", target="false"))
    failing = Task(job=other, params=CommandRun(arguments={}), claim=task(receipts).claim, mark="x", timeout_s=9.0)
    assert ("failure", "exit_status") == told(hand, failing)


@confined
def test_what_hinders_at_the_last_moment_is_obeyed(receipts: Receipts) -> None:
    late = Outcome(outcome="failure", summary="the kill switch is on", error="kill_switch")
    what = task(receipts, word="a", times=1)
    hindered = Task(
        job=what.job, params=what.params, claim=what.claim, mark=what.mark, timeout_s=9.0, hindered=lambda: late
    )
    hand = CommandHand({"echo": ECHO}, receipts)
    assert late == uvloop.run(hand.act(hindered))
    assert ("success", None) == told(hand, what), "and it left no receipt"


@confined
def test_what_the_clock_ended_is_a_failure_where_it_could_change_nothing_and_else_unknown(
    receipts: Receipts, tmp_path: Path
) -> None:
    reader = CommandHand({"slow": SLOW}, receipts)
    began = time.monotonic()
    assert ("failure", "interrupted") == told(reader, task(receipts, "slow"))
    assert time.monotonic() - began < 20
    assert "failure" == uvloop.run(reader.inquire(task(receipts, "slow"))).outcome
    writing = Command(about="may change something", argv=SLOW.argv, timeout_s=0.5, write=(str(tmp_path),))
    writer = CommandHand({"slow": writing}, receipts)
    assert "unknown" == uvloop.run(writer.inquire(task(receipts, "slow"))).outcome


def test_an_inquiry_fences_off_what_was_not_begun(receipts: Receipts) -> None:
    hand = CommandHand({"echo": ECHO}, receipts)
    what = task(receipts, word="a", times=1)
    found = uvloop.run(hand.inquire(what))
    assert ("failure", "not_executed") == (found.outcome, found.error)
    assert NO_SANDBOX or ("failure", "fenced") == told(hand, what), "who comes late finds it"
    elsewhere = Task(job=what.job, params=what.params, claim=what.claim, mark="actuator/other/x")
    assert "unknown" == uvloop.run(hand.inquire(elsewhere)).outcome
    old = Task(job=what.job, params=what.params, claim=what.claim, mark=what.mark, age=timedelta(days=20))
    assert "unknown" == uvloop.run(hand.inquire(old)).outcome


# -- no way out ------------------------------------------------------------------------------------------------------


def shell(script: str, **changed: Any) -> tuple[int | None, str]:
    given: dict[str, Any] = {"timeout_s": 20.0, "output_bytes": 10_000, "memory_bytes": 2**28, "file_bytes": 2**20}
    ended = uvloop.run(run(Confined(argv=("/bin/sh", "-c", script), **{**given, **changed})))
    return ended.status, ended.output.decode(errors="replace")


@confined
def test_it_sees_its_own_processes_alone_and_nothing_of_ours() -> None:
    os.environ["SWARM_SECRET"] = "swordfish"
    try:
        status, said = shell("ls -d /proc/[0-9]* | wc -l; cat /proc/*/environ; env; ls /etc /root /home /var 2>&1")
    finally:
        del os.environ["SWARM_SECRET"]
    assert int(said.split()[0]) < 8 and "swordfish" not in said and "passwd" not in said, said
    status, said = shell("id -u; grep CapEff /proc/self/status; unshare -U true && echo nested")
    assert 0 != status and "0000000000000000" in said and "nested" not in said


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """One that nobody in particular can reach, as an operator would give one."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@confined
def test_it_reaches_no_network_no_file_of_ours_and_no_process(shared_folder: Path) -> None:
    mine = shared_folder / "mine.txt"
    mine.write_text("mine")
    mine.chmod(0o666)
    for script in (
        f"cat {mine}",
        f"echo x > {mine}",
        "echo x > /usr/x",
        f"kill -9 {os.getpid()}",
        "cat /proc/net/tcp | grep -c : ; ip addr 2>/dev/null | grep -q eth || exit 7",
        "mount -t tmpfs none /usr",
    ):
        assert 0 != shell(script)[0], script
    assert "mine" == mine.read_text()
    given = shell(f"cat {mine}; echo y >> {mine}", read=(str(shared_folder),))
    assert given[1].startswith("mine") and "Read-only" in given[1]
    shell(f"echo yours > {mine}", write=(str(shared_folder),))
    assert "yours\n" == mine.read_text()


@confined
def test_what_it_begins_ends_with_it_and_its_appetite_is_bounded() -> None:
    status, said = shell("f() { f | f & }; f; sleep 1; echo over")
    assert status is not None and ("Cannot fork" in said or "Resource temporarily" in said)
    mark = f"297.{os.getpid()}"
    status, _ = shell(f"(setsid sleep {mark} &); sleep {mark}", timeout_s=1.0)
    assert status is None
    deadline = time.monotonic() + 10
    while _runs(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(mark)
    status, said = shell("head -c 100000000 /dev/zero", output_bytes=1000)
    assert (0, 1000) == (status, len(said))
    assert 0 != shell("head -c 9000000 /dev/zero > /tmp/big")[0]
    python = shutil.which("python3", path="/usr/bin")
    assert python is None or 0 != shell(f"{python} -c 'bytearray(10**9)'")[0]


def _runs(mark: str) -> bool:
    for each in Path("/proc").iterdir():
        try:
            if each.name.isdigit() and mark.encode() in (each / "cmdline").read_bytes():
                return True
        except OSError:
            continue
    return False
