"""`swarm bootstrap`, or `python -m services.supervisor.bootstrap`: declare streams and buckets, say who signs verdicts, end.

Who signs is what `swarm keys` wrote and signed (`signers.json`), of which this holds no seed: it says it where the log has not heard.

It is a process of its own so that the key that may change streams lives only as long as that takes. It may be run again at any
time, and by several at once. Exit codes: 0 all is as declared, 1 the broker would not have it or the keys are old, 2 settings that
cannot be used, 3 no broker that knows the key answered in time.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
import structlog

from shared.broker import BOOTSTRAP, inbox_prefix
from shared.configuration import load
from shared.contracts.events import SignersChanged
from shared.log.client.connection import Connection
from shared.log.client.tls import context
from shared.log.jetstream import JetStreamLog
from shared.log.port import LogUnavailable
from shared.log.streams import reconcile
from shared.settings import Settings, SettingsError, read_text
from shared.signers import Superseded, announce

DONE, REFUSED, UNUSABLE, AWAY = 0, 1, 2, 3
WAIT_S = 60.0
SIGNERS = "signers.json"


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
    return asyncio.run(_declare(settings, _signers(settings), wait_s))


def _signers(settings: Settings) -> SignersChanged | None:
    """What is to be said of who signs verdicts. Raises `SettingsError`."""
    text, beside = settings.verdict.signers, Path(settings.nats.seed_file).parent / SIGNERS
    if not text and beside.is_file():
        text = read_text(str(beside), str(beside))
    try:
        return msgspec.json.decode(text, type=SignersChanged) if text else None
    except msgspec.MsgspecError as error:
        raise SettingsError(
            f"SWARM_VERDICT_SIGNERS: it is not what `swarm keys` writes in {SIGNERS}: {error}"
        ) from error


async def _declare(settings: Settings, signers: SignersChanged | None, wait_s: float) -> int:
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
        print("\n".join(changes) or "streams are as declared")
        print(await said(connection, signers, replicated=settings.store.replicas > 1))
    except LogUnavailable as error:
        hint = f"if {settings.nats.seed_file} is not the seed of the user bootstrap, that is why"
        return _failed(f"it cannot be declared: {error}; {hint}", REFUSED)
    except Superseded as error:
        return _failed(str(error), REFUSED)
    finally:
        await connection.close()
    return DONE


async def said(connection: Connection, signers: SignersChanged | None, *, replicated: bool = False) -> str:
    """Say who signs verdicts where the log has not heard; what became of it. Raises `Superseded`, `LogUnavailable`."""
    if signers is None:
        return f"who signs verdicts is not said: there is no {SIGNERS} beside the seed"
    log = JetStreamLog(connection, service=BOOTSTRAP, instance=f"{BOOTSTRAP}-1", replicated=replicated)
    word = "now" if await announce(log, signers) else "already"
    return f"keys of verdicts that are good {word}: {len(signers.signers)}, by number {signers.number}"


def _failed(why: str, code: int) -> int:
    print(f"{BOOTSTRAP}: {why}", file=sys.stderr)
    return code
