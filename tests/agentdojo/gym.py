"""AgentDojo itself, in a process and a Python of its own: `suites.py`, asked over HTTP."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from shared.contracts.action import Scalar

STARTS_WITHIN_S = 120.0


class Call(msgspec.Struct, frozen=True):
    """A call of a tool, its arguments as MCP is told them."""

    tool: str
    arguments: dict[str, Any]

    @property
    def params(self) -> dict[str, Scalar]:
        """As an action has them: a decimal is text, a list is text of a line each."""
        return {name: _scalar(value) for name, value in self.arguments.items()}


def _scalar(value: Any) -> Scalar:
    match value:
        case float():
            return f"{value:.2f}".rstrip("0").rstrip(".")
        case list():
            return "\n".join(str(one) for one in value)
        case _:
            return value  # type: ignore[no-any-return]


class Gym:
    """`suites` by name: their tools, `user_tasks` with what is asked, `injections` with what the attacker wants."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self.url, self._client = url, client
        self.suites: dict[str, dict[str, Any]] = {}

    def mcp(self, suite: str) -> str:
        """Where its tools are."""
        return f"{self.url}/mcp/{suite}"

    async def begin(self, suite: str, task: str, injection: str = "") -> list[Call]:
        """A fresh environment, and the task's ground truth in it."""
        said = await self._post("/begin", {"suite": suite, "task": task, "injection": injection})
        return [Call(one["tool"], one["arguments"]) for one in said["calls"]]

    async def calls(self, suite: str, task: str) -> list[Call]:
        """The task's ground truth; the environment stays as it is."""
        said = await self._post("/calls", {"suite": suite, "task": task})
        return [Call(one["tool"], one["arguments"]) for one in said["calls"]]

    async def judge(self, suite: str, task: str) -> bool:
        """Whether, by AgentDojo's word, what the task wants has happened."""
        return bool((await self._post("/judge", {"suite": suite, "task": task}))["so"])

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self._client.post(f"{self.url}{path}", json=body)
        answer.raise_for_status()
        return dict(answer.json())


@asynccontextmanager
async def gym(python: Path, version: str, folder: Path) -> AsyncIterator[Gym]:
    """The suites of a version, by the interpreter that has AgentDojo."""
    port_file = folder / "port"
    port_file.unlink(missing_ok=True)
    script = Path(__file__).with_name("suites.py")
    process = await asyncio.create_subprocess_exec(
        str(python), str(script), "--version", version, "--port-file", str(port_file), stdout=sys.stderr
    )
    try:
        async with asyncio.timeout(STARTS_WITHIN_S):
            while not (port_file.exists() and port_file.read_text()):
                if process.returncode is not None:
                    raise RuntimeError(f"AgentDojo ended with {process.returncode}")
                await asyncio.sleep(0.05)
        async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
            found = Gym(f"http://127.0.0.1:{port_file.read_text()}", client)
            found.suites = (await client.get(f"{found.url}/suites")).json()
            yield found
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
