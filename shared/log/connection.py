"""One nats-py connection and what JetStream needs over it: requests with one or many answers through a single inbox.

Traps this guards against (measured on nats-py 2.16): requests in flight are not failed on disconnect, so they are failed
here; a publish that timed out in an outage is still sent after reconnect, so nothing here assumes a timed-out request did
nothing; permission violations arrive only in the error callback, so they are logged loudly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nats
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from shared.log.port import LogUnavailable
from shared.log.wire import Take, WireClient

log = structlog.get_logger()

REQUEST_TIMEOUT_S = 5.0
STATUS = "Status"
WRONG_LAST_SEQUENCE = (10071, 10164)
"""The broker's error codes for a guard that has moved."""


class Connection:
    """A live connection. `on_reconnect` callbacks run after each reconnect, in order of registration."""

    def __init__(self) -> None:
        self._client = WireClient()
        self._inbox = ""
        self._next = 0
        self._answers: dict[str, tuple[asyncio.Future[Msg], Callable[[Msg], bool]]] = {}
        self._on_reconnect: list[Callable[[], Awaitable[None]]] = []
        self.closed = asyncio.Event()

    @classmethod
    async def open(
        cls, url: str, *, name: str, seed_file: Path | None = None, inbox_prefix: str = "_INBOX", wait_s: float = 30.0
    ) -> Connection:
        """Connect, waiting up to `wait_s` for the server to be there. Raises `LogUnavailable` with the server's last word."""
        self = cls()
        options: dict[str, Any] = {
            "name": name,
            "inbox_prefix": inbox_prefix,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": 0.1,
            "connect_timeout": 2,
            "ping_interval": 10,
            "max_outstanding_pings": 2,
            "pending_size": 8 * 1024 * 1024,
            "allow_reconnect": True,
            "error_cb": self._failed,
            "disconnected_cb": self._disconnected,
            "reconnected_cb": self._reconnected,
            "closed_cb": self._closed,
        }
        if seed_file is not None:
            options["nkeys_seed"] = str(seed_file)
        deadline = asyncio.get_running_loop().time() + wait_s
        while True:
            self._client = WireClient()
            try:
                await self._client.connect(url, **{**options, "allow_reconnect": False})
                await self._client.close()
                self._client = WireClient()
                await self._client.connect(url, **options)
                break
            except (nats.errors.Error, OSError) as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise LogUnavailable(f"no NATS server answers at {url}: {error}") from error
                await asyncio.sleep(0.1)
        self.closed.clear()
        self._inbox = self._client.new_inbox()
        await self._client.subscribe_direct(f"{self._inbox}.*", self._answered)
        return self

    @property
    def client(self) -> Client:
        """The nats-py client, for nats.micro."""
        return self._client

    @property
    def is_connected(self) -> bool:
        return bool(self._client.is_connected)

    def on_reconnect(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Have `callback` awaited after every reconnect."""
        self._on_reconnect.append(callback)

    def forget_reconnect(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Undo `on_reconnect`."""
        if callback in self._on_reconnect:
            self._on_reconnect.remove(callback)

    async def subscribe(self, inbox: str, take: Take) -> Subscription:
        """Have `take` awaited for every message on `inbox`, in order; it must not wait for an answer from the broker."""
        return await self._client.subscribe_direct(inbox, take)

    async def publish(
        self, subject: str, body: bytes = b"", *, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Send and do not wait. Raises `LogUnavailable` when the connection is gone and its buffer full."""
        try:
            await self._client.publish(subject, body, reply=reply, headers=headers)  # type: ignore[arg-type]
        except nats.errors.Error as error:
            raise LogUnavailable(f"cannot publish on {subject}: {error}") from error

    async def request(
        self,
        subject: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Msg:
        """One answer. Raises `LogUnavailable` on time-out, disconnect or nobody listening; it may have been done all the same."""
        answer = await self._ask(subject, (body,), headers, timeout_s, _only)
        if answer.headers and answer.headers.get(STATUS) == "503":
            raise LogUnavailable(f"nobody answers {subject} (JetStream down, or no permission)")
        return answer

    async def request_many(
        self, subject: str, *bodies: bytes, is_last: Callable[[Msg], bool], timeout_s: float = REQUEST_TIMEOUT_S
    ) -> list[Msg]:
        """All answers to all bodies, up to and including the one `is_last` recognises. Raises `LogUnavailable` like `request`."""
        answers: list[Msg] = []

        def collect(answer: Msg) -> bool:
            answers.append(answer)
            return is_last(answer)

        await self._ask(subject, bodies, None, timeout_s, collect)
        return answers

    async def _ask(
        self,
        subject: str,
        bodies: Sequence[bytes],
        headers: Mapping[str, str] | None,
        timeout_s: float,
        is_last: Callable[[Msg], bool],
    ) -> Msg:
        """Publish the bodies under one reply inbox and wait for the last answer."""
        self._next += 1
        token = str(self._next)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Msg] = loop.create_future()
        self._answers[token] = future, is_last
        timer = loop.call_later(timeout_s, _expire, future, subject, timeout_s)
        try:
            if not self._client.is_connected:
                raise LogUnavailable("the connection to NATS is down")
            for body in bodies:
                await self.publish(subject, body, reply=f"{self._inbox}.{token}", headers=headers)
            return await future
        finally:
            timer.cancel()
            del self._answers[token]

    async def close(self) -> None:
        """Flush what was published and close."""
        if self._client.is_connected:
            try:
                await self._client.flush(timeout=2)
            except (nats.errors.Error, TimeoutError):
                log.warning("nats_flush_failed")
        if not self._client.is_closed:
            await self._client.close()

    async def _answered(self, message: Msg) -> None:
        waiting = self._answers.get(message.subject.rpartition(".")[2])
        if waiting is not None and waiting[1](message) and not waiting[0].done():
            waiting[0].set_result(message)

    async def _disconnected(self) -> None:
        for future, _ in self._answers.values():
            if not future.done():
                future.set_exception(LogUnavailable("the connection to NATS was lost"))

    async def _reconnected(self) -> None:
        log.info("nats_reconnected")
        for callback in tuple(self._on_reconnect):
            await callback()

    async def _closed(self) -> None:
        if self._client.is_closed:  # else it is the end of an earlier client, of which `open` tries several
            self.closed.set()

    async def _failed(self, error: Exception) -> None:
        if self._inbox:
            log.warning("nats_error", error=str(error) or type(error).__name__)


def is_status(answer: Msg) -> bool:
    """Whether it is a status, such as the one that ends a batch of a direct get."""
    return answer.headers is not None and STATUS in answer.headers


def _only(answer: Msg) -> bool:
    """One answer is all there is."""
    return True


def _expire(future: asyncio.Future[Msg], subject: str, timeout_s: float) -> None:
    if not future.done():
        future.set_exception(LogUnavailable(f"no answer on {subject} within {timeout_s} s"))
