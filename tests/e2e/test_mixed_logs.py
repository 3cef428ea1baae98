"""Governor and gateway, as real processes, over a log that an older and a newer release wrote as well: what an upgrade finds, and a
downgrade leaves behind. It starts, takes what it can read, and what it cannot stands in nobody's way and is told once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from shared.contracts.events import ThoughtGenerated
from shared.log.client.connection import Connection
from shared.log.streams import ensure
from tests.e2e.processes import Mesh, running
from tests.e2e.test_gateway import CHILD, ROOT, message
from tests.examples import EXAMPLES, on_the_wire

ADDED_SINCE = ("slot", "notice", "final")
HEADERS_SINCE = ("ce-subject", "ce-datacontenttype", "ce-traceparent")
"""Fields an older release did not say, nor a slot in the subject."""


async def api(connection: Connection, what: str, body: object = None) -> dict[str, object]:
    answer = await connection.request(f"$JS.API.{what}", b"" if body is None else msgspec.json.encode(body))
    decoded = msgspec.json.decode(answer.data, type=dict[str, object])
    assert "error" not in decoded, decoded
    return decoded


async def store(
    connection: Connection, subject: str, body: bytes, event_id: str, *, without: tuple[str, ...] = ()
) -> int:
    """Its sequence; an older release said `without` some headers."""
    name = ".".join(subject.split(".")[:2])
    _, headers, _ = on_the_wire(message(EXAMPLES[name]))  # the envelope of an event of this class
    headers = {**headers, "ce-id": event_id, "Nats-Msg-Id": event_id, "ce-subject": subject}
    headers = {name: value for name, value in headers.items() if name not in without}
    return int(msgspec.json.decode((await connection.request(subject, body, headers=headers)).data)["seq"])


async def written_by_others(mesh: Mesh) -> set[int]:
    """What an older and a newer release said of `root`; the sequences of what cannot be read."""
    connection = await Connection.open(mesh.broker.url, name="others")
    config = (await api(connection, "STREAM.INFO.SWARM"))["config"]
    assert isinstance(config, dict)
    older = {**config, "subjects": [*config["subjects"], "thought.generated.*.*"]}
    await api(connection, "STREAM.UPDATE.SWARM", older)

    thought = msgspec.structs.replace(EXAMPLES["thought.generated"], swarm="alpha", persona="root")
    assert isinstance(thought, ThoughtGenerated)
    said = {k: v for k, v in msgspec.to_builtins(thought).items() if k not in ADDED_SINCE}
    await store(
        connection, "thought.generated.alpha.root", msgspec.json.encode(said), "older-thought", without=HEADERS_SINCE
    )
    seen = b'{"swarm": "alpha", "persona": "all", "text": "seen by a later release", "mood": "calm"}'
    await store(connection, "observation.recorded.alpha.all", seen, "newer-field")
    unreadable = {
        await store(
            connection, "persona.spawned.alpha.later", b'{"swarm": "alpha", "persona": "later"}', "newer-shape"
        ),
        await store(connection, "persona.reaped.alpha.root", b'{"of": ["alpha", "root"]}', "newer-reap"),
        await store(connection, "thought.generated.alpha.root.r1", b"{}", "newer-thought"),
    }
    await connection.close()
    await ensure(mesh.broker.url, None)  # as the bootstrap of this release does
    return unreadable


async def dead(mesh: Mesh) -> int:
    connection = await Connection.open(mesh.broker.url, name="looker")
    state = (await api(connection, "STREAM.INFO.DEAD"))["state"]
    await connection.close()
    assert isinstance(state, dict)
    return int(state["messages"])


async def says_of_letters(mesh: Mesh, wanted: str) -> None:
    """Returns once readiness says so beside being ready: they are buried, and counted, one after the other."""
    async with asyncio.timeout(30):
        while True:
            warnings = (await mesh.answers("/health/ready", 200)).json()["warnings"]
            if wanted in warnings.get("dead_letters", ""):
                return
            await asyncio.to_thread(mesh.gateway.settle)


async def test_it_goes_on_with_a_log_that_an_older_and_a_newer_release_wrote(tmp_path: Path) -> None:
    async with running(tmp_path) as mesh:
        assert 200 == (await mesh.posts("/v1/swarm/personas", ROOT, "k1")).status_code
        processes = (mesh.gateway, mesh.governor)
        for process in processes:
            assert 0 == await process.end()
        unreadable = await written_by_others(mesh)
        for number in range(2):  # an upgrade, and a restart after it
            for process in processes:
                process.start()
            await says_of_letters(mesh, f"{len(unreadable)} cannot be read by anybody")
            born = await mesh.posts(
                "/v1/swarm/personas/root/spawn", {**CHILD, "persona_id": f"kid{number}"}, f"s{number}"
            )
            assert 200 == born.status_code, born.text
            alive = {
                p["identity"]["id"]: p["thought_count"] for p in (await mesh.client.get("/v1/swarm/personas")).json()
            }
            assert {"root", "kid0"} <= set(alive) and "later" not in alive and alive["root"] > 0
            assert len(unreadable) == await dead(mesh)
            for process in processes:
                assert 0 == await process.end()
        for process in processes:
            process.start()
