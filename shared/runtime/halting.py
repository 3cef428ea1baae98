"""Obeying halts, and saying that the log went back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

import structlog

from shared.contracts.envelope import Message, Stored, enveloped
from shared.contracts.events import LostAction, MeshHalted
from shared.contracts.ids import EVERYONE, fresh_id, utc_now
from shared.ending import ended
from shared.halts import BOUNDARY, LOST_IN_ONE, Halts, evolve, lost_key
from shared.log.port import Expect, Log, LogUnavailable, StaleBoundary
from shared.looking import look

log = structlog.get_logger()

EVERY_S = 1.0


class Halting:
    """What the log says of halts, by a look of now."""

    boundary = BOUNDARY

    def __init__(self, log_: Log) -> None:
        self.log = log_
        self.state = Halts()
        self.upto = -1

    @property
    def why(self) -> str | None:
        """Why nothing may be done, by the last look; None when it may."""
        return self.state.why if self.upto >= 0 else "it is yet to be read whether the mesh is halted"

    async def look(self) -> Halts:
        """What holds now. Raises `LogUnavailable`."""
        await look(self)
        return self.state

    def take(self, message: Stored) -> None:
        """Take a message of the boundary."""
        if message.seq > self.state.seq:
            evolve(self.state, message)

    async def follow(self, stopping: asyncio.Event) -> None:
        """Look every second until `stopping`."""
        while not stopping.is_set():
            was = self.why
            try:
                await self.look()
            except LogUnavailable as error:
                log.debug("halts_not_read", why=str(error))
            if self.why != was:
                log.warning("mesh_halted", why=self.why) if self.why else log.info("mesh_not_halted")
            await ended(stopping, EVERY_S)


async def say_went_back(
    log_: Log,
    *,
    source: str,
    reason: str,
    reached: int,
    before: datetime | None,
    lost: Sequence[LostAction] = (),
    clock: Callable[[], datetime] = utc_now,
) -> None:
    """Halt the mesh because the log went back. Raises `LogUnavailable`.

    One that was stored after `before`, by the broker's time, was said because of the same: then only what is lost and not in it
    is added, with another. `reached` is the last sequence that was seen.
    """
    halting, said = Halting(log_), False
    while True:
        state = await halting.look()
        covered = said or (before is not None and state.epoch_at is not None and state.epoch_at > before)
        new = [action for action in lost if not state.is_lost(lost_key(action))]
        if covered and not new:
            return
        event = MeshHalted(
            swarm=EVERYONE,
            persona=EVERYONE,
            cause="log_went_back",
            reason=f"the log went back: {reason}"[:1000],
            reached=reached,
            lost=tuple(new[:LOST_IN_ONE]),
            lost_total=len(lost),
        )
        event_id = fresh_id()
        envelope = enveloped(event_id, source=source, time=clock())
        try:
            await log_.commit([Message(event=event, envelope=envelope)], [Expect(BOUNDARY, state.seq)])
        except StaleBoundary:
            continue
        log.error("mesh_halted", why=event.reason, lost=len(new))
        said = True
