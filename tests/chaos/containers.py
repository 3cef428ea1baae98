"""A mesh of containers on a real engine, as its operator sees it: by `docker compose` alone."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from services.supervisor.running.ports import choose, is_free
from shared.configuration import VARIABLES
from shared.contracts.services import SERVICES
from shared.settings import reads

ROOT = Path(__file__).resolve().parents[2]
SINK, SINK_PORT = "sink", 8000
RESET = "!reset"
"""As a value of an override: takes away what the files before it say."""
SMALL_DISK = {"driver_opts": {"type": "tmpfs", "device": "tmpfs", "o": "size=512m,uid=10001,gid=10001"}}
"""The broker's disk, so that it can be filled. It is there as long as some container has it: the sink has."""
STALL_S = 6.0
"""Twice the time after which others take a runner for gone, and less than what a health check bears."""


class ComposeFailed(Exception):
    """A command of compose did not end well; the message has its last words."""


def engine() -> tuple[list[str] | None, str]:
    """The command that is Compose v2 here, on an engine that answers; None and what is missing when there is none."""
    if shutil.which("docker") is None:
        return None, "there is no docker here"
    answer = subprocess.run(
        ["docker", "info", "--format", "{{.ServerVersion}}"], capture_output=True, text=True, check=False
    )
    if answer.returncode != 0 or not answer.stdout.strip():
        return None, f"no Docker engine answers: {(answer.stderr or answer.stdout).strip()[:200]}"
    named = os.environ.get("COMPOSE")
    for command in ([named],) if named else (["docker", "compose"], ["docker-compose"]):
        try:
            said = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, check=False)
        except OSError:
            continue
        if said.returncode == 0 and not said.stdout.startswith("1."):
            return command, answer.stdout.strip()
    return None, "there is no Compose v2 here, neither as `docker compose` nor as `docker-compose`; COMPOSE may name it"


