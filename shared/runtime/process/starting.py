"""What a service cannot start without, and waits for: a folder it can write, the broker and its key there, the streams, a slot.

Each is waited for as long as it takes, in the open: `/health/live` answers meanwhile, readiness tells what is waited for, and the log
has one line a minute. So nobody has to start things in an order, and nothing that comes back has to be started again.
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from pathlib import Path

import msgspec

from shared.broker import by_door, inbox_prefix
from shared.log.client.connection import Connection
from shared.log.client.tls import context
from shared.log.kv import JetStreamKeyValue
from shared.log.port import LogUnavailable
from shared.log.streams import undeclared
from shared.patience import Patience
from shared.runtime.process.slot import Candidate, Lock, Slot, candidates
from shared.runtime.vitals.health import Health
from shared.settings import Settings

ONE_OF_MANY_S = 5.0
"""How long the broker is waited for as one of several instances, before the next is tried."""


class Started(msgspec.Struct):
    """A connection to a broker on which all streams are, as an instance that nobody else is; `settings` name it."""

    connection: Connection
    settings: Settings
    slot: Slot


async def connect(name: str, settings: Settings, health: Health, *, lost: asyncio.Event) -> Started:
    """Raises `SettingsError`, also when there is no key at all. `lost` is set when the slot becomes another's."""
    tls, folder = context(settings.nats), Path(settings.data_dir)
    await _folder(folder, health)
    choices = candidates(name, settings)
    broker, streams, slots = Patience("the broker"), Patience("the streams"), Patience("a slot")
    health.waits = lambda: streams.why or broker.why or slots.why
    while True:
        taken = []
        for choice in choices:
            try:
                lock = await asyncio.to_thread(Lock, folder / "slots", choice.instance)
            except BlockingIOError:
                taken.append(f"{choice.instance} is another process's with this data folder")
                continue
            except OSError as error:
                taken.append(f"{choice.instance} cannot be locked in {folder / 'slots'}: {error.strerror}")
                continue
            wait_s = None if len(choices) == 1 else ONE_OF_MANY_S
            got = await _as(choice, settings, lock, lost, broker, streams, tls=tls, wait_s=wait_s)
            if isinstance(got, Started):
                slots.over()
                return got
            taken.append(f"{choice.instance} {got}")
        await slots.pause("; ".join(taken))


async def _as(
    choice: Candidate,
    settings: Settings,
    lock: Lock,
    lost: asyncio.Event,
    broker: Patience,
    streams: Patience,
    *,
    tls: ssl.SSLContext | None,
    wait_s: float | None,
) -> Started | str:
    """Connected as this instance, or why it cannot be; then nothing is left of it."""
    named = msgspec.structs.replace(settings, instance=choice.instance)
    if choice.seed_file is not None:
        nats = msgspec.structs.replace(settings.nats, seed_file=str(choice.seed_file))
        named = msgspec.structs.replace(named, nats=nats)
    connection = None
    try:
        connection = await Connection.open(
            settings.nats.url,
            name=choice.instance,
            seed_file=choice.seed_file,
            inbox_prefix=inbox_prefix(choice.instance),
            tls=tls,
            wait_s=wait_s,
            patience=broker,
        )
        if settings.placement.serves:
            connection.asks = by_door(choice.instance)
        while (why := await _missing(connection)) is not None:
            await streams.pause(why)
        streams.over()
        slot = Slot(JetStreamKeyValue(connection, "leases"), choice.instance, lock, lost=lost)
        if (other := await slot.claim()) is None:
            slot.keep()
            return Started(connection, named, slot)
        why = f"is held by {other}"
    except LogUnavailable as error:
        why = f"cannot be asked for: {error}"
    except BaseException:
        await _give_up(connection, lock)
        raise
    await _give_up(connection, lock)
    return why


async def _give_up(connection: Connection | None, lock: Lock) -> None:
    lock.release()
    if connection is not None:
        await connection.close()


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
