"""Floods: what a runner may say, said too often. Judged by how long others wait meanwhile, and told as ratios.

`core_commit`: a service of CORE commits two events at once. `verdict`: from an honest proposal to its authorisation, by the broker's
own stamps. Windows with and without each flood take turns, so that both see the same machine; p95 is over all of a kind.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from shared.contracts.action import action_digest
from shared.contracts.envelope import encode
from shared.contracts.events import (
    ActionExecuted,
    AnyEvent,
    CheckRequested,
    Credits,
    GrantRequested,
    LogResolve,
    ObservationRecorded,
    ProposalCreated,
    RecallRequested,
)
from shared.contracts.ids import fresh_id
from tests.redteam.attacker import STOLEN
from tests.redteam.flooding import FRESH, Flood, Said
from tests.redteam.report import Report, Row
from tests.redteam.siege import HOME, Siege

ROUNDS, WINDOW_S, TRIES = 3, 6.0, 2
"""A flood that is above the limit is measured once more: a machine that others use too makes p95 of 120 waits jump."""
EVERY_S = 0.15
"""Between two proposals, and between two commits."""
LIMIT = 2.0
"""Times the p95 without the flood."""
REPEATS = 5_000
HELD_S = 5.0
"""An approved action may take so long while its proposal is created again and again."""


class Waits(msgspec.Struct):
    """Seconds that others waited."""

    commits: list[float] = []
    verdicts: list[float] = []


async def floods(siege: Siege, report: Report) -> None:
    """Adds a row for each flood, and the worst ratios."""
    ratios: list[tuple[float, float]] = []
    for flood in _floods(siege):
        for _ in range(TRIES):
            commit, verdict, said = await _measured(siege, flood)
            if max(commit, verdict) <= LIMIT:
                break
        ratios.append((commit, verdict))
        seen = f"{said} said; p95 of commits × {commit}, of verdicts × {verdict}"
        refused = said > 0 and max(commit, verdict) <= LIMIT
        report.attacks.append(
            Row(name=flood.name, refused=refused, by="limits of the broker, turns, jitter", seen=seen)
        )
    report.core_commit_p95_ratio = max(commit for commit, _ in ratios)
    report.verdict_p95_ratio = max(verdict for _, verdict in ratios)
    report.attacks.append(await recreating(siege))


async def _measured(siege: Siege, flood: Flood) -> tuple[float, float, int]:
    """Ratio of commits, of verdicts, and how many messages were said."""
    calm, flooded, said = Waits(), Waits(), 0
    for _ in range(ROUNDS):
        await _window(siege, calm)
        async with _running(siege, flood) as counted:
            await _window(siege, flooded)
        said += sum(counted)
    return _ratio(flooded.commits, calm.commits), _ratio(flooded.verdicts, calm.verdicts), said


async def recreating(siege: Siege) -> Row:
    """A victim's action is approved, while its proposal is created again thousands of times."""
    victim, name = siege.victim, siege.proposal_id("approved")
    plain = siege.proposal(victim, name)
    action = msgspec.structs.replace(plain.action, target=f"asked/{name}.md")
    digest = action_digest(swarm=HOME, persona=victim.id, charter=victim.charter, action=action)
    event = msgspec.structs.replace(plain, action=action, digest=digest)
    await siege.honest.commit([siege.message(event, charter=victim.charter, slot="r1")])
    whose = f"{HOME}.{victim.id}.{name}"
    assert await siege.first([f"approval.requested.{whose}"]), "nobody is asked"
    flood = Flood(name="", messages=[_said(siege, event, victim.charter)], burst=50, every_s=0.05, most=REPEATS)
    async with _running(siege, flood) as counted:
        began = time.monotonic()
        vote = {"decision": "grant", "digest": digest, "reason": "fine"}
        answer = await siege.api.post(f"/v1/approvals/{name}", json=vote)
        assert answer.status_code == 200, answer.text
        end = await siege.life(victim, name)
        took_s = time.monotonic() - began
    done = end is not None and isinstance(end.event, ActionExecuted)
    return Row(
        name=f"create an approved proposal again {REPEATS} times",
        refused=done and took_s <= HELD_S and sum(counted) > 0,
        by="what a runner says is not in the life CORE guards",
        seen=f"{'executed' if done else 'not executed'} {took_s:.1f} s after the vote, {sum(counted)} said",
    )