class Compose:
    """One project of its own: `name`, from compose `files` of this repository and an override made here.

    `overrides` are merged into the services of the override; `env` is what `.env` would say; `counts` has how many there are of whom
    there is more than one.
    """

    def __init__(
        self,
        command: Sequence[str],
        name: str,
        files: Sequence[str],
        folder: Path,
        *,
        env: Mapping[str, str],
        overrides: Mapping[str, Mapping[str, object]] | None = None,
        settings: Mapping[str, str] | None = None,
        counts: Mapping[str, int] | None = None,
        brokers: Sequence[str] = ("nats",),
    ) -> None:
        ports = choose(("api", "nats"), host="127.0.0.1")
        while not is_free("127.0.0.1", ports["api"] + 1):  # a second gateway's
            ports = choose(("api", "nats"), host="127.0.0.1")
        self.name, self.folder, self.counts = name, folder, dict(counts or {})
        self.brokers = brokers
        told = {"API_PORT": ports["api"], "API_PORTS": f"{ports['api']}-{ports['api'] + 1}", "NATS_PORT": ports["nats"]}
        self.env = {**os.environ, **{name: str(value) for name, value in told.items()}, **env}
        self.api_url, self.nats_url = f"http://127.0.0.1:{ports['api']}", f"nats://127.0.0.1:{ports['nats']}"
        override = folder / "override.yaml"
        wanted = json.dumps(
            {"services": self._override(settings or {}, overrides or {}), "volumes": {"nats": SMALL_DISK}}
        )
        override.write_text(wanted.replace(json.dumps(RESET), "!reset null"))  # JSON is YAML, but for its tags
        given = [str(ROOT / file) for file in files] + [str(override)]
        self._command = [*command, "-p", name, "--project-directory", str(ROOT), *(w for f in given for w in ("-f", f))]

    def _override(
        self, settings: Mapping[str, str], overrides: Mapping[str, Mapping[str, object]]
    ) -> dict[str, Mapping[str, object]]:
        told = {
            name: {"environment": {k: v for k, v in settings.items() if reads(name, VARIABLES[k])}} for name in SERVICES
        }
        sink = {
            "image": self.env.get("SWARM_IMAGE", "perpetual-persona-swarms:0.1.0-embedded"),
            "entrypoint": ["python", "/sink.py"],
            "volumes": [f"{ROOT / 'tests' / 'chaos' / 'sink.py'}:/sink.py:ro", "nats:/held"],
            "depends_on": {"keys": {"condition": "service_completed_successfully"}},
            "user": "10001:10001",
            "networks": ["outside"],
            "init": True,
        }
        held = {"mem_limit": "2g"}  # what is on its disk is in its memory here
        more = {name: {**told.get(name, {}), **row} for name, row in overrides.items()}
        return {**told, SINK: sink, **more, "nats": {**more.get("nats", {}), **held}}

    async def run(self, *words: str, timeout_s: float = 600.0, check: bool = True) -> str:
        """What the command said on stdout. Raises `ComposeFailed`."""
        process = await asyncio.create_subprocess_exec(
            *self._command, *words, env=self.env, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(timeout_s):
                out, err = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise ComposeFailed(f"{' '.join(words)} has not ended within {timeout_s:g} s") from None
        if check and process.returncode != 0:
            raise ComposeFailed(f"{' '.join(words)} ended with {process.returncode}: {err.decode()[-1500:]}")
        return out.decode()

    async def scale(self, service: str, count: int) -> None:
        """So many containers of a service; those that are there stay as they are."""
        self.counts[service] = count
        words = [word for name, many in self.counts.items() for word in ("--scale", f"{name}={many}")]
        await self.run("up", "-d", "--no-build", "--no-recreate", *words, timeout_s=300)

    async def inside(self, service: str, script: str, *, index: int = 1, check: bool = True) -> str:
        """What a shell says in the container of a service."""
        return await self.run(
            "exec", "-T", "--index", str(index), service, "sh", "-c", script, timeout_s=60, check=check
        )

    async def held(self, service: str, name: str) -> str:
        """A secret of a holder, read by a container that is gone right after."""
        words = ("run", "--rm", "-T", "--no-deps", "--entrypoint", "cat", service, f"/keys/{name}")
        return (await self.run(*words, timeout_s=120)).strip()

    async def remove_volume(self, volume: str) -> None:
        """A volume of the project whose containers are gone, with what is on it. Raises `ComposeFailed`."""
        words = ("docker", "volume", "rm", f"{self.name}_{volume}")
        removing = await asyncio.create_subprocess_exec(
            *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        _, said = await removing.communicate()
        if removing.returncode != 0:
            raise ComposeFailed(f"volume {volume} stays: {said.decode()[-500:]}")

    async def state(self) -> dict[str, State]:
        """Every container of the project by name. Raises `ComposeFailed` when there is none."""
        if not (ids := (await self.run("ps", "-a", "-q")).split()):
            raise ComposeFailed("there are no containers")
        said = await asyncio.create_subprocess_exec("docker", "inspect", *ids, stdout=asyncio.subprocess.PIPE)
        out, _ = await said.communicate()
        return {c.Name.strip("/"): State.of(c) for c in msgspec.json.decode(out, type=list[_Inspected])}

    async def signal(self, service: str, name: str, *, index: int = 1) -> bool:
        """A signal to all that runs in a container, but for its init, as if it had come from the kernel; whether it was there."""
        try:
            await self.inside(service, f"kill -{name} -1", index=index)
        except ComposeFailed as error:
            return "137" in str(error)  # the shell may be gone before it can say so
        return True


class State(msgspec.Struct, frozen=True):
    """Of one container. `restarts` counts what its restart policy did."""

    status: str
    healthy: bool
    restarts: int
    exit_code: int
    oom: bool

    @property
    def well(self) -> bool:
        """Whether it does what it is for: a one-shot has ended, all others are healthy."""
        return (self.status, self.healthy) == ("running", True) or (self.status, self.exit_code) == ("exited", 0)

    @classmethod
    def of(cls, found: _Inspected) -> State:
        health = found.State.Health
        return cls(
            status=found.State.Status,
            healthy=health is None or health.Status == "healthy",
            restarts=found.RestartCount,
            exit_code=found.State.ExitCode,
            oom=found.State.OOMKilled,
        )


class _Health(msgspec.Struct):
    Status: str


class _State(msgspec.Struct):
    Status: str
    ExitCode: int
    OOMKilled: bool
    Health: _Health | None = None


class _Inspected(msgspec.Struct):
    """What the engine says of a container, as far as it is looked at."""

    Name: str
    RestartCount: int
    State: _State


class ContainerSink:
    """The sink of a mesh of containers: what it has said so far."""

    url = f"http://{SINK}:{SINK_PORT}"

    def __init__(self, compose: Compose) -> None:
        self._compose = compose
        self.hits: Counter[str] = Counter()

    async def look(self) -> None:
        """Count anew what reached it."""
        self.hits = Counter((await self._compose.run("logs", "--no-log-prefix", SINK)).split())
