"""One HTTP exchange with an address that was looked at: nothing is resolved twice, no redirect followed, no proxy or other environment
read, nothing decompressed, and no more read than is wanted. Whoever calls bounds the time."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import httpx
import msgspec

NAME = "perpetual-persona-swarms"


class Answer(msgspec.Struct, frozen=True):
    """The status, and the beginning of the body; `cut`: there may be more."""

    status: int
    body: bytes
    cut: bool


class Tls:
    """The certificates that are trusted, read once and when they are needed: it is the whole store of this machine."""

    def __init__(self, given: ssl.SSLContext | None = None) -> None:
        self._context = given

    def of(self, scheme: str) -> ssl.SSLContext | bool:
        if scheme != "https":
            return False
        if self._context is None:
            self._context = ssl.create_default_context()
        return self._context


async def exchange(
    address: str,
    method: str,
    target: str,
    headers: dict[str, str],
    body: bytes | None = None,
    *,
    tls: Tls,
    connect_s: float,
    limit: int,
    sent: Callable[[], None] = lambda: None,
) -> Answer:
    """`sent` is called once anything was sent. Raises `httpx.HTTPError`, `httpx.InvalidURL`, `OSError`."""
    url = httpx.URL(target)

    async def trace(event: str, _: object) -> None:
        if ".send_request_" in event:
            sent()

    request = httpx.Request(
        method,
        url.copy_with(host=address),
        headers={
            "Host": url.netloc.decode("ascii"),
            "User-Agent": NAME,
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            **headers,
        },
        content=body,
        extensions={
            "sni_hostname": url.host,
            "trace": trace,
            "timeout": httpx.Timeout(None, connect=connect_s).as_dict(),
        },
    )
    read, cut = bytearray(), False
    async with httpx.AsyncHTTPTransport(verify=tls.of(url.scheme), trust_env=False, retries=0) as transport:
        response = await transport.handle_async_request(request)
        try:
            async for chunk in response.stream:  # type: ignore[union-attr]
                read += chunk[: limit - len(read)]
                if cut := len(read) >= limit:
                    break
        finally:
            await response.aclose()
    return Answer(response.status_code, bytes(read), cut)
