"""Read-only looks into the log and into memory. Nothing here judges; `decider` does.

Raises `LogUnavailable` through to the shell, which retries the delivery.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from services.verifier.answers import Answers
from services.verifier.decider import MAX_EVIDENCE, Measured, Resolve, Resolved, RunProbe
from services.verifier.library import Library
from services.verifier.opened import Opened
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
from shared.contracts.ids import EVERYONE, fresh_id
from shared.contracts.persona import charter_sha256
from shared.contracts.trace import carried_on
from shared.decider import Effect, Result
from shared.evidence import is_independent
from shared.log.port import Log

PAGE = 2_000
MAX_EVENTS_READ = 200_000
COUNTS_AT_ONCE = 4
"""A long count keeps the broker and this process busy; many personas that see the same burst all ask for one."""

EVIDENCE_KEPT = 8
"""Of the matching observations, the first and the last few are cited."""

RECALL_TIMEOUT_S = 5.0


class VerifierEffects(msgspec.Struct, frozen=True, kw_only=True):
    """Performs the verifier's effects on one log. `source` is the service's name on envelopes; without `opened` a
    persona may have any number of proposals open."""

    log: Log
    answers: Answers
    source: str = "verifier"
    recall_timeout_s: float = RECALL_TIMEOUT_S
    max_events_read: int = MAX_EVENTS_READ
    opened: Opened | None = None
    library: Library
    counting: asyncio.Semaphore = msgspec.field(default_factory=lambda: asyncio.Semaphore(COUNTS_AT_ONCE))

    async def perform(self, effect: Effect) -> Result:
        match effect:
            case Resolve() if self.opened is not None and (
                count_ := await self.opened.place(effect.swarm, effect.persona, effect.proposal_id)
            ):
                return Resolved(open=count_)
            case Resolve():
                return await resolve(self.log, effect, self.library)
            case RunProbe(probe=LogCount() | LogSearch() as probe):
                async with self.counting:
                    return await count(self.log, effect.swarm, effect.persona, probe, self.max_events_read)
            case RunProbe(probe=LogResolve() as probe):
                return await resolve_probe(self.library, effect.swarm, effect.persona, probe)
            case RunProbe(probe=MemoryRecall() as probe):
                return await recall(self.log, self.answers, effect, probe, self.source, self.recall_timeout_s)
            case _:
                raise TypeError(f"the verifier has no effect {type(effect).__name__}")


async def resolve(log: Log, effect: Resolve, library: Library) -> Resolved:
    """The cited events and the citing persona, as the log has them."""
    found, missing, foreign, independent = [], [], [], 0
    whose = f"{effect.swarm}.{effect.persona}"
    ends = (f"persona.draining.{whose}", f"persona.reaped.{whose}")
    spawned, ended, looked_up = await asyncio.gather(
        library.birth(whose),
        log.last(ends),
        asyncio.gather(*(library.event(ref.seq) for ref in effect.evidence)),
    )
    for ref, recorded in zip(effect.evidence, looked_up, strict=True):
        if recorded is None or recorded.id != ref.id:
            missing.append(ref)
        elif not await library.may_cite(recorded.event, effect.swarm, effect.persona):
            foreign.append(ref)
        else:
            found.append(ref)
            independent += is_independent(recorded.event, effect.persona)
    return Resolved(
        found=tuple(found),
        missing=tuple(missing),
        foreign=tuple(foreign),
        independent=independent,
        live=spawned is not None and not ended,
        charter=None if spawned is None else charter_sha256(spawned.identity),
        allowed_tools=() if spawned is None else spawned.policy.allowed_tools,
        capabilities=None if spawned is None else spawned.policy.capabilities,
    )


def _test(probe: LogCount | LogSearch) -> Callable[[Recorded], bool]:
    """Whether an observation is one that is counted."""
    from shared.thinker.perceiving.searching import searched  # here: importing the verifier should not load a thinker
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
    """Count matching observations between two sequences, page by page, reading at most `max_events`."""
    counts = _test(probe)
    filters = [f"observation.*.{swarm}.{EVERYONE}", f"observation.*.{swarm}.{persona}"]
    first: list[EvidenceRef] = []
    last: list[EvidenceRef] = []
    position, read, value, tainted = probe.first_seq - 1, 0, 0, True
    while position < probe.last_seq:
        limit = min(PAGE, max_events - read)
        if limit <= 0:
            partial = f"stopped after {read} observations, at sequence {position}"
            return Measured(value=value, complete=False, detail=partial, evidence=(*first, *last), tainted=tainted)
        page = await log.read(filters, position, upto=probe.last_seq, limit=limit)
        for recorded in page:
            event = recorded.event
            if isinstance(event, ObservationRecorded) and counts(recorded):
                value += 1
                tainted = tainted and event.tainted
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
    return Measured(value=value, evidence=(*first, *last), tainted=tainted)


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
        tainted=not any(is_independent(r.event, persona) for r in found),
    )


async def recall(
    log: Log, answers: Answers, effect: RunProbe, probe: MemoryRecall, source: str, timeout_s: float
) -> Measured:
    """Ask memory and wait for the answer to exactly this question; incomplete when none comes in `timeout_s`.

    A check that is delivered again asks anew, under a new id: the answer to the first question may have passed unseen.
    """
    question = RecallRequested(
        swarm=effect.swarm, persona=effect.persona, query=probe.query, limit=1, principal=source, wanted="own"
    )
    request_id = fresh_id()
    envelope = Envelope(
        id=request_id,
        source=source,
        time=effect.asked_at,
        correlation=effect.correlation,
        causation=effect.check_event_id,
        traceparent=carried_on(request_id, effect.correlation, effect.traceparent),
    )
    waiting = answers.expect(request_id)
    try:
        async with asyncio.timeout(timeout_s):
            await log.commit([Message(event=question, envelope=envelope)])
            answer = await waiting
    except TimeoutError:
        return Measured(value=0, complete=False, detail=f"memory did not answer within {timeout_s:g} s")
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
