"""Values of any size in a bucket of a real server, and the checkpoint of a governor with a long past."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from services.governor.decider import Governor, State, lineage_boundary
from services.governor.lineage import STAYS
from shared.contracts.envelope import Envelope, Message, Stored
from shared.contracts.events import AnyEvent, PersonaReaped, PersonaSpawned
from shared.contracts.ids import fresh_id
from shared.contracts.persona import Identity, PersonaPolicy
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.kv import JetStreamKeyValue
from shared.log.port import StaleBoundary
from shared.log.streams import ensure
from shared.runtime.handling import Fold
from shared.runtime.keeping.checkpoints import Checkpoints
from shared.runtime.keeping.parts import MAX_PARTS, PART_BYTES, Parts, TooLarge
from tests.broker import Broker
from tests.unit.governor.governor_model import at

EVER, LIVE = 20_000, 5_000


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[Connection]:
    broker = Broker(tmp_path)
    await broker.start()
    await ensure(broker.url, None)
    connection = await Connection.open(broker.url, name="test")
    yield connection
    await connection.close()
    broker.kill()


@pytest.fixture
def bucket(connection: Connection) -> JetStreamKeyValue:
    return JetStreamKeyValue(connection, "checkpoints")


def value(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1, 5 * PART_BYTES + 7])
async def test_what_was_put_is_got_and_what_it_replaces_takes_no_room(bucket: JetStreamKeyValue, size: int) -> None:
    parts = Parts(bucket, "w1")
    await parts.put("k", value(3 * PART_BYTES, 1))
    for seed in (2, 3, 4):
        await parts.put("k", value(size, seed))
        assert value(size, seed) == await parts.get("k")
    count = -(-size // PART_BYTES)
    assert 1 + (count if count > 1 else 0) == len(await bucket.entries())


async def test_of_two_writers_at_once_one_is_told_and_the_value_is_whole(bucket: JetStreamKeyValue) -> None:
    first, second = Parts(bucket, "w1"), Parts(bucket, "w2")
    ours, theirs = value(2 * PART_BYTES, 1), value(3 * PART_BYTES, 2)

    class Meanwhile(JetStreamKeyValue):
        """`second` puts all of its value in place between our parts and our manifest."""

        async def put(self, key: str, value: bytes, *, revision: int | None = None, ttl_s: int | None = None) -> int:
            if key == "k":
                await second.put("k", theirs)
            return await super().put(key, value, revision=revision, ttl_s=ttl_s)

    late = Parts(Meanwhile(bucket._connection, "checkpoints"), "w1")
    with pytest.raises(StaleBoundary):
        await late.put("k", ours)
    assert theirs == await first.get("k") and 4 == len(await bucket.entries())


async def test_a_crash_in_the_middle_leaves_the_old_value_and_is_written_over(bucket: JetStreamKeyValue) -> None:
    class Crashing(JetStreamKeyValue):
        async def put(self, key: str, value: bytes, *, revision: int | None = None, ttl_s: int | None = None) -> int:
            if key.endswith(".2"):
                raise ConnectionAbortedError
            return await super().put(key, value, revision=revision, ttl_s=ttl_s)

    old, new = value(2 * PART_BYTES, 1), value(4 * PART_BYTES, 2)
    await Parts(bucket, "w1").put("k", old)
    with pytest.raises(ConnectionAbortedError):
        await Parts(Crashing(bucket._connection, "checkpoints"), "w1").put("k", new)
    assert old == await Parts(bucket, "w1").get("k")
    await Parts(bucket, "w1").put("k", new)
    assert new == await Parts(bucket, "w2").get("k") and 5 == len(await bucket.entries())


async def test_a_value_that_is_too_large_is_refused_and_stores_nothing(bucket: JetStreamKeyValue) -> None:
    with pytest.raises(TooLarge):
        await Parts(bucket, "w1").put("k", bytes(MAX_PARTS * PART_BYTES + 1))
    assert [] == await bucket.entries()


def message(event: AnyEvent, second: float) -> Message:
    event_id = fresh_id()
    return Message(
        event=event,
        envelope=Envelope(id=event_id, source="/test", time=at(second), correlation=event_id, causation=event_id),
    )


def spawned(n: int) -> Message:
    identity = Identity(
        id=f"persona-{n}", name=f"Persona {n}", role="worker", charter="c", swarm_id="s", depth=0, created_at=at(n)
    )
    event = PersonaSpawned(swarm="s", persona=identity.id, identity=identity, policy=PersonaPolicy(), principal="ada")
    return message(event, n)


def reaped(n: int) -> Message:
    return message(PersonaReaped(swarm="s", persona=f"persona-{n}", reason="idle_ttl"), n + 1)


class Counted(JetStreamLog):
    """Counts what is read through boundaries."""

    given = 0

    async def stored(self, filters: Sequence[str], after: int = 0, *, upto: int | None = None) -> list[Stored]:
        found = await super().stored(filters, after, upto=upto)
        self.given += len(found)
        return found


async def test_a_governor_of_twenty_thousand_personas_begins_where_it_ended(
    connection: Connection, bucket: JetStreamKeyValue
) -> None:
    log = Counted(connection, service="test", instance="test-1")
    past = [spawned(n) for n in range(EVER)] + [reaped(n) for n in range(EVER - LIVE)]
    past.sort(key=lambda m: m.envelope.time)
    for start in range(0, len(past), 500):
        await log.commit(past[start : start + 500])

    governor, boundary = Governor(), lineage_boundary("s")
    whole: Fold[State] = Fold(governor, boundary)
    whole.absorb(await log.stored(boundary.reads))
    await Checkpoints(log, bucket, "governor", State, writer="governor-1").offer(whole)

    log.given, again = 0, Fold(governor, boundary)
    await Checkpoints(log, bucket, "governor", State, writer="governor-2").restore(again)
    again.absorb(await log.stored(boundary.reads, again.position))
    lineage = again.state.lineage
    assert (0, len(past)) == (log.given, again.position) and whole.state == again.state
    assert (LIVE, EVER) == (lineage.live, len(lineage.given)) and all(
        lineage.was_given(f"persona-{n}") for n in range(EVER)
    )
    assert len(lineage.members) <= LIVE + STAYS.total_seconds() + 2  # one a second was reaped
    size = sum(len(entry.value) for entry in await bucket.entries())
    print(f"{size} bytes of checkpoint: {EVER} personas ever, {LIVE} live, {len(lineage.members)} in the fold")
    assert size < 900_000
