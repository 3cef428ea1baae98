"""A delivery ends in exactly one verdict, whatever its handler does; and what the shell keeps in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Sequence
from datetime import datetime, timedelta

import pytest
from structlog.testing import capture_logs

from shared.contracts.envelope import Envelope, Message, Recorded, Stored, Unreadable
from shared.contracts.events import ObservationRecorded
from shared.contracts.ids import fresh_id, utc_now
from shared.decider import NOTHING, Boundary, Decision, Delivered, Effect, Input, Performed, Result, Tick
from shared.log.memory import MemoryLog
from shared.log.port import ConsumerSpec, DuplicateEvent, Expect, LogUnavailable, StaleBoundary
from shared.runtime import shell as shell_module
from shared.runtime.driving import drive, no_effects
from shared.runtime.handling import Answer, Commit, Done, Operation, Verdict
from shared.runtime.shell import MAX_FAILURES, MAX_PAUSE_S, Shell

SPEC = ConsumerSpec(name="test", filters=(), ack_wait_s=0.3, max_deliver=100)


class Work(Effect, frozen=True, kw_only=True):
    """Takes until the mesh lets it end, or fails as its name says."""

    name: str


class Worked(Result, frozen=True, kw_only=True):
    """Done."""


class Saying:
    """Does as the text says; a boundary a persona."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, datetime]] = []

    def initial(self) -> int:
        return 0

    def boundary(self, message: Delivered | Tick) -> Boundary | None:
        persona = message.recorded.event.persona if isinstance(message, Delivered) else message.swarm
        return None if persona == "nobody" else Boundary(reads=(f"*.*.alpha.{persona}",), guards=())

    def decide(self, state: int, message: Input) -> Decision:
        if isinstance(message, Performed):
            return NOTHING
        text = getattr(message.recorded.event, "text", "") if isinstance(message, Delivered) else message.id
        self.heard.append((text, message.now))
        match text.partition(" ")[0]:
            case "bug":
                raise RuntimeError("a bug")
            case "reject":
                return Decision(reject="unwanted")
            case "retry":
                return Decision(retry_s=7.0)
            case "work" | "away":
                return Decision(effect=Work(name=text))
            case _:
                return NOTHING

    def evolve(self, state: int, recorded: Recorded) -> int:
        return state + 1


class Said:
    """One delivery; notes its verdicts."""

    def __init__(self, text: str, persona: str = "p1", attempt: int = 1, *, letters: bool = True) -> None:
        event = ObservationRecorded(swarm="alpha", persona=persona, text=text)
        envelope = Envelope(id=fresh_id(), source="test", time=utc_now(), correlation="c")
        self.subject, self.seq, self.attempt = f"observation.recorded.alpha.{persona}", 1, attempt
        self.recorded: Stored = Recorded(
            event=event, envelope=envelope, seq=1, stored_at=utc_now(), subject=self.subject
        )
        if text == "malformed":
            self.recorded = Unreadable(
                id="", seq=1, stored_at=utc_now(), subject=self.subject, reason="bad_body", detail="no JSON"
            )
        self.size = 0
        self.verdicts: list[str | float] = []
        self.renewed = asyncio.Event()
        self._letters = letters

    def ack(self) -> None:
        self.verdicts.append("ack")

    def nak(self, delay_s: float) -> None:
        self.verdicts.append(delay_s)

    def in_progress(self) -> None:
        self.renewed.set()

    async def dead(self, reason: str, detail: str) -> None:
        if not self._letters:
            raise LogUnavailable("the dead letters are away")
        self.verdicts.append(f"dead: {reason}")


class Source:
    """Delivers, one turn of the loop apart, and ends; or breaks."""

    def __init__(self, *said: Said, breaks: bool = False) -> None:
        self._said, self._breaks = said, breaks

    async def __aiter__(self) -> AsyncIterator[Said]:
        for delivery in self._said:
            yield delivery
            await asyncio.sleep(0)
        if self._breaks:
            raise RuntimeError("the pull broke")

    async def stop(self) -> None: ...


