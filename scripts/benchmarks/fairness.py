"""What a swarm feels of another one's attack: the neighbour's latency while it is attacked, against the same right before.

The real gateway, governor, verifier, policy gate and actuator on one broker that syncs always. The neighbour creates a persona
every `SPAWN_EVERY_S` over HTTP, in turn in four swarms, and has a proposal go through the whole gate every `PROPOSE_EVERY_S`,
both timed from when they were due. Each attack is on one other swarm, in rounds, each right after as long a time without:

- `spawn_bomb`: 10 000 spawns at one parent, by one key on 64 connections.
- `colluders`: 100 keys, each with a parent of its own in the same swarm, spawn 100 each.
- `proposals`: 100 personas' 100 proposals each put straight into the log, as a taken-over runner can, all at once.

`neighbour_p95_ratio` is the worst of the first two, `log_flood_p95_ratio` of the last: attacked p95 / p95 before, of the same thing
in the same rounds. The attackers run at the lowest priority, as if on machines of their own; the flood is work for the mesh itself.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path

import httpx
import msgspec

from scripts.benchmarks.bomber import Orders, Report
from scripts.benchmarks.hops import services
from scripts.benchmarks.measure import ROOT, CannotMeasure, Figures, broker, latency, run_async, say
from scripts.benchmarks.pipeline import Driver, Side, Worker, grounds, processes, proposal
from services.supervisor.running.ports import free_port
from shared.contracts.envelope import Message, encode
from shared.contracts.events import EvidenceRef
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog

KEYS = ("neighbour_p95_ratio", "log_flood_p95_ratio")
SPAWN_EVERY_S, PROPOSE_EVERY_S = 0.04, 0.05
COLLUDERS, EACH, CONNECTIONS = 100, 100, 64
BEFORE_S = 10.0
LOUD = "loud"
QUIET = ("quiet-1", "quiet-2", "quiet-3", "quiet-4")
"""So many, for one may spawn 600 times a minute."""


def run(*, quick: bool) -> Figures:
    """Five rounds of each attack, two with `quick`."""
    return run_async(_run(2 if quick else 5))


async def _run(rounds: int) -> Figures:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with broker(sync_always=True) as server:
            port = free_port()
            workers = [*await services(server.url, Path(folder)), _gateway(server.url, Path(folder), port)]
            async with processes(workers):
                connection = await Connection.open(server.url, name="bench-driver")
                try:
                    evidence = await grounds(JetStreamLog(connection, service="bench", instance="bench-1"))
                    driver = await Driver(connection, Side("services")).open()
                    return await _measure(Bench(connection, driver, evidence, port), rounds)
                finally:
                    await connection.close()


async def _measure(bench: Bench, rounds: int) -> Figures:
    figures: Figures = {"rounds": rounds, "before_s": BEFORE_S}
    attacks: tuple[Callable[[int], Awaitable[Figures]], ...] = (bench.spawn_bomb, bench.colluders, bench.proposals)
    worst = {"log_flood_p95_ratio": 0.0, "neighbour_p95_ratio": 0.0}
    await bench.begin()
    for attack in attacks:
        before, during = Felt(), Felt()
        told: list[Figures] = []
        for number in range(rounds):
            say(f"fairness: {attack.__name__}, round {number + 1}")
            await bench.neighbour(before, asyncio.create_task(asyncio.sleep(BEFORE_S)))
            attacking = asyncio.create_task(attack(number))
            await bench.neighbour(during, attacking)
            told.append(await attacking)
        ratios = {"spawn": ratio(during.spawns, before.spawns), "proposal": ratio(during.proposals, before.proposals)}
        key = "log_flood_p95_ratio" if attack == bench.proposals else "neighbour_p95_ratio"
        worst[key] = max(worst[key], *ratios.values())
        figures[attack.__name__] = {
            "attack": told,
            "before": before.figures(),
            "during": during.figures(),
            "p95_ratio": ratios,
        }
    return figures | worst


class Felt:
    """The neighbour's latencies in seconds, and how often it was refused."""

    def __init__(self) -> None:
        self.spawns: list[float] = []
        self.proposals: list[float] = []
        self.refused = 0

    def figures(self) -> Figures:
        return {"spawn": latency(self.spawns), "proposal": latency(self.proposals), "refused": self.refused}


def ratio(during: list[float], before: list[float]) -> float:
    """Of the 95th percentiles."""
    return float(round(latency(during)["p95_ms"] / latency(before)["p95_ms"], 2))


