"""One nats-py connection and what JetStream needs over it: requests with one or many answers through a single inbox.

Traps this guards against (measured on nats-py 2.16): requests in flight are not failed on disconnect, so they are failed
here; a publish that timed out in an outage would still be sent after reconnect, so what is pending is forgotten; permission
violations arrive only in the error callback, so they are logged loudly. While it is down, nats-py tells of each attempt to
connect again, ten a second: that is said as `Patience` has it.

From a disconnect on there is a fence: nothing is sent until `passes` has said that the log is still the one it was. A commit,
an ack or a nak that rests on another log would be taken for one of this.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import nats
import nkeys
import structlog
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from shared.log.client.wire import Raw, Take, WireClient, write_headers
from shared.log.port import LogUnavailable
from shared.patience import Patience

log = structlog.get_logger()

REQUEST_TIMEOUT_S = 5.0
PASS_AGAIN_S = 0.1
SWEEP_S = 0.25
"""How often requests are looked through for those whose time is over: a timer each would cost more than the request."""
FENCED = "the log is yet to be compared with what is known of it, nothing is sent before"
WRONG_LAST_SEQUENCE = 10071
"""The broker's error code for a guard that has moved."""
BEING_WRITTEN = 10164
"""A cluster's for a guard on which something else is in flight: whether that gets in is not decided, and so this decides nothing."""
_RESET = os.strerror(errno.ECONNRESET)


class _Asked(msgspec.Struct, frozen=True, gc=False):
    """A request in flight; `is_last` tells whether an answer is the last one."""

    subject: str
    timeout_s: float
    until: float
    is_last: Callable[[Raw], bool] | None
    answer: asyncio.Future[Raw]

    def fail(self, why: str) -> None:
        """Whoever waits gets `LogUnavailable`."""
        if not self.answer.done():
            self.answer.set_exception(LogUnavailable(why))


