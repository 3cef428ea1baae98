"""What a log is to the rest of the code.

A commit is atomic and conditional: either all its events are stored, contiguous and once, or none is. A refusal has stored
nothing. A commit that returned is durable. A commit whose answer was lost is resolved inside `commit` by re-reading, so a
caller sees only three outcomes: stored, refused, or the log is away.

Guards count what is stored, readable or not: whoever keeps an expected sequence keeps it from `stored`, `tail` or `ends`, which
tell of unreadable messages too; `read` and `last` are for those who want to know what was said.

Deliveries are at least once; order is the stream's. Nothing here makes an effect happen once except a guarded commit.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

import msgspec

from shared.contracts.envelope import Message, Recorded, Stored


class Expect(msgspec.Struct, frozen=True, gc=False):
    """A boundary: the last sequence on `subject_filter` must still be `last_seq` (0: nothing there yet)."""

    subject_filter: str
    last_seq: int


class StaleBoundary(Exception):
    """The boundary moved; nothing was stored. Remedy: read on from where you were and decide again."""


class DuplicateEvent(Exception):
    """An event's id is already in the log, and not as this commit; nothing was stored. Remedy: as for a stale boundary."""


class LogUnavailable(Exception):
    """The broker cannot be asked now. Remedy: retry later; a repeated commit is safe, its events keep their ids."""


def jittered(pause_s: float) -> float:
    """A pause, or up to half as much again, so that those who were refused together do not come again together."""
    return pause_s * random.uniform(1.0, 1.5)


class ConsumerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A durable consumer. `ack_wait_s` is renewed by in-progress while a handler works; `max_ack_pending` bounds all its clients.

    It is far more than is held at once, for at that bound the broker delivers nothing more to anybody.

    From the `max_deliver`th delivery on, whoever gets it sends it to the dead letters; the log delivers it until then and after.
    """

    name: str
    filters: tuple[str, ...]
    stream: str = "SWARM"
    ack_wait_s: float = 5.0
    max_deliver: int = 20
    max_ack_pending: int = 32_768


class Delivery(Protocol):
    """One delivery of one stored message; ends in exactly one of ack, nak, dead."""

    recorded: Stored
    subject: str
    seq: int
    attempt: int
    size: int
    """Bytes of its body."""

    def ack(self) -> None: ...
    def nak(self, delay_s: float) -> None: ...
    def in_progress(self) -> None: ...
    async def dead(self, reason: str, detail: str) -> None:
        """Store the raw message with its reason in the dead letters, then term it. Raises `LogUnavailable`."""


class Puller(Protocol):
    """A continuous pull on one durable consumer; one per process."""

    def __aiter__(self) -> AsyncIterator[Delivery]: ...
    async def stop(self) -> None:
        """Ask for no more; the iterator ends after what was already received."""


class Tail(Protocol):
    """An ordered, unacknowledged reading of the log from a sequence on, for projections; survives restarts of the broker."""

    position: int
    """Every matching message up to this stream sequence has been yielded."""

    pending: int
    """How many more matched when the last one that was yielded came from the broker."""

    def __aiter__(self) -> AsyncIterator[Stored]: ...
    async def caught_up(self) -> None:
        """Returns once everything that was in the log when the tail began has been yielded and taken."""

    async def stop(self) -> None: ...


class Log(Protocol):
    """The log `SWARM`, and the short-lived `RECALL` for the classes that live there."""

    async def commit(self, messages: Sequence[Message], expect: Sequence[Expect] = ()) -> tuple[int, ...]:
        """Store all messages or none; their sequences. At most one expectation per message.

        Raises `StaleBoundary`, `DuplicateEvent`, `LogUnavailable`, `Malformed` (oversized).
        Committing a single unguarded event again returns the sequence it already has; a guarded one is stale by then.
        """

    async def read(
        self, filters: Sequence[str], after: int = 0, *, upto: int | None = None, limit: int | None = None
    ) -> list[Recorded]:
        """Events on the filters with `after` < sequence <= `upto`, in stream order, the first `limit`. Unreadable ones are left out."""

    async def stored(self, filters: Sequence[str], after: int = 0, *, upto: int | None = None) -> list[Stored]:
        """As `read`, with what is unreadable."""

    async def ends(self, filters: Sequence[str]) -> tuple[int, ...]:
        """The last sequence on each filter, readable or not: what a guard on it is compared with. 0 where there is nothing."""

    async def get(self, seq: int) -> Stored | None:
        """The message at a sequence, or None when there is none."""

    async def newest(self, filters: Sequence[str]) -> list[Stored]:
        """The last message on each subject of the filters, readable or not, in stream order. Raises `LogUnavailable`."""

    async def last(self, filters: Sequence[str]) -> list[Recorded]:
        """The last event of every subject the filters match that can be read, in stream order.

        A wildcard may match at most 1024 subjects (a limit of the broker); name the subjects where there can be more.
        """

    async def bury(self, seq: int, reason: str, detail: str) -> None:
        """Send a stored message to the dead letters, in the name of this service. Raises `LogUnavailable`."""

    def tail(
        self,
        filters: Sequence[str],
        after: int = 0,
        *,
        stream: str = "SWARM",
        wanted: Callable[[str], bool] = lambda subject: True,
    ) -> Tail:
        """What is on a subject that is not `wanted` is yielded as `Passed`, and costs no decoding."""

    def pull(self, spec: ConsumerSpec) -> Puller: ...


class Entry(msgspec.Struct, frozen=True):
    """A value in a bucket, and the revision that guards its next change."""

    key: str
    value: bytes
    revision: int


class KeyValue(Protocol):
    """A bucket: `leases` (entries may expire), `checkpoints` or `policies`."""

    async def get(self, key: str) -> Entry | None: ...
    async def put(self, key: str, value: bytes, *, revision: int | None = None, ttl_s: int | None = None) -> int:
        """The new revision. `revision` 0: only if absent; a number: only if unchanged (else `StaleBoundary`)."""

    async def delete(self, key: str, *, revision: int | None = None) -> None: ...
    async def entries(self, key_filter: str = ">") -> list[Entry]:
        """Live entries whose key matches a NATS filter; at most 1024 keys may (a limit of the broker), else `LogUnavailable`."""
