"""`swarm run --demo swarms`: two swarms, each on a log of its own, are asked the same and would write the same file.

Both answer one intent, with what each found in its log. Both propose to write the answer to the intent's one file: a conflict, which is
ruled; the loser is rejected, the winner's file waits for a person, who is played here, and is written. Whether it went so is judged by
the log alone.
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace
from pathlib import Path

import httpx
import msgspec

from services.cli.commands.running.judging import Verdict, judged, report
from services.cli.commands.running.run import start
from services.cli.commands.running.up import where, with_mesh
from services.cli.observe.command import Wanted, send
from services.cli.observe.sending import MAX_BATCH
from services.cli.terminal.bus import LOCAL
from services.cli.terminal.login import connect, login
from services.cli.terminal.output import emit, safe, say
from services.cli.terminal.target import FAILED, OK, Stop, Target, call, rows
from services.supervisor.mesh import Mesh
from services.supervisor.plan import Options
from shared.contracts.events import ConflictResolved
from shared.contracts.ids import fresh_id, utc_now
from shared.log.jetstream import JetStreamLog

SWARMS = {"web": "nginx-upstream-down.log", "db": "postgres-connections.log"}
"""Which swarm watches which log: one evening, on which web servers lost what is behind them and a database had no room left."""
LOGS = Path(__file__).resolve().parents[4] / "tests" / "logs"
GOAL = "Is anything out of the ordinary?"
WITHIN_S, LOOK_S = 80.0, 0.25


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints."""

    ok: bool
    seconds: float
    intent_id: str
    conflicts_ruled: int
    winner: str
    lost: tuple[str, ...]
    cited: dict[str, tuple[str, ...]]
    report: str
    written: str
    problems: tuple[str, ...]


def fresh(target: Target) -> Target:
    """The same, with a data folder of its own below: what was found once is nothing new a second time."""
    return replace(target, data=target.data / f"demo-{utc_now():%Y%m%d-%H%M%S}")


async def swarms(target: Target, options: Options, files: tuple[Path, ...], loop_interval_ms: int) -> int:
    """Exit code: 0 only when by the log everything went as it is said here."""
    watched = dict(zip(SWARMS, files or [LOGS / name for name in SWARMS.values()], strict=True))
    if missing := [str(file) for file in watched.values() if not file.is_file()]:
        raise Stop(f"{missing[0]} is not there; name the two logs with --observe, once for each swarm")
    began = time.monotonic()
    outcome: list[Outcome] = []

    async def work(mesh: Mesh) -> None:
        say(f"ready after {time.monotonic() - began:.1f} s; " + "; ".join(where(mesh)))
        outcome.append(await _played(target, mesh, watched, loop_interval_ms, began))

    say(f"starting a mesh on {target.data}; logs in {target.data / 'logs'}")
    await with_mesh(target.data, options, work)
    if not outcome:
        return FAILED
    _tell(target, outcome[0])
    for problem in outcome[0].problems:
        say(f"not as it should be: {problem}")
    return OK if outcome[0].ok else FAILED


def _tell(target: Target, outcome: Outcome) -> None:
    if target.json:
        emit(outcome)
    elif outcome.report:
        sys.stdout.write(Path(outcome.report).read_text(encoding="utf-8"))


