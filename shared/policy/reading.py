"""Who may read whose memory: the policies in force, asked where the query is made, each question once a version.

Theory of operation. Which policies are in force is an event, their text is in the bucket `policies` (decision 8). Before a read
the log is asked for what was activated since, unless it was asked within the last `GOOD_FOR_S`: so what is revoked may be read that much
longer, by this process's own clock, whatever stalls. A bundle is loaded once, and its answers are kept as long as it is in force. Before
any are in force memory is private.

Invariant: of a namespace other than one's own nothing is read that its owner does not share, whatever the policies say.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from shared.log.port import KeyValue, Log, LogUnavailable
from shared.metrics.table import MEMORY_DENIED
from shared.policy.activations import Followed
from shared.policy.bundle import BadBundle, Bundle, private, unpacked
from shared.policy.types import ReadRequest

log = structlog.get_logger()
GOOD_FOR_S = 1.0
"""So long the log's word on what is in force is believed: asked for every read, it cost a recall more than its search."""
KEPT = 4096
"""Answers that are kept; all are forgotten when there would be more."""


class NoBundle(LogUnavailable):
    """The policies in force are not in the bucket, or are not good. Remedy: give a gate their folder; the read is tried again."""


async def stored_bundle(store: KeyValue, version: str) -> Bundle:
    """The bundle stored under a version. Raises `NoBundle`, `LogUnavailable`."""
    entry = await store.get(version)
    if entry is None:
        remedy = "give a gate the folder it was in, and it is stored again"
        raise NoBundle(f"the policies in force, {version[:12]}, are not in the bucket `policies`; {remedy}")
    try:
        contents = unpacked(entry.value, version)
        return await asyncio.to_thread(Bundle.of, contents, f"the policies in force, {version[:12]}")
    except BadBundle as error:
        raise NoBundle(str(error)) from error


class Verdicts:
    """What one bundle says, each question asked once. None: nothing is in force yet."""

    def __init__(self, bundle: Bundle | None) -> None:
        self._bundle = bundle
        self._said: dict[ReadRequest, bool] = {}

    @property
    def version(self) -> str:
        return "" if self._bundle is None else self._bundle.version

    @property
    def bundle(self) -> Bundle | None:
        """For questions of other kinds."""
        return self._bundle

    def may(self, request: ReadRequest, *, counted: bool = True) -> bool:
        """Whether it may be read; a no is counted, unless nobody asked for it in particular."""
        allowed = self._said.get(request)
        if allowed is None:
            if len(self._said) >= KEPT:
                self._said.clear()
            allowed = self._said[request] = self._ask(request)
        if counted and not allowed:
            MEMORY_DENIED.by[request.namespace] += 1
        return allowed

    def _ask(self, request: ReadRequest) -> bool:
        if not (request.shared or request.namespace == "own" or request.person):
            return False
        return (private(request) if self._bundle is None else self._bundle.read(request)).allow


class Readings:
    """The policies in force on a log, for reads of memory."""

    def __init__(
        self, log: Log, store: KeyValue, *, good_for_s: float = GOOD_FOR_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._known = Followed(log)
        self._store = store
        self._verdicts = Verdicts(None)
        self._loading = asyncio.Lock()
        self._good_for_s = good_for_s
        self._clock = clock
        self._good_until = float("-inf")

    async def current(self) -> Verdicts:
        """What is in force now, or was `good_for_s` ago. Raises `NoBundle`, `LogUnavailable`."""
        asked = self._clock()
        if asked < self._good_until:
            return self._verdicts
        active = (await self._known.look()).active
        if active != self._verdicts.version:
            async with self._loading:
                if active != self._verdicts.version:
                    self._verdicts = Verdicts(await stored_bundle(self._store, active))
                    log.info("memory_policies", version=active)
        self._good_until = asked + self._good_for_s
        return self._verdicts
