"""Wiring: the workspace, the way out, whose verdicts are good, one shell."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from services.actuator import decider
from services.actuator.effects import ActuatorEffects
from services.actuator.hands.bridge import BridgeHand
from services.actuator.hands.commands import CommandHand, commands_of
from services.actuator.hands.notices import NoticeHand
from services.actuator.hands.outbound import Outbound
from services.actuator.hands.table import hands
from services.actuator.hands.tools import ToolHand
from services.actuator.hands.workspace import Workspace
from services.actuator.journal import Journal
from services.actuator.losses import say_lost
from services.actuator.lots import Lots
from services.actuator.rows import declare, declared, of_commands, of_notices, of_subjects, of_tools
from shared.contracts.ids import utc_now
from shared.outside.mcp.servers import servers_of
from shared.outside.notices import notices_of
from shared.outside.subjects import subjects_of
from shared.policy.activations import Followed
from shared.runtime.service import Service
from shared.settings import listed
from shared.signers import Followed as Signers
from shared.signers import roots_of

log = structlog.get_logger()

PRUNE_EVERY_S = 3600.0
ACTIONS_AT_ONCE = 64
"""Of one swarm; most of the time an action waits for its target."""


async def wire(service: Service) -> None:
    """Consume authorisations. Raises `SettingsError`."""
    settings = service.settings
    signers = Signers(service.log, roots_of(settings.verdict.root))
    service.ready("verdict_keys", signers.unready)
    service.health.warn("verdict_keys", signers.trouble)
    workspace = Workspace(Path(settings.workspace))

    async def close() -> None:
        workspace.close()
        journal.close()

    async def prune() -> None:
        await asyncio.to_thread(workspace.receipts.prune)

    journal = await asyncio.to_thread(Journal, Path(settings.data_dir) / f"claims-{service.instance}.jsonl", utc_now())
    lost = await say_lost(service.log, journal, source=service.name)
    if lost:
        log.error("claims_lost", count=lost)
    outbound = Outbound(frozenset(listed(settings.outbound.allow)), frozenset(listed(settings.outbound.allow_private)))
    named = await asyncio.to_thread(commands_of, settings.commands.file)
    commands = CommandHand(named, workspace.receipts)
    await commands.look()
    service.health.warn("sandbox", lambda: commands.trouble)
    servers = await asyncio.to_thread(servers_of, settings.mcp.file)
    tools = ToolHand(servers, workspace.receipts)
    await tools.look()
    subjects = await asyncio.to_thread(subjects_of, settings.bridge.file, settings.nats.url)
    bridge = BridgeHand(subjects, workspace.receipts)
    templates = await asyncio.to_thread(notices_of, settings.notices.file)
    notices = NoticeHand(templates, workspace.receipts)
    rows = [
        *of_commands(named, commands.trouble),
        *of_tools(servers, tools.trouble),
        *of_subjects(subjects),
        *of_notices(templates),
    ]
    await declare(service.log, declared(rows), source=service.name)
    service.health.warn("mcp", lambda: tools.trouble)
    lots = Lots(service.log, service.instance)
    kill_switch = Path(settings.kill_switch.file) if settings.kill_switch.file else None
    halting, policies = service.obeys_halts(kill_switch), Followed(service.log)
    effects = ActuatorEffects(
        log=service.log,
        hands=hands(workspace, outbound, commands, tools, bridge, notices),
        site=workspace.receipts.identity,
        lots=lots,
        journal=journal,
        halting=halting,
        signers=signers,
        policies=policies,
        heard=service.hears("proposal.authorized", halting, signers, policies),
        kill_switch=kill_switch,
        instance=service.instance,
    )
    service.consume(
        service.shell(decider, perform=effects.perform, at_most=settings.swarm.open_actions, at_once=ACTIONS_AT_ONCE)
    )
    service.every(PRUNE_EVERY_S, prune, "prune-receipts")
    service.on_close(close)
    service.on_close(lots.close)
