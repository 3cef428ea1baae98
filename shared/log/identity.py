"""Whether the log is still the one this process has read.

Theory of operation. A living service holds folds of the log, positions in it and work that was delivered from it. When the log is
another one now (an older store behind a restarted broker, a stream made anew, one that was cut short and has grown past the cut
again), all of that is of no log any more, and nothing that follows from it may be said into this one. So a service keeps marks of
what it reads, is given and commits, and of the log's end; and it looks, after each reconnect before anything may be sent
(`Connection.passes`) and every `EVERY_S` seconds, whether the log still is what it was:

- its stream was made at the same time;
- it does not end before the newest mark;
- no mark has another event in its place. That one is gone (retention) says nothing.

Of several brokers one that is cut off from the others goes on to answer as the leader it was (measured on nats-server 2.15: for 20 s),
and its log ends where it was cut off. So nobody is believed that the log is another one who has not heard of a majority just now.

What is known is kept in the service's own folder, the witness, where the fate of the broker's store does not reach it: so a log
that went back while nobody was alive is noticed at the next start. What was noticed stays so until somebody has acted on it.
"""

from __future__ import annotations

import asyncio
import os
from datetime import datetime
from pathlib import Path

import msgspec
import structlog

from shared.contracts.envelope import Stored
from shared.ending import ended
from shared.log.client.connection import FENCED, Connection, is_status
from shared.log.marks import Mark, Trail
from shared.log.port import LogUnavailable
from shared.log.reading.direct import DIRECT_GET, decode_direct
from shared.patience import Patience

log = structlog.get_logger()

EVERY_S = 10.0
LATE_LOOKS, AGAIN_S = 4, 0.25
"""So often more, and so long after, it is looked whether the log really ends before what is known of it."""
ALONE = "the broker that answers for the log has not heard of a majority of the others"


HEARD_NS = 3 * 10**9
"""A replica tells its leader every second that it is there."""


class _State(msgspec.Struct, frozen=True):
    last_seq: int = 0


class _Replica(msgspec.Struct, frozen=True):
    current: bool = False
    active: int = 0


class _Cluster(msgspec.Struct, frozen=True):
    leader: str = ""
    replicas: tuple[_Replica, ...] = ()


class _Info(msgspec.Struct, frozen=True):
    created: str = ""
    state: _State = _State()
    cluster: _Cluster | None = None
    error: dict[str, object] | None = None

    @property
    def alone(self) -> bool:
        """Whether it comes from one of several brokers that has not heard of a majority just now."""
        if self.cluster is None:
            return False
        heard = sum(replica.current and replica.active < HEARD_NS for replica in self.cluster.replicas)
        return not self.cluster.leader or 1 + heard <= (1 + len(self.cluster.replicas)) // 2


class Witness(msgspec.Struct, frozen=True, kw_only=True):
    """What a service knows of the log. `created` is the broker's word for when the stream was made; marks have the newest first.

    `another`: why the log that was looked at last is not this one.
    """

    created: str
    marks: tuple[Mark, ...]
    another: str | None = None

    @property
    def reached(self) -> int:
        """The last sequence that was seen."""
        return self.marks[0].seq if self.marks else 0

    @property
    def at(self) -> datetime | None:
        """When the newest of it was stored, by the broker's time."""
        return max((mark.stored_at for mark in self.marks if mark.stored_at is not None), default=None)


