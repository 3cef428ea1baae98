"""Whether a child still works: one that hangs is killed, a broker that gave up is started anew once it can work again.

Invariants:
- a process that answers is never killed, and none before it was silent for its whole patience;
- only time in which the supervisor itself looked counts: if it was stopped, starved or suspended, what it missed is its own;
- a process that was started just now has a longer patience, for it may have much to read before it can answer;
- starting again is left to `Child`, and so are the growing pauses of what hangs again and again.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from services.supervisor.running.processes import Child

EVERY_S, TIMEOUT_S = 1.0, 2.0
FIRST_PATIENCE_S = 300.0
"""For the first answer of a process."""
UNWELL_S, LONGEST_UNWELL_S = 5.0, 120.0
"""How long a broker may say that it cannot work, before it is started anew; doubled each time that did not help."""
ROOM_BYTES, ROOM_SHARE = 64 * 2**20, 8
"""There is room to work again with so many bytes, or an eighth of the disk where that is less."""


class Patience:
    """How long a process has been silent, in seconds the watcher was there for; see the module's invariants."""

    def __init__(self, limit_s: float, first_limit_s: float = FIRST_PATIENCE_S) -> None:
        self._limit_s, self._first_limit_s = limit_s, max(limit_s, first_limit_s)
        self.begin()

    def begin(self) -> None:
        """It was started anew."""
        self.silent_s, self.heard_once = 0.0, False

    def look(self, *, answered: bool, took_s: float) -> bool:
        """Take in one look of `took_s` seconds; whether the patience is over."""
        if answered:
            self.silent_s, self.heard_once = 0.0, True
            return False
        self.silent_s += min(took_s, EVERY_S + TIMEOUT_S)
        return self.silent_s >= (self._limit_s if self.heard_once else self._first_limit_s)


class Watchdog:
    """Watches one child by its `live_url` until cancelled. `room` says whether a broker that cannot work could do so now."""

    def __init__(
        self,
        child: Child,
        *,
        patience_s: float,
        room: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._child, self._room, self._clock = child, room, clock
        self._patience = Patience(patience_s)
        self._unwell_s, self._unwell_limit_s, self._well_once = 0.0, UNWELL_S, False
        self._pid: int | None = None

    async def run(self) -> None:
        """Look every second."""
        url = self._child.spec.live_url
        if url is None:
            return
        limits = httpx.Limits(max_keepalive_connections=0)  # a kept connection would outlive the process it was to
        async with httpx.AsyncClient(timeout=TIMEOUT_S, limits=limits, trust_env=False) as client:
            while True:
                began = self._clock()
                await asyncio.sleep(EVERY_S)
                if self._child.pid != self._pid:
                    self._pid = self._child.pid
                    self._patience.begin()
                    self._unwell_s, self._well_once = 0.0, False
                if self._child.came_up:
                    self._patience.heard_once = self._well_once = True
                if self._pid is not None:
                    self._judge(await _status(client, url), self._clock() - began)

    def _judge(self, status: int | None, took_s: float) -> None:
        """`status` is that of the answer, None when there was none."""
        spec = self._child.spec
        answered = status is not None and (spec.any_answer or spec.may_be_unwell or status == httpx.codes.OK)
        if self._patience.look(answered=answered, took_s=took_s):
            self._child.say(f"does not answer since {self._patience.silent_s:.0f} s, killed")
            self._child.send(signal.SIGKILL)
            self._patience.begin()
        elif answered and spec.may_be_unwell:
            self._heal(well=status == httpx.codes.OK, took_s=took_s)

    def _heal(self, *, well: bool, took_s: float) -> None:
        """A broker whose disk was full stays away after there is room, until it is started anew."""
        if well:
            self._unwell_s, self._well_once = 0.0, True
            return
        if self._unwell_s == 0.0 and self._well_once:
            self._child.say("says that it cannot work; it is started anew once there is room on its disk")
        self._unwell_s += min(took_s, EVERY_S + TIMEOUT_S)
        limit_s = self._unwell_limit_s if self._well_once else LONGEST_UNWELL_S  # it may be reading its store
        if self._unwell_s >= limit_s and self._room():
            self._child.say("still says that it cannot work, and there is room: started anew")
            self._child.send(signal.SIGTERM)
            self._unwell_limit_s = min(LONGEST_UNWELL_S, self._unwell_limit_s * 2)
            self._unwell_s = 0.0


def has_room(folder: Path) -> bool:
    """Whether a broker with its store in `folder` could write again."""
    try:
        disk = shutil.disk_usage(folder)
    except OSError:
        return False
    return disk.free >= min(ROOM_BYTES, disk.total // ROOM_SHARE)


async def _status(client: httpx.AsyncClient, url: str) -> int | None:
    try:
        return (await client.get(url)).status_code
    except httpx.HTTPError:
        return None
