"""What a service cannot start without, and waits for: a folder it can write, the broker and its key there, the streams.

Each is waited for as long as it takes, in the open: `/health/live` answers meanwhile, readiness tells what is waited for, and the log
has one line a minute. So nobody has to start things in an order, and nothing that comes back has to be started again.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from shared.broker import by_door, inbox_prefix
from shared.log.client.connection import Connection
from shared.log.client.tls import context
from shared.log.port import LogUnavailable
from shared.log.streams import undeclared
from shared.patience import Patience
from shared.runtime.vitals.health import Health
from shared.settings import Settings


async def connect(name: str, settings: Settings, health: Health) -> Connection:
    """A connection to a broker on which all streams are. Raises `SettingsError`."""
    tls = context(settings.nats)
    await _folder(Path(settings.data_dir), health)
    broker, streams = Patience("the broker"), Patience("the streams")
    health.waits = lambda: streams.why or broker.why
    instance = settings.instance_of(name)
    connection = await Connection.open(
        settings.nats.url,
        name=instance,
        seed_file=Path(settings.nats.seed_file) if settings.nats.seed_file else None,
        inbox_prefix=inbox_prefix(instance),
        tls=tls,
        wait_s=None,
        patience=broker,
    )
    if settings.placement.serves:
        connection.asks = by_door(instance)
    try:
        while (why := await _missing(connection)) is not None:
            await streams.pause(why)
    except BaseException:
        await connection.close()
        raise
    streams.over()
    return connection


async def _missing(connection: Connection) -> str | None:
    try:
        missing = await undeclared(connection)
    except LogUnavailable as error:
        return f"they cannot be looked at: {error}"
    return f"{', '.join(missing)} not declared; run the bootstrap" if missing else None


async def _folder(folder: Path, health: Health) -> None:
    """Returns when something can be written in the folder, which is made."""
    patience = Patience("its folder")
    health.waits = lambda: patience.why
    while True:
        try:
            await asyncio.to_thread(_write, folder)
        except OSError as error:
            await patience.pause(f"SWARM_DATA_DIR={folder} cannot be written: {error.strerror}")
        else:
            patience.over()
            return


def _write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"x")
