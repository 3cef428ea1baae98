"""What the broker itself must refuse a runner: subjects, replies, headers, consumers and buckets that are not its own.

Targets are generated from the catalog, so that a new class, service or stream is attacked from the day it exists.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence

from shared.broker import ROLES, SLOTS, inbox_prefix
from shared.contracts.catalog import CLASSES
from shared.contracts.envelope import Unreadable
from shared.contracts.services import SERVICES
from shared.log.kv import JetStreamKeyValue
from shared.log.streams import STREAMS
from shared.placement import LEASES
from tests.redteam.attacker import STOLEN
from tests.redteam.report import Row
from tests.redteam.siege import EVERYTHING, HOME, HONEST, Siege

RUNNER = "persona_runner"
OTHERS = tuple(service for service in SERVICES if service != RUNNER)
NAMES = (*ROLES, *(f"{service}-1" for service in SERVICES))
BROKER, STREAM, ACCOUNT = "broker permission", "broker, stream configuration", "broker, account"
TAIL = f"tail-{STOLEN}"
CREATE = f"$JS.API.CONSUMER.CREATE.SWARM.{TAIL}"


async def walls(siege: Siege) -> list[Row]:
    """All of them."""
    rows = [await classes(siege), await requests(siege), await buckets(siege), await letters(siege)]
    rows += [
        await ears(siege),
        await replies(siege),
        *[row async for row in headers(siege)],
        await leases(siege),
        await pushes(siege),
    ]
    return rows


def foreign_subjects(persona: str) -> Iterator[str]:
    """Every class a runner does not say, in every length a subject may have; those it says, in others' slots and in none."""
    for name in CLASSES:
        own = name in SERVICES[RUNNER].emits
        for tail in (
            ("", ".life", ".r1", ".core", ".life.r1", ".life.core")
            if own
            else ("", ".life", ".r2", ".life.r2", ".life.c1")
        ):
            yield f"{name}.{HOME}.{persona}{tail}"


def foreign_requests() -> Iterator[str]:
    """The broker's own API, as far as it changes something or is another's."""
    for stream in (*STREAMS, "EVIL"):
        for verb in (
            "CREATE",
            "UPDATE",
            "DELETE",
            "PURGE",
            "MSG.DELETE",
            "SNAPSHOT",
            "RESTORE",
            "MSG.GET",
            "PEER.REMOVE",
        ):
            yield f"$JS.API.STREAM.{verb}.{stream}"
    owned = [pair for service in OTHERS for pair in SERVICES[service].durables]
    tails = [("SWARM", f"tail-{name}-1") for name in ("gateway", "memory_compactor", RUNNER)]
    for stream, consumer in [*owned, *tails, ("SWARM", "evil"), ("KV_leases", "evil"), ("DEAD", "evil")]:
        for verb in ("CREATE", "DELETE", "MSG.NEXT", "PAUSE", "UNPIN", "INFO"):
            yield f"$JS.API.CONSUMER.{verb}.{stream}.{consumer}"
        yield f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{consumer}"
        yield f"$JS.ACK.{stream}.{consumer}.1.1.1.1.0"
        yield f"$JS.CORE.API.CONSUMER.DELETE.{stream}.{consumer}"
    yield from ("$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.ACCOUNT.PURGE.CORE", "$JS.API.SERVER.REMOVE")
    yield from ("$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.PING.CONNZ", "$SRV.PING", "$SRV.STATS.governor")
    yield from (f"{inbox_prefix(name)}.x" for name in NAMES)


async def classes(siege: Siege) -> Row:
    """Says what only others may say, or as if another said it."""
    subjects = list(foreign_subjects(siege.victim.id))
    return await _all_refused(siege, f"say any of {len(subjects)} subjects of others' classes and slots", subjects)


async def requests(siege: Siege) -> Row:
    """Changes streams, others' consumers and deliveries."""
    subjects = list(foreign_requests())
    return await _all_refused(siege, f"{len(subjects)} requests to streams, consumers, inboxes", subjects)


