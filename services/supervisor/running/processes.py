"""One child process: start it, pass its lines on, start it again when it dies, stop it.

Invariants:
- a child never outlives its supervisor, not even one that was killed with -9: the kernel kills it (PR_SET_PDEATHSIG);
- a child in its own session hears no Ctrl-C of the terminal: only the supervisor ends it, in its order;
- restarts back off exponentially and begin anew once a run was stable;
- neither a full disk nor a listener that went away ends the watch over a child, or leaves its output unread.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec

from services.supervisor.running.logs import Lines, LogFile
from shared.ending import ended

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 10.0
STABLE_S = 10.0
_PR_SET_PDEATHSIG = 1

LineSink = Callable[[str, str], None]
"""Called with a process name and one line of its output."""


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """How to run one process. It is ready when `ready_url` answers 200, or anything at all with `any_answer`.

    One that gives no answer at `live_url` hangs. What `may_be_unwell` answers there 200 while it can work, and lives all the same.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = {}
    cwd: str | None = None
    ready_url: str | None = None
    live_url: str | None = None
    any_answer: bool = False
    may_be_unwell: bool = False
    grace_s: float = 10.0


def restart_delay(failures: int) -> float:
    """Seconds to wait before the restart after `failures` unstable runs in a row (1: the first)."""
    return float(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(failures - 1, 16)))


def failures_after(failures: int, ran_s: float) -> int:
    """Unstable runs in a row, after one that took `ran_s` seconds."""
    return 1 if ran_s >= STABLE_S else failures + 1


class Child:
    """Keeps one process running from `start` to `stop`. `clock` is in seconds and only measures how long a run took."""

    def __init__(
        self,
        spec: Spec,
        log: LogFile,
        sink: LineSink | None = None,
        *,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spec = spec
        self.log = log
        self.restarts = 0
        self.exit_code: int | None = None
        """How the last run ended; negative is minus the signal."""
        self.came_up = False
        """Whether the present run was seen ready."""
        self.lines = 0
        """How many the present run wrote."""
        self._sink, self._on_change, self._clock = sink, on_change, clock
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Start it, and keep it running. Raises `OSError` when there is nothing to run."""
        self._stopping.clear()
        await self._spawn()
        self._task = asyncio.create_task(self._keep(), name=f"keep-{self.spec.name}")

    async def run_once(self) -> int:
        """Run it to its end, without restarts; the exit code. Raises `OSError`."""
        await self._spawn()
        try:
            await self._run_out()
        finally:
            self.send(signal.SIGKILL)
        assert self.exit_code is not None
        return self.exit_code

    def give_up(self) -> None:
        """kill -9 and no restart; `stop` must still be awaited."""
        self._stopping.set()
        self.send(signal.SIGKILL)

    def send(self, number: signal.Signals) -> int | None:
        """Signal the process, if it runs; its pid."""
        if (pid := self.pid) is not None and self._process is not None:
            self._process.send_signal(number)
        return pid

    async def restarted(self, count: int) -> None:
        """Returns once the process runs and has been restarted at least `count` times."""
        while self.restarts < count or self.pid is None:
            self._changed.clear()
            await self._changed.wait()

    async def stop(self) -> None:
        """SIGTERM, the grace time, SIGKILL. Returns when it is gone; never started is gone too."""
        self._stopping.set()
        self.send(signal.SIGTERM)
        if self._task is None:
            return
        done, _ = await asyncio.wait([self._task], timeout=self.spec.grace_s)
        if not done:
            self.say(f"did not stop within {self.spec.grace_s} s, killed")
            self.send(signal.SIGKILL)
        await asyncio.shield(self._task)  # whoever is cancelled here is followed by one who stops it again

    async def _keep(self) -> None:
        failures = 0
        while True:
            began = self._clock()
            await self._run_out()
            if self._stopping.is_set():
                return
            failures = failures_after(failures, self._clock() - began)
            while True:
                delay = restart_delay(failures)
                self.say(f"ended ({_exit_text(self.exit_code)}), starts again in {delay:g} s")
                if await ended(self._stopping, delay):
                    return
                try:
                    await self._spawn()
                    break
                except OSError as error:
                    self.say(f"cannot start: {error}")
                    failures += 1
            self.restarts += 1
            self._tell()

    async def _spawn(self) -> None:
        self.came_up, self.lines = False, 0
        self._process = await asyncio.create_subprocess_exec(
            *self.spec.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(self.spec.env),
            cwd=self.spec.cwd,
            start_new_session=True,
            preexec_fn=die_with_parent(os.getpid()),
        )
        self._tell()

    async def _run_out(self) -> None:
        """Pass lines on until the process ends."""
        process = self._process
        assert process is not None and process.stdout is not None
        lines = Lines()
        # A grandchild may hold the pipe open, so the end of the process counts, not the end of the pipe.
        reading = asyncio.create_task(self._read(process.stdout, lines))
        self.exit_code = await process.wait()
        await asyncio.wait([reading], timeout=1.0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        for line in lines.end():
            self._line(line)
        self._tell()

    async def _read(self, stream: asyncio.StreamReader, lines: Lines) -> None:
        while data := await stream.read(65536):
            for line in lines.feed(data):
                self.lines += 1
                self._line(line)

    def _line(self, line: str) -> None:
        with suppress(OSError):
            self.log.write(line)
        with suppress(OSError):
            if self._sink is not None:
                self._sink(self.spec.name, line)

    def say(self, text: str) -> None:
        """A line of the supervisor's among those of the process."""
        self._line(f"supervisor: {self.spec.name} {text}")

    def _tell(self) -> None:
        self._changed.set()
        with suppress(OSError):
            self._on_change()


def die_with_parent(parent: int) -> Callable[[], None]:
    """For `preexec_fn`: have the kernel kill this process when the thread that started it ends. Linux only (prctl(2))."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return ask


def _exit_text(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"
