"""`swarm backup` and `swarm restore`: a whole mesh into a folder, and out of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import structlog
from cyclopts import Parameter

from services.cli.terminal.ask import wait
from services.cli.terminal.output import emit, say
from services.cli.terminal.target import FAILED, NEAR, OK, Place, Stop
from services.supervisor.mesh import MeshFailed
from services.supervisor.running.ports import PortTaken
from services.supervisor.running.state import MeshRunning
from services.supervisor.stores import backup as backups
from services.supervisor.stores.backup import BackupRefused, Manifest
from shared.log.port import LogUnavailable
from shared.memory.port import ColdCorrupt, ColdMissing, ColdUnavailable


def backup(
    to: Annotated[Path, Parameter(help="Folder to make; it must not be there yet.")],
    *,
    keys: Annotated[
        Path | None, Parameter(help="Folder to make with the keys; default: they are not backed up.")
    ] = None,
    place: Place = NEAR,
) -> int:
    """Back the mesh up while it runs: its log, dead letters, policies and objects. Keys go elsewhere, or nowhere."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    record = place.mesh()

    async def work() -> int:
        try:
            manifest = await backups.take(record, to.resolve(), keys.resolve() if keys else None)
        except (BackupRefused, LogUnavailable, ColdUnavailable, ColdMissing, ColdCorrupt, OSError) as error:
            raise Stop(f"not backed up: {error}", FAILED) from error
        return _told(place, manifest, f"is backed up in {to}")

    return wait(work())


def restore(
    backup: Annotated[Path, Parameter(help="Folder that `swarm backup` made.")],
    *,
    keys: Annotated[Path | None, Parameter(help="Folder with its keys; default: new ones are made.")] = None,
    place: Place = NEAR,
) -> int:
    """Make the data folder of a mesh from a backup. Then `swarm up` starts it, halted: `swarm resume` has actions go on."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

    async def work() -> int:
        try:
            manifest = await backups.put_back(backup.resolve(), place.data.resolve(), keys.resolve() if keys else None)
        except (
            BackupRefused, LogUnavailable, ColdUnavailable, MeshRunning, MeshFailed, PortTaken, OSError
        ) as error:  # fmt: skip
            raise Stop(f"not restored: {error}", FAILED) from error
        return _told(place, manifest, f"is in {place.data}; `swarm up` starts it, halted for actions")

    return wait(work())


def _told(place: Place, manifest: Manifest, where: str) -> int:
    counts = {taken.stream: taken.state.get("messages", 0) for taken in manifest.streams}
    if place.json:
        emit(
            {
                "taken_at": manifest.taken_at,
                "last_seq": manifest.log.last_seq,
                "messages": counts,
                "objects": len(manifest.objects),
            }
        )
    else:
        say(f"the log up to {manifest.log.last_seq}, with {len(manifest.objects)} objects, {where}")
    return OK