class Remembering(MemoryLog):
    """Notes from where on each boundary was read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[tuple[str, int]] = []

    async def stored(self, filters: Sequence[str], after: int = 0, *, upto: int | None = None) -> list[Stored]:
        self.reads.append((filters[0].rsplit(".", 1)[-1], after))
        return await super().stored(filters, after, upto=upto)


class Mesh:
    def __init__(self) -> None:
        self.log, self.decider = Remembering(), Saying()
        self.free = asyncio.Event()
        self.at_work = self.most_at_work = 0
        self.now = utc_now()
        self.shell = Shell(self.log, self.decider, service="test", perform=self._perform, clock=lambda: self.now)

    async def _perform(self, effect: Effect) -> Result:
        assert isinstance(effect, Work)
        if effect.name == "away":
            raise LogUnavailable("away")
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        await self.free.wait()
        self.at_work -= 1
        return Worked()

    async def consume(self, *said: Said, breaks: bool = False) -> None:
        async with asyncio.timeout(60):
            await self.shell.consume(Source(*said, breaks=breaks), SPEC)

    async def remember(self, *personas: str) -> None:
        """Have an event in the log for each, so that a fold of theirs is somewhere."""
        for persona in personas:
            event_id = fresh_id()
            envelope = Envelope(id=event_id, source="test", time=utc_now(), correlation=event_id)
            event = ObservationRecorded(swarm="alpha", persona=persona, text="x")
            await self.log.commit([Message(event=event, envelope=envelope)])


@pytest.mark.parametrize(
    ("text", "attempt", "verdict"),
    [
        ("fine", 1, "ack"),
        ("fine", 99, "ack"),
        ("fine", 100, "dead: max_deliver"),
        ("retry", 1, 7.0),
        ("reject", 1, "dead: unwanted"),
        ("malformed", 1, "dead: bad_body"),
        ("bug", 1, 0.2),
        ("bug", MAX_FAILURES, "dead: handler_failed"),
        ("away", 1, 0.5),
        ("away", 99, MAX_PAUSE_S),
    ],
)
async def test_every_end_of_a_handler_is_one_verdict(text: str, attempt: int, verdict: str | float) -> None:
    said = Said(text, attempt=attempt)
    await Mesh().consume(said)
    (told,) = said.verdicts
    if isinstance(verdict, float) and isinstance(told, float):
        assert verdict <= told <= 1.5 * verdict
    else:
        assert verdict == told


async def test_what_was_refused_together_does_not_come_again_together() -> None:
    said = [Said("bug", attempt=5) for _ in range(8)]
    with capture_logs():  # to paint eight tracebacks takes longer than the work may on a busy machine
        await Mesh().consume(*said)
    assert 1 < len({verdict for each in said for verdict in each.verdicts})


async def test_what_concerns_nobody_is_acked() -> None:
    said = Said("bug", persona="nobody")
    await Mesh().consume(said)
    assert ["ack"] == said.verdicts


@pytest.mark.parametrize("text", ["reject", "malformed"])
async def test_what_cannot_be_buried_now_comes_again(text: str) -> None:
    said = Said(text, letters=False)
    await Mesh().consume(said)
    assert [1.0] == said.verdicts


async def test_what_is_worked_on_is_renewed_and_then_acked_once() -> None:
    mesh, said, behind = Mesh(), Said("work"), Said("fine")
    consuming = asyncio.create_task(mesh.consume(said, behind))
    for delivery in (said, behind):
        await asyncio.wait_for(delivery.renewed.wait(), 5)
    mesh.free.set()
    await consuming
    assert [["ack"], ["ack"]] == [said.verdicts, behind.verdicts]


async def test_one_boundary_is_worked_on_one_at_a_time_in_order_and_two_side_by_side() -> None:
    mesh = Mesh()
    mesh.free.set()
    await mesh.consume(*(Said(f"work {n}") for n in range(5)))
    assert ([f"work {n}" for n in range(5)], 1) == ([text for text, _ in mesh.decider.heard], mesh.most_at_work)
    mesh.free.clear()
    consuming = asyncio.create_task(mesh.consume(Said("work"), Said("work", persona="p2")))
    async with asyncio.timeout(5):
        while mesh.most_at_work < 2:
            await asyncio.sleep(0.01)
    mesh.free.set()
    await consuming


async def test_the_time_of_a_message_is_that_of_its_turn() -> None:
    mesh = Mesh()
    consuming = asyncio.create_task(mesh.consume(Said("work"), waiting := Said("fine")))
    await asyncio.wait_for(waiting.renewed.wait(), 5)
    mesh.now += timedelta(minutes=5)
    mesh.free.set()
    await consuming
    assert ("fine", mesh.now) == mesh.decider.heard[-1]


@pytest.mark.parametrize("text", ["bug", "away"])
async def test_after_a_failure_the_boundary_is_read_anew(text: str) -> None:
    mesh = Mesh()
    await mesh.remember("p1")
    for each in ("fine", "fine", text, "fine"):
        await mesh.consume(Said(each))
    assert [("p1", 0), ("p1", 1), ("p1", 1), ("p1", 0)] == mesh.log.reads


async def test_of_many_boundaries_those_used_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell_module, "MAX_FOLDS", 2)
    mesh = Mesh()
    await mesh.remember("p1", "p2", "p3")
    for persona in ("p1", "p2", "p1", "p3", "p1", "p2"):
        await mesh.consume(Said("fine", persona=persona))
    assert [("p1", 0), ("p2", 0), ("p1", 1), ("p3", 0), ("p1", 1), ("p2", 0)] == mesh.log.reads


async def test_a_tick_that_fails_says_so_to_whoever_asked() -> None:
    mesh = Mesh()
    with pytest.raises(RuntimeError, match="a bug"):
        await mesh.shell.tick(Tick(id="bug", now=mesh.now, swarm="p1"))
    with pytest.raises(LogUnavailable):
        await mesh.shell.tick(Tick(id="away", now=mesh.now, swarm="p1"))


async def test_a_pull_that_breaks_ends_the_consuming_and_what_was_delivered_has_its_verdict() -> None:
    said = Said("fine")
    with pytest.raises(RuntimeError, match="the pull broke"):
        await Mesh().consume(said, breaks=True)
    assert ["ack"] == said.verdicts


@pytest.mark.parametrize("refusal", [StaleBoundary, DuplicateEvent])
async def test_a_moved_boundary_and_a_taken_id_are_refused_commits(refusal: type[Exception]) -> None:
    class Refusing(MemoryLog):
        async def commit(self, messages: Sequence[Message], expect: Sequence[Expect] = ()) -> tuple[int, ...]:
            raise refusal

    def steps() -> Generator[Operation, Answer, Verdict]:
        answer = yield Commit((), ())
        return Done(0 if answer is None else 1)

    assert Done(0) == await drive(Refusing(), steps(), no_effects)
