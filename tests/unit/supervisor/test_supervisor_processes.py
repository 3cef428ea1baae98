"""Children are real processes; what they say tells the test when to go on, never a clock."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from services.supervisor.running import processes
from services.supervisor.running.logs import LogFile
from services.supervisor.running.processes import Child, Spec, failures_after, restart_delay

ROOT = Path(__file__).parents[3]
Make = Callable[..., Child]


class Heard:
    """Lines of children, awaited by their content."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._more = asyncio.Event()

    def __call__(self, name: str, line: str) -> None:
        self.lines.append(line)
        self._more.set()

    async def until(self, text: str, times: int = 1) -> None:
        async with asyncio.timeout(20):
            while sum(text in line for line in self.lines) < times:
                self._more.clear()
                await self._more.wait()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
async def child(tmp_path: Path, heard: Heard) -> AsyncIterator[Make]:
    made: list[Child] = []

    def make(code: str, **options: object) -> Child:
        spec = Spec(name="tiny", argv=(sys.executable, "-u", "-c", code), **options)  # type: ignore[arg-type]
        made.append(Child(spec, LogFile(tmp_path / "tiny.log"), heard))
        return made[-1]

    yield make
    for one in made:
        one.give_up()
        await one.stop()
        one.log.close()


def test_restarts_back_off_to_a_bound_and_a_stable_run_begins_anew() -> None:
    assert [0.1, 0.2, 0.4, 0.8] == [restart_delay(n) for n in (1, 2, 3, 4)]
    assert processes.LONGEST_DELAY_S == restart_delay(1000)
    assert failures_after(5, ran_s=1.0) == 6
    assert failures_after(5, ran_s=processes.STABLE_S) == 1


async def test_what_dies_is_started_again(child: Make, heard: Heard) -> None:
    one = child("print('up'); import signal; signal.pause()")
    await one.start()
    await heard.until("up")
    first = one.send(signal.SIGKILL)
    await heard.until("up", times=2)
    await one.restarted(1)
    assert one.pid not in (None, first)
    assert one.exit_code == -signal.SIGKILL
    await heard.until("ended (signal SIGKILL), starts again in 0.1 s")


async def test_neither_a_listener_that_went_away_nor_a_full_disk_ends_the_watch_over_a_child(tmp_path: Path) -> None:
    def broken(*_: object) -> None:
        raise BrokenPipeError

    code = "print('x' * 200_000); import signal; print('up'); signal.pause()"
    log = LogFile(tmp_path / "tiny.log")
    one = Child(Spec(name="tiny", argv=(sys.executable, "-u", "-c", code)), log, broken, on_change=broken)
    await one.start()
    try:
        async with asyncio.timeout(20):
            while "up" not in log.recent:  # all of its output is read
                await asyncio.sleep(0.01)
            one.send(signal.SIGKILL)
            await one.restarted(1)
    finally:
        one.give_up()
        await one.stop()
        log.close()


async def test_sigterm_comes_first_and_the_last_words_are_kept(child: Make, heard: Heard, tmp_path: Path) -> None:
    one = child(
        "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: (print('bye'), sys.exit(0))); print('up'); signal.pause()"
    )
    await one.start()
    await heard.until("up")
    await one.stop()
    assert one.exit_code == 0
    assert one.restarts == 0
    assert (tmp_path / "tiny.log").read_text().splitlines() == ["up", "bye"]


async def test_what_ignores_sigterm_is_killed_after_its_grace_time(child: Make, heard: Heard) -> None:
    one = child(
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); signal.pause()", grace_s=0.2
    )
    await one.start()
    await heard.until("up")
    await one.stop()
    assert one.exit_code == -signal.SIGKILL


async def test_a_stop_during_the_backoff_is_final(child: Make, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "FIRST_DELAY_S", 3600.0)
    monkeypatch.setattr(processes, "LONGEST_DELAY_S", 3600.0)
    one = child("raise SystemExit(3)")
    await one.start()
    await heard.until("ended (exit code 3), starts again in 3600 s")
    await one.stop()
    assert one.pid is None
    assert one.restarts == 0


async def test_what_cannot_be_started_is_said_at_once(tmp_path: Path) -> None:
    one = Child(Spec(name="none", argv=(str(tmp_path / "nothing"),)), LogFile(tmp_path / "none.log"))
    with pytest.raises(FileNotFoundError):
        await one.start()
    one.log.close()


SUPERVISE = """
import asyncio, sys
from pathlib import Path
from services.supervisor.running.logs import LogFile
from services.supervisor.running.processes import Child, Spec
async def main():
    code = "import os, signal; print('child', os.getpid()); signal.pause()"
    spec = Spec(name="tiny", argv=(sys.executable, "-u", "-c", code))
    await Child(spec, LogFile(Path(sys.argv[1])), lambda name, line: print(line, flush=True)).start()
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_a_supervisor_killed_with_minus_9_leaves_no_child_behind(tmp_path: Path) -> None:
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SUPERVISE,
        str(tmp_path / "tiny.log"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert supervisor.stdout is not None
    async with asyncio.timeout(20):
        said = (await supervisor.stdout.readline()).decode().split()
    assert said[0] == "child"
    process = psutil.Process(int(said[1]))
    supervisor.kill()
    await supervisor.wait()
    await asyncio.to_thread(psutil.wait_procs, [process], timeout=10)
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
