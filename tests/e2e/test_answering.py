"""Real processes on real logs: a persona is asked, counts, and answers once, with citations that resolve, whatever is killed."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from services.supervisor.mesh import Mesh as Swarm
from services.supervisor.plan import Options
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    AnyEvent,
    CheckRequested,
    CheckResult,
    CognitionStarted,
    Credits,
    Event,
    EvidenceRef,
    HypothesisRaised,
    IntentAnswered,
    IntentAssigned,
    ObservationRecorded,
    SpawnRequested,
    ThoughtGenerated,
)
from shared.contracts.ids import utc_now
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.streams import ensure
from tests.broker import Broker
from tests.e2e.command import swarm as command
from tests.e2e.processes import Process
from tests.e2e.test_gateway import message

pytestmark = pytest.mark.timeout(180)

LOGS = Path(__file__).resolve().parents[1] / "logs"
BUDGET = Credits(tokens=1000, compute_ms=60_000)


class Asked:
    """One persona, `ada`, that perceives some log files; and what asks it."""

    def __init__(self, log: JetStreamLog) -> None:
        self.log = log

    async def put(self, *events: AnyEvent) -> int:
        return (await self.log.commit([message(event) for event in events]))[-1]

    async def reads(self, *names: str) -> None:
        """The lines of these files, each as a source."""
        for name in names:
            told = (LOGS / name).read_text(encoding="utf-8").splitlines()
            for first in range(0, len(told), 400):
                await self.put(
                    *(
                        ObservationRecorded(swarm="alpha", persona="all", text=line, source=name)
                        for line in told[first : first + 400]
                    )
                )

    async def ask(self, goal: str, intent_id: str, *, options: tuple[str, ...] = ()) -> int:
        return await self.put(
            IntentAssigned(
                swarm="alpha",
                persona="ada",
                intent_id=intent_id,
                home="alpha",
                goal=goal,
                options=options,
                until=utc_now() + timedelta(minutes=5),
                budget=BUDGET,
                principal="ann",
            )
        )

    async def first(self, subject_filter: str, since: int = 0, kind: type[AnyEvent] = Event) -> AnyEvent:  # type: ignore[assignment]
        """The first event of this kind there, as soon as there is one."""
        tail = self.log.tail([subject_filter], since)
        async with asyncio.timeout(60):
            async for recorded in tail:
                if isinstance(recorded, Recorded) and isinstance(recorded.event, kind):
                    await tail.stop()
                    return recorded.event
        raise AssertionError("the tail ended")

    async def answer(self, intent_id: str) -> IntentAnswered:
        answer = await self.first(f"intent.answered.alpha.ada.{intent_id}.*")
        assert isinstance(answer, IntentAnswered)
        return answer

    async def cited(self, answer: IntentAnswered) -> list[AnyEvent]:
        """The events that it cites; each is in the log under its id."""
        found: list[AnyEvent] = []
        for ref in answer.evidence:
            recorded = await self.log.get(ref.seq)
            assert isinstance(recorded, Recorded) and recorded.id == ref.id
            found.append(recorded.event)
        return found


@asynccontextmanager
async def mesh(folder: Path) -> AsyncIterator[tuple[Asked, Process]]:
    """Broker, governor, verifier and one runner; and the runner's process."""
    broker = Broker(folder)
    await broker.start()
    await ensure(broker.url, None)
    connection = await Connection.open(broker.url, name="test")
    asked = Asked(JetStreamLog(connection, service="test", instance="test-1"))
    await asked.put(CognitionStarted(swarm="all", persona="all", loop_interval_ms=200))
    await asked.put(SpawnRequested(swarm="alpha", persona="ada", name="Ada", role="r", charter="c", principal="al"))
    processes = [Process(name, broker, folder) for name in ("governor", "verifier", "checker")]
    processes.append(Process("persona_runner", broker, folder, SWARM_INSTANCE="persona_runner-1"))
    try:
        await asked.first("persona.spawned.alpha.ada")
        yield asked, processes[-1]
    finally:
        for process in processes:
            process.process.kill()
            process.process.wait()
        await connection.close()
        broker.kill()


