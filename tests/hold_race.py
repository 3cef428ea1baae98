"""Actuators in processes of their own race for targets on a real broker: no two are ever at one target at the same time.

    python -m tests.hold_race --actions 1000 --processes 4
    python -m tests.hold_race --actions 1000 --processes 2 --same

With `--same` every process is delivered every action, and each is still done once.

The decider, the shell's driving, the log and the look at the hold are the actuator's own; what is done is made up: a file that must not
be there yet is made, and taken away again after a while. Whoever finds it there has met another, which no log could hide. The last line
is one JSON object; `overlaps` must be 0. It also says what a claim costs that holds, beside one that does not, without anybody in the way.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from services.actuator import decider
from services.actuator.terms import Allot, Allotted, Check, Checked, Execute, NotOurs, Outcome
from shared.contracts.action import Action, action_digest
from shared.contracts.events import ActionExecuted, ProposalCreated, TargetHeld
from shared.contracts.ids import fresh_id, utc_now
from shared.decider import Delivered, Effect, Result
from shared.holds import holder_of
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.streams import ensure
from shared.runtime.driving import drive
from shared.runtime.handling import Again, Fold, handle
from tests.broker import Broker
from tests.unit.gate.given import CHARTER, authorized, message_of, proposed, verified

ALWAYS = datetime(2100, 1, 1, tzinfo=UTC)
OVER = "overlap"
PACE_S = 0.02
"""As long as an action takes at most, and as long as who finds a target held waits at most."""


class Hands:
    """One process's. `done` counts what it did, `overlaps` when somebody else was there, `tried` when it went for a claim."""

    def __init__(self, log: JetStreamLog, folder: Path, dice: random.Random, *, busy: bool = True) -> None:
        self._log, self._folder, self._dice, self._busy = log, folder, dice, busy
        self.done = self.overlaps = self.waited = self.tried = 0

    async def perform(self, effect: Effect) -> Result:
        match effect:
            case Check(target=target):
                holder, seq = await holder_of(self._log, target) if target else (None, 0)
                return Checked(
                    actuator=f"race/{os.getpid()}/{fresh_id()}",
                    holder=holder.proposal_id if holder else "",
                    hold_seq=seq,
                )
            case Allot():
                self.tried += 1
                return Allotted(lot_id="lot-1")
            case Execute(job=job, actuator=mark):
                (claim,) = await self._log.read((f"action.claimed.{job.key}",))
                if claim.event.actuator != mark:  # type: ignore[union-attr]
                    return NotOurs()
                return await self._act(job.action.target)
            case _:
                raise TypeError(type(effect).__name__)

    async def _act(self, target: str) -> Outcome:
        self.done += 1
        if not self._busy:
            return Outcome(outcome="success", summary="done")
        place = self._folder / target.replace("/", "_")
        try:
            os.close(os.open(place, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            self.overlaps += 1
            return Outcome(outcome="failure", summary="somebody else was there", error=OVER)
        await asyncio.sleep(self._dice.random() * PACE_S)
        place.unlink()
        return Outcome(outcome="success", summary="done")

    async def bring(self, seq: int) -> None:
        """One authorisation to its outcome, however often it has to wait."""
        recorded = await self._log.get(seq)
        attempt = 0
        while True:
            attempt += 1
            message = Delivered(recorded=recorded, now=utc_now(), attempt=attempt)  # type: ignore[arg-type]
            boundary = decider.boundary(message)
            assert boundary is not None
            verdict = await drive(self._log, handle(Fold(decider, boundary), message, source="race"), self.perform)
            if not isinstance(verdict, Again):
                return
            self.waited += 1
            await asyncio.sleep(min(verdict.delay_s, PACE_S * self._dice.random()))


async def _log(url: str) -> tuple[Connection, JetStreamLog]:
    connection = await Connection.open(url, name="race")
    return connection, JetStreamLog(connection, service="race", instance="race-1")


async def permit(log: JetStreamLog, number: int, target: str) -> int:
    """One authorised proposal to write the file; the sequence of its authorisation."""
    action = Action(kind="file.write", target=target, params={"content": str(number)})
    whose = {"swarm": "alpha", "persona": "p01"}
    about = {"proposal_id": f"r-{number}", "action": action}
    created: ProposalCreated = proposed(
        **about, digest=action_digest(**whose, charter=CHARTER, action=action), deadline=ALWAYS
    )
    said = (
        verified(created, "medium", proposal_id=created.proposal_id),
        authorized(created, proposal_id=created.proposal_id, approvals=("a",), expires_at=ALWAYS),
    )
    seqs = await log.commit([message_of(event, id=fresh_id(), time=utc_now()) for event in said])
    return seqs[-1]


async def work(url: str, folder: Path, seqs: list[int], seed: int) -> dict[str, int]:
    """What a process does: several actions at once."""
    connection, log = await _log(url)
    hands = Hands(log, folder, random.Random(seed))
    left = iter(seqs)

    async def some() -> None:
        for seq in left:
            await hands.bring(seq)

    await asyncio.gather(*(some() for _ in range(8)))
    await connection.close()
    return {"done": hands.done, "overlaps": hands.overlaps, "waited": hands.waited, "tried": hands.tried}


async def race(folder: Path, actions: int, processes: int, targets: int, *, same: bool = False) -> dict[str, float]:
    """So many actions on so few targets, shared out among processes so that each target is everybody's; or the `same` to all of them."""
    broker = Broker(folder, sync_always=True)  # as a mesh has it
    await broker.start()
    try:
        await ensure(broker.url, None)
        connection, log = await _log(broker.url)
        seqs = [await permit(log, n, f"notes/{n % targets}.md") for n in range(actions)]
        random.Random(7).shuffle(seqs)
        began = time.monotonic()
        workers = []
        for number in range(processes):
            command = (sys.executable, "-m", "tests.hold_race", "--worker", broker.url, str(folder), str(number))
            worker = await asyncio.create_subprocess_exec(*command, stdin=-1, stdout=-1)
            workers.append(worker.communicate(json.dumps(seqs if same else seqs[number::processes]).encode()))
        said = [json.loads(out) for out, _ in await asyncio.gather(*workers)]
        took_s = time.monotonic() - began
        held = await log.read(("target.>", "action.executed.>"))
        claimed = len(await log.read(("action.claimed.>",)))
        executed = [r.event for r in await log.read(("action.executed.>",)) if isinstance(r.event, ActionExecuted)]
        costs = await cost(log, folder)
        await connection.close()
    finally:
        broker.kill()
    return {
        "actions": actions,
        "processes": processes,
        "targets": targets,
        "claimed": claimed,
        "executed": len(executed),
        "overlaps": sum(one["overlaps"] for one in said) + _overlaps([r.event for r in held]),
        "done": sum(one["done"] for one in said),
        "waited": sum(one["waited"] for one in said),
        "tried": sum(one["tried"] for one in said),
        "seconds": round(took_s, 1),
        **costs,
    }


def _overlaps(events: list[object]) -> int:
    """By the log: how often a target was taken that was not free."""
    holder: dict[str, str] = {}
    over: set[str] = set()
    found = 0
    for event in events:
        if isinstance(event, TargetHeld):
            found += holder.get(event.persona, "") not in over | {""}
            holder[event.persona] = event.holder.proposal_id
        elif isinstance(event, ActionExecuted):
            over.add(event.proposal_id)
    return found


async def cost(log: JetStreamLog, folder: Path, each: int = 60) -> dict[str, float]:
    """Milliseconds from an authorisation to its outcome, nothing being done and nobody in the way: with a hold, and without."""
    hands = Hands(log, folder, random.Random(7), busy=False)
    took: dict[str, list[float]] = {"plain": [], "holding": []}
    for number in range(2 * each):
        kind = ("plain", "holding")[number % 2]
        target = f"findings/alpha/p01/c{number}.md" if kind == "plain" else f"notes/c{number}.md"
        seq = await permit(log, 1_000_000 + number, target)
        began = time.perf_counter()
        await hands.bring(seq)
        took[kind].append((time.perf_counter() - began) * 1000)
    plain, holding = median(took["plain"]), median(took["holding"])
    return {"plain_ms": round(plain, 2), "holding_ms": round(holding, 2), "holding_by_plain": round(holding / plain, 2)}


def main() -> int:
    if sys.argv[1:2] == ["--worker"]:
        url, folder, number = sys.argv[2:5]
        print(json.dumps(asyncio.run(work(url, Path(folder), json.load(sys.stdin), int(number)))))
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--actions", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--targets", type=int, default=20)
    parser.add_argument("--same", action="store_true", help="every process is delivered every action")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(race(Path(folder), wanted.actions, wanted.processes, wanted.targets, same=wanted.same))
    print(json.dumps(found))
    counted = {found[name] for name in ("done", "claimed", "executed")}
    return int(bool(found["overlaps"]) or counted != {wanted.actions})


if __name__ == "__main__":
    sys.exit(main())
