"""`swarm bootstrap`, or `python -m services.supervisor.bootstrap`: declare streams and buckets, say what changed, end.

It is a process of its own so that the key that may change streams lives only as long as that takes. It may be run again at any
time, and by several at once. Exit codes: 0 the streams are as declared, 1 the broker would not have it, 2 settings that cannot be
used, 3 no broker that knows the key answered in time.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import structlog

from shared.broker import BOOTSTRAP, inbox_prefix
from shared.configuration import load
from shared.log.client.connection import Connection
from shared.log.client.tls import context
from shared.log.port import LogUnavailable
from shared.log.streams import reconcile
from shared.settings import Settings, SettingsError

DONE, REFUSED, UNUSABLE, AWAY = 0, 1, 2, 3
WAIT_S = 60.0


def main(environ: Mapping[str, str] = os.environ, *, wait_s: float = WAIT_S) -> int:
    """With the settings of the environment and its file; the exit code, with the reason on stderr."""
    try:
        return declare(load(environ, process="bootstrap"), wait_s=wait_s)
    except SettingsError as error:
        return _failed(str(error), UNUSABLE)


def declare(settings: Settings, *, wait_s: float) -> int:
    """Declare them, waiting up to `wait_s` for the broker; the exit code."""
    seed = settings.nats.seed_file
    if not seed:
        why = "it names the seed of the user `bootstrap`, <keys>/bootstrap/bootstrap.nk of `swarm keys init`"
        return _failed(f"SWARM_NATS_SEED_FILE is not set; {why}", UNUSABLE)
    if not Path(seed).is_file():
        return _failed(f"SWARM_NATS_SEED_FILE={seed}: there is no such file", UNUSABLE)
    return asyncio.run(_declare(settings, wait_s))


async def _declare(settings: Settings, wait_s: float) -> int:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    tls = context(settings.nats)
    try:
        connection = await Connection.open(
            settings.nats.url,
            name=BOOTSTRAP,
            seed_file=Path(settings.nats.seed_file),
            inbox_prefix=inbox_prefix(BOOTSTRAP),
            tls=tls,
            wait_s=wait_s,
        )
    except LogUnavailable as error:
        return _failed(f"{error}; waited {wait_s:g} s", AWAY)
    try:
        changes = await reconcile(connection, settings.store.bytes, settings.store.replicas)
    except LogUnavailable as error:
        hint = f"if {settings.nats.seed_file} is not the seed of the user bootstrap, that is why"
        return _failed(f"streams cannot be declared: {error}; {hint}", REFUSED)
    finally:
        await connection.close()
    print("\n".join(changes) or "streams are as declared")
    return DONE


def _failed(why: str, code: int) -> int:
    print(f"{BOOTSTRAP}: {why}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