async def test_questions_about_real_logs_are_answered_by_counting_them(tmp_path: Path) -> None:
    async with mesh(tmp_path) as (asked, _):
        await asked.reads("sshd-bruteforce.log", "quiet-nginx.log")
        text = (LOGS / "sshd-bruteforce.log").read_text(encoding="utf-8")
        failed = [line for line in text.splitlines() if "Failed password" in line]
        from_one = [line for line in failed if line >= "Nov 22 01:"]

        await asked.ask('How often did "failed password" occur in sshd-bruteforce?', "count-all")
        answer = await asked.answer("count-all")
        assert re.findall(r"said (\d+) times in sshd-bruteforce\.log", answer.answer) == [str(len(failed))]
        cited = await asked.cited(answer)
        assert isinstance(cited[0], CheckResult) and cited[0].measured == len(failed)
        assert {e.text for e in cited[1:] if isinstance(e, ObservationRecorded)} <= set(failed)
        assert len(cited) > 4 and answer.confidence > 0.9 and "not by a model" in answer.answer
        assert Credits() != answer.spent and answer.spent.compute_ms <= BUDGET.compute_ms

        await asked.ask(
            'Did "Failed password" occur in sshd-bruteforce.log since 2026-11-22 01:00?', "since", options=("yes", "no")
        )
        answer = await asked.answer("since")
        assert f"said {len(from_one)} times" in answer.answer and answer.choice == ("yes" if from_one else "no")

        await asked.ask("Is anything out of the ordinary in the sshd-bruteforce log?", "odd")
        answer = await asked.answer("odd")
        assert not answer.declined and "Failed password" in answer.answer and "1030 lines" in answer.answer
        results = [e for e in await asked.cited(answer) if isinstance(e, CheckResult)]
        assert len(results) >= 2 and {r.outcome for r in results} == {"confirmed"}

        await asked.ask("Is anything unusual in quiet-nginx?", "quiet", options=("yes", "no"))
        answer = await asked.answer("quiet")
        assert answer.answer.startswith("Nothing out of the ordinary in quiet-nginx.log, in 1246 lines")
        assert answer.choice == "no"

        await asked.ask("Is anything unusual in postgres?", "unseen")
        answer = await asked.answer("unseen")
        assert answer.declined and "never perceived a source 'postgres'" in answer.answer
        await asked.ask("Write a poem about nginx", "poem")
        assert (await asked.answer("poem")).declined
        await asked.ask("What do you know about failed passwords?", "known")
        answer = await asked.answer("known")
        assert not answer.declined and "Failed password" in answer.answer
        assert await asked.cited(answer)


async def test_a_runner_killed_at_any_step_leaves_one_answer(tmp_path: Path) -> None:
    """Killed after the hypothesis, after the check was asked for, after its result, and after the answer."""
    async with mesh(tmp_path) as (asked, runner):
        await asked.reads("sshd-bruteforce.log")
        for n, stage in enumerate((HypothesisRaised, CheckRequested, CheckResult, IntentAnswered)):
            intent_id = f"i-{n}"
            since = await asked.ask('How often did "Failed password" occur in sshd-bruteforce.log?', intent_id)
            await asked.first("*.*.alpha.ada.>", since, stage)
            await runner.end(signal.SIGKILL)
            runner.start()
            answer = await asked.answer(intent_id)
            assert "said 404 times" in answer.answer
        await asked.ask("Is anything unusual in nginx?", "last")
        await asked.answer("last")
        log = await asked.log.read(["*.*.alpha.ada", "*.*.alpha.ada.>"])
        answers = [r.event.intent_id for r in log if isinstance(r.event, IntentAnswered)]
        assert sorted(answers) == ["i-0", "i-1", "i-2", "i-3", "last"]
        steps = [r.event.step for r in log if isinstance(r.event, ThoughtGenerated)]
        assert steps == list(range(1, len(steps) + 1))
        assigned = {
            r.event.intent_id: EvidenceRef(id=r.id, seq=r.seq) for r in log if isinstance(r.event, IntentAssigned)
        }
        raised = [r.event for r in log if isinstance(r.event, HypothesisRaised) and r.event.assignment]
        assert all(any(ref in assigned.values() for ref in event.evidence) for event in raised)


