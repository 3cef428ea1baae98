"""Waiting for processes to become ready: as long as they come nearer to it, and a patience longer.

Invariants:
- what counts as coming nearer has an end: one more is ready, a cause it did not name before, a position in the log (or a count
  of what it read) beyond all before, and from one that does not answer yet more lines than any run of it wrote. So one that
  crashes in a circle, or waits for what does not come, is given up;
- only time in which the supervisor itself looked counts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

import httpx
import msgspec

from services.supervisor.running.processes import Child

FIRST_POLL_S, LONGEST_POLL_S = 0.05, 0.5
LOOK_S, TELL_EVERY_S = 0.25, 10.0


class NotReady(Exception):
    """Nothing came nearer for the whole patience. `why` has the cause by process."""

    def __init__(self, why: dict[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {reason}" for name, reason in sorted(why.items())))
        self.why = why


class Progress:
    """What was seen of processes that come up. Each method takes one look in, and says whether it saw more than all before."""

    def __init__(self) -> None:
        self._causes: set[tuple[str, str]] = set()
        self._most: dict[tuple[str, str], int] = {}

    def answered(self, name: str, causes: Iterable[str], position: int) -> bool:
        """A process that is not ready, by the names of its causes and how far it has read."""
        new = {(name, cause) for cause in causes} - self._causes
        self._causes |= new
        return self._more(name, "position", position) or bool(new)

    def silent(self, name: str, lines: int) -> bool:
        """A process that does not answer, by the lines its present run wrote."""
        return self._more(name, "lines", lines)

    def _more(self, name: str, what: str, count: int) -> bool:
        more = count > self._most.get((name, what), 0)
        if more:
            self._most[name, what] = count
        return more


class _Said(msgspec.Struct):
    """What a service's readiness says; a server that is none of ours says something else."""

    problems: dict[str, str] = {}
    progress: int = 0


class Coming:
    """Waits for some children once. Time in seconds; `tell` hears now and then what each still waits for."""

    def __init__(
        self, children: Iterable[Child], *, patience_s: float, tell: Callable[[str, str], None] = lambda name, why: None
    ) -> None:
        self._children, self._patience_s, self._tell = tuple(children), patience_s, tell
        self._progress = Progress()
        self._why: dict[str, str] = {}
        self._idle_s = 0.0

    async def ready(self) -> None:
        """Returns when all are ready. Raises `NotReady`."""
        async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
            waited_s = 0.0
            waits = [asyncio.create_task(self._until_ready(client, child)) for child in self._children]
            try:
                while True:
                    began = time.monotonic()
                    done, waiting = await asyncio.wait(waits, timeout=LOOK_S)
                    for task in done:
                        task.result()
                    if not waiting:
                        return
                    looked_s = min(time.monotonic() - began, 2 * LOOK_S)
                    self._idle_s += looked_s
                    waited_s += looked_s
                    if waited_s >= TELL_EVERY_S:
                        waited_s = 0.0
                        for name, why in sorted(self._why.items()):
                            self._tell(name, why)
                    if self._idle_s >= self._patience_s:
                        raise NotReady(self._why)
            finally:
                for task in waits:
                    task.cancel()
                await asyncio.gather(*waits, return_exceptions=True)

    async def _until_ready(self, client: httpx.AsyncClient, child: Child) -> None:
        poll_s = FIRST_POLL_S
        while not await self._is_ready(client, child):
            await asyncio.sleep(poll_s)
            poll_s = min(LONGEST_POLL_S, poll_s * 1.2)
        self._why.pop(child.spec.name, None)
        self._idle_s = 0.0
        child.came_up = True

    async def _is_ready(self, client: httpx.AsyncClient, child: Child) -> bool:
        spec = child.spec
        if spec.ready_url is None:
            return True
        try:
            answer = await client.get(spec.ready_url)
        except httpx.HTTPError as error:
            self._why[spec.name] = f"does not answer: {error or type(error).__name__}"
            nearer = self._progress.silent(spec.name, child.lines)
        else:
            if spec.any_answer or answer.status_code == httpx.codes.OK:
                return True
            said = _said(answer)
            causes = "; ".join(f"{name}: {problem}" for name, problem in said.problems.items())
            self._why[spec.name] = f"answers {answer.status_code}: {causes or answer.text[:300]}"
            nearer = self._progress.answered(spec.name, said.problems or (str(answer.status_code),), said.progress)
        if nearer:
            self._idle_s = 0.0
        return False


def _said(answer: httpx.Response) -> _Said:
    try:
        return msgspec.json.decode(answer.content, type=_Said)
    except msgspec.MsgspecError:
        return _Said()
