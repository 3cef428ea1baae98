"""Patience with what comes up: it follows progress, and what makes none, however busy, is given up and named."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from services.supervisor.running.coming import Coming, NotReady, Progress
from services.supervisor.running.logs import LogFile
from services.supervisor.running.ports import free_port
from services.supervisor.running.processes import Child, Spec

READING = """
import http.server, json, sys
port, goal = int(sys.argv[1]), int(sys.argv[2])
class Handler(http.server.BaseHTTPRequestHandler):
    looks = 0
    def do_GET(self):
        Handler.looks += 1
        ready = Handler.looks >= goal
        body = json.dumps({"problems": {} if ready else {"projection": "at %d" % Handler.looks},
                           "progress": Handler.looks if "reads" in sys.argv else 0}).encode()
        self.send_response(200 if ready else 503); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def test_one_more_cause_or_a_position_beyond_all_before_is_progress_and_a_repetition_is_not() -> None:
    progress = Progress()
    assert progress.answered("gateway", {"process"}, 0)
    assert not progress.answered("gateway", {"process"}, 0)
    assert progress.answered("gateway", {"projection"}, 0)
    assert progress.answered("gateway", {"projection"}, 10)
    assert not progress.answered("gateway", {"projection", "process"}, 10)
    assert not progress.answered("gateway", {"projection"}, 9)
    assert progress.answered("governor", {"process"}, 5)


def test_a_process_that_crashes_in_a_circle_makes_progress_once_however_much_it_says() -> None:
    progress = Progress()
    assert [True, True, True] == [progress.silent("nats", lines) for lines in (1, 2, 40)]
    assert [False] * 40 == [progress.silent("nats", lines) for lines in range(1, 41)]
    assert progress.silent("nats", 41)


class Slow:
    """A server that is ready at its `goal`-th look; `reads` tells how far it is."""

    def __init__(self, folder: Path, goal: int, *flags: str) -> None:
        self.port = free_port()
        argv = (sys.executable, "-c", READING, str(self.port), str(goal), *flags)
        url = f"http://127.0.0.1:{self.port}/"
        self.child = Child(Spec(name="slow", argv=argv, ready_url=url), LogFile(folder / "log"))

    async def __aenter__(self) -> Child:
        await self.child.start()
        async with asyncio.timeout(60):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return self.child

    async def __aexit__(self, *_: object) -> None:
        await self.child.stop()
        self.child.log.close()


async def test_what_comes_nearer_is_waited_for_beyond_the_patience(tmp_path: Path) -> None:
    async with Slow(tmp_path, 20, "reads") as child:
        loop, told = asyncio.get_running_loop(), list[str]()
        began = loop.time()
        await Coming([child], patience_s=3.0, tell=lambda name, why: told.append(f"{name} {why}")).ready()
        assert loop.time() - began > 3.0
        assert child.came_up


async def test_what_comes_no_nearer_is_given_up_with_the_cause_it_named(tmp_path: Path) -> None:
    async with Slow(tmp_path, 100_000) as child:
        with pytest.raises(NotReady) as ended:
            await Coming([child], patience_s=3.0).ready()
        assert ended.value.why["slow"].startswith("answers 503: projection: at ")
        assert not child.came_up


async def test_what_does_not_answer_is_given_up_too(tmp_path: Path) -> None:
    spec = Spec(name="mute", argv=("sleep", "600"), ready_url=f"http://127.0.0.1:{free_port()}/")
    child = Child(spec, LogFile(tmp_path / "log"))
    await child.start()
    with pytest.raises(NotReady) as ended:
        await Coming([child], patience_s=0.5).ready()
    assert ended.value.why["mute"].startswith("does not answer: ")
    await child.stop()
    child.log.close()
