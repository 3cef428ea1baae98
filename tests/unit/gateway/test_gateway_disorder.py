"""What reconciliation finds and mends, as it is told; and what `swarm doctor` makes of it."""

from __future__ import annotations

from datetime import timedelta

import msgspec
from gateway_model import NOW, Mesh, mesh, recorded, spawned, thought

from services.cli.commands.looking.doctor import Disorder as Told
from services.cli.commands.looking.doctor import disorder
from services.gateway.projections.projection import Projection, State
from shared.contracts.events import (
    AnyEvent,
    BudgetGranted,
    BudgetSettled,
    Credits,
    PersonaDraining,
    PersonaReaped,
    SnapshotDelayed,
    ThoughtSealed,
)

LATER = NOW + timedelta(hours=1)
DEADLINE = NOW + timedelta(seconds=20)
PLANTED: tuple[AnyEvent, ...] = (
    spawned("root"),
    spawned("child", parent="root", depth=1),
    PersonaDraining(swarm="s", persona="root", reason="r", deadline=DEADLINE),
    SnapshotDelayed(swarm="s", persona="root", reason="cold_unavailable", detail="S3 is away"),
    spawned("dead"),
    PersonaDraining(swarm="s", persona="dead", reason="r", deadline=DEADLINE),
    PersonaReaped(swarm="s", persona="dead", reason="r", snapshot_id="snap"),
    ThoughtSealed(swarm="s", persona="dead"),
    thought("dead", 1),
    BudgetGranted(swarm="s", persona="child", grant_id="g", window=1, credits=Credits(tokens=1), expires_at=DEADLINE),
)
MENDED: tuple[AnyEvent, ...] = (
    ThoughtSealed(swarm="s", persona="dead", reason="zombie"),
    PersonaReaped(swarm="s", persona="root", reason="r_without_snapshot"),
    BudgetSettled(swarm="s", persona="child", grant_id="g", window=1, credits=Credits(tokens=1), in_full=True),
    PersonaDraining(swarm="s", persona="child", reason="orphaned", deadline=LATER),
)


def folded(*events: AnyEvent) -> Projection:
    projection = Projection()
    for seq, event in enumerate(events, 1):
        projection.apply(recorded(event, seq))
    return projection


def test_each_kind_is_open_once_it_is_there_and_then_mended() -> None:
    view = folded(*PLANTED).disorder.view(LATER)
    assert view.open_count == 4 and view.mended == ()
    assert [(f.kind, f.persona_id, f.reason) for f in view.open] == [
        ("zombie", "dead", "thinks after it was reaped"),
        ("stuck_drain", "root", "cold_unavailable: S3 is away"),
        ("expired_grant", "child", "g was not closed"),
        ("orphan", "child", "its parent is draining"),
    ]
    assert [f.kind for f in folded(*PLANTED).disorder.view(NOW).open] == ["zombie", "orphan"]
    mended = folded(*PLANTED, *MENDED).disorder.view(DEADLINE)
    assert mended.open == ()
    assert [(f.kind, f.persona_id) for f in mended.mended] == [
        ("orphan", "child"),
        ("expired_grant", "child"),
        ("stuck_drain", "root"),
        ("zombie", "dead"),
    ]
    assert mended.mended[2].reason == "it was reaped with reason r_without_snapshot (cold_unavailable: S3 is away)"


def test_it_survives_a_checkpoint() -> None:
    before = folded(*PLANTED, *MENDED[:1])
    after = Projection()
    after.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(before.capture()), type=State))
    assert after.disorder.view(LATER) == before.disorder.view(LATER)


def test_the_doctor_names_each_kind_and_calls_what_stays_open_a_fault() -> None:
    view = folded(*PLANTED).disorder.view(LATER)
    told = msgspec.json.decode(msgspec.json.encode(view), type=Told)
    checks = {check.name: check for check in disorder(told, DEADLINE + timedelta(seconds=59))}
    assert list(checks) == ["orphans", "zombies", "stuck drains", "expired grants"]
    assert checks["stuck drains"].detail == "1 open; s/root: cold_unavailable: S3 is away"
    assert {name for name, check in checks.items() if not check.ok} == {"orphans", "zombies"}
    assert not any(check.ok for check in disorder(told, LATER))
    mended = msgspec.json.decode(msgspec.json.encode(folded(*PLANTED, *MENDED).disorder.view(NOW)), type=Told)
    for check in disorder(mended, LATER):
        assert check.ok and check.detail.startswith("0 open; last mended s/")


async def test_it_is_asked_for_over_http() -> None:
    async with mesh() as up, up.client() as api:
        await planted(up)
        said = (await api.get("/v1/swarm/reconciliation")).json()
        assert [f["kind"] for f in said["open"]] == ["zombie", "stuck_drain", "expired_grant", "orphan"]


async def planted(up: Mesh) -> None:
    for event in PLANTED:
        await up.put(event)