class Connection:
    """A live connection. `on_reconnect` callbacks run after each reconnect, in order of registration."""

    def __init__(self) -> None:
        self._client = WireClient()
        self._inbox = ""
        self._next = 0
        self._asked: dict[str, _Asked] = {}
        self._sweeping = False
        self._failure = ""
        self._patience = Patience("the broker")
        self._on_reconnect: list[Callable[[], Awaitable[None]]] = []
        self._passing: asyncio.Task[None] | None = None
        self.fenced = False
        """Whether nothing may be sent now."""
        self.asks: Mapping[str, str] = {}
        """What is asked under another subject than the one that is meant."""
        self.passes: Callable[[], Awaitable[bool]] | None = None
        """Asked after each reconnect, before the fence is lifted; it may raise `LogUnavailable` and is then asked again."""
        self.closed = asyncio.Event()

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        name: str,
        seed_file: Path | None = None,
        inbox_prefix: str = "_INBOX",
        tls: ssl.SSLContext | None = None,
        wait_s: float | None = 30.0,
        patience: Patience | None = None,
    ) -> Connection:
        """Connect to one of the servers in `url` (comma-separated), waiting up to `wait_s` (None: for ever) for one to be there.

        With `tls`, or where a URL begins with `tls://`, only to servers that speak it. Raises `LogUnavailable` with the last word.
        """
        self = cls()
        self._patience = patience or self._patience
        servers = [one.strip() for one in url.split(",") if one.strip()]
        if tls is None and "tls://" in url:
            tls = ssl.create_default_context()
        options: dict[str, Any] = {
            "name": name,
            "inbox_prefix": inbox_prefix,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": 0.1,
            "connect_timeout": 2,
            "ping_interval": 10,
            "max_outstanding_pings": 2,
            "pending_size": 32 * 1024 * 1024,
            "allow_reconnect": True,
            "error_cb": self._failed,
            "disconnected_cb": self._disconnected,
            "reconnected_cb": self._reconnected,
            "closed_cb": self._closed,
        }
        if seed_file is not None:
            options["nkeys_seed"] = str(seed_file)
        if tls is not None:
            options["tls"] = tls
        once = {**options, "allow_reconnect": False, "max_reconnect_attempts": 1}
        loop = asyncio.get_running_loop()
        deadline = None if wait_s is None else loop.time() + wait_s
        word = ""
        while True:
            self._failure = ""
            try:
                self._client = WireClient(tls_only=tls is not None)
                try:
                    await self._client.connect(servers, **once)
                finally:
                    await self._client.leave()
                self._client = WireClient(tls_only=tls is not None)
                await self._client.connect(servers, **options)
                break
            except (nats.errors.Error, nkeys.NkeysError, OSError) as error:
                failure = self._failure or str(error)
                if not word or _RESET not in failure:  # who hangs up before its reason is read has the last one it gave
                    word = _meant(failure, seed_file)
                why = f"no NATS server answers at {shown(url)}: {word}"
                if deadline is not None and loop.time() > deadline:
                    raise LogUnavailable(why) from error
                await self._patience.pause(why)
        self._patience.over()
        self.closed.clear()
        self.fenced = False
        self._inbox = f"{self._client.new_inbox()}."
        await self._client.subscribe_direct(f"{self._inbox}*", self._answered)
        return self

    @property
    def client(self) -> Client:
        """The nats-py client, for nats.micro."""
        return self._client

    @property
    def is_connected(self) -> bool:
        """Whether anything can be sent now."""
        return bool(self._client.is_connected) and not self.fenced

    def shut(self) -> None:
        """Send nothing any more, for good."""
        self.fenced = True
        self._client.forget_pending()

    async def elsewhere(self) -> None:
        """Leave the server for any of those there are; what is in flight fails, as when the connection is lost."""
        if self._client.is_connected:
            log.warning(
                "nats_left", server=shown(str(self._client.connected_url and self._client.connected_url.geturl()))
            )
            await self._client.force_reconnect()

    def on_reconnect(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Have `callback` awaited after every reconnect, when the fence is lifted."""
        self._on_reconnect.append(callback)

    def forget_reconnect(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Undo `on_reconnect`."""
        if callback in self._on_reconnect:
            self._on_reconnect.remove(callback)

    async def subscribe(self, subject: str, take: Take, *, queue: str = "") -> Subscription:
        """Have `take` called for every message on `subject`, in order; of those in one queue, one is."""
        return await self._client.subscribe_direct(subject, take, queue)

    def relay(self, subject: str, message: Raw) -> None:
        """Send on what came, headers and status as they are. Raises `LogUnavailable` like `send`."""
        if self.fenced:
            raise LogUnavailable(FENCED)
        try:
            self._client.send_raw(subject, message.data, "", message.head)
        except nats.errors.Error as error:
            raise LogUnavailable(f"cannot publish on {subject}: {error}") from error

    def send(self, subject: str, body: bytes = b"", *, reply: str = "", lines: str = "") -> None:
        """Publish and do not wait; `lines` are the headers. Raises `LogUnavailable` when the connection is gone and its buffer full,
        and behind the fence."""
        if self.fenced:
            raise LogUnavailable(FENCED)
        self._send(subject, body, reply, lines)

    def _send(self, subject: str, body: bytes, reply: str, lines: str) -> None:
        try:
            self._client.send(subject, body, reply, lines)
        except nats.errors.Error as error:
            raise LogUnavailable(f"cannot publish on {subject}: {error}") from error

    async def request(
        self,
        subject: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Raw:
        """One answer. Raises `LogUnavailable` on time-out, disconnect or nobody listening; it may have been done all the same."""
        return await self.ask(subject, body, lines=write_headers(headers or {}), timeout_s=timeout_s)

    async def request_many(
        self, subject: str, *bodies: bytes, is_last: Callable[[Raw], bool], timeout_s: float = REQUEST_TIMEOUT_S
    ) -> list[Raw]:
        """All answers to all bodies, up to and including the one `is_last` recognises. Raises `LogUnavailable` like `request`."""
        answers: list[Raw] = []

        def collect(answer: Raw) -> bool:
            answers.append(answer)
            return is_last(answer)

        await self.ask(subject, *bodies, timeout_s=timeout_s, is_last=collect)
        return answers

    def ask(
        self,
        subject: str,
        *bodies: bytes,
        lines: str = "",
        timeout_s: float = REQUEST_TIMEOUT_S,
        is_last: Callable[[Raw], bool] | None = None,
    ) -> asyncio.Future[Raw]:
        """Send the bodies under one reply inbox now; the last answer is to be awaited, and may raise `LogUnavailable`.

        Raises it itself when the connection is down, and behind the fence. `is_last` sees every answer; without it there is one.
        """
        if self.fenced:
            raise LogUnavailable(FENCED)
        return self._ask(subject, bodies, lines, timeout_s, is_last)

    async def look(self, subject: str, body: bytes = b"") -> Raw:
        """As `request`, also behind the fence: for whoever finds out whether it is to be lifted."""
        return await self._ask(subject, (body,), "", REQUEST_TIMEOUT_S, None)

    def _ask(
        self,
        subject: str,
        bodies: tuple[bytes, ...],
        lines: str,
        timeout_s: float,
        is_last: Callable[[Raw], bool] | None,
    ) -> asyncio.Future[Raw]:
        if not self._client.is_connected:
            raise LogUnavailable("the connection to NATS is down")
        self._next += 1
        token = str(self._next)
        reply = self._inbox + token
        subject = self.asks.get(subject, subject)
        for body in bodies:
            self._send(subject, body, reply, lines)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Raw] = loop.create_future()
        self._asked[token] = _Asked(subject, timeout_s, loop.time() + timeout_s, is_last, answer)
        if not self._sweeping:
            self._sweeping = True
            loop.call_later(SWEEP_S, self._sweep)
        return answer

    async def close(self) -> None:
        """Flush what was published and close."""
        if self._passing is not None:
            self._passing.cancel()
        if self._client.is_connected:
            try:
                await self._client.flush(timeout=2)
            except (nats.errors.Error, TimeoutError):
                log.warning("nats_flush_failed")
        else:
            self._client.forget_pending()
        if not self._client.is_closed:
            try:
                await self._client.close()
            except asyncio.CancelledError:
                # Also of the attempt to connect again, which nats-py gives up and then awaits.
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
        self.closed.set()

    def _answered(self, message: Raw) -> None:
        token = message.subject[len(self._inbox) :]
        asked = self._asked.get(token)
        if asked is None:
            return
        if message.status == "503":
            asked.fail(f"nobody answers {asked.subject} (JetStream down, or no permission)")
        elif asked.is_last is None or asked.is_last(message):
            if not asked.answer.done():
                asked.answer.set_result(message)
        else:
            return
        del self._asked[token]

    def _sweep(self) -> None:
        """Give up what is overdue, and forget what nobody waits for any more."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for token, asked in tuple(self._asked.items()):
            if asked.until <= now:
                asked.fail(f"no answer on {asked.subject} within {asked.timeout_s} s")
            if asked.answer.done():
                del self._asked[token]
        self._sweeping = bool(self._asked)
        if self._sweeping:
            loop.call_later(SWEEP_S, self._sweep)

    async def _disconnected(self) -> None:
        self.fenced = True
        self._client.forget_pending()
        if self._passing is not None:
            self._passing.cancel()
        for asked in self._asked.values():
            asked.fail("the connection to NATS was lost")
        self._asked.clear()

    async def _reconnected(self) -> None:
        self._patience.over()
        log.info("nats_reconnected")
        self._passing = asyncio.create_task(self._pass(), name="pass-the-fence")

    async def _pass(self) -> None:
        """Lift the fence when the log is the one it was, and have everybody go on."""
        while self.passes is not None:
            try:
                if not await self.passes():
                    return
                break
            except LogUnavailable as error:
                log.info("log_not_compared", why=str(error))
                await asyncio.sleep(PASS_AGAIN_S)
        self.fenced = False
        for callback in tuple(self._on_reconnect):
            await callback()

    async def _closed(self) -> None:
        if self._client.is_closed:  # else it is the end of an earlier client, of which `open` tries several
            self.closed.set()

    async def _failed(self, error: Exception) -> None:
        self._failure = str(error) or type(error).__name__
        if self._client.is_connected:
            log.warning("nats_error", error=self._failure)
        elif self._client.options.get("allow_reconnect"):  # else `open` says it
            self._patience.say(self._failure)


def shown(url: str) -> str:
    """URLs without what somebody may have put into them to log in with."""
    return ",".join(re.sub(r"//[^/@]*@", "//", one.strip()) for one in url.split(","))


def _meant(failure: str, seed_file: Path | None) -> str:
    """What the server or nats-py said, with what to do where that is known."""
    if "authorization" in failure.lower():
        return f"{failure}: it does not know the key in {seed_file}; put that into its configuration and reload it"
    if "nkeys" in failure:
        return f"{failure} in {seed_file}; it is to be the seed of a user, which begins with SU"
    return failure


def is_status(answer: Raw) -> bool:
    """Whether it is a status, such as the one that ends a batch of a direct get."""
    return answer.status != ""