def _floods(siege: Siege) -> list[Flood]:
    own = siege.own.id
    probe = LogResolve(evidence=(siege.seen,))
    check = CheckRequested(swarm=HOME, persona=own, check_id=f"c-{FRESH.lower()}", hypothesis_id="h", probe=probe)
    opened = Said(
        _said(siege, check).subject, "{}", {"Nats-Batch-Id": f"open-{fresh_id()}-{FRESH}", "Nats-Batch-Sequence": "1"}
    )
    grant = GrantRequested(swarm=HOME, persona=own, need=Credits(tokens=1, compute_ms=1))
    others = GrantRequested(swarm=HOME, persona=siege.victim.id, need=Credits(), closing=fresh_id())
    recall = RecallRequested(swarm=HOME, persona=own, query="what was served")
    junk = Said(_said(siege, grant).subject, "{}", {})
    return [
        Flood(name="open 60 atomic batches every 2 s", messages=[opened], burst=60, every_s=2.0),
        Flood(
            name="ask for 100 grants a second",
            messages=[_said(siege, grant), _said(siege, others)],
            burst=10,
            every_s=0.1,
        ),
        Flood(name="ask memory 50 times a second", messages=[_said(siege, recall)], burst=5, every_s=0.1),
        Flood(name="ask for 50 checks a second", messages=[_said(siege, check)], burst=5, every_s=0.1),
        Flood(name="200 unreadable events a second", messages=[junk], burst=20, every_s=0.1),
    ]


def _said(siege: Siege, event: AnyEvent, charter: str | None = None) -> Said:
    """As the project writes it, with another id each time it is said."""
    start = fresh_id()[:24]
    subject, lines, body = encode(siege.message(event, charter=charter, event_id=f"{start}-{FRESH}"))
    headers = dict(line.split(": ", 1) for line in lines.strip().split("\r\n"))
    swapped = FRESH.lower()
    return Said(subject.replace(swapped, FRESH), body.decode().replace(swapped, FRESH), headers)


@asynccontextmanager
async def _running(siege: Siege, flood: Flood) -> AsyncIterator[list[int]]:
    """The flood, until the block ends; then how much was said is in the list."""
    counted: list[int] = []
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.redteam.flooding", siege.mesh.nats_url, str(siege.mesh.key(STOLEN))),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(msgspec.json.encode(flood))
    child.stdin.close()
    await child.stdout.readline()
    try:
        yield counted
    finally:
        if child.returncode is None:
            child.terminate()
        counted.append(int(await child.stdout.read() or b"0"))
        await child.wait()


async def _window(siege: Siege, waits: Waits) -> None:
    """For a while, an honest proposal and a commit of two events every `EVERY_S`."""
    names: list[str] = []
    until = time.monotonic() + WINDOW_S

    async def proposing() -> None:
        while time.monotonic() < until:
            names.append(siege.proposal_id("timed"))
            await siege.propose(names[-1])
            await asyncio.sleep(EVERY_S)

    async def committing() -> None:
        while time.monotonic() < until:
            pair = [ObservationRecorded(swarm="elsewhere", persona="all", text=text) for text in ("one", "two")]
            began = time.monotonic()
            await siege.judge.commit([siege.message(event) for event in pair])
            waits.commits.append(time.monotonic() - began)
            await asyncio.sleep(EVERY_S)

    await asyncio.gather(proposing(), committing())
    for name in names:
        whose = f"{HOME}.{siege.victim.id}.{name}"
        given = await siege.first([f"proposal.authorized.{whose}"])
        created = await siege.first([f"proposal.created.{whose}.*"])
        assert given is not None and created is not None and isinstance(created.event, ProposalCreated), name
        waits.verdicts.append((given.stored_at - created.stored_at).total_seconds())


def _ratio(flooded: list[float], calm: list[float]) -> float:
    return round(_p95(flooded) / _p95(calm), 2)


def _p95(seconds: list[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.95)]
