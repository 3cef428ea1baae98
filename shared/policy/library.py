"""What a persona may cite: its own events, what is for all of its swarm, and of others what policy lets it read.

Raises `LogUnavailable` where the policies in force cannot be asked; whoever asked is answered later then.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

from shared.contracts.envelope import Recorded
from shared.contracts.events import AnyEvent, BeliefEvent, PersonaSpawned, ThoughtGenerated
from shared.contracts.ids import EVERYONE
from shared.log.port import Log
from shared.policy.bundle import Bundle
from shared.policy.reading import Readings, Verdicts
from shared.policy.types import ReadRequest

K = TypeVar("K")
V = TypeVar("V")

KNOWN = 1024
"""Cited events and births of personas that are remembered: what is in the log never changes, and the broker reads a whole block
of its file for an old one."""
MAX_DEPTH = 64


class Library:
    """Events by sequence, and births by persona; the ones learnt first go when there are too many. Without `readings` it is as where no
    policies are in force."""

    def __init__(self, log: Log, readings: Readings | None = None) -> None:
        self._log, self._readings = log, readings
        self._events: OrderedDict[int, Recorded] = OrderedDict()
        self._births: OrderedDict[str, PersonaSpawned] = OrderedDict()

    async def event(self, seq: int) -> Recorded | None:
        """The event at a sequence, or None."""
        if (known := self._events.get(seq)) is not None:
            return known
        found = await self._log.get(seq)
        if not isinstance(found, Recorded):
            return None
        self._events[seq] = found
        _bounded(self._events)
        return found

    async def birth(self, whose: str) -> PersonaSpawned | None:
        """How `<swarm>.<persona>` was born, or None when nobody was."""
        if (known := self._births.get(whose)) is not None:
            return known
        for recorded in await self._log.last([f"persona.spawned.{whose}"]):
            if isinstance(recorded.event, PersonaSpawned):
                self._births[whose] = recorded.event
                _bounded(self._births)
                return recorded.event
        return None

    async def bundle(self) -> Bundle | None:
        """The policies in force, if any are."""
        return (await self._verdicts()).bundle

    async def may_cite(self, event: AnyEvent, swarm: str, persona: str) -> bool:
        """Whether the persona may cite the event."""
        match event:
            case BeliefEvent():
                namespace = "mesh" if event.swarm == EVERYONE else "blackboard"
                asked = ReadRequest(swarm=swarm, persona=persona, namespace=namespace, owner_swarm=event.swarm)  # type: ignore[arg-type]
                return (await self._verdicts()).may(asked)
            case _ if event.swarm != swarm:
                return False
            case _ if event.persona in (persona, EVERYONE):
                return True
            case ThoughtGenerated(phase="compress") if await self._descends(event.persona, swarm, persona):
                birth = await self.birth(f"{swarm}.{event.persona}")
                asked = ReadRequest(
                    swarm=swarm,
                    persona=persona,
                    namespace="descendants",
                    owner_swarm=swarm,
                    owner_persona=event.persona,
                    shared=birth is not None and birth.policy.share_memory,
                )
                return (await self._verdicts()).may(asked)
            case _:
                return False

    async def _verdicts(self) -> Verdicts:
        return Verdicts(None) if self._readings is None else await self._readings.current()

    async def _descends(self, name: str, swarm: str, persona: str) -> bool:
        for _ in range(MAX_DEPTH):
            birth = await self.birth(f"{swarm}.{name}")
            if birth is None or birth.identity.parent_id is None or birth.parent_swarm is not None:
                return False
            if birth.identity.parent_id == persona:
                return True
            name = birth.identity.parent_id
        return False


def _bounded(known: OrderedDict[K, V]) -> None:
    if len(known) > KNOWN:
        known.popitem(last=False)
