"""Precision and recall of perception and rules over logs with known answers: `python -m tests.logs.evaluate [seeds]`.

Every line goes through the whole cycle as a recorded observation: observe, reflect, test, an answer to each check that
really counts, compress. A finding is right when it cites lines of a planted anomaly; a planted anomaly is found when a right
finding's claim contains what it must. On a quiet log every proposal is wrong.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from shared.contracts.envelope import Envelope, Recorded
from shared.contracts.events import CheckResult, LogCount, ObservationRecorded, Phase, Probe
from shared.contracts.persona import Identity
from shared.thinker.perceiving.perception import Perception
from shared.thinker.perceiving.templates import matcher
from shared.thinker.port import Context, Finding, OpenHypothesis, Percept, ProposalDraft, Thought
from shared.thinker.rules import RuleThinker
from tests.logs.make import Log, Planted, build

HERE = Path(__file__).parent
STORED_AT = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)
FIRST_SEQ = 11
WATCHER = Identity(
    id="watcher", name="Watcher", role="log watcher", charter="Watch the logs.", swarm_id="alpha", created_at=STORED_AT
)


def committed() -> dict[str, Log]:
    """The logs of this folder, with their answers."""
    answers = msgspec.json.decode((HERE / "answers.json").read_bytes(), type=dict[str, tuple[Planted, ...]])
    return {
        name: Log(lines=tuple((HERE / name).read_text(encoding="utf-8").splitlines()), planted=planted)
        for name, planted in answers.items()
    }


def observation(seq: int, text: str, source: str = "file", observed_at: datetime | None = None) -> Recorded:
    """One line as the log would hold it."""
    event = ObservationRecorded(swarm="alpha", persona="all", text=text, source=source, observed_at=observed_at)
    envelope = Envelope(id=f"o-{seq}", source="gateway", time=STORED_AT, correlation=f"o-{seq}")
    return Recorded(
        event=event,
        envelope=envelope,
        seq=seq,
        stored_at=STORED_AT + timedelta(microseconds=seq),
        subject="observation.recorded.alpha.all",
    )


def recorded(name: str, log: Log) -> list[Recorded]:
    """A log's lines as observations; readings of the host sensor carry their own time."""
    sensor = name.endswith("host.log") or name.startswith("host")
    start = STORED_AT - timedelta(hours=2)
    return [
        observation(FIRST_SEQ + i, text, source=name, observed_at=start + timedelta(seconds=5 * i) if sensor else None)
        for i, text in enumerate(log.lines)
    ]


def probe_result(hypothesis_id: str, probe: Probe, observations: Sequence[Recorded]) -> CheckResult:
    """What an independent verifier would find: it really counts."""
    if isinstance(probe, LogCount):
        fits = matcher(probe.template)
        measured = sum(
            1
            for one in observations
            if isinstance(one.event, ObservationRecorded)
            and probe.first_seq <= one.seq <= probe.last_seq
            and one.event.source == probe.source
            and fits(one.event.text)
        )
        confirmed = measured >= probe.at_least and (probe.at_most is None or measured <= probe.at_most)
        findings = f"{measured} lines match, at least {probe.at_least} were expected"
    else:
        known = {(one.id, one.seq) for one in observations}
        cited = getattr(probe, "evidence", ())
        measured = sum((ref.id, ref.seq) in known for ref in cited)
        confirmed, findings = measured == len(cited), f"{measured} of {len(cited)} cited events are in the log"
    return CheckResult(
        swarm="alpha",
        persona="watcher",
        check_id=f"c-{hypothesis_id}",
        hypothesis_id=hypothesis_id,
        outcome="confirmed" if confirmed else "refuted",
        findings=findings,
        measured=measured,
    )