class Bench:
    """The neighbour, and its attackers."""

    def __init__(self, connection: Connection, driver: Driver, evidence: EvidenceRef, port: int) -> None:
        self._connection, self._driver, self._evidence, self._port = connection, driver, evidence, port
        self._log = JetStreamLog(connection, service="bench", instance="bench-2")
        self._http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": "Bearer neighbour"},
            trust_env=False,
            timeout=30,
        )
        self._count = 0

    async def begin(self) -> None:
        """One persona each, and a warm-up."""
        for number in range(COLLUDERS):
            await self._spawn(LOUD, f"parent-{number}")
        await self.neighbour(Felt(), asyncio.create_task(asyncio.sleep(2)))

    async def neighbour(self, felt: Felt, until: asyncio.Task[object]) -> None:
        """Live on, until then."""

        async def spawns() -> None:
            async for due in _schedule(SPAWN_EVERY_S, until):
                self._count += 1
                if await self._spawn(QUIET[self._count % len(QUIET)], f"n{self._count}") == httpx.codes.OK:
                    felt.spawns.append(time.perf_counter() - due)
                else:
                    felt.refused += 1

        async def proposals() -> None:
            async for due in _schedule(PROPOSE_EVERY_S, until):
                await self._driver.once()
                felt.proposals.append(time.perf_counter() - due)

        await asyncio.gather(spawns(), proposals())

    async def spawn_bomb(self, number: int) -> Figures:
        """10 000 spawns at one parent."""
        return await self._bomb(CONNECTIONS, COLLUDERS * EACH // CONNECTIONS, "colluder-0", "parent-0", number)

    async def colluders(self, number: int) -> Figures:
        """100 keys at 100 parents."""
        return await self._bomb(COLLUDERS, EACH, "colluder-{c}", "parent-{c}", number)

    async def proposals(self, number: int) -> Figures:
        """10 000 proposals in the log, and all of them decided; those of 100 personas."""
        encoded = []
        for n in range(COLLUDERS * EACH):
            encoded.append(encode(_anothers(f"r{number}-{n}", f"parent-{n % COLLUDERS}", self._evidence)))
            if n % 10 == 0:
                await asyncio.sleep(0)
        began = time.perf_counter()
        for n, (subject, lines, body) in enumerate(encoded):
            self._connection.send(subject, body, lines=lines)
            if n % 100 == 0:
                await self._connection.client.flush()
        while (left := COLLUDERS * EACH * (number + 1) - await self._verdicts()) > 0:
            if time.perf_counter() - began > 300:
                raise CannotMeasure(f"{left} proposals of the attack have no verdict after 300 s")
            await asyncio.sleep(0.2)
        return {"seconds": round(time.perf_counter() - began, 1), "proposals": COLLUDERS * EACH}

    async def _verdicts(self) -> int:
        ask = b'{"subjects_filter":"proposal.rejected.%b.>"}' % LOUD.encode()
        answer = await self._connection.request("$JS.API.STREAM.INFO.SWARM", ask)
        return int(msgspec.json.decode(answer.data, type=_Info).total)

    async def _bomb(self, connections: int, each: int, token: str, parent: str, number: int) -> Figures:
        body = {"name": "x", "role": "r", "charter": "c", "persona_id": f"b{number}-{{c}}-{{n}}"}
        orders = Orders(
            host="127.0.0.1",
            port=self._port,
            connections=connections,
            each=each,
            token=token,
            path=f"/v1/swarm/personas/{parent}/spawn",
            body=msgspec.json.encode(body).decode(),
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "scripts.benchmarks.bomber",
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate(msgspec.json.encode(orders) + b"\n")
        if process.returncode:
            raise CannotMeasure(f"the attackers ended with {process.returncode}")
        report = msgspec.json.decode(out.splitlines()[-1], type=Report)
        return {"seconds": round(report.seconds, 1), "statuses": report.statuses, "reasons": report.reasons}

    async def _spawn(self, swarm: str, name: str) -> int:
        body = {"persona_id": name, "name": name, "role": "r", "charter": "c", "swarm_id": swarm}
        return (await self._http.post("/v1/swarm/personas", json=body)).status_code


class _Info(msgspec.Struct):
    total: int = 0


async def _schedule(every_s: float, until: asyncio.Task[object]):  # type: ignore[no-untyped-def]
    """Moments on a fixed schedule, late or not, until then."""
    due = time.perf_counter()
    while not until.done():
        due = max(due + every_s, time.perf_counter() - every_s)
        if (pause := due - time.perf_counter()) > 0:
            await asyncio.sleep(pause)
        yield due


def _anothers(name: str, persona: str, evidence: EvidenceRef) -> Message:
    message = proposal(name, evidence)
    event = msgspec.structs.replace(message.event, swarm=LOUD, persona=persona)
    return msgspec.structs.replace(message, event=event)


def _gateway(url: str, folder: Path, port: int) -> Worker:
    keys = folder / "keys.toml"
    names = ["neighbour", *(f"colluder-{n}" for n in range(COLLUDERS))]
    keys.write_text(
        "".join(
            f'[[keys]]\nsha256 = "{sha256(name.encode()).hexdigest()}"\nprincipal = "{name}"\nscopes = ["control", "read"]\n'
            for name in names
        )
    )
    health = free_port()
    env = {
        "SWARM_NATS_URL": url,
        "SWARM_REQUIRE_SYNC_ALWAYS": "false",
        "SWARM_DATA_DIR": str(folder),
        "SWARM_HTTP_PORT": str(port),
        "SWARM_HTTP_KEYS_FILE": str(keys),
        "SWARM_HEALTH_PORT": str(health),
    }
    return Worker(("-m", "services.gateway"), env, f"http://127.0.0.1:{health}/health/ready")
