"""The end of a storm: under load an older copy of the store is put back under the living mesh, and the log grows past it again.

What was acknowledged since the copy is lost, as it must be. What is judged is all else: the mesh says that it is halted, acts on
nothing until a person has it go on, does nothing twice of what was done in the log that is no more, and then brings what is new
to its end.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import httpx
import msgspec

from shared.contracts.events import ProposalEvent
from shared.log.port import LogUnavailable
from tests.chaos.faults import Ground
from tests.chaos.load import APPROVER, Load, Sink

LOAD_S = 5.0
HALT_TIMEOUT_S = 120.0


class RolledBack(msgspec.Struct, kw_only=True):
    """`acted_while_halted` and `doubled` must be 0; `void` and `unknown` are what the person was shown who had it go on."""

    halted: bool = False
    void: int = 0
    unknown: int = 0
    acted_while_halted: int = 0
    doubled: int = 0
    proposals_since: int = 0
    ended_since: int = 0

    @property
    def passed(self) -> bool:
        since = self.proposals_since > 0 and self.ended_since == self.proposals_since
        return self.halted and since and not self.acted_while_halted and not self.doubled


async def roll_back(ground: Ground, load: Load) -> RolledBack:
    """Do it, on a mesh that has come to rest; the caller waits for rest again, and then asks `settle`."""
    report = RolledBack()
    store, older = ground.mesh.data / "nats", ground.mesh.data / "older"
    async with asyncio.TaskGroup() as group:
        for client in _begun_again(load):
            group.create_task(client)
        await asyncio.sleep(LOAD_S)
        await ground.mesh.kill("nats", signal.SIGSTOP)  # what is on the disk now is of one moment
        await asyncio.to_thread(shutil.copytree, store, older)
        await ground.mesh.kill("nats", signal.SIGCONT)
        await asyncio.sleep(LOAD_S)
        load.stop.set()
    await ground.mesh.kill("nats", signal.SIGSTOP)
    await asyncio.to_thread(_put_back, store, older)
    await ground.mesh.kill("nats")
    told = await _halted(load)
    report.halted = told["cause"] == "log_went_back"
    report.void, report.unknown = len(told["void"]), len(told["unknown"])
    await ground.mesh.wait_ready(timeout_s=120)
    before, claimed = set(load.proposed), await _proposals(ground, "action.claimed.>")
    async with asyncio.TaskGroup() as group:
        for client in _begun_again(load):
            group.create_task(client)
        await asyncio.sleep(LOAD_S)
        report.acted_while_halted = len(await _proposals(ground, "action.claimed.>") - claimed)
        await load.insist("POST", "/v1/resume", {"reason": "chaos"}, token=APPROVER)
        await asyncio.sleep(LOAD_S)
        load.stop.set()
    report.proposals_since = len(set(load.proposed) - before)
    return report


async def settle(report: RolledBack, ground: Ground, load: Load, sink: Sink) -> None:
    """Count what came of it, once everything has come to rest."""
    done = await _proposals(ground, "action.executed.>", "proposal.rejected.>")
    since = list(load.proposed)[-report.proposals_since :]
    report.ended_since = sum(1 for proposal in since if proposal in done)
    report.doubled = sum(1 for hits in sink.hits.values() if hits > 1)


def _begun_again(load: Load) -> tuple[Coroutine[Any, Any, None], ...]:
    """The load's clients once more; what they saw in the log before is nothing to cite."""
    load.stop.clear()
    load.observed.clear()
    return load.observe(), load.propose()


def _put_back(store: Path, older: Path) -> None:
    for entry in store.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    shutil.copytree(older, store, dirs_exist_ok=True)
    shutil.rmtree(older)


async def _halted(load: Load) -> dict[str, Any]:
    """The answer of `GET /v1/halt` once it says so."""
    async with asyncio.timeout(HALT_TIMEOUT_S):
        while True:
            answer: httpx.Response = await load.insist("GET", "/v1/halt")
            if answer.status_code == 200 and answer.json()["halted"]:
                return dict(answer.json())
            await asyncio.sleep(0.2)


async def _proposals(ground: Ground, *filters: str) -> set[str]:
    """Ids of the proposals of which there are such events."""
    while True:
        try:
            found = await ground.log.read(filters)
        except LogUnavailable:
            await asyncio.sleep(0.2)
            continue
        return {recorded.event.proposal_id for recorded in found if isinstance(recorded.event, ProposalEvent)}
