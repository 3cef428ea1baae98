"""The attacker's floods, in a process of their own: `python -m tests.redteam.flooding URL SEED < flood.json` until SIGTERM.

Says `begun` after its first burst, and at the end how many messages it said.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import sys
from pathlib import Path

import msgspec

from tests.redteam.attacker import Attacker

FRESH = "FRESH"
"""In subjects, headers and bodies: a word that is another one each time."""


class Said(msgspec.Struct, frozen=True):
    """One message."""

    subject: str
    body: str
    headers: dict[str, str]


class Flood(msgspec.Struct, frozen=True, kw_only=True):
    """`burst` messages, in turn those given, every `every_s` seconds; `most` in all, 0 for no end."""

    name: str
    messages: list[Said]
    burst: int
    every_s: float
    most: int = 0


async def flood(url: str, seed_file: Path, what: Flood) -> int:
    """How many messages were said."""
    attacker = await Attacker.open(url, seed_file)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    said = 0
    for message in itertools.cycle(what.messages):
        word = f"{said:x}"
        subject, body = message.subject.replace(FRESH, word), message.body.replace(FRESH, word)
        headers = {name: value.replace(FRESH, word) for name, value in message.headers.items()}
        await attacker.client.publish(subject, body.encode(), headers=headers)
        said += 1
        if said % what.burst == 0:
            await attacker.settled()
            if said == what.burst:
                print("begun", flush=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), what.every_s)
        if stop.is_set() or said == what.most:
            break
    await attacker.settled()
    await attacker.close()
    return said


if __name__ == "__main__":
    wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=Flood)
    print(asyncio.run(flood(sys.argv[1], Path(sys.argv[2]), wanted)))
