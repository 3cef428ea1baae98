"""What the log says of one proposal, as far as a ruling rests on it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from shared.contracts.envelope import Recorded, Stored
from shared.contracts.events import (
    ActionExecuted,
    ConflictJoined,
    ConflictSettled,
    ProposalAuthorized,
    ProposalKey,
    ProposalRejected,
    ProposalVerified,
)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A proposal and where it stands. `seq` is the last of its life: what guards a word in it. `open`: verified, without a verdict.

    `conflicts` it is or was in, as `<target>.<generation>`; `won` are the targets it was ruled to go first on.
    """

    key: ProposalKey
    seq: int = 0
    verified: ProposalVerified | None = None
    verified_seq: int = 0
    ended: bool = False
    lost: bool = False
    conflicts: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    won: tuple[str, ...] = ()

    @property
    def open(self) -> bool:
        return self.verified is not None and not self.ended and not self.lost


def standing(key: ProposalKey, life: Iterable[Stored]) -> Standing:
    """From all that is stored on its boundary."""
    state = Standing(key=key)
    replace = msgspec.structs.replace
    for message in life:
        state = replace(state, seq=message.seq)
        if not isinstance(message, Recorded):
            continue
        match message.event:
            case ProposalVerified() as event if state.verified is None:
                state = replace(state, verified=event, verified_seq=message.seq)
            case ProposalAuthorized() | ProposalRejected() | ActionExecuted():
                state = replace(state, ended=True)
            case ConflictJoined() as event:
                name = f"{event.target_id}.{event.generation}"
                state = replace(state, conflicts=(*state.conflicts, name), targets=(*state.targets, event.target_id))
            case ConflictSettled() as event:
                won = state.won if event.outcome == "lost" else (*state.won, event.target_id)
                state = replace(state, won=won, lost=state.lost or event.outcome == "lost")
            case _:
                pass
    return state
