"""The `swarm` command as a process: one that stays, and those that answer."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cyclopts import App

from services.cli.main import app

ROOT = Path(__file__).parents[2]
PIPE = asyncio.subprocess.PIPE
COMMAND = (sys.executable, "-c", "from services.cli.main import main; main()")


def environment(env: Mapping[str, str]) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("SWARM_")}
    return {**own, "PYTHONPATH": str(ROOT), **env}


async def swarm(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, said: bytes | None = None
) -> tuple[int, Any, str]:
    """Exit code, JSON (the last line's where there are several) and stderr of a command, in a folder without a mesh."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, "--json", cwd=cwd, env=environment(env or {}), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    try:
        async with asyncio.timeout(120):
            out, err = await process.communicate(said)
    finally:
        if process.returncode is None:
            process.kill()
    try:
        answer = json.loads(out or b"null")
    except json.JSONDecodeError:
        answer = json.loads(out.splitlines()[-1])
    return process.returncode or 0, answer, err.decode()


@asynccontextmanager
async def staying(
    arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A command that stays until it is told to end; its errors are in the file `stderr` of `cwd`."""
    with (cwd / "stderr").open("wb") as err:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, *arguments, cwd=cwd, env=environment(env or {}), stdout=PIPE, stderr=err
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(40):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


def flags(*path: str) -> dict[str, tuple[str, ...]]:
    """Every option of a command, by its name, with all its spellings."""
    at: App = app
    for name in path:
        at = at[name]
    arguments = at.assemble_argument_collection()
    return {
        argument.name: tuple(argument.names)
        for argument in arguments
        if argument.show and argument.name.startswith("--")
    }


def commands(at: App = app, *before: str) -> list[tuple[str, ...]]:
    """Every command there is, as the words that name it."""
    found = [(name, at[name]) for name in at if not name.startswith("-")]
    return [
        way
        for name, below in found
        for way in (commands(below, *before, name) if any(not n.startswith("-") for n in below) else [(*before, name)])
    ]
