"""The actuator's lots: actions it may do this minute, asked of the governor ahead of need and spent here.

All that wait for an action of one swarm ask together, a little ahead; while one request is out, those who come wait for the next. Of
whoever goes on acting the next lot is asked for before the last is spent, so that mostly nobody waits.
Only answers to this process's own requests count, so two processes of one name never spend the same lot. What is not spent
lapses with its minute. Whoever gets no answer gets no action: without a governor nothing is done. An action that asks again, for its
claim was refused, gets what it got before: an action is claimed once, so it spends one.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec

from services.actuator.terms import Allotted
from shared.contracts.envelope import Message, enveloped
from shared.contracts.events import LotGranted, LotRequested, LotShare
from shared.contracts.ids import fresh_id, utc_now
from shared.log.port import Log, LogUnavailable

ANSWER_S = 2.0
"""As long as an answer is waited for; the action then comes again."""
LOOK_S = 0.005
"""The first look for the answer; each further one after twice the time, up to twenty times this."""
AHEAD = 16
"""Most actions asked for of one persona beyond those that wait: as many again as wait, or twice what it took since it was last asked for,
for they seldom come alone. So who goes on acting asks ever more seldom."""
BRISK, LOW = 8, 4
"""Who took so many actions since it was last asked for, and has so many times fewer left, is asked for again at once."""
MAX_WISHES = 256
MAX_DELAYED = 256
"""Actions of one swarm that may wait for a next minute; what comes beyond them is refused at once."""


class _Purse(msgspec.Struct):
    """What is left of one lot for one persona."""

    lot_id: str
    left: int
    expires_at: datetime


class _Desk:
    """One swarm's: what is left, what actions have taken (no more than lots have), who waits, what is held until when, and what waits for
    a next minute."""

    def __init__(self) -> None:
        self.purses: dict[str, deque[_Purse]] = {}
        self.taken: OrderedDict[str, _Purse] = OrderedDict()
        self.held: dict[str, tuple[str, datetime]] = {}
        self.waiting: list[tuple[str, str, asyncio.Future[Allotted]]] = []
        self.low: dict[str, None] = {}
        """Personas to ask for ahead."""
        self.asking: asyncio.Task[None] | None = None
        self.delayed: dict[str, datetime] = {}
        self.spent: Counter[str] = Counter()
        """Actions taken by each persona since it was last asked for some."""


class Lots:
    """All lots of this process. `instance` is its name; `clock` the wall clock minutes are told by."""

    def __init__(
        self, log: Log, instance: str, *, source: str = "actuator", clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._log = log
        self._source = source
        self._name = re.sub(r"[^a-z0-9-]", "-", instance.lower()).lstrip("-")[:48] or "actuator"
        self._clock = clock
        self._desks: dict[str, _Desk] = {}

    async def take(self, swarm: str, persona: str, key: str) -> Allotted:
        """One action of the persona, or why there is none now. `key` names the action. Never raises but for cancellation."""
        desk = self._desks.setdefault(swarm, _Desk())
        taken = self._spend(desk, persona, key)
        if taken is None:
            future: asyncio.Future[Allotted] = asyncio.get_running_loop().create_future()
            desk.waiting.append((persona, key, future))
            self._ask_soon(swarm, desk)
            taken = await future
        elif persona in desk.low:
            self._ask_soon(swarm, desk)
        return self._bounded(desk, key, taken)

    async def close(self) -> None:
        """Ask no more; whoever waits gets nothing."""
        asking = [desk.asking for desk in self._desks.values() if desk.asking is not None]
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        for *_, future in [waiting for desk in self._desks.values() for waiting in desk.waiting]:
            future.cancel()

    def _spend(self, desk: _Desk, persona: str, key: str) -> Allotted | None:
        """From a lot at hand, once for an action; or what is known to be held. None: nobody has asked yet."""
        now = self._clock()
        purse = desk.taken.get(key)
        if purse is not None and now < purse.expires_at:
            return Allotted(lot_id=purse.lot_id)
        scope, until = desk.held.get(persona, ("", now))
        purses = desk.purses.get(persona, deque())
        while purses and (purses[0].left == 0 or now >= purses[0].expires_at):
            purses.popleft()
        if purses:
            purse = purses[0]
            purse.left -= 1
            desk.spent[persona] += 1
            desk.taken[key] = purse
            if desk.spent[persona] >= max(BRISK, LOW * sum(one.left for one in purses)) and now >= until:
                desk.low[persona] = None
            return Allotted(lot_id=purse.lot_id)
        return Allotted(scope=scope, until=until) if now < until else None

    def _bounded(self, desk: _Desk, key: str, taken: Allotted) -> Allotted:
        """Only so many wait: what waits holds a place at the broker that others need."""
        if desk.delayed:
            desk.delayed = {k: until for k, until in desk.delayed.items() if until > self._clock() and k != key}
        if taken.until is None:
            return taken
        if len(desk.delayed) >= MAX_DELAYED:
            return msgspec.structs.replace(taken, too_many=len(desk.delayed))
        desk.delayed[key] = taken.until + timedelta(seconds=60)
        return taken

    def _ask_soon(self, swarm: str, desk: _Desk) -> None:
        if desk.asking is None:
            desk.asking = asyncio.create_task(self._ask(swarm, desk), name=f"lots-{swarm}")

    async def _ask(self, swarm: str, desk: _Desk) -> None:
        """Ask as long as somebody waits, or will; each gets what came, or that none came."""
        batch: list[tuple[str, str, asyncio.Future[Allotted]]] = []
        try:
            while desk.waiting or desk.low:
                batch, desk.waiting = desk.waiting, []
                batch = [waits for waits in batch if not self._served(desk, *waits)]
                if not (batch or desk.low):
                    break
                with contextlib.suppress(LogUnavailable):  # nobody gets anything, as if there were no governor
                    await self._request(swarm, desk, [persona for persona, *_ in batch])
                for persona, key, future in batch:
                    if not future.done():
                        future.set_result(self._spend(desk, persona, key) or Allotted())
        finally:
            desk.asking = None
            for *_, future in batch:
                future.cancel()  # does nothing to those who were answered

    def _served(self, desk: _Desk, persona: str, key: str, waiting: asyncio.Future[Allotted]) -> bool:
        """From what was asked for ahead and came meanwhile."""
        if waiting.done() or (taken := self._spend(desk, persona, key)) is None:
            return waiting.done()
        waiting.set_result(taken)
        return True

    async def _request(self, swarm: str, desk: _Desk, personas: list[str]) -> None:
        wishes = Counter({**dict.fromkeys(desk.low, 0), **Counter(personas)}).most_common(MAX_WISHES)
        desk.low.clear()
        wants = tuple(
            LotShare(persona=persona, actions=n + min(max(n, 2 * desk.spent[persona]), AHEAD)) for persona, n in wishes
        )
        desk.spent.clear()
        request_id = fresh_id()
        envelope = enveloped(request_id, source=self._source, time=self._clock())
        event = LotRequested(swarm=swarm, persona=self._name, wants=wants)
        (after,) = await self._log.commit((Message(event=event, envelope=envelope),))
        pause = LOOK_S
        try:
            async with asyncio.timeout(ANSWER_S):
                while True:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, 20 * LOOK_S)
                    for recorded in await self._log.read([f"lot.granted.{swarm}.{self._name}"], after):
                        after = recorded.seq
                        if recorded.envelope.causation == request_id and isinstance(recorded.event, LotGranted):
                            self._receive(desk, recorded.event)
                            return
        except TimeoutError:
            return

    def _receive(self, desk: _Desk, lot: LotGranted) -> None:
        now = self._clock()
        desk.purses = {name: purses for name, purses in desk.purses.items() if purses and now < purses[-1].expires_at}
        while desk.taken and now >= desk.taken[oldest := next(iter(desk.taken))].expires_at:
            del desk.taken[oldest]
        desk.held = {name: (scope, until) for name, (scope, until) in desk.held.items() if now < until}
        for share in lot.shares:
            purse = _Purse(lot_id=lot.lot_id, left=share.actions, expires_at=lot.expires_at)
            desk.purses.setdefault(share.persona, deque()).append(purse)
        for share in lot.held:
            desk.held[share.persona] = (share.scope, lot.expires_at)
