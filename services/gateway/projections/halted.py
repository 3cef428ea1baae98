"""What a halt concerns: what is void since the log went back, and of what nobody can tell whether it was done. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from services.gateway.projections.proposals import Life, Proposals
from services.gateway.wire.ids import as_given
from services.gateway.wire.mesh import HaltState, HeldAction
from shared.contracts.events import LostAction
from shared.halts import Halts

SHOWN = 100


def view(halts: Halts, proposals: Proposals, thrown: str | None = None) -> HaltState:
    """The state of halts as it is shown. `thrown`: what the kill switch's file says, where it is on."""
    open_ = [life for life in proposals.lives.values() if not life.done]
    void = [held for life in open_ if (held := _void(life, halts.epoch))]
    lost = [_lost(halts.lost[key], proposals) for key in halts.unseen if key in halts.lost]
    listed = {(held.swarm_id, held.persona_id, held.proposal_id) for held in lost}
    claimed = [held for life in open_ if (held := _claimed(life, halts.epoch))]
    unknown = [*lost, *(h for h in claimed if (h.swarm_id, h.persona_id, h.proposal_id) not in listed)]
    halt = halts.halt
    return HaltState(
        halted=halt is not None or thrown is not None,
        kill_switch=thrown is not None,
        cause=halt.event.cause if halt is not None else "kill_switch" if thrown is not None else None,
        reason=halt.event.reason if halt is not None else thrown or "",
        principal="" if halt is None else halt.event.principal,
        since=None if halt is None else halt.at,
        seq=0 if halt is None else halt.seq,
        epoch=halts.epoch,
        void=_shown(void),
        void_total=len(void),
        unknown=_shown(unknown),
        unknown_total=len(unknown),
    )


def _void(life: Life, epoch: int) -> HeldAction | None:
    """An authorisation or a question to people from before the epoch; one that was claimed is another matter."""
    if life.claimed is not None:
        return None
    if (authorized := next((r for r in life.events if r.event is life.authorized), None)) is not None:
        return _held(life, "authorization") if authorized.seq < epoch else None
    return _held(life, "approval") if life.requested is not None and life.requested.seq < epoch else None


def _claimed(life: Life, epoch: int) -> HeldAction | None:
    """Claimed before the epoch; its outcome may have been in what is gone."""
    return _held(life, "claim") if life.claimed is not None and life.claimed.seq < epoch else None


def _held(life: Life, what: Literal["authorization", "approval", "claim"]) -> HeldAction:
    created = life.created
    return HeldAction(
        proposal_id=as_given(created.proposal_id),
        persona_id=as_given(created.persona),
        swarm_id=as_given(created.swarm),
        what=what,
        in_log=True,
        title=created.title,
        target=created.action.target,
        at=life.events[-1].envelope.time,
    )


def _lost(action: LostAction, proposals: Proposals) -> HeldAction:
    found = proposals.named(action.proposal_id, action.swarm, action.persona)
    return HeldAction(
        proposal_id=as_given(action.proposal_id),
        persona_id=as_given(action.persona),
        swarm_id=as_given(action.swarm),
        what="claim",
        in_log=bool(found),
        title=found[0].created.title if found else "",
        target=found[0].created.action.target if found else "",
        at=action.claimed_at,
    )


def _shown(held: Iterable[HeldAction]) -> tuple[HeldAction, ...]:
    return tuple(sorted(held, key=lambda h: h.at))[-SHOWN:]
