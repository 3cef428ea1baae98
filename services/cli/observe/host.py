"""The host sensor: one line a reading, in the shape perception parses (`key=number`)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import psutil

_UNSAFE = re.compile(r"[^A-Za-z0-9_.+-]+")


class HostSensor:
    """Readings of this machine. CPU percentages are over the time since the reading before."""

    def __init__(self, disk: str = "/") -> None:
        self._disk = disk
        self._processes: dict[int, psutil.Process] = {}
        self.read()

    def read(self) -> str:
        """Such as `host cpu=93.1% mem=41.0% disk=71% load1=3.2 procs=312 top=python:87%`."""
        name, percent = self._top()
        return (
            f"host cpu={psutil.cpu_percent():.1f}% mem={psutil.virtual_memory().percent:.1f}%"
            f" disk={psutil.disk_usage(self._disk).percent:.0f}% load1={psutil.getloadavg()[0]:.1f}"
            f" procs={len(self._processes)} top={name}:{percent:.0f}%"
        )

    def _top(self) -> tuple[str, float]:
        """The busiest process: percent of one core since the last reading."""
        seen: dict[int, psutil.Process] = {}
        best = ("none", 0.0)
        for process in psutil.process_iter():
            known = self._processes.get(process.pid)
            one = known if known == process else process
            seen[one.pid] = one
            try:
                percent = one.cpu_percent()
                if percent > best[1]:
                    best = (_UNSAFE.sub("_", one.name())[:40] or "unnamed", percent)
            except psutil.Error:
                continue
        self._processes = {pid: p for pid, p in seen.items() if p is not None}
        return best


async def readings(interval_s: float) -> AsyncIterator[list[str]]:
    """One reading every `interval_s` seconds, for ever."""
    sensor = await asyncio.to_thread(HostSensor)
    while True:
        await asyncio.sleep(interval_s)
        yield [await asyncio.to_thread(sensor.read)]
