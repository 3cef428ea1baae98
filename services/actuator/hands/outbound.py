"""HTTP requests to listed hosts, and to nowhere else.

Theory of operation. `host:port` must be on the allow-list, exactly. The name is resolved once, every answer must be a public
address (unless this very `host:port` may be private), and the connection goes to one of the addresses that were checked: nothing
is resolved twice. No redirect is followed, no proxy or other environment is read, nothing is decompressed, and size and time are capped.

What can be told afterwards: before the first byte was sent, nothing happened (failure); 2xx is success; 3xx and 4xx are the
host's own refusal (failure); a 5xx may have had its effect (unknown), unless the method is a safe one. A lost answer is unknown
whatever the method: that GET changes nothing is the host's promise, which nobody here has seen it keep.
The summary tells the answer's status and size alone, for outcomes become memories and the host is not to be trusted. Its words are the
outcome's `output`, where they are text.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx

from services.actuator.hands.hand import Task, cannot_tell, failed, told
from services.actuator.terms import Outcome
from shared.contracts.events import Receipt
from shared.contracts.kinds.http import MAX_ANSWER_BYTES, SAFE_METHODS, HttpRequest, endpoint, url_trouble
from shared.outside.addresses import is_public, resolved
from shared.outside.getting import Tls, exchange


class Outbound:
    """Where requests may go. `allow_private` lists the `host:port`s of `allowed` whose addresses need not be public."""

    def __init__(
        self,
        allowed: frozenset[str] = frozenset(),
        allow_private: frozenset[str] = frozenset(),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._allowed = frozenset(host.lower() for host in allowed)
        self._allow_private = frozenset(host.lower() for host in allow_private)
        self._tls = Tls(tls)

    async def send(
        self,
        target: str,
        params: HttpRequest,
        *,
        claim: str,
        timeout_s: float,
        hindered: Callable[[], Outcome | None] = lambda: None,
    ) -> Outcome:
        """One request, `claim` as its idempotency key, all within `timeout_s`; `hindered` is asked once the host's name is resolved.

        Raises nothing of its own.
        """
        if trouble := url_trouble(target):
            return failed("bad_target", trouble)
        where = endpoint(target)
        if where not in self._allowed:
            return failed("host_not_allowed", f"{where} is not on the allow-list")
        sent = asyncio.Event()
        try:
            async with asyncio.timeout(timeout_s):
                addresses = await resolved(urlsplit(target).hostname)
                if not addresses:
                    return failed("unresolvable", f"{where} has no address")
                inside = [a for a in addresses if not is_public(a)]
                if inside and where not in self._allow_private:
                    return failed("private_address", f"{where} leads to {inside[0]}, which is not public")
                if (refused := hindered()) is not None:
                    return refused
                return await self._to_first(addresses, target, params, claim, sent, timeout_s / 4)
        except TimeoutError:
            return _lost(sent, f"no whole answer from {where} within {timeout_s:g} s")
        except httpx.RemoteProtocolError:
            return _lost(sent, f"{where} gave no whole HTTP answer")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:  # ValueError: no name IDNA can carry
            return _lost(sent, f"{where}: {type(error).__name__} {error}"[:500])

    async def _to_first(
        self, addresses: list[str], target: str, params: HttpRequest, claim: str, sent: asyncio.Event, connect_s: float
    ) -> Outcome:
        """Through the first address that can be connected to within `connect_s`."""
        for address in addresses[:-1]:
            try:
                return await self._exchange(address, target, params, claim, sent, connect_s)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._exchange(addresses[-1], target, params, claim, sent, connect_s)

    async def _exchange(
        self, address: str, target: str, params: HttpRequest, claim: str, sent: asyncio.Event, connect_s: float
    ) -> Outcome:
        headers = {"Idempotency-Key": claim}
        if params.body is not None:
            headers["Content-Type"] = params.content_type
        body = None if params.body is None else params.body.encode()
        answer = await exchange(
            address,
            params.method,
            target,
            headers,
            body,
            tls=self._tls,
            connect_s=connect_s,
            limit=MAX_ANSWER_BYTES,
            sent=sent.set,
        )
        return _outcome(target, params, answer.status, answer.body, answer.cut)


class OutboundHand:
    """Does the kinds that are one HTTP request."""

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound

    async def act(self, task: Task) -> Outcome:
        match task.params:
            case HttpRequest() as params:
                return await self._outbound.send(
                    task.target, params, claim=task.claim.id, timeout_s=task.timeout_s, hindered=task.hindered
                )
            case other:
                raise TypeError(f"no {type(other).__name__} goes out here")

    async def inquire(self, task: Task) -> Outcome:
        return cannot_tell("the request may or may not have been made")


def _outcome(target: str, params: HttpRequest, status: int, body: bytes, cut: bool) -> Outcome:
    receipt = Receipt(
        target=target,
        sha256=None if cut else hashlib.sha256(body).hexdigest(),
        size_bytes=len(body),
        status=status,
    )
    output = told(body)
    said = f"{params.method} {target} answered {status} with {len(body)} bytes" + (", cut off there" if cut else "")
    if 200 <= status < 300:
        return Outcome(outcome="success", summary=said[:1000], receipt=receipt, output=output)
    if status >= 500 and params.method not in SAFE_METHODS:
        return Outcome(outcome="unknown", summary=said[:1000], error="http_status", receipt=receipt, output=output)
    code = "redirected" if 300 <= status < 400 else "http_status"
    return Outcome(outcome="failure", summary=said[:1000], error=code, receipt=receipt, output=output)


def _lost(sent: asyncio.Event, summary: str) -> Outcome:
    """No answer: certainly nothing happened before anything was sent."""
    if not sent.is_set():
        return failed("not_connected", summary)
    return cannot_tell(summary, "no_answer")