async def _played(target: Target, mesh: Mesh, watched: dict[str, Path], loop_interval_ms: int, began: float) -> Outcome:
    headers = {"Authorization": f"Bearer {target.token}"} if target.token else {}
    connection = await connect(login(LOCAL, target), "swarm run --demo")
    http = httpx.AsyncClient(base_url=mesh.api_url, headers=headers, timeout=20, trust_env=False)
    try:
        async with http:
            log = JetStreamLog(connection, service="demo", instance="demo")
            since = max((r.seq for r in await log.read((">",))), default=0)
            for swarm, file in watched.items():
                await start(http, swarm, loop_interval_ms, f"{swarm}-watcher")
                await send(
                    target, Wanted(str(file), swarm, file.name, None, False, False, False, MAX_BATCH, (), LOOK_S)
                )
            play = Play(http, log, since, WITHIN_S - (time.monotonic() - began))
            for swarm in watched:
                await play.until(f"hypothesis.raised.{swarm}.>", f"{swarm} finds something")
            intent = await play.ask(GOAL, tuple(watched))
            say(f"asked both: {GOAL} (swarm intent show {intent})")
            await play.until("intent.closed.*.all." + intent, "the intent is closed")
            await play.until("conflict.resolved.>", "the conflict over its file is ruled")
            winner = await play.approve()
            await play.until(f"action.executed.*.*.{winner}", "the file is written")
            await play.until("proposal.rejected.>", "who lost is told so")
            verdict = judged(await log.read((">",)), since, intent, tuple(watched))
    except Unseen as error:
        verdict = Verdict(problems=(str(error),))
        intent = ""
    finally:
        await connection.close()
    return _outcome(verdict, intent, mesh, time.monotonic() - began)


class Unseen(Exception):
    """What was waited for did not come."""


class Play:
    """Says what is to happen next, and waits in the log until it has. What is at `since` or before is of another run."""

    def __init__(self, http: httpx.AsyncClient, log: JetStreamLog, since: int, within_s: float) -> None:
        self._http = http
        self._log = log
        self._since = since
        self._until = time.monotonic() + within_s

    async def until(self, subjects: str, what: str) -> None:
        """Until there is such an event. Raises `Unseen` when the time is over before."""
        while time.monotonic() < self._until:
            if any(r.seq > self._since for r in await self._log.read((subjects,))):
                say(what)
                return
            await asyncio.sleep(LOOK_S)
        raise Unseen(f"it did not come so far that {what}; see `swarm intent list` and the logs of the services")

    async def ask(self, goal: str, swarms: tuple[str, ...]) -> str:
        """Submits the intent for all of them; its id."""
        body = {
            "goal": goal,
            "swarm_id": swarms[0],
            "tags": ["report"],
            "fan_out": len(swarms),
            "merge": "combine",
            "deadline_secs": 600,
        }
        found = await call(self._http, "POST", "/v1/intents", json=body, headers={"Idempotency-Key": fresh_id()})
        return str(msgspec.convert(found, dict[str, object])["id"])

    async def approve(self) -> str:
        """A person's yes to what has won and waits for one; its id."""
        ruled = [r.event for r in await self._log.read(("conflict.resolved.>",)) if r.seq > self._since]
        winners = {k.proposal_id for e in ruled if isinstance(e, ConflictResolved) for k in e.kept}
        while time.monotonic() < self._until:
            for waiting in await rows(self._http, "/v1/approvals", {"state": "pending"}):
                if waiting["proposal_id"] in winners:
                    which = {"swarm": str(waiting["swarm_id"]), "persona": str(waiting["persona_id"])}
                    body = {"decision": "grant", "digest": waiting["digest"], "request_id": waiting["request_id"]}
                    path = f"/v1/approvals/{waiting['proposal_id']}"
                    await call(self._http, "POST", path, params=which, json=body)
                    say(f"approved: {safe(waiting['summary'])}")
                    return str(waiting["proposal_id"])
            await asyncio.sleep(LOOK_S)
        raise Unseen("nothing waited for approval")


def _outcome(verdict: Verdict, intent: str, mesh: Mesh, seconds: float) -> Outcome:
    written = ""
    if verdict.told:
        file = Path(mesh.data) / "reports" / f"{intent}.md"
        file.parent.mkdir(exist_ok=True)
        file.write_text(report(verdict), encoding="utf-8")
        written = str(file)
    return Outcome(
        ok=not verdict.problems,
        seconds=round(seconds, 1),
        intent_id=intent,
        conflicts_ruled=verdict.ruled,
        winner=verdict.winner,
        lost=verdict.lost,
        cited={swarm: tuple(e.id for e in verdict.cited if e.event.swarm == swarm) for swarm in SWARMS},
        report=written,
        written=str(Path(mesh.workspace) / verdict.file) if verdict.file else "",
        problems=verdict.problems,
    )
