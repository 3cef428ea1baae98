"""What a checker reads on a real broker with the rights of its own account, and that no probe reaches what its persona may not read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from services.checker.answers import Answers
from services.checker.decider import Measured, RunProbe
from services.checker.desk import Desk
from services.checker.effects import CheckerEffects
from services.supervisor.plan import Options
from shared.contracts.action import Action, action_digest
from shared.contracts.envelope import Envelope, Message, Recorded
from shared.contracts.events import (
    AnyEvent,
    BeliefLookup,
    EvidenceRef,
    LogAround,
    LogCount,
    LogResolve,
    LogSearch,
    LogValues,
    MemoryRecall,
    ObservationRecorded,
    Probe,
    ProposalCreated,
    ProposalHistory,
    ProposalRejected,
    RecallAnswered,
    ReportRead,
    TemplateTable,
)
from shared.contracts.ids import fresh_id, utc_now
from shared.log.jetstream import JetStreamLog
from shared.log.kv import JetStreamKeyValue
from shared.policy.library import Library
from shared.policy.reading import Readings
from tests.e2e.users import BareBroker, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHARTER = "a" * 64
SECRET = "swordfish"
"""Is in what p01 of alpha may not read, and in nothing else."""
END = 10**9


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with BareBroker(tmp_path_factory.mktemp("checker") / "data", Options(services=(), s3=False)) as mesh:
        one = World(mesh)
        await one.opens_tails()
        yield one
        await one.close()


async def say(log: JetStreamLog, event: AnyEvent, *, cause: str | None = None) -> EvidenceRef:
    event_id = fresh_id()
    envelope = Envelope(id=event_id, source="test", time=utc_now(), correlation=event_id, causation=cause)
    (seq,) = await log.commit([Message(event=event, envelope=envelope)])
    return EvidenceRef(id=event_id, seq=seq)


def observed(text: str, swarm: str = "alpha", persona: str = "all") -> ObservationRecorded:
    return ObservationRecorded(swarm=swarm, persona=persona, text=text, source="auth")


def proposed(swarm: str, persona: str, words: str) -> ProposalCreated:
    action = Action(kind="file.write", target=f"findings/{words}/r.md", params={"content": f"# {words}"})
    return ProposalCreated(
        swarm=swarm,
        persona=persona,
        proposal_id=f"q-{swarm}-{persona}",
        title=words,
        rationale=words,
        action=action,
        charter=CHARTER,
        digest=action_digest(swarm=swarm, persona=persona, charter=CHARTER, action=action),
        deadline=utc_now(),
        slot="r1",
    )


async def remember(hears: JetStreamLog, log: JetStreamLog) -> None:
    """Memory that knows nothing: what it may tell is decided where it is, and is tried there."""
    async for asked in hears.tail(("recall.requested.*.*.*",), stream="RECALL"):
        assert isinstance(asked, Recorded)
        whose = {"swarm": asked.event.swarm, "persona": asked.event.persona}
        await say(log, RecallAnswered(**whose), cause=asked.id)


async def test_every_look_works_with_the_rights_of_a_checker_and_none_reads_what_is_anothers(world: World) -> None:
    gateway, runner, verifier = [await world.log(f"{name}-1") for name in ("gateway", "persona_runner", "verifier")]
    mine = [await say(gateway, observed(f"login of user{n} failed after {n} ms")) for n in range(4)]
    hidden = [
        await say(gateway, observed(f"login of {SECRET} failed after 9 ms", persona="p02")),
        await say(gateway, observed(f"login of {SECRET} failed after 9 ms", swarm="beta")),
    ]
    mine.append(await say(gateway, observed("login of user4 failed after 4 ms", persona="p01")))
    await say(runner, proposed("alpha", "p01", "own"))
    hidden += [
        await say(runner, proposed(swarm, persona, SECRET)) for swarm, persona in (("alpha", "p02"), ("beta", "p01"))
    ]
    whose = {"swarm": "alpha", "persona": "p01", "proposal_id": "q-alpha-p01"}
    await say(verifier, ProposalRejected(**whose, stage="verify", reasons=("no_evidence",), digest="0" * 64))

    log = await world.log("checker-1")
    answers = Answers(log)
    desk = Desk(
        log=log,
        answers=answers,
        library=Library(log, Readings(log, JetStreamKeyValue(log.connection, "policies"))),
        slot="c1",
    )
    checking = CheckerEffects(desk)
    span: dict[str, Any] = {"first_seq": 1, "last_seq": END}
    template = "login of <*> failed after <*> ms"
    probes: dict[Probe, int] = {
        LogCount(template=template, **span, by_source=True): 5,
        LogSearch(text="login", **span): 5,
        LogSearch(text=SECRET, **span): 0,
        LogResolve(evidence=(*mine, *hidden)): 5,
        LogAround(line=mine[1], before=12, after=12, any_source=True): 5,
        LogAround(line=hidden[0]): 0,
        LogAround(line=hidden[1]): 0,
        LogValues(template=template, **span): 5,
        TemplateTable(**span): 1,
        ProposalHistory(): 1,
        ProposalHistory(whose="swarm"): 2,
        ReportRead(target="r.md"): 5,
        MemoryRecall(query=SECRET): 0,
        BeliefLookup(query=SECRET): 0,
    }
    following = [
        asyncio.create_task(answers.follow()),
        asyncio.create_task(remember(gateway, await world.log("memory_compactor-1"))),
    ]
    try:
        for probe, value in probes.items():
            asked = RunProbe(
                swarm="alpha", persona="p01", probe=probe, check_event_id="k", correlation="c", asked_at=utc_now()
            )
            measured = await checking.perform(asked)
            assert isinstance(measured, Measured)
            assert (value, True) == (measured.value, measured.complete), (probe, measured)
            assert SECRET.encode() not in msgspec.json.encode(measured), probe
            assert not set(measured.evidence) & set(hidden), probe
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
    assert not any(name.startswith("checker") for name in world.violations)
