"""Another number of instances of a service in a mesh that runs: how `swarm scale` says it to the supervisor, and hears back.

A wish is the file `scale.json` in the data folder, its owner's alone; what became of it is in `mesh.json`. No port, no signal: who
may write in that folder owns the mesh. The file is made whole or not at all, and while it is there nobody else can make one; the
supervisor takes it away when it has answered, and at its start one that is left of a mesh that is gone. A command that ends
in between changes nothing: what it wished is done.

What was wished holds until the mesh is stopped. The next `swarm up` starts what it is told.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec

from services.supervisor.running.state import Answer
from services.supervisor.secrets.keys import write_private
from shared.broker import service_of

LOOK_S = 0.2
RELOAD_S, ASK_S = 10.0, 0.05


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """So many instances of these services. `wait_s` is the patience for new ones; None: the mesh's own."""

    id: str
    replicas: Mapping[str, int]
    wait_s: float | None = None


def file(data: Path) -> Path:
    """Where a wish is."""
    return data / "scale.json"


def say(data: Path, replicas: Mapping[str, int], wait_s: float | None) -> Wish:
    """Make a wish of the mesh on `data`. Raises `FileExistsError` while another is waited for."""
    wish = Wish(id=secrets.token_hex(8), replicas=replicas, wait_s=wait_s)
    own = data / f"scale.{wish.id}"
    write_private(own, msgspec.json.encode(wish).decode())
    try:
        os.link(own, file(data))
    finally:
        own.unlink()
    return wish


async def wished(data: Path) -> Wish:
    """The next wish. One that cannot be read has no id, and wants nothing."""
    while True:
        try:
            return msgspec.json.decode(file(data).read_bytes(), type=Wish)
        except msgspec.MsgspecError:
            return Wish(id="", replicas={})
        except OSError:
            await asyncio.sleep(LOOK_S)


def forget(data: Path) -> None:
    """No wish is waited for any more."""
    file(data).unlink(missing_ok=True)


def answer(wish: Wish, new: Sequence[str], ended: Mapping[str, int | None], there: Sequence[str]) -> Answer:
    """What was done, in words. A surplus instance that did not drain in good order is no success, though it is gone."""
    count = Counter(service_of(name) for name in there)
    lines = [
        f"{service}: {count[service]} run" + (f", {', '.join(mine)} new" if (mine := _of(service, new)) else "")
        for service in wish.replicas
    ]
    lines += [
        f"{name} has drained and ended" if code == 0 else f"{name} did not drain in time and was killed ({code})"
        for name, code in ended.items()
    ]
    return Answer(wish=wish.id, ok=not any(ended.values()), said=tuple(lines))


def _of(service: str, names: Sequence[str]) -> list[str]:
    return [name for name in names if service_of(name) == service]


@asynccontextmanager
async def reloaded(monitor_url: str) -> AsyncIterator[None]:
    """Inside, all brokers are told to read their configuration again; they have when this ends. Raises `OSError` when not in time."""
    pages = monitor_url.split(",")
    try:
        async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
            async with asyncio.timeout(RELOAD_S):
                before = {page: await _loaded(client, page) for page in pages}
                yield
                for page in pages:
                    while await _loaded(client, page) == before[page]:  # noqa: ASYNC110 - another process
                        await asyncio.sleep(ASK_S)
    except TimeoutError:
        raise OSError(
            f"a broker did not read its configuration within {RELOAD_S:g} s; logs/nats*.log say why"
        ) from None


async def _loaded(client: httpx.AsyncClient, page: str) -> str:
    """When the broker last read its configuration; waits for one that is away."""
    while True:
        try:
            return str((await client.get(f"{page}/varz")).json()["config_load_time"])
        except (httpx.HTTPError, ValueError, KeyError):
            await asyncio.sleep(ASK_S)
