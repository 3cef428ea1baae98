"""A log of remembered events, built by hand or by a seeded persona that thinks, repeats itself, and is drained."""

from __future__ import annotations

import hashlib
import random
from datetime import UTC, datetime, timedelta

from shared.contracts.action import Action
from shared.contracts.catalog import subject_of
from shared.contracts.envelope import Envelope, Recorded
from shared.contracts.events import (
    ActionExecuted,
    AnyEvent,
    ApprovalGranted,
    CheckResult,
    EvidenceRef,
    HypothesisRaised,
    PersonaDraining,
    PersonaSpawned,
    ProposalCreated,
    RecallRequested,
    SnapshotCompressed,
    SnapshotCounts,
    ThoughtGenerated,
)
from shared.contracts.ids import caused_id
from shared.contracts.persona import Identity, PersonaPolicy

START = datetime(2026, 11, 1, tzinfo=UTC)
SHA = "0" * 64


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def record(event: AnyEvent, seq: int, *, event_id: str | None = None, seconds: float | None = None) -> Recorded:
    """The event as the log would hold it: one event a second, ids from the sequence."""
    name = event_id or caused_id(f"event-{seq}", "test")
    when = at(seq if seconds is None else seconds)
    envelope = Envelope(id=name, source="test", time=when, correlation=name)
    return Recorded(event=event, envelope=envelope, seq=seq, stored_at=when, subject=subject_of(event))


def ref(recorded: Recorded) -> EvidenceRef:
    return EvidenceRef(id=recorded.id, seq=recorded.seq)


def outside(seq: int) -> EvidenceRef:
    """An observation: in the log, not in memory."""
    return EvidenceRef(id=f"observation-{seq}", seq=seq)


def thought(
    text: str,
    *,
    step: int = 1,
    cycle: int = 1,
    phase: str = "reflect",
    swarm: str = "alpha",
    persona: str = "ada",
    **more: object,
) -> ThoughtGenerated:
    return ThoughtGenerated(
        swarm=swarm,
        persona=persona,
        step=step,
        cycle=cycle,
        phase=phase,  # type: ignore[arg-type]
        text=text,
        thinker=str(more.pop("thinker", "rules")),
        digest=hashlib.sha256(text.encode()).hexdigest(),
        useful_at=START,
        **more,  # type: ignore[arg-type]
    )


def spawned(
    swarm: str = "alpha", persona: str = "ada", charter: str = "Watch the host and report what is unusual"
) -> PersonaSpawned:
    identity = Identity(id=persona, name=persona, role="watcher", charter=charter, swarm_id=swarm, created_at=START)
    return PersonaSpawned(swarm=swarm, persona=persona, identity=identity, policy=PersonaPolicy())


def draining(deadline_s: float, swarm: str = "alpha", persona: str = "ada") -> PersonaDraining:
    return PersonaDraining(swarm=swarm, persona=persona, reason="manual_reap", deadline=at(deadline_s))


def hypothesis(
    claim: str, token: str, evidence: tuple[EvidenceRef, ...] = (), *, swarm: str = "alpha", persona: str = "ada"
) -> HypothesisRaised:
    return HypothesisRaised(
        swarm=swarm,
        persona=persona,
        hypothesis_id=token,
        topic=token,
        claim=claim,
        confidence=0.5,
        evidence=evidence,
    )


def check(outcome: str, hypothesis_id: str, token: str = "c-1", evidence: tuple[EvidenceRef, ...] = ()) -> CheckResult:
    return CheckResult(
        swarm="alpha",
        persona="ada",
        check_id=token,
        hypothesis_id=hypothesis_id,
        outcome=outcome,  # type: ignore[arg-type]
        findings="41 matching lines",
        evidence=evidence,
    )


def proposal(token: str, hypothesis_id: str | None = None, persona: str = "ada") -> ProposalCreated:
    return ProposalCreated(
        swarm="alpha",
        persona=persona,
        proposal_id=token,
        title="Report the failed logins",
        rationale="41 logins of root failed within a minute",
        action=Action(kind="file.write", target="findings.md"),
        hypothesis_id=hypothesis_id,
        charter=SHA,
        digest=SHA,
        deadline=at(9999),
    )


def granted(token: str, principal: str = "grace", persona: str = "ada") -> ApprovalGranted:
    return ApprovalGranted(swarm="alpha", persona=persona, proposal_id=token, digest=SHA, principal=principal)


def executed(token: str, persona: str = "ada") -> ActionExecuted:
    return ActionExecuted(
        swarm="alpha", persona=persona, proposal_id=token, digest=SHA, outcome="success", summary="wrote findings.md"
    )


def asked(query: str) -> RecallRequested:
    return RecallRequested(swarm="alpha", persona="ada", query=query)


def snapshotted(step: int = 0, *, final: bool = False) -> SnapshotCompressed:
    return SnapshotCompressed(
        swarm="alpha",
        persona="ada",
        snapshot_id="s",
        key="k",
        sha256=SHA,
        seq=1,
        summary="",
        counts=SnapshotCounts(),
        final=final,
        metadata={"step": str(step)} if step else {},
    )


_SUBJECTS = ("the ssh daemon", "the disk of db-1", "the queue", "memory use", "the backup job", "the load balancer")
_SAYINGS = ("fails often", "is quiet", "grows without pause", "answers slowly", "was restarted", "does not answer")


def life(seed: int, events: int, personas: int = 2, *, seconds_per_event: float = 1.0) -> list[Recorded]:
    """Several personas of two swarms thinking side by side: repeats, near repeats, hypotheses, decisions, distillations."""
    rng = random.Random(seed)
    log: list[Recorded] = []
    mine: dict[tuple[str, str], list[Recorded]] = {}

    def add(event: AnyEvent) -> None:
        seq = len(log) + 1
        log.append(record(event, seq, seconds=seq * seconds_per_event))
        mine.setdefault((event.swarm, event.persona), []).append(log[-1])

    who = [(("alpha", "beta")[i % 2], f"p{i // 2}") for i in range(personas)]
    for swarm, persona in who:
        add(spawned(swarm, persona, f"Charter of {persona}"))
    steps = dict.fromkeys(who, 0)
    while len(log) < events:
        swarm, persona = rng.choice(who)
        past = mine[swarm, persona]
        steps[swarm, persona] += 1
        step = steps[swarm, persona]
        text = f"{rng.choice(_SUBJECTS)} {rng.choice(_SAYINGS)}"
        text += rng.choice(("", "", ".", " today", f" {rng.randint(1, 40)} times", ", again"))
        cited = tuple(ref(r) for r in rng.sample(past, min(len(past), 2))) if rng.random() < 0.4 else (outside(step),)
        context = tuple(r.id for r in past[-3:])
        phase = ("observe", "reflect", "test", "compress")[step % 4]
        kind = rng.random()
        if kind < 0.8:
            add(
                thought(
                    text,
                    step=step,
                    cycle=step // 4,
                    phase=phase,
                    swarm=swarm,
                    persona=persona,
                    evidence=cited,
                    context_ids=context,
                )
            )
        elif kind < 0.95:
            add(hypothesis(text, f"h-{step}", cited, swarm=swarm, persona=persona))
        else:
            add(proposal(f"p-{len(log)}", persona=persona))
    return log