async def cycle(
    observations: Sequence[Recorded], batch: int = 0
) -> tuple[list[Finding], list[ProposalDraft], list[CheckResult]]:
    """One persona's life over the observations, `batch` lines a cycle (0: all at once)."""
    perception, thinker = Perception(), RuleThinker()
    findings: dict[str, Finding] = {}
    proposals: dict[str, ProposalDraft] = {}
    results: list[CheckResult] = []
    cursor = 0
    size = batch or len(observations)
    for number, start in enumerate(range(0, len(observations), size), 1):
        for one in observations[start : start + size]:
            perception.add(one)
        percept = perception.percept(cursor)
        cursor = percept.last_seq

        async def think(
            phase: Phase, hypotheses: tuple[OpenHypothesis, ...], percept: Percept = percept, number: int = number
        ) -> Thought:
            return await thinker.think(
                Context(
                    identity=WATCHER,
                    phase=phase,
                    cycle=number,
                    step=number,
                    now=STORED_AT,
                    percept=percept,
                    hypotheses=hypotheses,
                )
            )

        await think("observe", ())
        by_topic = {finding.topic: finding for finding in percept.findings}
        raised = tuple(
            OpenHypothesis(
                hypothesis_id=f"h-{number}-{i}",
                topic=draft.topic,
                claim=draft.claim,
                confidence=draft.confidence,
                evidence=draft.evidence,
                finding=by_topic[draft.topic],
            )
            for i, draft in enumerate((await think("reflect", ())).hypotheses)
        )
        checks = {check.hypothesis_id: check.probe for check in (await think("test", raised)).checks}
        settled = []
        for hypothesis in raised:
            result = probe_result(
                hypothesis.hypothesis_id, checks[hypothesis.hypothesis_id], observations[: start + size]
            )
            results.append(result)
            settled.append(msgspec.structs.replace(hypothesis, result=result))
        for proposal in (await think("compress", tuple(settled))).proposals:
            proposals[proposal.action.target] = proposal
        findings.update(by_topic)
    return list(findings.values()), list(proposals.values()), results


def judge(log: Log, findings: Sequence[Finding]) -> tuple[int, list[str], list[Planted]]:
    """Right findings, the claims of wrong ones, and planted anomalies that were not found."""
    right, wrong = 0, []
    found: set[Planted] = set()
    for finding in findings:
        cited = [ref.seq - FIRST_SEQ + 1 for ref in finding.evidence]
        hits = [p for p in log.planted if sum(p.first <= line <= p.last for line in cited) * 2 > len(cited)]
        found.update(p for p in hits if p.contains.replace("status_", "") in finding.claim.replace("status_", ""))
        if hits:
            right += 1
        else:
            wrong.append(finding.claim)
    return right, wrong, [p for p in log.planted if p not in found]


def evaluate(sets: Sequence[dict[str, Log]] | None = None, batch: int = 0) -> dict[str, object]:
    """Counts, precision, recall, and every mistake in words, over sets of logs (default: the committed one)."""
    right, wrong, planted, missed = 0, [], 0, []
    proposals_on_quiet = unconfirmed = proposals = files = quiet = 0
    for logs in sets or [committed()]:
        for name, log in logs.items():
            findings, drafts, results = asyncio.run(cycle(recorded(name, log), batch))
            good, bad, lost = judge(log, findings)
            right, planted, files, quiet = (
                right + good,
                planted + len(log.planted),
                files + 1,
                quiet + (not log.planted),
            )
            wrong += [f"{name}: {claim}" for claim in bad]
            missed += [f"{name}: {one.kind} at {one.first}-{one.last}" for one in lost]
            unconfirmed += sum(result.outcome != "confirmed" for result in results)
            proposals += len(drafts)
            proposals_on_quiet += 0 if log.planted else len(drafts)
    return {
        "files": files,
        "quiet_files": quiet,
        "planted": planted,
        "findings": right + len(wrong),
        "precision": round(right / max(1, right + len(wrong)), 4),
        "recall": round(1 - len(missed) / max(1, planted), 4),
        "proposals": proposals,
        "proposals_on_quiet": proposals_on_quiet,
        "checks_not_confirmed": unconfirmed,
        "wrong": wrong,
        "missed": missed,
    }


if __name__ == "__main__":
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    print(json.dumps(evaluate([build(seed) for seed in range(seeds)] if seeds else None), indent=2))
