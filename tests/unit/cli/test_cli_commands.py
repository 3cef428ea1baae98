"""The command line as it is typed: what it refuses, and in which words and exit codes. Nothing here needs a mesh."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from services.cli import main as command_line
from services.cli.commands.running.up import with_mesh
from services.cli.terminal.output import emit, emit_line, say, table
from services.cli.terminal.target import Stop, Target
from services.supervisor.mesh import Mesh
from services.supervisor.plan import Options
from services.supervisor.running.state import MeshRecord, read_record, write_record


def swarm(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code."""
    monkeypatch.setattr(sys, "argv", ["swarm", *arguments])
    try:
        with pytest.raises(SystemExit) as ended:
            command_line.main()
    finally:
        structlog.reset_defaults()  # some commands log to the standard error of this test, which ends with it
    assert isinstance(ended.value.code, int)
    return ended.value.code


def record(data: Path, pid: int | None) -> MeshRecord:
    return MeshRecord(
        data=str(data),
        api_url="http://127.0.0.1:1",
        nats_url="nats://127.0.0.1:1",
        monitor_url="",
        s3_url="",
        operator_seed_file=str(data / "operator.nk"),
        pid=pid,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("up", "--api-port", "65536"),
        ("up", "--nats-port", "-1"),
        ("up", "--runners", "0"),
        ("up", "--config", "no/such.toml"),
        ("tap", "--count", "0"),
        ("tap", "thought.>.alpha"),
        ("tap", "a..b"),
        ("observe", "no-such.log"),
        ("observe", "."),
        ("run", "--observe", "."),
        ("run", "--for", "soon"),
        ("status", "--nonsense"),
        ("nonsense",),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2_and_an_object_with_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert 2 == swarm(monkeypatch, *arguments, "--json")
    out, err = capsys.readouterr()
    assert 2 == json.loads(out)["code"]
    assert "Traceback" not in err and err


def test_help_shows_what_it_says(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, words in (("tap", "*.*.alpha.>"), ("up", "<data>/logs")):
        assert 0 == swarm(monkeypatch, name, "--help")
        assert words in "".join(capsys.readouterr().out.split())


def test_a_stopped_mesh_is_not_asked_at_ports_that_may_be_anothers_now(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for pid in (None, ended.pid):
        write_record(tmp_path, record(tmp_path, pid))
        with pytest.raises(Stop, match="no mesh runs on") as stopped:
            _ = Target(data=tmp_path).api_url
        assert 3 == stopped.value.code
    write_record(tmp_path, record(tmp_path, os.getpid()))
    assert "http://127.0.0.1:1" == Target(data=tmp_path).api_url


def test_a_data_folder_that_was_named_is_the_one_that_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "http://127.0.0.1:4096" == Target().api_url
    with pytest.raises(Stop, match="elsewhere"):
        _ = Target(data=Path("elsewhere")).api_url
    assert "http://10.0.0.1:1" == Target(data=Path("elsewhere"), url="http://10.0.0.1:1/").api_url


def test_a_server_that_is_not_there_ends_a_tap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("services.cli.terminal.login.CONNECT_S", 0.1)
    seed = tmp_path / "operator.nk"
    seed.write_text("SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY")
    assert 3 == swarm(monkeypatch, "tap", "--nats-url", "nats://127.0.0.1:1", "--nats-seed", str(seed))
    assert "no NATS server answers at nats://127.0.0.1:1" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_said_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.gz"
    file.write_bytes(b"\x1f\x8bno gzip")
    assert 1 == swarm(monkeypatch, "observe", str(file), "--url", "http://127.0.0.1:1", "--json")
    out, err = capsys.readouterr()
    assert "no whole gzip file" in json.loads(out)["error"]
    assert f"swarm: {file} is no whole gzip file" in err


def test_json_for_a_terminal_has_nothing_it_would_obey(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    hostile = {"title": "a\x1b[2J\x9b2J\u202eb é"}
    emit(hostile)
    emit_line(hostile)
    out = capfdbinary.readouterr().out.decode()
    assert not {"\x1b", "\x9b", "\u202e"} & set(out) and "é" in out
    assert hostile == json.loads(out.splitlines()[-1])


@pytest.mark.parametrize("width", [30, 80])
def test_an_id_is_shown_whole_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    row = {"id": "p-6b8697bf956d589385580d9e", "by": "root-thinker", "title": "a long title of many words " * 4}
    table([row], {"id": "ID", "by": "BY", "title": "TITLE"}, nothing="")
    assert row["id"] in capsys.readouterr().out


def test_a_command_waits_for_no_import_that_it_has_no_use_for() -> None:
    code = "import sys, services.cli.main; print(*{'nats', 'numpy', 'minio', 'services.supervisor.mesh'} & set(sys.modules))"
    assert "\n" == subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_a_terminal_without_utf_8_gets_what_it_can_show_and_json_stays_utf_8() -> None:
    code = "import sys; from services.cli.main import main; sys.argv = ['swarm', *sys.argv[1:]]; main()"
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for arguments, said in (
        (["up", "--help"], b"host:port,? the actuator"),
        (["observe", "é", "--json"], "é cannot be read".encode()),
    ):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, env=env, check=False)
        assert said in done.stdout and b"Traceback" not in done.stderr


def test_what_nobody_hears_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    out, into = os.pipe()
    os.close(out)
    with os.fdopen(into, "w") as closed, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", closed)
        say("is anybody there?")
        os.dup2(os.open(os.devnull, os.O_WRONLY), into)


async def test_a_closed_terminal_takes_the_mesh_down_in_order(tmp_path: Path) -> None:
    async def body(mesh: Mesh) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        await mesh.wait_restarted("nats")

    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is no signal at all
    try:
        await with_mesh(tmp_path, Options(services=(), s3=False), body)
    finally:
        signal.signal(signal.SIGHUP, before)
    stopped = read_record(tmp_path)
    assert stopped is not None
    assert (None, {}) == (stopped.pid, stopped.processes)
