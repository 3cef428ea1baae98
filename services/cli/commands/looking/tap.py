"""`swarm tap`: what the mesh says, from its log, in order: from now on, or from some time ago."""

from __future__ import annotations

import secrets
import sys
from datetime import UTC, datetime

import msgspec

from services.cli.terminal.bus import Bus
from services.cli.terminal.durations import moment
from services.cli.terminal.login import connect, login
from services.cli.terminal.output import emit_line, safe
from services.cli.terminal.target import UNREACHABLE, USAGE, Stop, Target
from shared.contracts.envelope import Recorded, Unreadable, structured
from shared.log.client.connection import Connection, is_status
from shared.log.port import LogUnavailable
from shared.log.reading.tail import JetStreamTail

_SHOWN = ("text", "claim", "title", "summary", "findings", "detail", "reason", "reasons", "outcome", "phase")


class _State(msgspec.Struct, frozen=True):
    last_seq: int = 0


class _Info(msgspec.Struct, frozen=True):
    state: _State = _State()


async def tap(target: Target, bus: Bus, subject: str, *, since: str | None, count: int | None) -> None:
    """Print events until stopped, or `count` of them. Raises `Stop`."""
    words = subject.split(".")
    if ">" in words[:-1] or any(not word or any(c in word for c in " \t\r\n") for word in words):
        raise Stop(f"{subject!r} is no subject filter; write 'thought.generated.>' or '*.*.alpha.>'", USAGE)
    if since is not None:
        try:
            start = moment(since, datetime.now(UTC))
        except ValueError as error:
            raise Stop(str(error), USAGE) from error
    stream = "RECALL" if subject.startswith("recall.") else "SWARM"
    connection = await connect(login(bus, target), "swarm tap")
    try:
        after = await _end(connection, stream) if since is None else await _before(connection, stream, start)
        tail = JetStreamTail(connection, stream, f"tap-{secrets.token_hex(6)}", (subject,), after, buries=False)
        shown = 0
        async for message in tail:
            if isinstance(message, Recorded):
                _show(message, as_json=target.json)
            else:
                _show_unreadable(message, as_json=target.json)
            shown += 1
            if count is not None and shown >= count:
                await tail.stop()
                return
    except LogUnavailable as error:
        raise Stop(str(error), UNREACHABLE) from error
    finally:
        await connection.close()


async def _end(connection: Connection, stream: str) -> int:
    """The last sequence of the stream now."""
    answer = await connection.request(f"$JS.API.STREAM.INFO.{stream}")
    return msgspec.json.decode(answer.data, type=_Info).state.last_seq


async def _before(connection: Connection, stream: str, start: datetime) -> int:
    """The sequence before the first message stored at or after `start`."""
    ask = msgspec.json.encode({"batch": 1, "start_time": start, "next_by_subj": ">"})
    answers = await connection.request_many(f"$JS.API.DIRECT.GET.{stream}", ask, is_last=is_status)
    first = answers[0].headers
    return int(first["Nats-Sequence"]) - 1 if "Nats-Sequence" in first else await _end(connection, stream)


def _show_unreadable(message: Unreadable, *, as_json: bool) -> None:
    if as_json:
        emit_line({"seq": message.seq, "subject": safe(message.subject, 200), "unreadable": message.reason})
        return
    why = safe(f"unreadable, {message.reason}: {message.detail}", 160)
    sys.stdout.write(
        f"{message.seq:>8} {message.stored_at:%H:%M:%S.%f}"[:-3] + f" {safe(message.subject, 200)}  {why}\n"
    )
    sys.stdout.flush()


def _show(recorded: Recorded, *, as_json: bool) -> None:
    if as_json:
        emit_line({"seq": recorded.seq, **msgspec.json.decode(structured(recorded), type=dict[str, object])})
        return
    data = msgspec.to_builtins(recorded.event)
    words = "  ".join(safe(data[key], 160) for key in _SHOWN if data.get(key))
    sys.stdout.write(f"{recorded.seq:>8} {recorded.envelope.time:%H:%M:%S.%f}"[:-3] + f" {recorded.subject}  {words}\n")
    sys.stdout.flush()
