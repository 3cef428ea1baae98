"""What a data folder remembers of its mesh: one lock, and `mesh.json`, by which other commands find it."""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path

import msgspec
import psutil

from shared.settings import STORE_BYTES


class MeshRunning(Exception):
    """Another mesh holds the data folder."""


class ProcessRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A process of the mesh; pid and start time (seconds since 1970) together name it beyond doubt."""

    pid: int
    started: float


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the wish (`scaling.py`) with this id: `ok` None is at it; `said` is for people, a line each."""

    wish: str
    ok: bool | None = None
    said: tuple[str, ...] = ()


class MeshRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`mesh.json`. `pid` is the supervisor's, None once it stopped in good order; ports are kept for the next run.

    `store_bytes` is the size the streams were declared for.
    """

    data: str
    api_url: str
    nats_url: str
    monitor_url: str
    s3_url: str
    operator_seed_file: str
    pid: int | None = None
    ready: bool = False
    store_bytes: int = STORE_BYTES
    ports: dict[str, int] = {}
    processes: dict[str, ProcessRecord] = {}
    restarts: dict[str, int] = {}
    scaling: Answer | None = None

    @property
    def runs(self) -> bool:
        """Whether the supervisor lives, as far as its pid tells."""
        return self.pid is not None and psutil.pid_exists(self.pid)


def record_file(data: Path) -> Path:
    return data / "mesh.json"


def read_record(data: Path) -> MeshRecord | None:
    """The folder's record, or None when there is none that can be read."""
    try:
        return msgspec.json.decode(record_file(data).read_bytes(), type=MeshRecord)
    except (OSError, msgspec.MsgspecError):
        return None


def write_record(data: Path, record: MeshRecord) -> None:
    """Replace the record in one step."""
    part = data / ".mesh.json.part"
    part.touch(mode=0o600)
    part.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2))
    part.replace(record_file(data))


class Lock:
    """One mesh per data folder. The kernel releases it when the supervisor ends, however it ends."""

    def __init__(self, data: Path) -> None:
        """Raises `MeshRunning`."""
        data.mkdir(mode=0o700, parents=True, exist_ok=True)  # what personas perceive is nobody else's to read
        self._descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            record = read_record(data)
            who = f" (pid {record.pid})" if record and record.pid else ""
            raise MeshRunning(f"a mesh already runs on {data}{who}; stop it, or use another --data") from None

    def release(self) -> None:
        os.close(self._descriptor)


def identify(pid: int) -> ProcessRecord | None:
    """The record of a live process."""
    try:
        return ProcessRecord(pid=pid, started=psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def end_leftovers(record: MeshRecord) -> list[str]:
    """Kill what a crashed supervisor left behind; names. Only what is provably ours: same pid and same start time."""
    ended = []
    for name, left in record.processes.items():
        try:
            process = psutil.Process(left.pid)
            if abs(process.create_time() - left.started) < 0.01 and process.status() != psutil.STATUS_ZOMBIE:
                process.send_signal(signal.SIGKILL)
                process.wait(5)
                ended.append(name)
        except psutil.Error:
            continue
    return ended
