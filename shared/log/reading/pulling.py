"""The continuous pull both consumers and tails are made of.

One inbox, one subscription, `MSG.NEXT` requests that are renewed before they run dry. It is not nats-py's `fetch(n)`, which
stalls up to its time-out on sparse streams (nats.py #986). Liveness is the broker's idle heartbeat: 2.5 missed ones mean a new
inbox and a look whether the consumer is still there. After a reconnect it asks again at once. What was received and not yet
taken counts as asked for, so a slow reader holds at most one batch.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog
from nats.aio.subscription import Subscription

from shared.log.client.connection import Connection
from shared.log.client.wire import Raw
from shared.log.port import LogUnavailable
from shared.patience import Patience

log = structlog.get_logger()

EXPIRES_S = 30.0
HEARTBEAT_S = 2.0
HELD_S = 1.0
"""How often it looks whether it may ask again."""
_GONE = ("404", "409")


class Pull:
    """Raw messages of one consumer. `ensure` (re)creates the consumer; it may raise `LogUnavailable` and is tried again.

    While `may_ask` says no, nothing is asked for.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        consumer: Callable[[], str],
        ensure: Callable[[], Awaitable[None]],
        *,
        batch: int,
        may_ask: Callable[[], bool] = lambda: True,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._consumer = consumer
        self._ensure = ensure
        self._batch = batch
        self._may_ask = may_ask
        self._patience = Patience(f"the messages of {stream} for {consumer()}")
        self._ready: deque[Raw] = deque()
        self._more = asyncio.Event()
        self._subscription: Subscription | None = None
        self._inbox = ""
        self._wanted = 0
        self._heard = 0.0
        self._stopped = False
        self._reset_wanted = asyncio.Event()
        self._retry: asyncio.TimerHandle | None = None

    async def messages(self) -> AsyncIterator[Raw]:
        """Messages as they come, until `stop`; then those already received."""
        guardian = asyncio.create_task(self._guard(), name=f"pull-{self._consumer()}")
        self._connection.on_reconnect(self.reset)
        try:
            while True:
                while self._ready:
                    message = self._ready.popleft()
                    if self._wanted + len(self._ready) <= self._batch // 2 and not self._stopped:
                        self._ask()
                    yield message
                if self._stopped:
                    return
                if guardian.done():
                    await guardian
                self._more.clear()
                await self._more.wait()
        finally:
            self._connection.forget_reconnect(self.reset)
            guardian.cancel()
            await asyncio.gather(guardian, return_exceptions=True)
            await self._unsubscribe()

    async def stop(self) -> None:
        """Ask for no more. What the broker already sent is still yielded, then the iterator ends."""
        self._stopped = True
        await self._unsubscribe()
        self._more.set()

    async def reset(self) -> None:
        """Begin again with a new inbox and, if need be, a new consumer."""
        self._reset_wanted.set()

    async def _guard(self) -> None:
        """Keep the pull alive: (re)subscribe, ask, and watch the heartbeats."""
        loop = asyncio.get_running_loop()
        try:
            while not self._stopped:
                self._reset_wanted.clear()
                try:
                    await self._begin()
                except LogUnavailable as error:
                    self._patience.say(str(error))
                    await asyncio.sleep(0.25)
                    continue
                self._patience.over()
                while not self._reset_wanted.is_set():
                    quiet = loop.time() - self._heard if self._wanted > 0 else 0.0
                    if quiet > 2.5 * HEARTBEAT_S:
                        log.warning("pull_silent", consumer=self._consumer(), quiet_s=round(quiet, 1))
                        break
                    try:
                        async with asyncio.timeout(HEARTBEAT_S / 2):
                            await self._reset_wanted.wait()
                    except TimeoutError:
                        continue
        finally:
            self._more.set()

    async def _begin(self) -> None:
        await self._unsubscribe()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._stopped:
            return
        await self._ensure()
        self._inbox = self._connection.client.new_inbox()
        self._subscription = await self._connection.subscribe(self._inbox, self._receive)
        self._wanted = 0
        self._heard = asyncio.get_running_loop().time()
        self._ask()

    def _ask(self) -> None:
        count = self._batch - self._wanted - len(self._ready)
        if count <= 0 or self._subscription is None:
            return
        if not self._may_ask():
            self._again_in(HELD_S)
            return
        if self._wanted <= 0:
            self._heard = asyncio.get_running_loop().time()  # nothing was asked for, so nothing could be heard
        self._wanted += count
        body = b'{"batch":%d,"expires":%d,"idle_heartbeat":%d}' % (count, EXPIRES_S * 1e9, HEARTBEAT_S * 1e9)
        try:
            self._connection.send(
                f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer()}", body, reply=self._inbox
            )
        except LogUnavailable as error:
            self._patience.say(str(error))
            self._again_in(0.25)

    def _again_in(self, delay_s: float) -> None:
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(delay_s, self._reset_wanted.set)

    def _receive(self, message: Raw) -> None:
        if message.reply.startswith("$JS.ACK."):
            self._wanted -= 1
            self._heard = asyncio.get_running_loop().time()
            self._ready.append(message)
            self._more.set()
            return
        status, headers = message.status, message.headers
        if message.subject != self._inbox or self._stopped:
            return
        self._heard = asyncio.get_running_loop().time()
        if status == "100":
            return
        if status == "408" or (status == "404" and "Nats-Pending-Messages" in headers):
            self._wanted = max(0, self._wanted - int(headers.get("Nats-Pending-Messages", self._wanted)))
            self._ask()
        elif status == "409" and "exceeded" in message.description.lower():
            self._again_in(HEARTBEAT_S)
        elif status in _GONE or status == "503":
            log.warning("pull_refused", consumer=self._consumer(), status=status, why=message.description)
            self._again_in(0.1)

    async def _unsubscribe(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None and not self._connection.client.is_closed:
            try:
                await subscription.unsubscribe()
            except Exception as error:
                log.debug("unsubscribe_failed", error=str(error))


def ack_numbers(reply: str) -> tuple[int, int, int, int, int]:
    """(deliveries, stream sequence, consumer sequence, stored at in ns, pending) from an ack subject, old or new form."""
    parts = reply.split(".")
    at = 4 if len(parts) == 9 else 6
    tries, seq, consumer_seq, stamp, pending = parts[at : at + 5]
    return int(tries), int(seq), int(consumer_seq), int(stamp), int(pending)
