"""Who is on a proposal's side, read from the log: lineage each time, and what was fed as far as it is not known yet.

A first look at a swarm reads all that was ever observed in it; it is taken only when people have said yes.
Raises `LogUnavailable`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

import msgspec

from shared.contracts.events import PersonaSpawned
from shared.contracts.ids import EVERYONE
from shared.log.port import Log
from shared.policy.sides import Feeders

MAX_LINEAGE = 64
KEPT = 1024
PAGE = 2_000


class Sides:
    """`of` is asked at each evaluation with grants; the subjects used least recently are forgotten."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._fed: OrderedDict[str, _Fed] = OrderedDict()

    async def of(self, swarm: str, persona: str, before: int) -> frozenset[str] | None:
        """Who is on the side of what the persona proposed at that sequence; None when its lineage cannot be read to the root."""
        family: list[tuple[str, str]] = []
        side: set[str] = set()
        current: tuple[str, str] | None = swarm, persona
        while current is not None:
            if len(family) > MAX_LINEAGE:
                return None
            spawned = [r.event for r in await self._log.last([f"persona.spawned.{current[0]}.{current[1]}"])]
            if not spawned or not isinstance(spawned[0], PersonaSpawned):
                return None
            family.append(current)
            side.add(spawned[0].principal)
            current = spawned[0].parent
        for home in dict.fromkeys(home for home, _ in family):
            for name in (EVERYONE, *(name for of, name in family if of == home)):
                side |= (await self._read(home, name, before)).of(home, (name,), before)
        return frozenset(side)

    async def _read(self, swarm: str, name: str, before: int) -> Feeders:
        whose = f"{swarm}.{name}"
        fed = self._fed.setdefault(whose, _Fed())
        self._fed.move_to_end(whose)
        while len(self._fed) > KEPT:
            self._fed.popitem(last=False)
        async with fed.reading:
            while fed.position < before:
                page = await self._log.read([f"observation.*.{whose}"], fed.position, upto=before, limit=PAGE)
                for recorded in page:
                    fed.feeders.apply(recorded)
                fed.position = page[-1].seq if len(page) == PAGE else before
                await asyncio.sleep(0)  # a long history must not starve other handlers
        return fed.feeders


class _Fed(msgspec.Struct, eq=False):
    """One subject, as far as it is read."""

    feeders: Feeders = msgspec.field(default_factory=Feeders)
    position: int = 0
    reading: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)
