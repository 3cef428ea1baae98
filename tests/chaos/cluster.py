"""What a storm does to the three brokers of a mesh: its log's leader dies, a node is lost, hangs or is cut off, all are restarted in turn.

One at a time, and the next only when all three have the log again: two that fail at once are more than three bear. Services are struck
meanwhile as in any storm. A node that is lost comes back on an empty disk, with nothing but its configuration.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec

from shared.log.port import LogUnavailable
from shared.log.streams import STREAMS
from tests.chaos.faults import Ground
from tests.chaos.load import Load
from tests.chaos.proxy import Proxy, Weather

AWAY = ("sleep", "600")
"""What runs in place of a broker whose node is lost."""
IN_STEP_S = 120.0
CUT_OFF = 5
BETWEEN_S = 1.0
Say = Callable[[str], None]


class Nodes:
    """The brokers of a mesh. `doors` stand before their routes, by name."""

    def __init__(self, ground: Ground, doors: Mapping[str, Proxy]) -> None:
        self._ground, self._doors = ground, doors
        self._mesh, self.dice = ground.mesh, ground.dice
        self._pages = dict(zip(self._mesh.brokers, self._mesh.monitor_url.split(","), strict=True))

    # -- the faults --------------------------------------------------------------------------------------------------

    async def leader_dies(self) -> None:
        """kill -9 of the broker that leads the log; it is started again at once."""
        await self._again(await self._leader(), signal.SIGKILL)

    async def node_lost(self) -> None:
        """A broker and its disk are gone for a while."""
        name = await self._either()
        async with self._away(name):
            await asyncio.to_thread(shutil.rmtree, self._mesh.data / name)
            (self._mesh.data / name).mkdir(mode=0o700)
            await asyncio.sleep(self._ground.stall_s * (1 + self.dice.random()))

    async def node_hangs(self) -> None:
        """SIGSTOP, and then it goes on as if nothing had been."""
        name = await self._either()
        await self._mesh.kill(name, signal.SIGSTOP)
        await asyncio.sleep(self._ground.stall_s)
        await self._mesh.kill(name, signal.SIGCONT)

    async def cut_off(self) -> None:
        """Nothing passes between one of them and the others, for longer than services wait that are connected to it."""
        name = await self._either()
        weathers = await self._between(name)
        for weather in weathers:
            weather.passing.clear()
        try:
            await asyncio.sleep(CUT_OFF * self._ground.stall_s)
        finally:
            for weather in weathers:
                weather.passing.set()

    async def rolling_restart(self) -> None:
        """SIGTERM, each when the one before has the log again."""
        for name in self._mesh.brokers:
            await self._again(name, signal.SIGTERM)
            await self.in_step()

    # -- how they are ------------------------------------------------------------------------------------------------

    async def in_step(self) -> None:
        """Returns when every broker says that all it keeps is current. Raises `TimeoutError`."""
        async with asyncio.timeout(IN_STEP_S), httpx.AsyncClient(timeout=5, trust_env=False) as client:
            while not (await self._all_well(client) and await self._all_current()):
                await asyncio.sleep(0.2)

    async def _all_well(self, client: httpx.AsyncClient) -> bool:
        try:
            answers = [await client.get(f"{page}/healthz") for page in self._pages.values()]
        except httpx.HTTPError:
            return False
        return all(answer.is_success for answer in answers)

    async def _all_current(self) -> bool:
        for stream in STREAMS:
            found = (await self._info(stream)).get("cluster", {})
            others = found.get("replicas", [])
            if not found.get("leader") or len(others) != len(self._pages) - 1:
                return False
            if not all(other["current"] and not other.get("offline") and not other.get("lag") for other in others):
                return False
        return True

    async def _leader(self) -> str:
        while not (leader := (await self._info("SWARM")).get("cluster", {}).get("leader")):
            await asyncio.sleep(0.1)
        return str(leader)

    async def _either(self) -> str:
        """The leader as often as not."""
        leader = await self._leader()
        others = [name for name in self._pages if name != leader]
        return leader if self.dice.random() < 0.5 else self.dice.choice(others)

    async def _info(self, stream: str) -> dict[str, Any]:
        try:
            answer = await self._ground.log.connection.request(f"$JS.API.STREAM.INFO.{stream}")
        except LogUnavailable:
            return {}
        return msgspec.json.decode(answer.data, type=dict[str, Any])

    async def _between(self, name: str) -> list[Weather]:
        """All that is said between a broker and the others, whoever of the two connected."""
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            ids = {n: (await client.get(f"{page}/varz")).json()["server_id"] for n, page in self._pages.items()}
        others = [other for other in self._pages if other != name]
        inward = [self._doors[name].of(ids[other]) for other in others]
        return inward + [self._doors[other].of(ids[name]) for other in others]

    async def _again(self, name: str, number: signal.Signals) -> None:
        count = self._mesh.children[name].restarts + 1
        await self._mesh.kill(name, number)
        await self._mesh.wait_restarted(name, count)

    @asynccontextmanager
    async def _away(self, name: str) -> AsyncIterator[None]:
        child = self._mesh.children[name]
        right = child.spec
        child.spec = msgspec.structs.replace(right, argv=AWAY)
        try:
            await self._again(name, signal.SIGKILL)
            yield
        finally:
            child.spec = right
            await self._again(name, signal.SIGKILL)


FAULTS: dict[str, Callable[[Nodes], Awaitable[None]]] = {
    "leader_dies": Nodes.leader_dies,
    "node_lost": Nodes.node_lost,
    "node_hangs": Nodes.node_hangs,
    "cut_off": Nodes.cut_off,
    "rolling_restart": Nodes.rolling_restart,
}


async def strike(nodes: Nodes, load: Load, chosen: Sequence[str], seconds: float, say: Say) -> dict[str, int]:
    """The chosen faults in turn in random order until the time is over, one at least; how often each struck. All in step afterwards."""
    dice, until = nodes.dice, time.monotonic() + seconds
    struck: Counter[str] = Counter()
    pending: list[str] = []
    await load.beating.wait()
    while chosen and (not struck or time.monotonic() < until):
        pending = pending or dice.sample(sorted(chosen), len(chosen))
        load.fault = pending.pop()
        say(load.fault)
        await FAULTS[load.fault](nodes)
        struck[load.fault] += 1
        await nodes.in_step()
        await asyncio.sleep(BETWEEN_S)
    load.fault = "calm"
    return dict(struck)
