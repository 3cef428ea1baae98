"""One message into a projection: what its fold cannot take is a fault of ours, is buried with its reason, and ends nothing."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from shared.contracts.envelope import Stored
from shared.log.port import Log, LogUnavailable

log = structlog.get_logger()


async def take(log_: Log, fold: Callable[[Stored], None], message: Stored) -> None:
    """Fold the message, or send it to the dead letters. It stays in the log, so a start on such a log is as any other."""
    try:
        fold(message)
    except Exception as error:
        try:
            await put_aside(log_, message, error)
        except LogUnavailable as away:
            log.warning("dead_letter_lost", seq=message.seq, why=str(away))


async def put_aside(log_: Log, message: Stored, error: Exception) -> None:
    """Send a message that `error` kept from being taken to the dead letters, with that as its reason. Raises `LogUnavailable`."""
    log.error("event_not_taken", seq=message.seq, subject=message.subject, exc_info=error)
    await log_.bury(message.seq, "not_taken", f"{type(error).__name__}: {error}")
