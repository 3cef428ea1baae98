"""One action of every kind on real processes, and kill -9 in its life: done once at most, and its outcome true.

    python -m tests.chaos.each_kind --seed 2026

A person files it, somebody says yes, and at one of its steps (filed, verified, asked, authorised, claimed: the seed says which, and how
many milliseconds later) whoever has it next is killed. What it did is counted where it happens, not in the log. The last line is one JSON
object; exit 0 when every action has an outcome, none was done twice, and no outcome is untrue.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import httpx
import msgspec
import nats

from services.supervisor.mesh import Mesh
from services.supervisor.plan import Options
from shared.broker import inbox_prefix
from shared.contracts.action import Params
from shared.contracts.action_kinds import KINDS
from shared.contracts.events import ActionExecuted, ProposalRejected
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from tests.broker import Broker
from tests.chaos.load import Sink
from tests.tools import by_http, digests

SWARM, ROOT = "home", "root"
SERVICES = ("governor", "verifier", "policy_gate", "actuator", "gateway")
STEPS: Mapping[str, str] = {
    "proposal.filed": "verifier-1",
    "proposal.verified": "policy_gate-1",
    "approval.requested": "policy_gate-1",
    "proposal.authorized": "actuator-1",
    "action.claimed": "actuator-1",
}
"""Who has it next, by what was said last."""
JITTER_S = 0.03
SOON_S, OVER_WITHIN_S = 20.0, 200.0
"""After this the next kind has its turn; and every action is over, also one whose time-out is two minutes."""

Count = Callable[[], Awaitable[int]]


class Deed(msgspec.Struct, frozen=True):
    """What is to be done, and how often it was."""

    target: str
    params: Params
    count: Count


class Found(msgspec.Struct, kw_only=True):
    """What became of one. `killed`: whom, after what was said."""

    kind: str
    killed: str = ""
    outcome: str = "none"
    error: str = ""
    done: int = 0
    took_s: float = 0.0

    @property
    def wrong(self) -> str:
        """What is untrue of it; empty: nothing."""
        row = KINDS[self.kind]
        if self.outcome not in ("success", "failure", "unknown"):
            return "it has no outcome"
        if self.done > 1:
            return f"it was done {self.done} times"
        if self.outcome == "success" and self.done != 1:
            return "it is told to be done, and is not"
        if self.outcome == "failure" and self.done:
            return "it was done, and is told not to be"
        return (
            "nobody knows, though its kind can tell" if self.outcome == "unknown" and row.idempotency == "once" else ""
        )


class Ground:
    """A mesh, a place outside that counts, and what was filed."""

    def __init__(
        self, mesh: Mesh, log: JetStreamLog, sink: Sink, folder: Path, api: httpx.AsyncClient, other: Broker
    ) -> None:
        self.mesh, self.log, self.sink, self.folder, self.api, self.other = mesh, log, sink, folder, api, other

    def deeds(self) -> dict[str, Callable[[], Deed]]:
        """One of each kind; what it needs is made when it is asked for."""
        return {
            "file.write": lambda: self._file("written.md", {"content": "once\n", "mode": "create"}, "once\n"),
            "file.patch": lambda: self._patch(),
            "file.delete": lambda: self._delete(),
            "http.request": lambda: Deed(f"{self.sink.url}/once", {"method": "POST", "body": "{}"}, self._hits),
            "command.run": lambda: Deed("append", {"word": "once"}, self._lines),
            "mcp.call": lambda: Deed("odd/count", {"word": "once"}, self._calls),
            "nats.publish": lambda: Deed("alert", {"level": 3}, self._published),
            "notice.send": lambda: Deed("disk", {"percent": 90}, self._noticed),
            "persona.spawn": lambda: Deed(
                "kid", {"name": "kid", "role": "r", "charter": "c"}, self._said(f"persona.spawned.{SWARM}.kid")
            ),
            "persona.reap": lambda: Deed(
                "spare", {"reason": "it is over"}, self._said(f"reap.requested.{SWARM}.spare")
            ),
            "intent.submit": lambda: Deed(
                SWARM,
                {"goal": "why", "tokens": 900, "compute_ms": 900, "due_s": 600},
                self._said(f"intent.submitted.{SWARM}.>"),
            ),
            "person.ask": lambda: Deed("anyone", {"question": "why?"}, self._said(f"question.asked.{SWARM}.>")),
            "watch.add": lambda: Deed(
                "logins", {"pattern": "login of <*> failed"}, self._said(f"watch.added.{SWARM}.>")
            ),
            "test.noop": lambda: Deed("nothing", {"note": "once"}, self._nothing),
        }

    async def try_one(self, kind: str, dice: random.Random) -> tuple[Found, str, Deed]:
        """File it, let somebody be killed, and somebody say yes; its id, and what counts it."""
        deed, found = self.deeds()[kind](), Found(kind=kind)
        step, wait_s = dice.choice(list(STEPS)), dice.random() * JITTER_S
        body = {"kind": kind, "target": deed.target, "params": deed.params, "persona_id": ROOT, "swarm_id": SWARM}
        name = (await self._post("/v1/proposals", body))["proposal_id"]
        whose, until = f"{SWARM}.{ROOT}.{name}", time.monotonic() + SOON_S
        granted = False
        while time.monotonic() < until:
            said = {r.subject.rpartition(f".{whose}")[0]: r for r in await self.log.read((f"*.*.{whose}",))}
            if not found.killed and step in said:
                await asyncio.sleep(wait_s)
                await self.mesh.kill(STEPS[step])
                found.killed = f"{STEPS[step]} after {step}"
            if not granted and (asked := said.get("approval.requested")) is not None:
                digest = asked.event.digest  # type: ignore[union-attr]
                await self._post(f"/v1/approvals/{name}", {"decision": "grant", "digest": digest})
                granted = True
            if "action.executed" in said or "proposal.rejected" in said:
                break
            await asyncio.sleep(0.005)
        return found, name, deed

    async def over(self, found: Found, name: str, deed: Deed) -> None:
        """Wait for its last word, and count."""
        began = time.monotonic()
        whose = f"{SWARM}.{ROOT}.{name}"
        while time.monotonic() - began < OVER_WITHIN_S:
            for recorded in await self.log.read((f"action.executed.{whose}", f"proposal.rejected.{whose}")):
                match recorded.event:
                    case ActionExecuted(outcome=outcome, error=error):
                        found.outcome, found.error = outcome, error or ""
                    case ProposalRejected(reasons=reasons):
                        found.outcome, found.error = "rejected", ", ".join(reasons)
                    case _:
                        continue
                found.done = await deed.count()
                return
            await asyncio.sleep(0.2)

    async def _post(self, path: str, body: object) -> dict[str, str]:
        while True:
            answer = await self.api.post(path, json=body)
            if answer.status_code == 200:
                return dict(answer.json())
            if answer.status_code not in (404, 409, 503):
                raise RuntimeError(f"{path}: {answer.status_code} {answer.text[:500]}")
            await asyncio.sleep(0.05)

    def _file(self, name: str, params: Params, wanted: str) -> Deed:
        path = self.mesh.workspace / "notes" / name

        async def count() -> int:
            return int(path.exists() and path.read_text() == wanted)

        return Deed(f"notes/{name}", params, count)

    def _patch(self) -> Deed:
        """Were it done twice, there would be three."""
        path, before = self.mesh.workspace / "notes" / "patched.md", "a\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(before)

        async def count() -> int:
            return path.read_text().count("a") - 1

        base = hashlib.sha256(before.encode()).hexdigest()
        return Deed("notes/patched.md", {"base": base, "find": "a", "replace": "aa"}, count)

    def _delete(self) -> Deed:
        path = self.mesh.workspace / "notes" / "deleted.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("gone\n")

        async def count() -> int:
            return int(not path.exists())

        return Deed("notes/deleted.md", {"base": hashlib.sha256(b"gone\n").hexdigest()}, count)

    async def _hits(self) -> int:
        return self.sink.hits["/once"]

    async def _lines(self) -> int:
        path = self.folder / "lines"
        return len(path.read_text().splitlines()) if path.exists() else 0

    async def _calls(self) -> int:
        path = self.folder / "calls"
        return len(path.read_text().splitlines()) if path.exists() else 0

    async def _published(self) -> int:
        client = await nats.connect(self.other.url)
        count = (await client.jetstream().stream_info("ALERTS")).state.messages
        await client.close()
        return count

    async def _noticed(self) -> int:
        return self.sink.hits["/notice"]

    def _said(self, subject: str) -> Count:
        async def count() -> int:
            return len(await self.log.read((subject,)))

        return count

    async def _nothing(self) -> int:
        """What does nothing is done as often as somebody says so."""
        return 1


async def each_kind(data: Path, seed: int, kinds: tuple[str, ...]) -> list[Found]:
    """All of them on one mesh; where commands cannot be run, without those."""
    folder = data / "outside"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    commands = data / "commands.toml"
    commands.write_text(
        '[commands.append]\nabout = "a line more"\n'
        f'argv = ["/bin/sh", "-c", "echo $0 >> {folder}/lines", "{{word}}"]\nwrite = ["{folder}"]\n'
        'parameters.word.one_of = ["once"]\n'
    )
    tools = data / "mcp.toml"
    dice = random.Random(seed)
    with by_http({}, folder / "calls") as server:
        pin = (await digests(server))["count"]
        tools.write_text(
            f'[servers.odd]\nurl = "{server.url}"\nprivate = true\n'
            f'[servers.odd.tools.count]\ndigest = "{pin}"\narguments.word.one_of = ["once"]\n'
        )
        (data / "other").mkdir()
        other = Broker(data / "other")
        await other.start()
        try:
            client = await nats.connect(other.url)
            await client.jetstream().add_stream(name="ALERTS", subjects=["alerts"], max_bytes=2**20)
            await client.close()
            bridge = data / "bridge.toml"
            row = f'url = "{other.url}"\nsubject = "alerts"\nstream = "ALERTS"\narguments.level = {{least = 1, most = 5}}\n'
            bridge.write_text(f"[subjects.alert]\n{row}")
            files = {
                "SWARM_COMMANDS_FILE": str(commands),
                "SWARM_MCP_FILE": str(tools),
                "SWARM_BRIDGE_FILE": str(bridge),
            }
            return await _tried(data, folder, files, other, dice, kinds)
        finally:
            other.kill()


async def _tried(
    data: Path, folder: Path, files: dict[str, str], other: Broker, dice: random.Random, kinds: tuple[str, ...]
) -> list[Found]:
    async with Sink() as sink:
        where = sink.url.removeprefix("http://")
        notices = data / "notices.toml"
        notices.write_text(
            f'[notices.disk]\ntargets = ["json://{where}/notice"]\ntitle = "A disk fills up"\n'
            'body = "It is {percent} % full."\narguments.percent = {least = 0, most = 100}\n'
        )
        env = {
            "SWARM_OUTBOUND_ALLOW": where,
            "SWARM_OUTBOUND_ALLOW_PRIVATE": where,
            **files,
            "SWARM_NOTICES_FILE": str(notices),
        }
        options = Options(services=SERVICES, s3=False, policy="developer", env=env, ready_timeout_s=180)
        async with Mesh(data / "mesh", options) as mesh, httpx.AsyncClient(trust_env=False, timeout=30) as api:
            await mesh.wait_ready()
            api.base_url = httpx.URL(mesh.api_url)
            connection = await Connection.open(
                mesh.nats_url,
                name="bootstrap",
                seed_file=mesh.key("bootstrap"),
                inbox_prefix=inbox_prefix("bootstrap"),
            )
            log = JetStreamLog(connection, service="test", instance="test-1")
            ground = Ground(mesh, log, sink, folder, api, other)
            for name, parent in ((ROOT, None), ("spare", ROOT)):
                body = {
                    "persona_id": name,
                    "name": name,
                    "role": "r",
                    "charter": "c",
                    "swarm_id": SWARM,
                    "parent_id": parent,
                }
                await ground._post("/v1/swarm/personas", body)
                while not await log.read((f"persona.spawned.{SWARM}.{name}",)):
                    await asyncio.sleep(0.05)
            begun = []
            for kind in kinds:
                began = time.monotonic()
                begun.append((began, *await ground.try_one(kind, dice)))
                await mesh.wait_ready(*(f"{service}-1" for service in SERVICES))
            for began, found, name, deed in begun:
                await ground.over(found, name, deed)
                found.took_s = round(time.monotonic() - began, 1)
                print(f"{found.kind}: {found.outcome}, done {found.done}, killed {found.killed}", file=sys.stderr)
            await connection.close()
    return [found for _, found, _, _ in begun]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--kinds", nargs="*", help="only these")
    asked = parser.parse_args()
    kinds = tuple(asked.kinds or (kind for kind in KINDS if kind != "command.run" or shutil.which("bwrap")))
    with tempfile.TemporaryDirectory(prefix="swarm-each-kind-") as folder:
        Path(folder).chmod(0o755)  # the sandbox is nobody's
        found = asyncio.run(each_kind(Path(folder) / "data", asked.seed, kinds))
    wrong = {one.kind: one.wrong for one in found if one.wrong}
    print(json.dumps({"seed": asked.seed, "kinds": [msgspec.to_builtins(one) for one in found], "wrong": wrong}))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
