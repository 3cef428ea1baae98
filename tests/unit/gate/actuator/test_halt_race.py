"""A halt at any moment of an action: what is claimed behind it in the log is never carried out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.contracts.envelope import Recorded
from shared.contracts.events import ActionClaimed, ActionExecuted, MeshHalted
from shared.contracts.ids import EVERYONE
from shared.log.memory import MemoryLog
from tests.unit.gate.actuator.test_actuator_effects import Act
from tests.unit.gate.given import message_of

HALTED = MeshHalted(swarm=EVERYONE, persona=EVERYONE, cause="person", reason="now", principal="ann")


class Counted(MemoryLog):
    """Halts before whatever is asked of it as the `at`th, or right after that was answered."""

    def __init__(self, at: int, *, after: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.at, self.after, self.asked, self.armed = at, after, 0, False

    async def _moment(self, *, after: bool) -> None:
        if self.armed and self.asked == self.at and after == self.after:
            self.armed = False
            await super().commit([message_of(HALTED, id="halt")])

    async def _counted(self, asking: Any) -> Any:
        self.asked += self.armed
        await self._moment(after=False)
        answer = await asking
        await self._moment(after=True)
        return answer

    async def commit(self, messages: Any, expect: Any = ()) -> tuple[int, ...]:
        return await self._counted(super().commit(messages, expect))  # type: ignore[no-any-return]

    async def stored(self, filters: Any, after: int = 0) -> Any:
        return await self._counted(super().stored(filters, after))

    async def newest(self, filters: Any) -> Any:
        return await self._counted(super().newest(filters))


def stored_of(log: MemoryLog, cls: type) -> list[Recorded]:
    return [r for r in log.store.records if isinstance(r, Recorded) and isinstance(r.event, cls)]


@pytest.mark.parametrize("after", [False, True])
async def test_at_whatever_moment_the_halt_is_stored_no_claim_behind_it_is_carried_out(
    tmp_path: Path, after: bool
) -> None:
    behind, before, waits = 0, 0, 0
    for moment in range(1, 40):
        act = Act(tmp_path / f"{moment}" / "workspace")
        act.root.parent.mkdir()
        act.log = log = Counted(moment, after=after, clock=lambda act=act: act.now)
        message, actuator = await act.authorize(), act.actuator()
        log.armed = True
        await act.deliver(message, actuator)
        act.opened[0].close()
        if log.armed:
            break  # it was over before
        (halt,), claims, outcomes = (stored_of(log, cls) for cls in (MeshHalted, ActionClaimed, ActionExecuted))
        if not claims:
            assert [] == outcomes and [] == act.files  # it waits until somebody resumes
            waits += 1
        elif claims[0].seq > halt.seq:
            assert ("failure", "halted") == (act.outcome.outcome, act.outcome.error) and [] == act.files
            behind += 1
        else:
            before += 1
    assert behind and before and waits and moment < 39
