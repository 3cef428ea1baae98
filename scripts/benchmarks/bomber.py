"""One process of attackers: many connections, each sends its requests one after another, as fast as it is answered and longer.

Nobody waits for what `Retry-After` says. The process runs at the lowest priority, as attackers on other machines would not take
the mesh's processors either. On standard input: a JSON `Orders`; on standard output: `ready`, then one JSON `Report`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter

import msgspec


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """Each of `connections` sends `each` POSTs. In path, token and body `{c}` is the connection's number, `{n}` the request's."""

    host: str
    port: int
    connections: int
    each: int
    token: str
    path: str
    body: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How many answers of each status and reason, and how long it took."""

    seconds: float
    statuses: dict[str, int]
    reasons: dict[str, int]


class _Problem(msgspec.Struct):
    reason: str = ""


async def bomb(orders: Orders) -> Report:
    """All of it."""
    statuses: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    began = time.perf_counter()
    await asyncio.gather(*(_one(orders, number, statuses, reasons) for number in range(orders.connections)))
    return Report(seconds=time.perf_counter() - began, statuses=dict(statuses), reasons=dict(reasons))


async def _one(orders: Orders, number: int, statuses: Counter[str], reasons: Counter[str]) -> None:
    reader, writer = await asyncio.open_connection(orders.host, orders.port)
    for n in range(orders.each):
        body = _filled(orders.body, number, n).encode()
        head = (
            f"POST {_filled(orders.path, number, n)} HTTP/1.1\r\nHost: {orders.host}:{orders.port}\r\n"
            f"Authorization: Bearer {_filled(orders.token, number, n)}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        status, answer = await _answer(reader)
        statuses[status] += 1
        if status != "200":
            reasons[msgspec.json.decode(answer, type=_Problem).reason] += 1
    writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    length = next(int(line[15:]) for line in lines if line.lower().startswith("content-length:"))
    return lines[0].split(" ")[1], await reader.readexactly(length)


def _filled(text: str, number: int, n: int) -> str:
    return text.replace("{c}", str(number)).replace("{n}", str(n))


if __name__ == "__main__":
    os.nice(19)
    print("ready", flush=True)
    orders = msgspec.json.decode(sys.stdin.readline(), type=Orders)
    print(msgspec.json.encode(asyncio.run(bomb(orders))).decode(), flush=True)
