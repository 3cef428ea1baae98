"""Accounts that are overdrawn, grants that are seen twice, births that come too late."""

from __future__ import annotations

import operator
from datetime import timedelta

from services.governor import ledger, lineage
from services.governor.ledger import SWARM, Ledger, each
from services.governor.limits import Limits
from services.governor.lineage import Lineage
from shared.contracts.catalog import subject_of
from shared.contracts.envelope import Envelope, Recorded
from shared.contracts.events import BudgetGranted, Credits, PersonaDraining, PersonaSpawned
from shared.contracts.persona import Identity, PersonaPolicy
from tests.unit.governor.governor_model import T0


def test_what_is_left_of_an_overdrawn_account_is_nothing_and_no_debt() -> None:
    left = each(operator.sub, Credits(tokens=1, compute_ms=5, actions=2), Credits(tokens=9, compute_ms=5, actions=9))
    assert Credits() == left


def test_a_grant_that_is_seen_twice_is_charged_once() -> None:
    event = BudgetGranted(
        swarm="s",
        persona="p",
        grant_id="g",
        window=7,
        credits=Credits(tokens=100),
        expires_at=T0 + timedelta(seconds=90),
    )
    envelope = Envelope(id="g", source="test", time=T0, correlation="g")
    books = Ledger()
    for seq in (1, 2):
        recorded = Recorded(event=event, envelope=envelope, seq=seq, stored_at=T0, subject="budget.granted.s.p")
        ledger.evolve(books, Lineage(), recorded, Limits())
    assert {7: {SWARM: Credits(tokens=100)}} == books.charged


def test_whoever_is_born_below_one_that_drains_is_an_orphan_from_birth() -> None:
    family = Lineage()
    for seq, event in enumerate((born("top", None), drains("top"), born("low", "top")), 1):
        envelope = Envelope(id=f"e{seq}", source="test", time=T0, correlation="c")
        lineage.evolve(
            family, Recorded(event=event, envelope=envelope, seq=seq, stored_at=T0, subject=subject_of(event)), Limits()
        )
    assert ["low"] == list(family.orphans)


def born(name: str, parent: str | None) -> PersonaSpawned:
    identity = Identity(
        id=name,
        name=name,
        role="r",
        charter="c",
        swarm_id="s",
        parent_id=parent,
        depth=0 if parent is None else 1,
        created_at=T0,
    )
    return PersonaSpawned(swarm="s", persona=name, identity=identity, policy=PersonaPolicy())


def drains(name: str) -> PersonaDraining:
    return PersonaDraining(swarm="s", persona=name, reason="test", deadline=T0)
