"""`swarm observe`: what is given, how it is read, and to whom it is sent."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

import httpx

from services.cli.observe.follow import Follower, read_once
from services.cli.observe.host import readings
from services.cli.observe.kept import Kept, State, kept_in
from services.cli.observe.pipe import pipe_lines
from services.cli.observe.sending import Observer
from services.cli.observe.text import checked
from services.cli.terminal.output import say
from services.cli.terminal.target import USAGE, Stop, Target

GONE = ("draining", "reaped")
T = TypeVar("T")
HOST, STDIN = "host", "-"


class Wanted:
    """What the command line says. Raises `Stop` for what cannot be."""

    def __init__(
        self,
        what: str,
        swarm: str,
        source: str | None,
        encoding: str | None,
        follow: bool,
        new_only: bool,
        again: bool,
        batch: int,
        tags: tuple[str, ...],
        every_s: float,
    ) -> None:
        if what == STDIN and sys.stdin is None:
            raise Stop("there is no stdin; give it something to read", USAGE)
        try:
            self.encoding = None if encoding is None else checked(encoding)
        except ValueError as error:
            raise Stop(f"--encoding: {error}", USAGE) from None
        if (new_only or again) and not follow:
            raise Stop("--new-only and --again are for --follow", USAGE)
        self.path = Path("/dev/stdin" if what == STDIN else what)
        self.host = what == HOST
        self.piped = not self.host and self._is_pipe(what)
        self.stdin = what == STDIN
        if self.stdin and not self.piped:
            self.path = Path(os.path.realpath(self.path))  # `< file`
        self.source = source or {STDIN: "stdin", HOST: HOST}.get(what, self.path.name)
        self.swarm, self.follow, self.new_only, self.again = swarm, follow, new_only, again
        self.batch, self.tags, self.every_s = batch, tags, every_s

    def _is_pipe(self, what: str) -> bool:
        """Whether it is read once, as it comes."""
        try:
            kind = os.stat(self.path).st_mode
        except OSError as error:
            if what == STDIN:
                return True
            raise Stop(f"{what} cannot be read: {error.strerror}", USAGE) from None
        if stat.S_ISREG(kind):
            return False
        if what == STDIN or stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
            return True
        raise Stop(f"{what} is no file; give a file, a pipe, '-' for what comes on stdin, or 'host'", USAGE)


async def send(target: Target, wanted: Wanted) -> int:
    """How many were sent. Raises `Stop`, `OSError`."""
    kept = Kept(None, say)
    following = wanted.follow and not wanted.piped and not wanted.host
    if following:
        kept = Kept(kept_in(target, wanted.swarm, wanted.source, wanted.path), say)
    try:
        async with target.client() as client:
            await _tell_if_nobody_lives_there(client, wanted.swarm)
            observer = Observer(client, wanted.swarm, wanted.source, batch=wanted.batch, tags=wanted.tags, notice=say)
            if following:
                if wanted.again:
                    await kept.save(State())
                places = kept.state.places
                follower = Follower(
                    wanted.path,
                    say,
                    encoding=wanted.encoding,
                    places=places,
                    at_end=wanted.new_only,
                )
                return await observer.follow(_counted(follower.chunks(), observer), kept)
            return await observer.take(_counted(_lines(wanted), observer))
    finally:
        kept.close()
        if sys.stderr.isatty():
            sys.stderr.write("\r")


async def _lines(wanted: Wanted) -> AsyncIterator[list[str]]:
    if wanted.host:
        async for chunk in readings(wanted.every_s):
            yield chunk
    elif wanted.piped:
        descriptor = sys.stdin.fileno() if wanted.stdin else os.open(wanted.path, os.O_RDONLY)
        async for chunk in pipe_lines(descriptor, say, wanted.encoding, name=wanted.source):
            yield chunk
    else:
        for chunk in read_once(wanted.path, say, wanted.encoding):
            yield chunk


async def _counted(chunks: AsyncIterator[T], observer: Observer) -> AsyncIterator[T]:
    async for chunk in chunks:
        yield chunk
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{observer.sent} observations")


async def _tell_if_nobody_lives_there(client: httpx.AsyncClient, swarm: str) -> None:
    """A name nobody has would swallow it all in silence. A mesh that does not answer now is waited for later."""
    url: str | None = "/v1/swarm/personas"
    query = {"swarm": swarm, "limit": "1000"}
    while url is not None:
        try:
            answer = await client.get(url, params=query or None)
        except httpx.TransportError:
            return
        if not answer.is_success or any(persona["status"] not in GONE for persona in answer.json()):
            return
        url, query = answer.links.get("next", {}).get("url"), {}
    say(
        f"nobody lives in the swarm {swarm!r}: what is sent is stored, and nobody thinks about it; "
        f"`swarm persona create` with --swarm {swarm} makes somebody, `swarm persona list` shows who there is"
    )
