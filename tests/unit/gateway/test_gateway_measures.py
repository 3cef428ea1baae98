"""The numbers the gateway folds from the log: what each event counts, once, and that they survive a checkpoint."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta

import msgspec
import pytest
from gateway_model import (
    NOW,
    SHA,
    asked,
    authorized,
    claimed,
    created,
    executed,
    mesh,
    recorded,
    spawned,
    thought,
    verified,
)

from services.cli.commands.looking.objectives import slo
from services.cli.terminal.target import Target
from services.gateway.projections.measures import KEEP_HOURS, SPREADS, TALLIES, Measures, tell
from services.gateway.projections.projection import Projection, State
from services.gateway.projections.slo import views
from services.gateway.wire.mesh import SloWindow
from shared.contracts.events import (
    AnyEvent,
    BudgetGranted,
    BudgetSettled,
    Credits,
    PersonaDraining,
    PersonaReaped,
    ProposalRejected,
    SnapshotCompressed,
    SnapshotCounts,
    Usage,
)
from shared.metrics import table
from shared.metrics.instruments import Spread, Tally
from shared.metrics.slo import SLOS

P = created("one")


def rejected(stage: str, *reasons: str, proposal: str = "one") -> ProposalRejected:
    return ProposalRejected(
        swarm="s", persona="p", proposal_id=proposal, stage=stage, reasons=reasons, digest=P.digest  # type: ignore[arg-type]
    )  # fmt: skip


def folded(*events: AnyEvent | tuple[float, AnyEvent]) -> Projection:
    """Each event, some seconds after the first."""
    projection = Projection()
    for seq, entry in enumerate(events, 1):
        at_s, event = entry if isinstance(entry, tuple) else (0.0, entry)
        projection.apply(recorded(event, seq, at=NOW + timedelta(seconds=at_s)))
    return projection


def count(projection: Projection, metric: Tally, key: str | tuple[str, ...] = "") -> float:
    return projection.measures.tallies[metric.name][key]


def seen(projection: Projection, metric: Spread) -> tuple[int, float]:
    spread = projection.measures.spreads[metric.name]
    return sum(spread.counts), spread.sum


def test_a_life_to_its_end_is_counted_at_each_hop() -> None:
    done = folded(P, (0.2, verified(P)), (0.5, authorized(P)), (0.6, claimed(P)), (1.5, executed(P)))
    assert 1 == count(done, table.PROPOSALS) == count(done, table.AUTHORIZED) == count(done, table.VERIFIED, "passed")
    assert 1 == count(done, table.OUTCOMES, ("file.write", "success"))
    assert (1, 0.5) == seen(done, table.DECISION_SECONDS)
    assert (1, 1.0) == seen(done, table.ACTION_SECONDS)
    assert 0 == count(done, table.UNSAFE, "done")


def test_the_decision_of_what_people_are_asked_is_that_they_are_asked_and_their_time_is_counted_apart() -> None:
    waited = folded(P, (0.2, verified(P)), (0.4, asked(P)), (60.4, authorized(P)))
    assert (1, 0.4) == seen(waited, table.DECISION_SECONDS)
    assert (1, 60.0) == seen(waited, table.APPROVAL_SECONDS)
    assert 1 == count(waited, table.ASKED)


def test_what_is_said_twice_counts_once() -> None:
    twice = folded(P, P, verified(P), authorized(P), executed(P))
    assert 1 == count(twice, table.PROPOSALS)
    projection = folded(P)
    projection.apply(recorded(P, 1))
    assert 1 == count(projection, table.PROPOSALS)


def test_rejections_count_by_stage_and_reason_and_those_for_danger_as_prevented() -> None:
    late, denied = folded(P, rejected("verify", "deadline_passed")), folded(P, rejected("approval", "denied"))
    assert 1 == count(late, table.REJECTED, "verify") == count(late, table.REASONS, "deadline_passed")
    assert 1 == count(late, table.VERIFIED, "rejected")
    assert 0 == count(late, table.UNSAFE, "prevented")
    assert 1 == count(denied, table.UNSAFE, "prevented")
    assert 0 == count(denied, table.VERIFIED, "rejected")


def test_a_claim_without_a_standing_authorisation_is_an_unsafe_action() -> None:
    other = msgspec.structs.replace(claimed(P), digest=SHA)
    cases: dict[str, tuple[AnyEvent | tuple[float, AnyEvent], ...]] = {
        "never authorised": (P, verified(P), claimed(P)),
        "rejected": (P, verified(P), rejected("policy", "policy_denied"), claimed(P)),
        "of another action": (P, verified(P), authorized(P), other),
        "too late": (P, verified(P), authorized(P), (2 * 86_400, claimed(P))),
        "not even claimed": (P, verified(P), authorized(P), executed(P)),
    }
    assert dict.fromkeys(cases, 1) == {name: count(folded(*case), table.UNSAFE, "done") for name, case in cases.items()}


def test_the_ends_of_personas_are_told_apart() -> None:
    def life(persona: str, reason: str, snapshot: str | None) -> list[AnyEvent | tuple[float, AnyEvent]]:
        return [
            spawned(persona),
            PersonaDraining(swarm="s", persona=persona, reason=reason, deadline=NOW),
            (4.0, PersonaReaped(swarm="s", persona=persona, reason=reason, snapshot_id=snapshot)),
        ]

    ended = folded(
        *life("a", "manual_reap", "e-1"),
        *life("b", "idle_ttl", "e-1"),
        *life("c", "orphaned", "e-1"),
        *life("d", "idle_ttl_without_snapshot", None),
    )
    assert dict.fromkeys(table.ENDED.labels["how"], 1) == dict(ended.measures.tallies[table.ENDED.name])
    assert 4 == count(ended, table.SPAWNED)
    assert (4, 16.0) == seen(ended, table.PERSONA_DRAIN_SECONDS)


def test_spend_grants_and_snapshots_are_counted_in_their_units() -> None:
    costly = msgspec.structs.replace(
        thought("p", 1), usage=Usage(tokens_in=100, tokens_out=20, compute_ms=1500, cost_microusd=2_000_000)
    )
    credits = Credits(tokens=7, compute_ms=500)
    snapshot = SnapshotCompressed(
        swarm="s",
        persona="p",
        snapshot_id="e-1",
        key="k",
        sha256=SHA,
        seq=1,
        summary="",
        counts=SnapshotCounts(),
        ratio=2.5,
        size_bytes=1000,
    )
    told = folded(
        spawned("p"),
        costly,
        BudgetGranted(swarm="s", persona="p", grant_id="e-1", window=1, credits=credits, expires_at=NOW),
        BudgetSettled(swarm="s", persona="p", grant_id="e-1", window=1, credits=credits),
        snapshot,
    )
    assert (100, 20) == (count(told, table.TOKENS, "in"), count(told, table.TOKENS, "out"))
    assert (1.5, 2.0) == (count(told, table.COMPUTE), count(told, table.MONEY))
    assert 7 == count(told, table.GRANTED_TOKENS) == count(told, table.SETTLED_TOKENS)
    assert 0.5 == count(told, table.GRANTED_COMPUTE) == count(told, table.SETTLED_COMPUTE)
    assert (2500, 1000) == (count(told, table.SNAPSHOT_SOURCE), count(told, table.SNAPSHOT_STORED))
    assert 1 == count(told, table.SNAPSHOTS, "yes")


def test_a_checkpoint_has_every_number_and_is_gone_on_with() -> None:
    whole = folded(P, verified(P), (1.0, authorized(P)), claimed(P), (2.0, executed(P)))
    half = folded(P, verified(P), (1.0, authorized(P)))
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(half.capture()), type=State)
    restored = Projection()
    restored.restore(state)
    restored.apply(recorded(claimed(P), 4))
    restored.apply(recorded(executed(P), 5, at=NOW + timedelta(seconds=2)))
    assert whole.measures.tallies == restored.measures.tallies
    assert whole.measures.spreads == restored.measures.spreads
    assert whole.measures.hours == restored.measures.hours


def test_while_the_past_is_read_nothing_is_told_so_no_counter_falls() -> None:
    measures, ready = Measures(), [False]
    tell(measures, lambda: ready[0])
    of = Projection()
    measures.apply(recorded(thought("p", 1), 1), of.proposals, of.personas, of.intents, of.conflicts)
    metrics = (*TALLIES, *SPREADS)
    try:
        assert [] == [sample for metric in metrics for family in metric.collect() for sample in family.samples]
        ready[0] = True
        told = {s.name: s.value for s in next(iter(table.THOUGHTS.collect())).samples if s.labels["status"] == "ok"}
        assert {"swarm_thoughts_total": 1} == told
    finally:
        tell(Measures(), lambda: True)


def test_all_that_is_folded_is_in_the_table_as_the_gateways() -> None:
    assert all(("gateway",) == metric.by_services for metric in (*TALLIES, *SPREADS))


# -- objectives ---------------------------------------------------------------------------------------------------------


def told(projection: Projection, at: datetime) -> dict[tuple[str, str], SloWindow]:
    found = views(projection.measures, projection.personas, at)
    return {(slo.id, window.window): window for slo in found for window in slo.windows}


def test_what_never_happened_misses_no_objective() -> None:
    nothing = told(Projection(), NOW)
    assert all(window.met and window.burn == 0 for window in nothing.values())
    assert len(nothing) == 2 * len(SLOS)


def test_a_proposal_nobody_decides_counts_against_the_objective_as_one_decided_late() -> None:
    late, other, third = created("late"), created("other"), created("third")
    projection = folded(P, (1.0, authorized(P)), (1.0, late), (9.0, authorized(late)), (9.0, other), (9.0, third))
    decided = told(projection, NOW)["decision", "24h"]
    assert (0.25, 4.0, False) == (decided.value, decided.of, decided.met)
    assert 15 == pytest.approx(decided.burn)
    figures = {figure.name: figure.value for figure in decided.figures}
    assert 5 < (figures["p95_s"] or 0) <= 10


def test_windows_forget_what_is_older_and_the_oldest_hours_are_dropped() -> None:
    day_later = 25 * 3600.0
    projection = folded(P, rejected("verify", "no_evidence"), (day_later, spawned("p")))
    now = NOW + timedelta(seconds=day_later)
    assert 1.0 == told(projection, now)["verification", "24h"].value
    assert 0.0 == told(projection, now)["verification", "30d"].value
    for hour in range(KEEP_HOURS + 10):
        projection.apply(recorded(thought("p", 1), 10 + hour, at=now + timedelta(hours=hour)))
    assert KEEP_HOURS == len(projection.measures.hours)


def test_the_cost_of_what_was_done_is_by_action_and_of_nothing_done_all_of_it() -> None:
    costly = msgspec.structs.replace(thought("p", 1), usage=Usage(tokens_in=300_000, cost_microusd=3_000_000))
    nothing_done = told(folded(costly), NOW)["cost", "24h"]
    assert (300_000, 1.5, False) == (nothing_done.value, nothing_done.burn, nothing_done.met)
    assert {"usd_per_action": None, "compute_s_per_action": None, "actions": 0.0} == {
        figure.name: figure.value for figure in nothing_done.figures
    }
    two = created("two")
    lives = [event for p in (P, two) for event in (p, authorized(p), claimed(p), executed(p))]
    done = told(folded(costly, *lives), NOW)["cost", "24h"]
    assert (150_000, True) == (done.value, done.met)
    assert 1.5 == next(figure.value for figure in done.figures if figure.name == "usd_per_action")


def test_one_action_without_leave_misses_the_objective_whatever_was_prevented() -> None:
    denied = [created(f"denied-{number}") for number in range(50)]
    prevented = [e for p in denied for e in (p, rejected("approval", "denied", proposal=p.proposal_id))]
    assert told(folded(*prevented), NOW)["unsafe", "24h"].met
    assert not told(folded(*prevented, P, claimed(P)), NOW)["unsafe", "24h"].met


async def test_swarm_slo_tells_what_the_api_says_and_fails_when_an_objective_is_missed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with mesh() as up:
        capsys.readouterr()  # the gateway's own log
        assert 0 == await asyncio.to_thread(slo, target=Target(url=up.url, json=True))
        assert [objective.id for objective in SLOS] == [row["id"] for row in json.loads(capsys.readouterr().out)]
        await up.put(P, rejected("verify", "no_evidence"))
        assert 1 == await asyncio.to_thread(slo, target=Target(url=up.url))
        printed = capsys.readouterr().out
        assert "verification\t≥ 80%\t24h\t0.00%\t1\t5.00\tpassed 0, rejected 1\n" in printed
        assert "missed: What is proposed can be verified. swarm_rejection_reasons_total" in printed
