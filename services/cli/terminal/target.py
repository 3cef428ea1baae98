"""Which mesh a command talks to, and how it fails.

Exit codes: 0 done, 1 the mesh (or the work) said no, 2 wrong usage, 3 no mesh can be reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx
import msgspec
from cyclopts import Parameter

from services.cli.terminal.output import safe
from services.supervisor.running.state import MeshRecord, read_record

OK, FAILED, USAGE, UNREACHABLE = 0, 1, 2, 3
DATA = Path("data")
DEFAULT_URL = "http://127.0.0.1:4096"
"""Asked where nothing says which mesh is meant: no `--url`, no `--data`, and no mesh has run in this folder."""
TIMEOUT_S = 20.0
PAGE = 1000


class Stop(Exception):
    """Ends the command with a code; the message says what to do next."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


Token = Annotated[str | None, Parameter(env_var="SWARM_TOKEN", help="API key, where the mesh wants one.")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Place:
    """Options every command has: a mesh of this machine."""

    data: Annotated[Path, Parameter(env_var="SWARM_DATA", help="Data folder of the mesh.")] = DATA
    json: Annotated[bool, Parameter(negative="", help="Print JSON instead of text.")] = False

    @property
    def record(self) -> MeshRecord | None:
        return read_record(self.data)

    def mesh(self) -> MeshRecord:
        """The record of the mesh that runs on `data`. Raises `Stop`: once it is gone, its ports may be another's."""
        record = self.record
        if record is None or not record.runs:
            raise Stop(f"no mesh runs on {self.data}; start one with `swarm up`, or say --data or --url", UNREACHABLE)
        return record


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Target(Place):
    """Options of every command that asks the API, wherever it is."""

    url: Annotated[str | None, Parameter(env_var="SWARM_URL", help="URL of the API; default: the mesh of --data.")] = (
        None
    )
    token: Token = None

    @property
    def api_url(self) -> str:
        if self.url:
            return self.url.rstrip("/")
        return DEFAULT_URL if self.data == DATA and self.record is None else self.mesh().api_url

    def client(self) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return httpx.AsyncClient(base_url=self.api_url, headers=headers, timeout=TIMEOUT_S, trust_env=False)


HERE, NEAR = Target(), Place()
SWARM = "swarm-core"
Swarm = Annotated[str, Parameter(help="Which swarm.")]


async def call(client: httpx.AsyncClient, method: str, path: str, **options: object) -> object:
    """The decoded answer. Raises `Stop` with the API's own words."""
    try:
        answer = await client.request(method, path, **options)  # type: ignore[arg-type]
    except httpx.TransportError as error:
        raise away(client, error) from error
    if answer.is_success:
        return msgspec.json.decode(answer.content)
    raise refusal(answer)


async def rows(client: httpx.AsyncClient, path: str, params: Mapping[str, str]) -> list[dict[str, object]]:
    """All of a list, over its pages. Raises `Stop` with the API's own words."""
    found: list[dict[str, object]] = []
    url, query = path, {**params, "limit": str(PAGE)}
    while True:
        try:
            answer = await client.get(url, params=query or None)
        except httpx.TransportError as error:
            raise away(client, error) from error
        if not answer.is_success:
            raise refusal(answer)
        try:
            found += msgspec.json.decode(answer.content, type=list[dict[str, object]])
        except msgspec.ValidationError as error:
            raise Stop(f"{path} answered something else than this version expects") from error
        following = answer.links.get("next", {}).get("url")
        if following is None:
            return found
        url, query = following, {}


def away(client: httpx.AsyncClient, error: Exception) -> Stop:
    """No mesh there."""
    hint = "is it up? `swarm up` starts one, `swarm doctor` looks around"
    return Stop(f"nobody answers at {client.base_url} ({error or type(error).__name__}); {hint}", UNREACHABLE)


def refusal(answer: httpx.Response) -> Stop:
    """What the API said, and what would help."""
    try:
        problem = msgspec.json.decode(answer.content, type=dict[str, object])
        said = str(problem.get("detail") or problem.get("title") or answer.reason_phrase)
    except msgspec.MsgspecError:
        said = answer.text[:300] or answer.reason_phrase
    hints = {
        401: "; give the API key with --token or SWARM_TOKEN",
        429: f"; try again in {answer.headers.get('Retry-After', 'a few')} s",
        503: "; the mesh is starting or a part is away, see `swarm status`",
    }
    code = UNREACHABLE if answer.status_code == 503 else FAILED
    return Stop(f"{safe(said, 1000)}{hints.get(answer.status_code, '')}", code)