async def buckets(siege: Siege) -> Row:
    """Writes others' checkpoints, test writes and leases."""
    subjects = [f"$KV.checkpoints.{service}.{key}" for service in OTHERS for key in ("x", "x.y.z")]
    subjects += [f"probe.{service}-1" for service in SERVICES]
    subjects += [
        f"$KV.leases.{key}"
        for key in (f"{LEASES}{HONEST}", f"{LEASES}persona_runner-3", "shard.1", LEASES + "x", SLOTS + HONEST)
    ]
    return await _all_refused(siege, "write others' checkpoints, probes and leases", subjects)


async def letters(siege: Siege) -> Row:
    """Forges dead letters, which would keep the true ones out."""
    subjects = [f"dead.{service}.proposal.created.{HOME}.x.y" for service in OTHERS]
    subjects += [f"dead.unreadable.SWARM.{seq}" for seq in (1, 2**40)]
    return await _all_refused(siege, "forge others' dead letters", subjects)


async def ears(siege: Siege) -> Row:
    """Listens to what is said to others."""
    filters = [">", "*.>", "$SRV.>", "$JS.>", "$JS.ACK.>", "$KV.>", "dead.>", "_INBOX.>", "_R_.>", "$SYS.>"]
    filters += [f"{name}.>" for name in CLASSES]
    filters += [f"{inbox_prefix(name)}.>" for name in NAMES]
    heard = set(filters) - await siege.attacker.deaf(filters)
    return Row(name="listen to others' subjects and inboxes", refused=not heard, by=BROKER, seen=_named(heard))


async def replies(siege: Siege) -> Row:
    """Puts what it may not say into the reply field, so that the broker's answer is stored there."""
    own = own_subject(siege)
    targets = [*foreign_subjects(siege.victim.id), "$KV.checkpoints.governor.x", "dead.verifier.x", "probe.governor-1"]
    targets += [f"$JS.API.CONSUMER.DELETE.SWARM.{service}" for service in OTHERS]
    targets += [f"$JS.ACK.SWARM.{service}.1.1.1.1.0" for service in OTHERS]
    before = await siege.end()
    carriers = [(own, b"{}"), ("$JS.API.DIRECT.GET.SWARM", b'{"seq":1}'), ("$JS.API.STREAM.INFO.SWARM", b"")]
    carriers.append((f"$JS.API.CONSUMER.MSG.NEXT.SWARM.{TAIL}", b'{"batch":1,"no_wait":true}'))
    for subject, body in carriers:
        for target in targets:
            await siege.attacker.say(subject, body, reply=target)
    await siege.attacker.settled()
    await siege.attacker.ask(own)
    wrong = {m.subject for m in await siege.judge.stored(EVERYTHING, before) if isinstance(m, Unreadable)}
    wrong.discard(own)
    if await JetStreamKeyValue(siege.judge.connection, "checkpoints").get("governor.x") is not None:
        wrong.add("$KV.checkpoints.governor.x")
    name = f"{len(carriers)} requests with {len(targets)} forbidden replies each"
    return Row(name=name, refused=not wrong, by=ACCOUNT, seen=_named(wrong))


async def headers(siege: Siege) -> AsyncIterator[Row]:
    """Headers that would change more than the message they are on."""
    own = own_subject(siege)
    first = await siege.judge.get(1)
    verdict = f"proposal.verified.{HOME}.{siege.victim.id}"
    cases: tuple[tuple[str, dict[str, str]], ...] = (
        ("roll the log up", {"Nats_Rollup": "all"}),
        ("let an event of the log expire", {"Nats_TTL": "1s"}),
        ("count in the log", {"Nats_Incr": "+1"}),
        ("schedule a verdict", {"Nats_Schedule": "@at 2030-01-01T00:00:00Z", "Nats_Schedule_Target": f"{verdict}.x"}),
        (
            "commit a batch it did not begin",
            {"Nats_Batch_Id": "x", "Nats_Batch_Sequence": "2", "Nats_Batch_Commit": "1"},
        ),
        ("have a trace sent as a verdict", {"Nats_Trace_Dest": f"{verdict}.x"}),
    )
    for what, extra in cases:
        before = await siege.end()
        answer = await siege.attacker.ask(own, b"{}", **extra)
        stored = await siege.judge.stored((f"{verdict}.x", own), before)
        whole = not stored and await siege.judge.get(1) == first
        yield Row(name=what, refused=whole, by=STREAM, seen=_why(answer))


