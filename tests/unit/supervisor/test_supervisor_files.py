"""What the supervisor keeps on disk: logs, keys, the lock, the record; and the ports it chooses."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from services.supervisor.running.logs import MAX_LINE, Lines, LogFile
from services.supervisor.running.ports import FREE, PortTaken, choose
from services.supervisor.running.state import (
    Lock,
    MeshRecord,
    MeshRunning,
    ProcessRecord,
    end_leftovers,
    identify,
    read_record,
    write_record,
)
from services.supervisor.secrets.keys import ensure_keys, ensure_secret


def record(**fields: object) -> MeshRecord:
    return msgspec.structs.replace(
        MeshRecord(data="d", api_url="a", nats_url="n", monitor_url="m", s3_url="s", operator_seed_file="o"),
        **fields,
    )


def test_logs_rotate_by_size_and_the_oldest_goes(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log", max_bytes=10, kept=2)
    for line in ("one four", "two five", "three six", "four sev"):
        log.write(line)
    log.close()
    assert {f.name: f.read_text() for f in tmp_path.iterdir()} == {
        "a.log": "four sev\n",
        "a.log.1": "three six\n",
        "a.log.2": "two five\n",
    }


def test_lines_come_whole_however_the_bytes_were_cut() -> None:
    lines = Lines()
    assert lines.feed(b"one\ntw") == ["one"]
    assert lines.feed(b"o\n\xff\x07\n") == ["two", "�"]
    assert lines.feed(b"x" * (MAX_LINE + 1)) == ["x" * MAX_LINE]
    assert lines.end() == ["x"]
    assert lines.end() == []


def test_keys_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    first = ensure_keys(folder, ["verifier-1", "operator"])
    assert first == ensure_keys(folder, ["verifier-1", "operator"])
    assert first["verifier-1"] != first["operator"]
    assert all(key.startswith("U") for key in first.values())
    assert {str(f.relative_to(folder)): oct(f.stat().st_mode & 0o777) for f in folder.rglob("*")} == {
        "verifier": "0o700",
        "verifier/verifier-1.nk": "0o600",
        "operator": "0o700",
        "operator/operator.nk": "0o600",
    }
    secret = ensure_secret(folder / "s3-secret", length=24)
    assert secret == ensure_secret(folder / "s3-secret", length=24)
    assert len(secret) == 48


def test_a_new_data_folder_is_its_owners_alone(tmp_path: Path) -> None:
    Lock(tmp_path / "data").release()
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0


def test_one_mesh_per_data_folder(tmp_path: Path) -> None:
    first = Lock(tmp_path)
    write_record(tmp_path, record(pid=4711))
    with pytest.raises(MeshRunning, match="pid 4711"):
        Lock(tmp_path)
    first.release()
    Lock(tmp_path).release()


def test_a_record_that_cannot_be_read_is_no_record(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    (tmp_path / "mesh.json").write_text("{")
    assert read_record(tmp_path) is None
    write_record(tmp_path, record(ports={"nats": 1}))
    assert read_record(tmp_path) == record(ports={"nats": 1})


def test_leftovers_end_only_when_pid_and_start_time_agree() -> None:
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as left:
        ours = identify(left.pid)
        assert ours is not None
        recycled = ProcessRecord(pid=left.pid, started=ours.started - 60)
        assert end_leftovers(record(processes={"recycled": recycled})) == []
        assert left.poll() is None
        assert end_leftovers(record(processes={"left": ours, "self": ProcessRecord(pid=os.getpid(), started=0.0)})) == [
            "left"
        ]
        assert left.wait() in (-signal.SIGKILL, 0)  # psutil may have reaped it first
    assert end_leftovers(record(processes={"left": ours})) == []


def test_ports_are_those_of_before_or_free_ones_and_never_the_same_twice() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen(1)
        taken = busy.getsockname()[1]
        first = choose(("a", "b", "c"), host="127.0.0.1", before={"a": taken})
        assert taken not in first.values()
        assert len(set(first.values())) == 3
        assert all(port in FREE for port in first.values())
        with pytest.raises(PortTaken, match=f"port {taken}"):
            choose(("a",), host="127.0.0.1", asked={"a": taken})
    assert choose(("a", "b", "c"), host="127.0.0.1", before=first) == first
