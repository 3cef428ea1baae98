"""What this actuator has claimed, in its own folder, on disk before anything is done.

The log may go back behind a claim: then nothing there tells that the action was perhaps done. The journal does. A claim in it and
not in the log is lost; the action is never done again, its outcome is `unknown`, and a person decides.

One JSON object a line; a last line that a crash cut short is left out. All that come while one is written go to disk together. What
blocks is called in threads.
"""

from __future__ import annotations

import asyncio
import os
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import structlog

from shared.contracts.ids import EventId, Instant, Sha256, Token
from shared.gathering import Gathering

log = structlog.get_logger()

KEPT = timedelta(days=30)
"""Longer than any authorisation lasts, and as long as receipts are kept."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A claim that was in the log when it was written down."""

    swarm: Token
    persona: Token
    proposal_id: Token
    digest: Sha256
    claim_id: EventId
    at: Instant

    @property
    def key(self) -> str:
        return f"{self.swarm}.{self.persona}.{self.proposal_id}"


class Journal:
    """The claims of the last 30 days by key. Raises `OSError` when the file cannot be used."""

    def __init__(self, file: Path, now: datetime) -> None:
        self.entries: dict[str, Entry] = {}
        self._together = Gathering(self._write)
        file.parent.mkdir(parents=True, exist_ok=True)
        self._read(file, now - KEPT)
        beside = file.with_name(file.name + ".tmp")
        beside.write_bytes(b"".join(map(_line, self.entries.values())))
        os.chmod(beside, 0o600)
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(beside, file)
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        folder = os.open(file.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    async def put(self, entry: Entry) -> None:
        """Returns when it is on disk. Raises `OSError`."""
        await self._together.of(entry)
        self.entries[entry.key] = entry

    async def _write(self, entries: list[Entry]) -> list[None]:
        await asyncio.to_thread(self._append, b"".join(map(_line, entries)))
        return [None] * len(entries)

    def _append(self, lines: bytes) -> None:
        if os.write(self._file, lines) != len(lines):
            raise OSError("the journal of claims could not be written whole")
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)

    def _read(self, file: Path, since: datetime) -> None:
        try:
            lines = file.read_bytes().splitlines()
        except FileNotFoundError:
            return
        for number, line in enumerate(lines, start=1):
            try:
                entry = msgspec.json.decode(line, type=Entry)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                log.warning("journal_line_left_out", line=number, why=str(error))
                continue
            if entry.at >= since:
                self.entries[entry.key] = entry


def _line(entry: Entry) -> bytes:
    return msgspec.json.encode(entry) + b"\n"
