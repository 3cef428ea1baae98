"""What a checker is given to look outside with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from shared.outside.getting import Tls
from shared.outside.mcp.servers import Server
from shared.outside.probes import Asked
from shared.outside.sandbox import NoSandbox, available
from shared.runtime.halting import Halting

BYTES_PER_HOUR = 4 * 1024 * 1024


class Outside(msgspec.Struct, frozen=True, kw_only=True):
    """The operator's rows, and by what they are asked. Without `halting` nobody can halt it."""

    rows: Mapping[str, Asked] = {}
    servers: Mapping[str, Server] = {}
    halting: Halting | None = None
    kill_switch: Path | None = None
    environment: str = "local"
    bytes_per_hour: int = BYTES_PER_HOUR
    tls: Tls = msgspec.field(default_factory=Tls)

    async def trouble(self) -> str | None:
        """Why some of the rows cannot be asked, if so."""
        confined = [
            name
            for name, row in self.rows.items()
            if row.kind == "command.probe" or (row.kind == "mcp.read" and self.servers[row.server].argv)  # type: ignore[union-attr]
        ]
        try:
            if confined:
                await available()
        except (NoSandbox, OSError) as error:
            return f"{', '.join(confined[:8])} cannot be asked: {error}"
        return None
