"""Whether the mesh is halted, and from where on the log counts for actions: the fold of `mesh.*`. Pure.

Halted, nothing is authorised and nothing done; what waits goes on waiting until a person resumes. A halt because the log went back
begins an epoch with its sequence: what was authorised or approved before it is void, for the log does not tell any more what became
of it. Actions that were claimed in what is lost (`LostAction`) are never done again, whoever authorises them.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from shared.contracts.envelope import Recorded, Stored
from shared.contracts.events import LostAction, MeshHalted, MeshResumed
from shared.contracts.ids import hash64

BOUNDARY = "mesh.*.all.all"
MAX_LOST = 10_000
"""So many lost actions are kept whole."""
LOST_IN_ONE = 64
"""Of an event."""


class Halt(msgspec.Struct, frozen=True, kw_only=True):
    """The halt that is in force."""

    event: MeshHalted
    seq: int
    at: datetime


class Halts(msgspec.Struct, kw_only=True):
    """`seq` is the last on the boundary; `epoch` the sequence of the newest halt because the log went back, and `epoch_at` when it
    was stored. `gone` has the hashes of all lost actions' keys, for ever, `lost` the newest of them by key, and `unseen` those of
    them that nobody has been shown by a resume."""

    seq: int = 0
    halt: Halt | None = None
    epoch: int = 0
    epoch_at: datetime | None = None
    gone: set[int] = set()
    lost: dict[str, LostAction] = {}
    unseen: dict[str, None] = {}

    def is_lost(self, key: str) -> bool:
        """Whether that action is never to be done again: it was claimed in what is lost."""
        return hash64(key) in self.gone

    def copy(self) -> Halts:
        """One that does not change with this."""
        return msgspec.structs.replace(self, gone=set(self.gone), lost=dict(self.lost), unseen=dict(self.unseen))

    @property
    def why(self) -> str | None:
        """Why nothing is done now, as a sentence; None when actions go on."""
        if self.halt is None:
            return None
        event = self.halt.event
        who = f" by {event.principal}" if event.principal else ""
        return f"the mesh is halted{who}: {event.reason or event.cause}; `swarm resume` goes on"


def evolve(halts: Halts, message: Stored) -> None:
    """Takes in one message of the boundary, in place."""
    halts.seq = message.seq
    if not isinstance(message, Recorded):
        return
    match message.event:
        case MeshHalted() as event:
            halts.halt = Halt(event=event, seq=message.seq, at=message.stored_at)
            if event.cause == "log_went_back":
                halts.epoch, halts.epoch_at = message.seq, message.stored_at
                for action in event.lost:
                    key = lost_key(action)
                    halts.gone.add(hash64(key))
                    halts.lost[key] = action
                    halts.unseen[key] = None
                while len(halts.lost) > MAX_LOST:
                    oldest = next(iter(halts.lost))
                    del halts.lost[oldest]
                    halts.unseen.pop(oldest, None)
        case MeshResumed():
            halts.halt = None
            halts.unseen.clear()
        case _:
            pass


def lost_key(action: LostAction) -> str:
    """What names an action for ever."""
    return f"{action.swarm}.{action.persona}.{action.proposal_id}"