class Identity:
    """What the log is known by. `trail` is noted by whoever reads; `file` is the witness."""

    def __init__(self, connection: Connection, trail: Trail, file: Path) -> None:
        self._connection, self._trail, self._file = connection, trail, file
        self._created: str | None = None
        self._living = False
        self._saved: Witness | None = None
        self.unsaved: str | None = None
        """Why what is known is not in the witness; None when it is."""
        self.another: str | None = None
        """Why the log is not the one it was, as the end of a sentence; None when it is."""
        self.noticed = asyncio.Event()

    @property
    def sentence(self) -> str | None:
        """What is to be said of a log that is another one, or of one that is yet to be compared; None when all is well."""
        if self.another is not None:
            return f"the log is another one: {self.another}; what was made from the old one is begun anew"
        return FENCED if self._connection.fenced else None

    async def begin(self) -> Witness | None:
        """Look for the first time, waiting for the log as long as it takes.

        What was known of it before, when the log is another one now; then nothing is noted until `accept`.
        """
        known = self._load()
        if known is not None:
            self._created, self.another = known.created, known.another
            self._trail.restore(known.marks)
        patience = Patience("the log")
        while True:
            try:
                same = await self.look()
            except LogUnavailable as error:
                await patience.pause(str(error))
                continue
            patience.over()
            self._living = same
            return None if same else known

    async def accept(self) -> None:
        """From now on the log as it is now is the one that is known. Raises `LogUnavailable`."""
        self._created = self.another = None
        self._trail.restore(())
        await self.look()
        self._living = True

    async def look(self) -> bool:
        """Whether the log is the one that is known; once it is not, that stays. Raises `LogUnavailable`."""
        if self.another is None:
            self.another = await self._difference(self._trail.marks)
            if self._created is not None:
                await asyncio.to_thread(
                    self._save, Witness(created=self._created, marks=self._trail.marks, another=self.another)
                )
        if self.another is not None and self._living and not self.noticed.is_set():
            log.error("log_is_another", why=self.another)
            self._connection.shut()
            self.noticed.set()
        return self.another is None

    async def run(self, stopping: asyncio.Event) -> None:
        """Look every `EVERY_S` until `stopping`."""
        while not await ended(stopping, EVERY_S):
            try:
                await self.look()
            except LogUnavailable as error:
                log.debug("log_not_looked_at", why=str(error))

    async def _difference(self, marks: tuple[Mark, ...], *, late: int = 0) -> str | None:
        answer = await self._connection.look("$JS.API.STREAM.INFO.SWARM")
        info = msgspec.json.decode(answer.data, type=_Info)
        if info.error is not None:
            raise LogUnavailable(f"the log cannot be looked at: {info.error.get('description')}")
        if self._created not in (None, info.created):
            if info.alone:
                raise LogUnavailable(ALONE)
            return f"it was made at {info.created}, the one known before at {self._created}"
        last = info.state.last_seq
        if marks and marks[0].seq > last:
            if late < LATE_LOOKS:  # a leader may take a moment to store what another replica has given already
                await asyncio.sleep(AGAIN_S)
                return await self._difference(marks, late=late + 1)
            if info.alone:
                raise LogUnavailable(ALONE)
            return f"it ends at {last}, and had reached {marks[0].seq}"
        for mark, event in zip(marks, await asyncio.gather(*(self._get(mark.seq) for mark in marks)), strict=True):
            if event is None:
                continue
            if not mark.is_at(event.id, event.stored_at):
                return f"at {mark.seq} is another event than was there before"
            self._trail.date(event)
        self._created = info.created
        if last > (self._trail.newest.seq if self._trail.newest else 0) and (end := await self._get(last)) is not None:
            self._trail.note(end)
        return None

    async def _get(self, seq: int) -> Stored | None:
        answer = await self._connection.look(DIRECT_GET, b'{"seq":%d}' % seq)
        if not is_status(answer):
            return decode_direct(answer)
        if answer.status != "404":
            raise LogUnavailable(f"direct get answered {answer.status} for sequence {seq}")
        return None

    def _load(self) -> Witness | None:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Witness)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("witness_unreadable", file=str(self._file), why=str(error))
            return None

    def _save(self, witness: Witness) -> None:
        """Whole or not at all; a disk that refuses is said."""
        if witness == self._saved:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            beside = self._file.with_name(self._file.name + ".tmp")
            with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(msgspec.json.encode(witness))
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, self._file)
            self._saved, self.unsaved = witness, None
        except OSError as error:
            why = f"{self._file} cannot be written ({error.strerror}): a log that goes back while nobody lives would not be noticed"
            if why != self.unsaved:
                log.warning("witness_not_saved", why=why)
            self.unsaved = why
