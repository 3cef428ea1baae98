"""What a follower keeps on disk, so that another one goes on where it was: one file for each mesh, swarm, source and followed path."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from services.cli.observe.files import Place
from services.cli.terminal.target import Stop, Target

WAIT_S = 5.0


class Pending(msgspec.Struct, frozen=True):
    """A batch that is about to be sent, or was: `key` makes it one."""

    key: str
    body: str


class State(msgspec.Struct, frozen=True):
    """Where everything stands when `pending`, if any, is in; `sequence` is that of the last observation the mesh answered."""

    places: tuple[Place, ...] = ()
    sequence: int = 0
    pending: Pending | None = None


class Kept:
    """The file; one process at a time has it. Without a file nothing is kept. Raises `Stop` when another has it, or it cannot be read."""

    def __init__(self, file: Path | None, notice: Callable[[str], None]) -> None:
        self._file, self._notice, self._lock = file, notice, -1
        self.state = State()
        if file is None:
            return
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(file.with_suffix(".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise Stop("another `swarm observe --follow` of this file into this swarm is at work") from None
        try:
            self.state = msgspec.json.decode(file.read_bytes(), type=State)
        except FileNotFoundError:
            return
        except msgspec.MsgspecError as error:
            os.close(self._lock)
            raise Stop(
                f"{file} says no place ({error}); remove it to begin at the start of what is followed"
            ) from error

    async def save(self, state: State) -> None:
        """Durable when this returns. A disk that is full is waited for."""
        self.state = state
        told = self._file is None
        while self._file is not None:
            try:
                await asyncio.to_thread(_write, self._file, msgspec.json.encode(state))
                return
            except OSError as error:
                if not told:
                    self._notice(f"where it is cannot be kept in {self._file}: {error}; trying again until it can")
                    told = True
                await asyncio.sleep(WAIT_S)

    def close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)


def kept_in(target: Target, swarm: str, source: str, path: Path) -> Path:
    """The file for following that path: beside the mesh's data, or for a mesh elsewhere in the user's state folder."""
    if target.url is None:
        folder = target.data / "observe"
    else:
        state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
        folder = Path(state) / "swarm" / "observe"
    what = "\n".join((target.url or "", swarm, source, os.path.abspath(path)))
    return folder / f"{path.name}-{hashlib.sha256(what.encode()).hexdigest()[:16]}.json"


def _write(file: Path, content: bytes) -> None:
    new = file.with_suffix(".new")
    descriptor = os.open(new, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as out:
            out.write(content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(new, file)
