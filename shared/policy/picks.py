"""Which policies people picked over HTTP: to go by, and to be asked beside them; the fold of `policy.picked`.

A gate activates what was picked last unless something was activated since, as it does with what its folder holds: so the newest word wins,
whichever way it came. What is picked is a name among the built-in policies, or the version of some that were in force before.
"""

from __future__ import annotations

import asyncio
import re

import msgspec

from shared.contracts.envelope import Recorded, Stored
from shared.contracts.events import PolicyPicked
from shared.contracts.ids import EVERYONE
from shared.log.port import KeyValue, Log
from shared.looking import look
from shared.policy.bundle import BadBundle, Contents, found, names, read_folder, unpacked

_VERSION = re.compile("[0-9a-f]{64}")
BOUNDARY = f"policy.picked.{EVERYONE}.{EVERYONE}"


class Pick(msgspec.Struct, frozen=True):
    """A person's word, and where it stands."""

    seq: int
    event: PolicyPicked


class Picks:
    """The picks of a log; `active` and `shadow` are the last of each, as of the last look."""

    boundary = BOUNDARY

    def __init__(self, log: Log) -> None:
        self.log = log
        self.active: Pick | None = None
        self.shadow: Pick | None = None
        self.upto = -1

    async def look(self) -> None:
        """All up to now. Raises `LogUnavailable`."""
        await look(self)

    def take(self, message: Stored) -> None:
        """Take a message of the boundary."""
        if not isinstance(message, Recorded) or not isinstance(event := message.event, PolicyPicked):
            return
        last = self.active if event.mode == "active" else self.shadow
        if last is not None and message.seq <= last.seq:
            return
        if event.mode == "active":
            self.active = Pick(message.seq, event)
        else:
            self.shadow = Pick(message.seq, event)


async def contents_of(store: KeyValue, which: str) -> Contents:
    """The files of what was picked. Raises `BadBundle`, `LogUnavailable`."""
    if which in names():
        return await asyncio.to_thread(read_folder, found(which))
    entry = await store.get(which) if _VERSION.fullmatch(which) else None
    if entry is None:
        raise BadBundle(f"{which[:64]!r} is no policy; there are {', '.join(names())}, and versions that were in force")
    return unpacked(entry.value, which)
