"""What a row of each kind looks at. Nothing here decides whether it may; whoever calls bounds the time.

Bytes are as they came: hostile ones end as an answer that is cut, or says that it is no text.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Mapping
from typing import assert_never
from urllib.parse import urlsplit

import httpx
import msgspec

from services.checker.outside.given import Outside
from shared.contracts.action import Scalar
from shared.outside.addresses import is_public, resolved
from shared.outside.filing import FOLDER, READ
from shared.outside.getting import exchange
from shared.outside.mcp.servers import Server
from shared.outside.mcp.session import Answered, NoServer, Refused, Talk, talk
from shared.outside.probes import (
    Asked,
    CommandProbe,
    FileGrep,
    FileRead,
    HttpGet,
    McpRead,
    PrometheusQuery,
    filled,
    url_of,
)
from shared.outside.sandbox import Confined, NoSandbox, available, run

CONNECT_S = 5.0
MEGABYTE = 1024 * 1024
GREPPED_BYTES = 64 * MEGABYTE
"""Of a file, so much is looked through for words."""
CHUNK = 256 * 1024


class Unanswered(Exception):
    """It could not be asked, or gave no answer; the message says why."""


class Looked(msgspec.Struct, frozen=True):
    """What came: from where, in words; the bytes, and what of them was left out. `status` is a code of HTTP, or a command's."""

    where: str
    body: bytes
    cut: str = ""
    status: int | None = None


async def looked(outside: Outside, row: Asked, given: Mapping[str, Scalar]) -> Looked:
    """What the row's answer is. Raises `Unanswered`, `OSError`."""
    match row:
        case FileRead():  # and `file.grep`
            return await asyncio.to_thread(_file, row, given)
        case HttpGet() | PrometheusQuery():
            return await _url(outside, row, url_of(row, given))
        case CommandProbe():
            return await _command(row, given)
        case McpRead():
            return await _tool(outside.servers, row, given)
        case _:
            assert_never(row)


def _file(row: FileRead, given: Mapping[str, Scalar]) -> Looked:
    """By descriptors, through no symbolic link, so that no path leads out of the root."""
    *folders, name = filled(row.path, given).split("/")
    if any(part in ("", ".", "..") for part in (*folders, name)):
        raise Unanswered(f"{row.path} so filled is no path below its root")
    current = os.open(row.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            deeper = os.open(folder, FOLDER, dir_fd=current)
            os.close(current)
            current = deeper
        descriptor = os.open(name, READ, dir_fd=current)
    finally:
        os.close(current)
    where = f"{row.root}/{'/'.join((*folders, name))}"
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise Unanswered(f"{where} is no file")
        if isinstance(row, FileGrep):
            return _grepped(file, where, filled(row.words, given).encode(), row.output_bytes)
        skipped = max(0, about.st_size - row.output_bytes) if row.tail else 0
        file.seek(skipped)
        body = _read(file, row.output_bytes)
        left = about.st_size - skipped - len(body)
        cut = "; ".join(
            said
            for said in (f"{skipped} bytes before it" if skipped else "", f"{left} bytes after it" if left > 0 else "")
            if said
        )
        return Looked(where, body, cut)


def _grepped(file: object, where: str, words: bytes, most: int) -> Looked:
    """Lines are told as long as they fit; a line that is longer than a chunk is looked at in parts."""
    found, rest, read, more = bytearray(), b"", 0, 0
    while read < GREPPED_BYTES and (chunk := file.read(CHUNK)):  # type: ignore[attr-defined]
        read += len(chunk)
        *whole, rest = (rest + chunk).split(b"\n")
        whole, rest = ([*whole, rest], b"") if len(rest) > CHUNK else (whole, rest)
        for line in whole:
            more += not _takes(found, line, words, most)
    if rest:
        more += not _takes(found, rest, words, most)
    cut = [f"{more} more lines have it"] if more else []
    cut += [f"no more than {read} bytes were looked through"] if read >= GREPPED_BYTES else []
    return Looked(where, bytes(found), "; ".join(cut))


def _takes(found: bytearray, line: bytes, words: bytes, most: int) -> bool:
    """False where the line has the words and does not fit."""
    if words not in line:
        return True
    if len(found) + len(line) + 1 > most:
        return False
    found += line + b"\n"
    return True


def _read(file: object, most: int) -> bytes:
    read = bytearray()
    while len(read) < most and (chunk := file.read(most - len(read))):  # type: ignore[attr-defined]
        read += chunk
    return bytes(read)


async def _url(outside: Outside, row: HttpGet | PrometheusQuery, url: str) -> Looked:
    host = urlsplit(url).hostname
    addresses = await resolved(host)
    inside = [address for address in addresses if not is_public(address)]
    if not addresses or (inside and not row.private):
        raise Unanswered(f"{host} leads to {inside[0]}, which is not public" if inside else f"{host} has no address")
    try:
        answer = await exchange(
            addresses[0], "GET", url, {}, tls=outside.tls, connect_s=CONNECT_S, limit=row.output_bytes
        )
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise Unanswered(f"{host}: {type(error).__name__} {error}") from error
    cut = f"no more than {row.output_bytes} bytes were read" if answer.cut else ""
    if 300 <= answer.status < 400:
        cut = "; ".join(filter(None, (cut, "it leads elsewhere, where nobody follows")))
    return Looked(url, answer.body, cut, answer.status)


async def _command(row: CommandProbe, given: Mapping[str, Scalar]) -> Looked:
    try:
        await available()
    except NoSandbox as error:
        raise Unanswered(str(error)) from error
    argv = tuple(filled(part, given) for part in row.argv)
    ended = await run(
        Confined(
            argv=argv,
            read=row.read,
            network=row.network,
            timeout_s=row.timeout_s,
            output_bytes=row.output_bytes,
            memory_bytes=row.memory_mb * MEGABYTE,
            file_bytes=MEGABYTE,
        )
    )
    cut = [f"no more than {row.output_bytes} bytes were read"] if ended.cut else []
    cut += [f"it was ended after {row.timeout_s:g} s"] if ended.status is None else []
    return Looked(" ".join(argv)[:300], ended.output, "; ".join(cut), ended.status)


async def _tool(servers: Mapping[str, Server], row: McpRead, given: Mapping[str, Scalar]) -> Looked:
    """In a conversation of its own, as long as the tool is what its row pins."""
    where = f"{row.server}/{row.tool}"
    server = servers[row.server]
    tool = server.tools[row.tool]
    if server.argv:
        try:
            await available()
        except NoSandbox as error:
            raise Unanswered(str(error)) from error

    async def say(talk: Talk) -> Answered:
        about = next((one for one in await talk.tools() if one.name == row.tool), None)
        if about is None or about.digest != tool.digest:
            now = "gone" if about is None else about.digest
            raise Refused(f"it is no longer what its row pins: its digest is now {now}")
        arguments = {name: row.arguments[name].outside(value) for name, value in given.items()}
        return await talk.call(row.tool, arguments, row.output_bytes)

    try:
        answered = await talk(server, row.timeout_s, say)
    except (NoServer, Refused) as error:
        raise Unanswered(f"{where}: {error}") from error
    body = answered.text.encode(errors="replace")
    cut = [f"no more than {row.output_bytes} bytes were read"] if len(body) > row.output_bytes else []
    cut += ["it calls that an error"] if answered.failed else []
    return Looked(where, body[: row.output_bytes], "; ".join(cut))
