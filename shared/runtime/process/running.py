"""A service's process: settings, connection, wiring, the service itself, and the exit code its end comes to.

Whatever it cannot start without is waited for (`starting.py`), and a signal ends it at any time: before it runs as if by kill -9, but
with its connection closed; while it runs as `Service.run` has it.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable
from functools import partial

import structlog
import uvloop

from shared.configuration import load
from shared.log.port import LogUnavailable
from shared.metrics.table import tell_build
from shared.runtime.halting import say_went_back
from shared.runtime.process.first import SIGNALS, leave_within
from shared.runtime.process.starting import connect
from shared.runtime.service import LEAVE_S, VERSION, LogChanged, Service, first_of
from shared.runtime.vitals.health import Health, served
from shared.settings import Settings, SettingsError
from shared.telemetry import configure_logging

log = structlog.get_logger()


class SlotLost(Exception):
    """Another process is this instance now. Remedy: begin anew, and wait for a slot."""


ANOTHER_LOG = 75
"""The exit code (EX_TEMPFAIL of sysexits.h) of who finds the log changed."""


def main(name: str, wire: Callable[[Service], Awaitable[None]]) -> None:
    """What `python -m services.<name>` does: exits 0 when it was told to end, 2 on settings it cannot use, 1 when a task died, the
    broker ended the connection for good or another process has its slot, 75 when the log is another one."""
    try:
        settings = load(process=name)
    except SettingsError as error:
        print(f"{name}: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    tell_build(name, VERSION)
    configure_logging(service=name, instance=settings.instance_of(name), form=settings.log_format)
    collect_less_often()
    try:
        uvloop.run(_run(name, settings, wire))
    except* SettingsError as group:
        print(f"{name}: {group.exceptions[0]}", file=sys.stderr)
        raise SystemExit(2) from None
    except* LogChanged as group:
        print(f"{name}: {group.exceptions[0]}", file=sys.stderr)
        raise SystemExit(ANOTHER_LOG) from None
    except* (LogUnavailable, SlotLost) as group:
        log.error("service_failed", why=str(group.exceptions[0]))
        raise SystemExit(1) from None


async def _until_lost(lost: asyncio.Event, stopping: asyncio.Event) -> None:
    """Who holds its slot no more is to end."""
    await first_of(lost.wait(), stopping.wait())
    stopping.set()


def collect_less_often() -> None:
    """Every message makes many short-lived objects and hardly a cycle: collecting at the default rate takes a tenth of the CPU."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 50)


async def _run(name: str, settings: Settings, wire: Callable[[Service], Awaitable[None]]) -> None:
    stopping, lost, health = asyncio.Event(), asyncio.Event(), Health(service=name)
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    health.starting = True
    code = 0
    try:
        async with served(health, settings.health.host, settings.health.port):
            starting = asyncio.create_task(_start(name, settings, wire, health, stopping, lost), name="start")
            await first_of(asyncio.wait({starting}), stopping.wait(), lost.wait())
            if starting.done():
                service = starting.result()
                structlog.contextvars.bind_contextvars(instance=service.instance)  # this task has a context of its own
                service.background("slot", partial(_until_lost, lost, stopping))
                await service.run()
            else:
                starting.cancel()
                await asyncio.wait({starting})
                log.info("service_stopped", before_it_was_ready=health.waits() or True)
            if lost.is_set():
                raise SlotLost("another process has this one's slot; see slot_lost")
    except BaseException as error:
        code = ANOTHER_LOG if isinstance(error, LogChanged) else 1
        raise
    finally:
        leave_within(LEAVE_S, code)


async def _start(
    name: str,
    settings: Settings,
    wire: Callable[[Service], Awaitable[None]],
    health: Health,
    stopping: asyncio.Event,
    lost: asyncio.Event,
) -> Service:
    """A service that is ready to run; when it is cancelled, or cannot be, nothing of it is left open."""
    started = await connect(name, settings, health, lost=lost)
    structlog.contextvars.bind_contextvars(instance=started.settings.instance)
    service = Service(name, started.settings, started.connection, health=health, stopping=stopping)
    service.on_close(started.slot.release)
    try:
        if (before := await service.identity.begin()) is not None:
            why = service.identity.another or ""
            log.warning("log_went_back", why=why, reached=before.reached)
            if "mesh.halted" in service.row.emits:
                await say_went_back(service.log, source=name, reason=why, reached=before.reached, before=before.at)
            await service.identity.accept()
        await wire(service)
    except BaseException:
        await service.close()
        raise
    return service
