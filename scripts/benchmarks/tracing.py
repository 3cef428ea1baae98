"""What traces cost: processor time of the gateway's feed for each event, without a collector, and with its spans made and written.

The same stories (ten observations, a thought, a proposal to its outcome) are folded each time by the real projection. Off is the
feed as it is without `traces.url`: nothing of traces is even imported. On is the same with a subscription whose events become spans and
a document for the collector; sending it waits and does not compute. Other services know nothing of traces, on or off.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from datetime import UTC, datetime, timedelta

from scripts.benchmarks.measure import CannotMeasure, Figures, say
from services.gateway.projections.feed import Feed
from services.gateway.projections.projection import Projection
from shared.contracts.action import Action, action_digest
from shared.contracts.envelope import Recorded, enveloped
from shared.contracts.events import (
    ActionClaimed,
    ActionExecuted,
    AnyEvent,
    ObservationRecorded,
    ProposalAuthorized,
    ProposalCreated,
    ProposalVerified,
    ThoughtGenerated,
)
from shared.contracts.ids import caused_id
from shared.log.memory import MemoryLog

KEYS = ("traces_off_us", "traces_on_us")
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SHA = "ab" * 32
ACTION = Action(kind="test.noop", target="noop", params={})
OF = {"swarm": "bench", "persona": "p"}
OBSERVATIONS, ROUNDS, BATCH = 10, 3, 512


def run(*, quick: bool) -> Figures:
    """The best of `ROUNDS` each, in turns. Raises `CannotMeasure` when off is not off."""
    log = stories(300 if quick else 3000)
    say(f"tracing: {len(log)} events")
    off = min(_folded(log, traced=False) for _ in range(ROUNDS))
    if imported := [name for name in sys.modules if name.startswith("services.gateway.tracing")]:
        raise CannotMeasure(f"without a collector {imported[0]} is imported")
    on = min(_folded(log, traced=True) for _ in range(ROUNDS))
    return {"events": len(log), "traces_off_us": round(off, 2), "traces_on_us": round(on, 2)}


def stories(count: int) -> list[Recorded]:
    """So many, each caused by its last observation."""
    told: list[Recorded] = []
    for number in range(count):
        proposal, digest = f"b{number}", action_digest(charter=SHA, action=ACTION, **OF)
        life = {**OF, "proposal_id": proposal, "digest": digest}
        later = NOW + timedelta(days=1)
        events: list[AnyEvent] = [
            ObservationRecorded(swarm="bench", persona="all", text=f"line {n}") for n in range(OBSERVATIONS)
        ]
        events += [
            ThoughtGenerated(
                **OF, step=number + 1, cycle=0, phase="reflect", text="t", thinker="model:m", digest=SHA, useful_at=NOW
            ),
            ProposalCreated(**life, title="t", rationale="r", action=ACTION, charter=SHA, deadline=later),
            ProposalVerified(**life, risk="low"),
            ProposalAuthorized(
                **life, risk="low", policy_ids=(), policy_version="v", expires_at=later, key="k", signature="s"
            ),
            ActionClaimed(**life, actuator="a", timeout_ms=1000),
            ActionExecuted(**life, outcome="success", summary="done"),
        ]
        for place, event in enumerate(events):
            seq = len(told) + 1
            cause = told[-1].envelope if place >= OBSERVATIONS else None
            envelope = enveloped(caused_id(f"{seq}", "bench"), source="bench", time=NOW, cause=cause)
            told.append(Recorded(event=event, envelope=envelope, seq=seq, stored_at=NOW, subject="bench"))
    return told


def _folded(log: list[Recorded], *, traced: bool) -> float:
    """Microseconds of processor time for each event."""
    feed = Feed(MemoryLog(), Projection())
    gc.collect()
    if not traced:
        began = time.process_time()
        for recorded in log:
            feed.take(recorded)
        return (time.process_time() - began) / len(log) * 1e6
    from services.gateway.tracing.export import document
    from services.gateway.tracing.spans import Spans

    subscription = feed.subscribe(lambda recorded: True, len(log))
    spans, made = Spans(), []
    began = time.process_time()
    for recorded in log:
        feed.take(recorded)
    _, taken = asyncio.run(subscription.take(0))
    for recorded in taken:
        made += spans.of(recorded)
    for at in range(0, len(made), BATCH):
        document(made[at : at + BATCH], "bench")
    return (time.process_time() - began) / len(log) * 1e6
