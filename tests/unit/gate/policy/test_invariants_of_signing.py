"""The judge of a log holds a claim's verdict against the keys of its place in it."""

from __future__ import annotations

from typing import Any

import pytest

from shared.contracts.events import ActionClaimed, Credits, LotGranted, LotShare, Signer
from shared.crypto import new_seed, public_key, sign_verdict
from shared.invariants import Invariants, Limits
from tests.unit.gate.given import (
    KEY,
    LIFE,
    PERSONA,
    SEED,
    SWARM,
    appointed,
    at,
    authorized,
    proposed,
    record,
    replaced,
    verified,
)

LIMITS = Limits(swarm_per_minute=Credits(actions=9), actions_per_minute=9, lifetime_children=1)
NEW_SEED = new_seed()
OLD, NEW = appointed(Signer(key=KEY)), appointed(public_key(NEW_SEED), number=2)


def violations(*before: Any, seed: str = SEED, after: tuple[Any, ...] = ()) -> list[str]:
    """Of a life whose verdict this seed signs, after and before these words."""
    created, judge = proposed(), Invariants(LIMITS)
    draft = authorized(created, key="")
    key, signature = sign_verdict(seed, draft)
    lot = LotGranted(
        swarm=SWARM,
        persona="actuator-1",
        lot_id="lot",
        window=1,
        shares=(LotShare(persona=PERSONA, actions=1, scope="persona"),),
        expires_at=at(60),
    )
    claim = ActionClaimed(**LIFE, digest=created.digest, actuator="a", timeout_ms=1000, lot_id="lot")
    verdict = replaced(draft, key=key, signature=signature)
    for seq, event in enumerate((lot, *before, created, verified(created), verdict, *after, claim), start=1):
        judge.absorb(record(event, seq))
    return judge.violations


@pytest.mark.parametrize(
    ("before", "seed", "after", "good"),
    [
        ((OLD,), SEED, (), True),
        ((OLD,), SEED, (NEW,), True),
        ((OLD, NEW), NEW_SEED, (), True),
        ((), SEED, (OLD,), True),
        ((), SEED, (), True),
        ((OLD, NEW), SEED, (), False),
        ((OLD,), NEW_SEED, (NEW,), False),
        ((OLD, appointed(public_key(NEW_SEED), number=3, root=new_seed())), NEW_SEED, (), False),
    ],
    ids=range(8),
)
def test_a_claim_on_a_verdict_that_was_not_good_where_it_is_is_a_violation(
    before: tuple[Any, ...], seed: str, after: tuple[Any, ...], good: bool
) -> None:
    found = violations(*before, seed=seed, after=after)
    assert good == (not [line for line in found if "which no key signed that was good there" in line]), found
