"""Who may come in: requests of one kind and swarm take a place at the door, before they are parsed and routed.

Being turned away so costs a tenth of what a request does, and nobody gets as far as a handler for whom there is no place. A
place is taken once the body is there, so a slow sender takes none, and given back with the answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import parse_qs

import msgspec

from services.gateway.commands.admission import Admission, Kind
from services.gateway.front.asgi import Event, Receive, Scope
from services.gateway.projections.projection import Projection
from services.gateway.wire.ids import as_token
from services.gateway.wire.requests import DEFAULT_SWARM

KINDS: dict[str, Kind] = {"spawn": "spawn", "reap": "reap"}
"""By the last word of a path of one persona."""

_NOBODYS: tuple[Kind, str | None] = "observe", None


class _Wanted(msgspec.Struct, frozen=True):
    """Whose a new persona is to be."""

    swarm_id: str | None = None
    parent_id: str | None = None


class Door:
    """`max_body`: so many bytes of a body are read here; the rest is for who reads it anyway."""

    def __init__(self, projection: Callable[[], Projection], admission: Admission, *, max_body: int) -> None:
        self._projection, self._admission, self._max_body = projection, admission, max_body

    @asynccontextmanager
    async def let_in(self, scope: Scope, receive: Receive) -> AsyncIterator[Receive]:
        """What to read the request's body from, while it has its place. Raises `Problem` (429)."""
        method, path = scope["method"], scope["path"].split("/")
        kind, home = _NOBODYS
        match method, path:
            case "POST", ["", "v1", "swarm", "personas", persona, ("spawn" | "reap") as verb]:
                receive, _ = await self._read(receive)
                kind, home = KINDS[verb], self._home(persona, _swarm(scope))
            case "POST", ["", "v1", "swarm", swarm, "observations"]:
                receive, _ = await self._read(receive)
                kind, home = "observe", as_token(swarm)
            case "POST", ["", "v1", "swarm", "personas"]:
                receive, body = await self._read(receive)
                kind, home = "spawn", self._wanted(body)
            case "GET", ["", "v1", "swarm", "personas", persona, "memory"]:
                kind, home = "recall", self._home(persona, _swarm(scope))
            case _:
                pass
        if home is None:
            yield receive
            return
        if kind == "spawn":
            self._admission.assert_not_held(home)
        with self._admission.open(kind, home):
            if kind == "spawn":
                self._admission.take("spawn_rate", "spawns", None, home)
            yield receive

    def _home(self, persona: str, swarm: str | None) -> str | None:
        """The swarm of the persona, if it can be told."""
        found = self._projection().personas.named(as_token(persona), swarm and as_token(swarm))
        return found[0].identity.swarm_id if len(found) == 1 else None

    def _wanted(self, body: bytes) -> str | None:
        try:
            wanted = msgspec.json.decode(body, type=_Wanted)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None  # whoever reads it will say what is wrong
        if wanted.parent_id is not None:
            return self._home(wanted.parent_id, wanted.swarm_id)
        return as_token(wanted.swarm_id or DEFAULT_SWARM)

    async def _read(self, receive: Receive) -> tuple[Receive, bytes]:
        """The body, and what to read it from once more."""
        events: list[Event] = []
        size = 0
        while size <= self._max_body:
            event = await receive()
            events.append(event)
            size += len(event.get("body", b""))
            if event["type"] != "http.request" or not event.get("more_body"):
                break
        read = iter(events)

        async def again() -> Event:
            event = next(read, None)
            return await receive() if event is None else event

        return again, b"".join(event.get("body", b"") for event in events)


def _swarm(scope: Scope) -> str | None:
    if not scope["query_string"]:
        return None
    return next(iter(parse_qs(scope["query_string"].decode("latin-1")).get("swarm", ())), None)
