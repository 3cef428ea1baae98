"""The real MCP server of `odd_tools.py`, over both ways a server is talked to."""

from __future__ import annotations

import asyncio
import os
import site
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from services.supervisor.running.ports import free_port
from shared.outside.mcp.servers import Server, Tool
from shared.outside.mcp.session import Talk, talk
from shared.outside.sandbox import NoSandbox, available

SCRIPT = Path(__file__).with_name("odd_tools.py")
_BEGIN = "import runpy, sys; sys.path[:0] = [{paths!r}]; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"


def no_sandbox() -> str:
    """Why no server can be begun in one here; empty: one can."""
    if _python() is None:
        return "the Python of this version is where nobody can reach it"
    try:
        asyncio.run(available())
    except NoSandbox as error:
        return str(error)
    return ""


def _python() -> str | None:
    """One that a process which is nobody can run, and that has this one's packages."""
    for path in (Path(sys.base_prefix) / "bin/python3", Path("/usr/bin/python3")):
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        if not path.is_file() or any(not parent.stat().st_mode & 0o001 for parent in path.parents):
            continue
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
        if said.startswith(f"Python {version}."):
            return str(path)
    return None


def by_process(tools: dict[str, Tool], write: Path | None = None) -> Server:
    """`write` is a folder it may write to, where it counts its calls."""
    packages = site.getsitepackages()[0]
    code = _BEGIN.format(paths=packages)
    if write is not None:
        code = f"import os; os.environ['CALLS'] = '{write}/calls'; {code}"
    return Server(
        argv=(_python() or "/nowhere", "-c", code, str(SCRIPT)),
        read=(packages, str(SCRIPT.parent)),
        write=() if write is None else (str(write),),
        tools=tools,
    )


@contextmanager
def by_http(tools: dict[str, Tool], calls: Path) -> Iterator[Server]:
    """A server of its own, for as long as the context lasts."""
    port = free_port()
    environment = {**os.environ, "CALLS": str(calls)}
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(port)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    server = Server(url=f"http://127.0.0.1:{port}/mcp", private=True, tools=tools)
    try:
        _until_it_listens(port, process)
        yield server
    finally:
        process.kill()
        process.wait()


def _until_it_listens(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError("the MCP server does not listen")


async def digests(server: Server) -> dict[str, str]:
    """What rows pin, by tool."""

    async def say(talk: Talk) -> dict[str, str]:
        return {about.name: about.digest for about in await talk.tools()}

    return await talk(server, 30.0, say)
