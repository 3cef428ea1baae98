"""Three brokers, each stream on all of them: what a guard, a reading and a bucket promise there too.

The whole contract runs on them with `SWARM_TEST_CLUSTER=1`; here is what one broker cannot show.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlparse

import pytest
import pytest_asyncio
from nats.aio.client import Srv

from shared.contracts.boundaries import life
from shared.contracts.envelope import Message, Recorded
from shared.log.client.connection import Connection
from shared.log.identity import Identity
from shared.log.jetstream import JetStreamLog
from shared.log.kv import JetStreamKeyValue
from shared.log.port import ConsumerSpec, Expect, LogUnavailable, StaleBoundary
from shared.log.streams import drift, ensure
from shared.runtime.vitals.probe import FAILURES, Probe
from tests.broker import REPLICAS, Cluster
from tests.cluster_race import race
from tests.contract.test_log import observation, reaped
from tests.doors import Doors, doors

pytestmark = [pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def behind(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Doors]:
    async with doors(tmp_path_factory.mktemp("cluster")) as behind:
        await behind.cluster.start()
        await ensure(behind.cluster.url, None, replicas=REPLICAS)
        yield behind


@pytest.fixture
def cluster(behind: Doors) -> Cluster:
    return behind.cluster


@pytest_asyncio.fixture(loop_scope="module")
async def log(cluster: Cluster) -> AsyncIterator[JetStreamLog]:
    connection = await Connection.open(cluster.url, name="test")
    yield JetStreamLog(connection, service="test", instance="test-1", replicated=True)
    await connection.close()


async def test_streams_have_as_many_replicas_as_asked_for_and_their_consumers_too(log: JetStreamLog) -> None:
    assert [] == await drift(log.connection, replicas=REPLICAS)
    assert [] == await drift(log.connection, replicas=1)  # more than asked for is the operator's choice
    missing = await drift(log.connection, replicas=5)
    assert all("num_replicas" in line for line in missing) and missing
    puller = log.pull(ConsumerSpec(name="test", filters=("observation.recorded.*.*",)))
    (seq,) = await log.commit([observation()])
    async for delivery in puller:
        delivery.ack()
        if delivery.seq == seq:
            break
    await puller.stop()
    info = await log.connection.request("$JS.API.CONSUMER.INFO.SWARM.test")
    assert info.data.count(b'"name":"n') >= REPLICAS - 1, info.data


async def test_what_is_read_is_what_the_leader_has(log: JetStreamLog, cluster: Cluster) -> None:
    """Right after each commit, from connections to each of the brokers."""
    readers = [await Connection.open(broker.url, name="reader") for broker in cluster.brokers]
    logs = [JetStreamLog(c, service="test", instance="reader-1", replicated=True) for c in readers]
    for number in range(40):
        (seq,) = await log.commit([reaped(f"fresh-{number}")])
        subject = f"persona.*.alpha.fresh-{number}"
        found = await asyncio.gather(*(reader.read((subject,)) for reader in logs))
        assert [[seq]] * len(logs) == [[r.seq for r in read] for read in found]
        assert [(seq,)] * len(logs) == [await reader.ends((subject,)) for reader in logs]
        assert [seq] * len(logs) == [r.seq for reader in logs for r in await reader.last((subject,))]
        assert all([isinstance(await reader.get(seq), Recorded) for reader in logs])
    for connection in readers:
        await connection.close()


async def test_of_many_writers_on_one_boundary_each_gets_in_once_and_nobody_decides_on_what_is_in_flight(
    cluster: Cluster,
) -> None:
    connections = [await Connection.open(broker.url, name="writer") for broker in cluster.brokers for _ in range(2)]
    writers = [JetStreamLog(c, service="test", instance="writer-1", replicated=True) for c in connections]
    boundary = "persona.*.crowd.>"

    async def write(log: JetStreamLog, number: int) -> None:
        mine = reaped(f"w{number}")
        mine = Message(
            event=mine.event.__class__(swarm="crowd", persona=f"w{number}", reason="r"), envelope=mine.envelope
        )
        while True:
            (end,) = await log.ends((boundary,))
            try:
                await log.commit([mine], [Expect(boundary, end)])
                return
            except StaleBoundary:
                continue

    await asyncio.gather(*(write(writers[n % len(writers)], n) for n in range(30)))
    assert 30 == len(await writers[0].read((boundary,)))
    for connection in connections:
        await connection.close()


async def test_a_bucket_is_what_its_leader_has(log: JetStreamLog, cluster: Cluster) -> None:
    readers = [await Connection.open(broker.url, name="reader") for broker in cluster.brokers]
    ours = JetStreamKeyValue(log.connection, "leases", replicated=True)
    theirs = [JetStreamKeyValue(connection, "leases", replicated=True) for connection in readers]
    for number in range(20):
        revision = await ours.put("runners.one", str(number).encode())
        entries = await asyncio.gather(*(bucket.get("runners.one") for bucket in theirs))
        assert [revision] * len(theirs) == [entry.revision for entry in entries if entry]
        assert [[str(number).encode()]] * len(theirs) == [
            [entry.value for entry in await bucket.entries("runners.>")] for bucket in theirs
        ]
    for connection in readers:
        await connection.close()


async def test_a_denial_and_an_authorisation_of_one_proposal_are_never_both_there(cluster: Cluster) -> None:
    verdicts = [0, 0]
    while 0 in verdicts:  # until each of the two words has won
        outcome = await race(cluster, rounds=30)
        assert (30, 0, 0) == (outcome.rounds, outcome.both, outcome.neither)
        verdicts = [verdicts[0] + outcome.authorized, verdicts[1] + outcome.rejected]
    assert life("a", "b", "c") == outcome.boundary.format(swarm="a", persona="b", proposal="c")


async def test_a_leader_that_is_cut_off_is_not_believed_that_the_log_went_back(behind: Doors, tmp_path: Path) -> None:
    """It answers as the leader it was for as long as it has not noticed, and its log ends where it was cut off."""
    old = await behind.cluster.leader()
    assert old is not None
    there = await Connection.open(behind.cluster.brokers[old - 1].url, name="living")
    here = await Connection.open(behind.cluster.brokers[old].url, name="deceived")
    log = JetStreamLog(there, service="test", instance="test-1", replicated=True)
    await log.commit([observation()])
    identity = Identity(here, log.trail, tmp_path / "witness.json")
    assert await identity.look()
    weathers = await behind.between(old)
    for weather in weathers:
        weather.passing.clear()
    try:
        async with asyncio.timeout(60):
            while True:
                try:
                    await log.commit([observation()])
                    break
                except LogUnavailable:
                    continue
        with pytest.raises(LogUnavailable):
            await identity.look()
        assert identity.another is None
    finally:
        for weather in weathers:
            weather.passing.set()
    await behind.cluster.in_step()
    async with asyncio.timeout(60):
        while True:
            try:
                assert await identity.look()
                break
            except LogUnavailable:
                continue
    await there.close()
    await here.close()


async def test_who_is_with_a_broker_that_is_cut_off_from_the_others_goes_to_one_of_those(behind: Doors) -> None:
    """It keeps its clients, and stores nothing of what they say for as long as that lasts."""
    one, *others = [broker.url for broker in behind.cluster.brokers]
    connection = await Connection.open(one, name="probing")
    connection.client._server_pool += [Srv(urlparse(url)) for url in others]
    probe = Probe(connection, "verifier-1", tolerance_s=3600.0, elsewhere=connection.elsewhere)
    await probe.write()
    assert probe.unstored is None
    weathers = await behind.between(0)
    for weather in weathers:
        weather.passing.clear()
    try:
        failed = 0
        while failed < FAILURES:  # until the others have done without it
            await probe.write()
            failed = failed + 1 if probe.unstored else 0
        async with asyncio.timeout(60):
            while probe.unstored:
                await asyncio.sleep(0.1)
                await probe.write()
        assert connection.client.connected_url.netloc in {urlparse(url).netloc for url in others}
    finally:
        for weather in weathers:
            weather.passing.set()
        await connection.close()
    await behind.cluster.in_step()
