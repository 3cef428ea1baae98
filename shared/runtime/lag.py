"""How far each durable consumer is behind, by the broker's word: a consumer that is stuck does not know it itself."""

from __future__ import annotations

import asyncio

import msgspec

from shared.ending import ended
from shared.log.client.connection import Connection
from shared.log.port import ConsumerSpec, LogUnavailable
from shared.metrics.table import LAG, UNACKED

EVERY_S = 5.0


class _Info(msgspec.Struct, frozen=True):
    num_pending: int = 0
    num_ack_pending: int = 0
    error: dict[str, object] | None = None


class Lag:
    """Measured every `EVERY_S` seconds while `run` runs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._specs: list[ConsumerSpec] = []

    def watch(self, spec: ConsumerSpec) -> None:
        """From now on this one too."""
        self._specs.append(spec)
        LAG.set(0, spec.name)
        UNACKED.set(0, spec.name)

    async def run(self, stopping: asyncio.Event) -> None:
        """Measure until `stopping` is set."""
        while not stopping.is_set():
            await self.measure()
            await ended(stopping, EVERY_S)

    async def measure(self) -> None:
        """Look again. While the broker does not tell, what it last said holds."""
        for spec in self._specs:
            try:
                answer = await self._connection.request(f"$JS.API.CONSUMER.INFO.{spec.stream}.{spec.name}")
            except LogUnavailable:
                return
            info = msgspec.json.decode(answer.data, type=_Info)
            if info.error is None:
                LAG.set(info.num_pending, spec.name)
                UNACKED.set(info.num_ack_pending, spec.name)
