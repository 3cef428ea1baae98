"""Whose verdicts are good, and since when: the fold of `signers.changed`, and how to be up to date with it.

Theory of operation. One event has all keys that are good from its sequence on, each with the time it ends; the next one takes the place
of the whole. A verdict is held against the word that stood at its own sequence, and the broker's time of it: so one key follows another
with an overlap, and what was stored before a key was taken away stays what it was. The first word in a log also holds for what is before
it: verdicts of a release that told verifiers their keys by a file.

A word counts when `root` signed it, a key that logs nobody in and that no service has, so neither the broker nor who takes it over makes
a signer; and when its `number` is above the last one's, for a service that was taken over can have the broker store an old event again
(docs/decisions/0017).

Invariants: of two rotations from one state one counts, whatever guarded them; what cannot be read or does not count moves the boundary
all the same.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection
from datetime import datetime

import msgspec

from shared.contracts.envelope import Message, Recorded, Stored, enveloped
from shared.contracts.events import Signer, SignersChanged
from shared.contracts.ids import EVERYONE, fresh_id, utc_now
from shared.crypto import public_keys, verify_signers
from shared.log.port import Expect, Log, LogUnavailable, StaleBoundary
from shared.looking import look
from shared.settings import SettingsError

BOUNDARY = f"signers.changed.{EVERYONE}.{EVERYONE}"
KEPT = 64
"""So many words are remembered."""


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """What was said at `seq`."""

    seq: int
    event: SignersChanged


class Signers(msgspec.Struct, kw_only=True):
    """`words` are those that count, in the order of the log; `strange` is the sequence of one since then that does not, or 0."""

    position: int = 0
    words: list[Word] = []
    strange: int = 0

    def apply(self, message: Stored, roots: Collection[str]) -> None:
        """Take a message of `BOUNDARY`."""
        self.position = message.seq
        if not isinstance(message, Recorded) or not isinstance(event := message.event, SignersChanged):
            return
        if event.number <= self.number or not verify_signers(event, roots):
            self.strange = message.seq
            return
        self.words.append(Word(seq=message.seq, event=event))
        self.strange = 0
        del self.words[:-KEPT]

    @property
    def number(self) -> int:
        return self.words[-1].event.number if self.words else 0

    @property
    def now(self) -> tuple[Signer, ...]:
        """Those of the last word, the newest last."""
        return self.words[-1].event.signers if self.words else ()

    def at(self, seq: int) -> tuple[Signer, ...]:
        """Those of the word that stood at a sequence."""
        if not self.words:
            return ()
        before = bisect_left(self.words, seq, key=lambda word: word.seq)
        return self.words[max(0, before - 1)].event.signers

    def copy(self) -> Signers:
        """One that does not change with this."""
        return msgspec.structs.replace(self, words=list(self.words))


class Followed:
    """Whose verdicts a log says are good, by the word of these roots; `known` as of the last look."""

    boundary = BOUNDARY

    def __init__(self, log: Log, roots: Collection[str]) -> None:
        self.log, self._roots = log, roots
        self.known = Signers()
        self.upto = -1

    async def look(self) -> Signers:
        """All up to now. Raises `LogUnavailable`."""
        await look(self)
        return self.known

    def take(self, message: Stored) -> None:
        """Take a message of the boundary."""
        if message.seq > self.known.position:
            self.known.apply(message, self._roots)

    async def unready(self) -> str | None:
        """Why no verdict can be good now."""
        try:
            return None if (await self.look()).words else NOBODY
        except LogUnavailable as error:
            return str(error)

    def trouble(self) -> str | None:
        """What somebody tried, as of the last look."""
        if not self.known.strange:
            return None
        return f"signers.changed at {self.known.strange} counts for nothing: `verdict.root` did not sign it, or it is an old one"


NOBODY = (
    "no signers.changed in the log is of `verdict.root`, so no verdict is good: run the bootstrap (`swarm bootstrap`)"
)


class Superseded(Exception):
    """What is to be said is older than what the log has, or another's; the message says what to do."""


async def announce(log: Log, event: SignersChanged, clock: Callable[[], datetime] = utc_now) -> bool:
    """Say it, unless it is what stands; whether it was said. Raises `Superseded`, `LogUnavailable`."""
    followed = Followed(log, (event.root,))
    while True:
        known = await followed.look()
        if known.words and known.words[-1].event == event:
            return False
        if event.number <= known.number:
            raise Superseded(
                f"these keys say number {event.number} of who signs verdicts, and the log has number {known.number} already: "
                "they are a copy from before another rotation; use the newest, or make a new root (docs/operations.md, Keys)"
            )
        envelope = enveloped(fresh_id(), source="bootstrap", time=clock())
        try:
            await log.commit([Message(event=event, envelope=envelope)], [Expect(BOUNDARY, known.position)])
        except StaleBoundary:
            continue
        return True


def roots_of(text: str) -> tuple[str, ...]:
    """The setting `verdict.root`. Raises `SettingsError`."""
    try:
        return public_keys(text)
    except ValueError as error:
        raise SettingsError(f"SWARM_VERDICT_ROOT: {error}") from error
