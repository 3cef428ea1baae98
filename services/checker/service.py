"""Wiring: one shell, read-only looks into the log, and outside what the operator's rows name."""

from __future__ import annotations

import asyncio
from pathlib import Path

from services.checker.answers import Answers
from services.checker.decider import Checker
from services.checker.desk import Desk
from services.checker.effects import CheckerEffects
from services.checker.outside.given import Outside
from shared.contracts.ids import slot_of
from shared.outside.mcp.servers import servers_of
from shared.outside.probes import McpRead, probes_of
from shared.policy.library import Library
from shared.policy.reading import Readings
from shared.runtime.halting import Halting
from shared.runtime.service import Service
from shared.settings import SettingsError


async def wire(service: Service) -> None:
    """Consume checks. Raises `SettingsError`."""
    slot = slot_of(service.instance)
    answers = Answers(service.log)
    service.background("recall", answers.follow)
    library = Library(service.log, Readings(service.log, service.bucket("policies")))
    outside = await _outside(service)
    told = await outside.trouble()
    service.health.warn("sandbox", lambda: told)
    effects = CheckerEffects(Desk(log=service.log, answers=answers, library=library, slot=slot, outside=outside))
    service.consume(service.shell(Checker(slot=slot), perform=effects.perform))
    service.on_stop(answers.stop)


async def _outside(service: Service) -> Outside:
    """The operator's rows."""
    settings = service.settings
    rows = await asyncio.to_thread(probes_of, settings.probes.file)
    servers = await asyncio.to_thread(servers_of, settings.mcp.file)
    for name, row in rows.items():
        if not isinstance(row, McpRead):
            continue
        tool = servers[row.server].tools.get(row.tool) if row.server in servers else None
        if tool is None or not tool.reads:
            why = f"{row.server}/{row.tool} has no row in mcp.file that reads alone"
            raise SettingsError(f"probes.file={settings.probes.file}: {name}: {why}")
    return Outside(
        rows=rows,
        servers=servers,
        halting=Halting(service.log),
        kill_switch=Path(settings.kill_switch.file) if settings.kill_switch.file else None,
        environment=settings.policy.environment,
        bytes_per_hour=settings.probes.bytes_per_hour,
    )
