"""Lines of a pipe, as somebody writes them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from services.cli.observe.text import LONGEST_BOM, Lines, Notice, encoding_of

CHUNK = 256 * 1024


async def pipe_lines(
    descriptor: int, notice: Notice, encoding: str | None = None, *, name: str = "stdin"
) -> AsyncIterator[list[str]]:
    """Lists of lines; ends when the writer does. Raises `OSError`."""
    lines: Lines | None = None
    head = b""
    while True:
        await _readable(descriptor)
        try:
            data = os.read(descriptor, CHUNK)
        except BlockingIOError:
            continue
        if lines is None:
            head += data
            if data and len(head) < LONGEST_BOM and head[:1] in (b"\xef", b"\xff", b"\xfe", b"\0"):
                continue
            lines, data = Lines(notice, name, encoding_of(head, encoding)), head
            found = lines.feed(data)
        else:
            found = lines.feed(data)
        if found:
            yield [line.text for line in found]
        if not data:
            yield [line.text for line in lines.end()]
            return


async def _readable(descriptor: int) -> None:
    """Returns when reading would not wait."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(descriptor, ready.set)
    except PermissionError:  # epoll(7) takes no regular file, nor /dev/null: those never wait
        return
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