@pytest.mark.timeout(300)
async def test_who_asks_the_mesh_gets_one_cited_answer_though_its_runner_is_killed(tmp_path: Path) -> None:
    """All of it, as `swarm up` starts it, with its keys: submitted by command, routed, answered, closed."""
    options = Options(runners=1, ready_timeout_s=120)
    async with Swarm(tmp_path / "data", options) as swarm:
        await swarm.wait_ready()
        async with httpx.AsyncClient(base_url=swarm.api_url, timeout=30, trust_env=False) as api:
            assert (await api.post("/v1/cognition/start", json={"loop_interval_ms": 200})).status_code == 200
            body = {"persona_id": "ada", "name": "Ada", "role": "watcher", "charter": "Watch.", "swarm_id": "alpha"}
            assert (await api.post("/v1/swarm/personas", json=body)).status_code == 200
            told = (LOGS / "sshd-bruteforce.log").read_text(encoding="utf-8").splitlines()
            for first in range(0, len(told), 500):
                lines = [{"text": line, "source": "sshd"} for line in told[first : first + 500]]
                answer = await api.post("/v1/swarm/alpha/observations", json={"observations": lines})
                assert answer.status_code == 200, answer.text
        killed = asyncio.create_task(_kill_when_asked(swarm))
        ask = ("intent", "submit", "--swarm", "alpha", "--to", "ada", "--wait", "--url", swarm.api_url)
        code, asked, said = await command(*ask, 'How often did "Failed password" occur in sshd?', cwd=tmp_path)
        await killed
        assert (code, asked["intent"]["state"]) == (0, "answered"), said
        closed = next(e["data"] for e in asked["events"] if e["type"] == "intent.closed")
        assert "said 404 times in sshd" in closed["result"]
        seed = swarm.key("bootstrap")
        connection = await Connection.open(swarm.nats_url, name="t", seed_file=seed, inbox_prefix="_INBOX_bootstrap")
        log = JetStreamLog(connection, service="test", instance="test-1")
        try:
            answers = await log.read(["intent.answered.alpha.ada.*.*"])
            assert len(answers) == 1
            for ref in closed["evidence"]:
                cited = await log.get(ref["seq"])
                assert isinstance(cited, Recorded) and cited.id == ref["id"]
            assert len(closed["evidence"]) > 4
        finally:
            await connection.close()
        code, unseen, _ = await command(*ask, "Is anything unusual in postgres?", "--within", "20s", cwd=tmp_path)
        assert (code, unseen["intent"]["state"]) == (1, "failed")
        assert any("never perceived a source 'postgres'" in str(event["data"]) for event in unseen["events"])


async def _kill_when_asked(swarm: Swarm) -> None:
    """kill -9 to the only runner once the persona has raised something for it; the supervisor starts it again."""
    connection = await Connection.open(
        swarm.nats_url, name="k", seed_file=swarm.key("bootstrap"), inbox_prefix="_INBOX_bootstrap"
    )
    tail = JetStreamLog(connection, service="test", instance="test-2").tail(["check.requested.alpha.ada.*.*"])
    async for recorded in tail:
        if isinstance(recorded, Recorded) and getattr(recorded.event, "assignment", None):
            break
    await swarm.kill("persona_runner-1")
    await tail.stop()
    await connection.close()
