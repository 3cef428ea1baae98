"""`swarm up`: the mesh in the foreground, until a signal."""

from __future__ import annotations

import asyncio
import re
import shlex
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from zlib import crc32

import msgspec

from services.cli.terminal.output import emit_line, safe, say
from services.cli.terminal.target import OK, Stop
from services.supervisor import plan
from services.supervisor.mesh import Mesh, MeshFailed
from services.supervisor.plan import Options
from services.supervisor.running.ports import PortTaken
from services.supervisor.running.processes import LineSink
from services.supervisor.running.state import MeshRunning
from shared.broker import OPERATOR, inbox_prefix
from shared.settings import SettingsError

CONTEXT = "swarm"
"""What the `nats` CLI knows the mesh by."""
_COLOURS = (31, 32, 33, 34, 35, 36, 91, 92, 93, 94, 95, 96)
_S3_FATAL = re.compile(r"F\d{4} |panic: |fatal error: ")
_NATS_CHATTER = re.compile(r"\[(INF|DBG|TRC)\]")
_CONTEXT = ("event", "level", "service", "instance", "timestamp")


async def with_mesh(
    data: Path, options: Options, body: Callable[[Mesh], Awaitable[None]], *, on_line: LineSink | None = None
) -> Mesh:
    """Bring a mesh up, run `body` on it, take it down; the mesh that was. A signal cancels `body`, a second one kills the mesh.

    A terminal that closes is such a signal too, except under nohup. Raises `Stop` when the mesh does not come up, or with
    what `body` wanted to tell the user.
    """
    try:
        mesh = Mesh(data, options, on_line=on_line)
    except (SettingsError, MeshFailed, ValueError) as error:
        raise Stop(str(error)) from error
    stopping = asyncio.Event()

    def signalled() -> None:
        if stopping.is_set():
            mesh.kill_all()
        stopping.set()

    async def whole() -> None:
        async with mesh:
            await mesh.wait_ready()
            await body(mesh)

    loop = asyncio.get_running_loop()
    hangup = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
    signals = (signal.SIGINT, signal.SIGTERM, *hangup)
    for number in signals:
        loop.add_signal_handler(number, signalled)
    work, stop = asyncio.create_task(whole()), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            say("stopping; once more kills")
            work.cancel()
        await asyncio.gather(work, return_exceptions=stopping.is_set())
    except (MeshRunning, PortTaken, MeshFailed, OSError, ValueError) as error:
        raise Stop(str(error)) from error
    except BaseExceptionGroup as group:
        if (told := _first_told(group)) is None:
            raise
        raise told from group
    finally:
        stop.cancel()
        for number in signals:
            loop.remove_signal_handler(number)
    return mesh


def _first_told(group: BaseExceptionGroup[BaseException]) -> Stop | OSError | None:
    """What a task group of `body` wanted to tell the user: a reason to stop, or a file or pipe that failed."""
    for error in group.exceptions:
        found = _first_told(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, Stop | OSError):
            return found
    return None


async def up(data: Path, options: Options, *, as_json: bool, quiet: bool) -> int:
    """Exit code."""

    async def stay(mesh: Mesh) -> None:
        if as_json:
            emit_line({"api_url": mesh.api_url, "nats_url": mesh.nats_url, "data": str(mesh.data), "ready": True})
        for line in where(mesh):
            say(line)
        if mesh.keyless:
            say("There are no API keys: whoever is at this machine is one person, and may approve what they asked for.")
        say("It thinks while it is told to: `swarm start`, `swarm stop`.")
        await asyncio.Event().wait()

    await with_mesh(data, options, stay, on_line=None if quiet else prefixed())
    return OK


def where(mesh: Mesh) -> list[str]:
    """Where everything is."""
    return [
        f"API   {mesh.api_url}",
        f"NATS  {mesh.nats_url}  (key {mesh.key('operator')})",
        f"nats  {nats_context(mesh.nats_url, mesh.key(OPERATOR))}  (once; then docs/nats-cli.md)",
        f"data  {mesh.data}",
        f"halt  `swarm halt`, or touch {mesh.places.kill_switch}  (while it is there, nothing acts)",
    ]


def nats_context(url: str, seed: Path) -> str:
    """The command that has the `nats` CLI talk to this mesh as the operator."""
    words = (
        "nats",
        "context",
        "add",
        CONTEXT,
        "--server",
        url,
        "--nkey",
        str(seed),
        "--inbox-prefix",
        inbox_prefix(OPERATOR),
    )
    return shlex.join((*words, "--select"))


def prefixed() -> LineSink:
    """A sink that writes `name | line` on stderr what concerns a person, coloured on a terminal; JSON log lines are made readable."""
    colour = sys.stderr.isatty()

    def sink(name: str, line: str) -> None:
        if not concerns(name, line):
            return
        prefix = f"{name:<18}|"
        if colour:
            prefix = f"\x1b[{_COLOURS[crc32(name.encode()) % len(_COLOURS)]}m{prefix}\x1b[0m"
        say(readable(line), prefix=f"{prefix} ")

    return sink


def concerns(name: str, line: str) -> bool:
    """Whether a line is for who watches. What the servers below the services say to themselves stays in their logs."""
    if line.startswith("supervisor: "):
        return True
    if plan.is_broker(name):
        return _NATS_CHATTER.search(line) is None
    return name != plan.S3 or _S3_FATAL.match(line) is not None


def readable(line: str) -> str:
    """`level event key=value …` of a JSON log line; any other line as it is."""
    try:
        entry = msgspec.json.decode(line, type=dict[str, object])
    except msgspec.MsgspecError:
        return safe(line, 400)
    rest = " ".join(f"{key}={value}" for key, value in entry.items() if key not in _CONTEXT)
    return safe(f"{entry.get('level', 'info')} {entry.get('event', '')} {rest}", 400)
