"""Read-only looks into the log and into memory. Nothing here judges; `decider` does.

Raises `LogUnavailable` through to the shell, which retries the delivery.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from services.checker.answers import Answers
from services.checker.decider import MAX_EVIDENCE, Measured, RunProbe
from shared.contracts.envelope import Envelope, Message, Recorded
from shared.contracts.events import (
    EvidenceRef,
    LogCount,
    LogResolve,
    LogSearch,
    MemoryRecall,
    ObservationRecorded,
    RecallRequested,
)
from shared.contracts.ids import CORE, EVERYONE, Slot, fresh_id
from shared.contracts.trace import carried_on
from shared.decider import Effect, Result
from shared.evidence import is_independent
from shared.log.port import Log
from shared.policy.library import Library

PAGE = 2_000
MAX_EVENTS_READ = 200_000
COUNTS_AT_ONCE = 4
"""A long count keeps the broker and this process busy; many personas that see the same burst all ask for one."""

EVIDENCE_KEPT = 8
"""Of the matching observations, the first and the last few are cited."""

RECALL_TIMEOUT_S = 5.0


class CheckerEffects(msgspec.Struct, frozen=True, kw_only=True):
    """Performs the checker's effects on one log. `source` is the service's name on envelopes, `slot` this instance's."""

    log: Log
    answers: Answers
    library: Library
    source: str = "checker"
    slot: Slot = CORE
    recall_timeout_s: float = RECALL_TIMEOUT_S
    max_events_read: int = MAX_EVENTS_READ
    counting: asyncio.Semaphore = msgspec.field(default_factory=lambda: asyncio.Semaphore(COUNTS_AT_ONCE))

    async def perform(self, effect: Effect) -> Result:
        match effect:
            case RunProbe(probe=LogCount() | LogSearch() as probe):
                async with self.counting:
                    return await count(self.log, effect.swarm, effect.persona, probe, self.max_events_read)
            case RunProbe(probe=LogResolve() as probe):
                return await resolve_probe(self.library, effect.swarm, effect.persona, probe)
            case RunProbe(probe=MemoryRecall() as probe):
                return await self._recall(effect, probe)
            case _:
                raise TypeError(f"the checker has no effect {type(effect).__name__}")

    async def _recall(self, effect: RunProbe, probe: MemoryRecall) -> Measured:
        """Ask memory and wait for the answer to exactly this question; incomplete when none comes in time.

        A check that is delivered again asks anew, under a new id: the answer to the first question may have passed unseen.
        """
        question = RecallRequested(
            swarm=effect.swarm,
            persona=effect.persona,
            query=probe.query,
            limit=1,
            principal=self.source,
            wanted="own",
            slot=self.slot,
        )
        request_id = fresh_id()
        envelope = Envelope(
            id=request_id,
            source=self.source,
            time=effect.asked_at,
            correlation=effect.correlation,
            causation=effect.check_event_id,
            traceparent=carried_on(request_id, effect.correlation, effect.traceparent),
        )
        waiting = self.answers.expect(request_id)
        try:
            async with asyncio.timeout(self.recall_timeout_s):
                await self.log.commit([Message(event=question, envelope=envelope)])
                answer = await waiting
        except TimeoutError:
            return Measured(value=0, complete=False, detail=f"memory did not answer within {self.recall_timeout_s:g} s")
        finally:
            waiting.cancel()
        if answer.refused is not None:
            return Measured(value=0, complete=False, detail=f"memory was not asked: {answer.refused}")
        own = [memory for memory in answer.memories if memory.persona == effect.persona and memory.kind != "belief"]
        best = max(own, key=lambda memory: memory.semantic, default=None)
        if best is None:
            return Measured(value=0, detail="memory holds nothing on it")
        ref = (EvidenceRef(id=best.id, seq=best.seq),) if best.seq else ()
        return Measured(value=max(0, round(best.semantic * 1000)), evidence=ref)


def _test(probe: LogCount | LogSearch) -> Callable[[Recorded], bool]:
    """Whether an observation is one that is counted."""
    from shared.thinker.perceiving.searching import searched  # here: importing the checker should not load a thinker
    from shared.thinker.perceiving.templates import matcher

    if isinstance(probe, LogSearch):
        return searched(probe)
    matches = matcher(probe.template)

    def counts(recorded: Recorded) -> bool:
        event = recorded.event
        return isinstance(event, ObservationRecorded) and probe.source in (None, event.source) and matches(event.text)

    return counts


async def count(
    log: Log, swarm: str, persona: str, probe: LogCount | LogSearch, max_events: int = MAX_EVENTS_READ
) -> Measured:
    """Count matching observations between two sequences, and where that is wanted those before, reading at most `max_events`."""
    counts = _test(probe)
    filters = (f"observation.*.{swarm}.{EVERYONE}", f"observation.*.{swarm}.{persona}")
    span, read = await _span(log, filters, counts, probe.first_seq, probe.last_seq, max_events)
    if not span.complete or not isinstance(probe, LogCount) or probe.before_seq is None:
        return span
    earlier, _ = await _span(log, filters, counts, probe.before_seq, probe.first_seq - 1, max_events - read)
    detail = f"of those before only a part: {earlier.detail}" if earlier.detail else ""
    tainted = span.tainted or (earlier.value > 0 and earlier.tainted)
    return msgspec.structs.replace(span, before=earlier.value, detail=detail, tainted=tainted)


async def _span(
    log: Log, filters: tuple[str, ...], counts: Callable[[Recorded], bool], since: int, last_seq: int, max_events: int
) -> tuple[Measured, int]:
    """What is counted from one sequence to another, page by page, and how many observations were read for it."""
    first: list[EvidenceRef] = []
    last: list[EvidenceRef] = []
    position, read, value, tainted, partial = since - 1, 0, 0, False, ""
    while position < last_seq:
        limit = min(PAGE, max_events - read)
        if limit <= 0:
            partial = f"stopped after {read} observations, at sequence {position}"
            break
        page = await log.read(filters, position, upto=last_seq, limit=limit)
        for recorded in page:
            event = recorded.event
            if isinstance(event, ObservationRecorded) and counts(recorded):
                value += 1
                tainted = tainted or event.tainted
                ref = EvidenceRef(id=recorded.id, seq=recorded.seq)
                if len(first) < EVIDENCE_KEPT // 2:
                    first.append(ref)
                else:
                    last = [*last, ref][-EVIDENCE_KEPT // 2 :]
        if not page:
            break
        read += len(page)
        position = page[-1].seq
        await asyncio.sleep(0)  # a long count must not starve other handlers
    evidence = (*first, *last)
    counted = Measured(
        value=value, complete=not partial, detail=partial, evidence=evidence, tainted=tainted or not value
    )
    return counted, read


async def resolve_probe(library: Library, swarm: str, persona: str, probe: LogResolve) -> Measured:
    """How many different cited events are in the log and readable."""
    cited = list({(ref.seq, ref.id): ref for ref in probe.evidence}.values())
    found: list[Recorded] = []
    for ref in cited[:MAX_EVIDENCE]:
        recorded = await library.event(ref.seq)
        if recorded is None or recorded.id != ref.id:
            continue
        if await library.may_cite(recorded.event, swarm, persona):
            found.append(recorded)
    over = len(cited) > MAX_EVIDENCE
    return Measured(
        value=len(found),
        complete=not over,
        detail=f"only the first {MAX_EVIDENCE} were looked up" if over else "",
        evidence=tuple(EvidenceRef(id=r.id, seq=r.seq) for r in found[:EVIDENCE_KEPT]),
        tainted=not found or not all(is_independent(r.event, persona) for r in found),
    )