async def leases(siege: Siege) -> Row:
    """Rolls the bucket up under its own lease, so that all others' are gone, and has its own never expire."""
    bucket = JetStreamKeyValue(siege.judge.connection, "leases")
    key = next(e.key for e in await bucket.entries() if e.key.endswith(STOLEN))
    honest = key.removesuffix(STOLEN) + HONEST
    answer = await siege.attacker.ask(f"$KV.leases.{key}", b"", Nats_Rollup="all", Nats_TTL="600s")
    held = "error" in answer and await bucket.get(honest) is not None
    return Row(name="roll up all leases under its own", refused=held, by=STREAM, seen=_why(answer))


async def pushes(siege: Siege) -> Row:
    """Has its own tail push what it reads, which may be its own words, at others' requests, deliveries and buckets."""
    targets = [
        f"$JS.API.CONSUMER.{verb}.{s}.{c}"
        for service in OTHERS
        for s, c in SERVICES[service].durables
        for verb in ("MSG.NEXT", "DELETE")
    ]
    targets += [f"$JS.ACK.SWARM.{service}.1.1.1.1.0" for service in OTHERS]
    targets += [f"$JS.API.STREAM.{verb}.{stream}" for stream in STREAMS for verb in ("DELETE", "PURGE")]
    targets += ["$KV.checkpoints.governor.x", f"proposal.verified.{HOME}.{siege.victim.id}.x", "$SRV.PING"]
    own = own_subject(siege)
    await siege.attacker.ask(own, b'{"batch":100,"expires":60000000000}')
    at: set[str] = set()
    for target in targets:
        config = {"name": TAIL, "ack_policy": "explicit", "filter_subject": own, "deliver_subject": target}
        for extra in ({}, {"filter_subjects": [own]}, {"durable_name": TAIL}):
            body = json.dumps({"stream_name": "SWARM", "config": {**config, **extra}}).encode()
            for subject in (CREATE, f"{CREATE}.{own}", CREATE.replace("$JS.API", "$JS.CORE.API")):
                await siege.attacker.say(subject, body, reply=siege.attacker.client.new_inbox())
        await siege.attacker.ask(CREATE, body)  # by then the others have been looked at
        info = await siege.judge.connection.request(f"$JS.API.CONSUMER.INFO.SWARM.{TAIL}")
        if json.loads(info.data).get("config", {}).get("deliver_subject"):
            at.add(target)
        await siege.attacker.ask(f"$JS.API.CONSUMER.DELETE.SWARM.{TAIL}")
    return Row(
        name=f"have a tail push at {len(targets)} subjects", refused=not at, by="governor opens tails", seen=_named(at)
    )


def own_subject(siege: Siege) -> str:
    """One it may publish on."""
    return f"hypothesis.raised.{HOME}.{siege.own.id}.r2"


async def _all_refused(siege: Siege, name: str, subjects: Sequence[str]) -> Row:
    let_in = set(subjects) - await siege.attacker.refused(subjects)
    return Row(name=name, refused=not let_in, by=BROKER, seen=_named(let_in))


def _why(answer: dict[str, object]) -> str:
    error = answer.get("error")
    return str(error.get("description")) if isinstance(error, dict) else str(answer)[:80]


def _named(what: set[str]) -> str:
    some = sorted(what)[:3]
    return ", ".join(some) + (f" and {len(what) - 3} more" if len(what) > 3 else "")
