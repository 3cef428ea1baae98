"""The watch over processes that hang: bounded patience, never with one that answers, and only for time it was there for."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from services.supervisor.running.logs import LogFile
from services.supervisor.running.ports import free_port
from services.supervisor.running.processes import Child, Spec
from services.supervisor.running.watchdog import EVERY_S, TIMEOUT_S, Patience, Watchdog, has_room

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); print("asked", flush=True)
    def log_message(self, *args): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_patience_ends_after_its_seconds_of_silence_and_one_answer_begins_it_anew() -> None:
    patience = Patience(10.0, 100.0)
    patience.look(answered=True, took_s=1.0)
    assert [False, False, False, True] == [patience.look(answered=False, took_s=3.0) for _ in range(4)]
    patience.look(answered=True, took_s=1.0)
    assert [False, False, False, True] == [patience.look(answered=False, took_s=3.0) for _ in range(4)]


def test_the_first_answer_of_a_process_may_take_longer() -> None:
    patience = Patience(10.0, 100.0)
    assert 34 == 1 + [patience.look(answered=False, took_s=3.0) for _ in range(40)].index(True)
    patience.begin()
    assert not patience.look(answered=False, took_s=3.0)


def test_time_the_watcher_itself_was_away_is_not_held_against_the_process() -> None:
    patience = Patience(10.0)
    patience.look(answered=True, took_s=1.0)
    assert not patience.look(answered=False, took_s=3600.0)
    assert EVERY_S + TIMEOUT_S == patience.silent_s


class Watched:
    """A small server as a child with a watch over it."""

    def __init__(self, folder: Path, patience_s: float) -> None:
        self.said: list[str] = []
        self._heard = asyncio.Event()
        port = free_port()
        url = f"http://127.0.0.1:{port}/"
        spec = Spec(name="server", argv=(sys.executable, "-c", SERVER, str(port)), live_url=url)
        self.child = Child(spec, LogFile(folder / "log"), self._line)
        self._watch = asyncio.create_task(Watchdog(self.child, patience_s=patience_s).run())

    def _line(self, _: str, line: str) -> None:
        self.said.append(line)
        self._heard.set()

    async def asked(self, times: int) -> None:
        """Returns once it answered so many more looks."""
        wanted = self.said.count("asked") + times
        async with asyncio.timeout(60):
            while self.said.count("asked") < wanted:
                self._heard.clear()
                await self._heard.wait()

    async def close(self) -> None:
        self._watch.cancel()
        await self.child.stop()
        self.child.log.close()


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    one = Watched(tmp_path, patience_s=4.0)
    await one.child.start()
    await one.asked(2)  # the second look begins when the answer to the first is in
    yield one
    await one.close()


async def test_a_stopped_process_is_killed_and_started_again(watched: Watched) -> None:
    hung = watched.child.send(signal.SIGSTOP)
    async with asyncio.timeout(60):
        await watched.child.restarted(1)
    await watched.asked(1)
    assert watched.child.pid != hung
    assert any("server does not answer since" in line for line in watched.said)


async def test_a_process_that_was_stopped_for_less_than_its_patience_lives_on(watched: Watched) -> None:
    pid = watched.child.pid
    assert pid is not None
    watched.child.send(signal.SIGSTOP)
    assert psutil.STATUS_STOPPED == await _state(pid)
    watched.child.send(signal.SIGCONT)
    await watched.asked(2)
    assert (pid, 0) == (watched.child.pid, watched.child.restarts)


async def _state(pid: int) -> str:
    """Once it is stopped."""
    async with asyncio.timeout(10):
        while (state := await asyncio.to_thread(psutil.Process(pid).status)) != psutil.STATUS_STOPPED:
            continue
    return state


def test_a_folder_that_is_not_there_has_no_room_and_a_disk_with_space_has(tmp_path: Path) -> None:
    assert (True, False) == (has_room(tmp_path), has_room(tmp_path / "missing"))
