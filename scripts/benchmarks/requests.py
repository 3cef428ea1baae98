"""What a proposal that meets nobody costs the broker, with the meta-orchestrator in the mesh and without it.

Everything else is as it is in a mesh: verifier, gate, actuator, governor. One proposal after another, so that nothing is grouped with
anything; each is counted by itself, and the lower quartile is told: what processes say by the clock, now and then, only adds.
`touching` writes files that are nobody's own, and is counted until people are asked; `noop` is counted until it is done.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx

from scripts.benchmarks.hops import services
from scripts.benchmarks.measure import Figures, broker, percentile, say
from scripts.benchmarks.meeting import Arrivals, said, writes
from scripts.benchmarks.pipeline import CHARTER, Driver, Side, Worker, grounds, processes
from services.supervisor.running.ports import free_port
from shared.contracts.catalog import LOG_CLASSES, class_filter, class_of
from shared.contracts.events import ActionDelayed, AnyEvent, EvidenceRef
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog

WARM = 5
KINDS = ("touching", "noop")


async def compared(count: int, orchestrator: Callable[[str, Path], Worker]) -> Figures:
    """Requests for each proposal of both kinds, and events by class."""
    say("swarms: proposals without a conflict, without the meta-orchestrator")
    alone = await _mesh(count, None)
    say("swarms: the same with it")
    beside = await _mesh(count, orchestrator)
    counted = {kind: (alone[kind], beside[kind]) for kind in KINDS}
    figures: Figures = {kind: {"without": a["others"], "with": b["others"]} for kind, (a, b) in counted.items()}
    for kind in KINDS:
        figures[kind]["its_own"] = beside[kind]["orchestrator"]
    figures["added"] = max(b["others"] - a["others"] for a, b in counted.values())
    names = sorted(alone["events"] | beside["events"])
    differs = {name: beside["events"][name] - alone["events"][name] for name in names}
    figures["events"] = {name: by for name, by in differs.items() if by}
    figures["events_added"] = sum(map(abs, differs.values()))
    return figures


async def _mesh(count: int, orchestrator: Callable[[str, Path], Worker] | None) -> Figures:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with broker(sync_always=True, more=f'http: "127.0.0.1:{port}"') as server:
            workers = await services(server.url, Path(folder))
            if orchestrator is not None:
                workers.append(orchestrator(server.url, Path(folder)))
            connection = await Connection.open(server.url, name="bench-driver")
            try:
                log = JetStreamLog(connection, service="bench", instance="bench-1")
                evidence = await grounds(log)
                async with processes(workers):
                    return await _counted(connection, log, evidence, count, f"http://127.0.0.1:{port}/connz")
            finally:
                await connection.close()


async def _counted(connection: Connection, log: JetStreamLog, evidence: EvidenceRef, count: int, url: str) -> Figures:
    driver = await Driver(connection, Side("services")).open()
    requests = Arrivals(connection, class_filter("approval.requested"))
    await requests.open()

    async def touching(n: int) -> None:
        proposal_id = f"t{n}"
        await log.commit([said(writes(proposal_id, f"asked/{proposal_id}.md", "text", evidence), CHARTER)])
        await requests.until(n + 1)

    async def noop(n: int) -> None:
        await driver.once()

    for warming in range(WARM):
        await touching(warming)
        await noop(warming)
    figures: Figures = {}
    async with httpx.AsyncClient(trust_env=False) as http:
        for kind, one, first in (("touching", touching, WARM), ("noop", noop, 0)):
            counts: dict[str, list[int]] = {"others": [], "orchestrator": []}
            before = await _sent(http, url)
            for n in range(first, first + count):
                await one(n)
                after = await _sent(http, url)
                for who, seen in counts.items():
                    seen.append(after[who] - before[who])
                before = after
            figures[kind] = {who: percentile(seen, 0.25) for who, seen in counts.items()}
    stored = await log.read(tuple(map(class_filter, LOG_CLASSES)))
    figures["events"] = Counter(class_of(r.event) for r in stored if not _by_the_clock(r.event))
    return figures


def _by_the_clock(event: AnyEvent) -> bool:
    """Credits and lots are given by the clock, whatever is proposed, and what finds a lot used up waits for the next."""
    if isinstance(event, ActionDelayed):
        return event.reason == "action_limit"
    return class_of(event).startswith(("lot.", "budget.", "allocation."))


async def _sent(http: httpx.AsyncClient, url: str) -> dict[str, int]:
    """Messages the broker took from services so far."""
    connections = (await http.get(url, params={"limit": 1000})).json()["connections"]
    sent = {"others": 0, "orchestrator": 0}
    for one in connections:
        name = one.get("name", "")
        if not name.startswith("bench"):
            sent["orchestrator" if name.startswith("meta_orchestrator") else "others"] += one["in_msgs"]
    return sent
