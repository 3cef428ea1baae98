"""Who has a target, by the log: whatever was stored there, and whatever is gone from it."""

from __future__ import annotations

from typing import Any

import pytest

from shared.contracts.events import (
    ActionClaimed,
    ActionExecuted,
    AnyEvent,
    ProposalCreated,
    ProposalKey,
    TargetFreed,
    TargetHeld,
)
from shared.contracts.targets import target_id
from shared.holds import holder_of
from tests.unit.gate.given import NOTE, WHOSE, Mesh, proposed

TARGET = target_id(f"file:{NOTE.target}")
KEYS = {name: ProposalKey(**WHOSE, proposal_id=name) for name in ("p-1", "p-2")}


def said(created: ProposalCreated) -> dict[str, Any]:
    return {**WHOSE, "proposal_id": created.proposal_id, "digest": created.digest}


def taken(name: str) -> list[AnyEvent]:
    """The batch of a claim that holds."""
    claim = ActionClaimed(
        **said(proposed(NOTE, proposal_id=name)), actuator="a/b/c", timeout_ms=1, lot_id="lot-1", hold=TARGET
    )
    return [claim, TargetHeld(persona=TARGET, holder=KEYS[name], target="file:x")]


def ended(name: str, outcome: str) -> AnyEvent:
    return ActionExecuted(**said(proposed(NOTE, proposal_id=name)), outcome=outcome, summary="s", claim_id="c")  # type: ignore[arg-type]


FREED = TargetFreed(persona=TARGET, holder=KEYS["p-1"])


@pytest.mark.parametrize(
    ("events", "holder"),
    [
        ([], None),
        (taken("p-1"), "p-1"),
        ([*taken("p-1"), ended("p-1", "success")], None),
        ([*taken("p-1"), ended("p-1", "failure")], None),
        ([*taken("p-1"), ended("p-1", "unknown")], "p-1"),
        ([*taken("p-1"), ended("p-1", "unknown"), FREED], None),
        ([*taken("p-1"), ended("p-1", "success"), FREED], None),
        ([*taken("p-1"), ended("p-2", "success")], "p-1"),
        ([*taken("p-1"), ended("p-1", "success"), *taken("p-2")], "p-2"),
        (taken("p-1")[1:], None),
    ],
    ids=[
        "nothing was said of it", "claimed", "done", "failed", "nobody can tell", "a person could", "as it once was said",
        "another's outcome", "the next", "its life is gone from the log",
    ],
)  # fmt: skip
async def test_a_target_is_held_from_its_claim_to_an_outcome_that_somebody_knows(
    events: list[AnyEvent], holder: str | None
) -> None:
    mesh = Mesh()
    for number, event in enumerate(events):
        await mesh.say(event, f"x{number}")
    found, end = await holder_of(mesh.log, TARGET)
    assert (holder and KEYS[holder]) == found
    assert mesh.log.store.last_seq(f"target.*.all.{TARGET}") == end


async def test_a_claim_that_cannot_be_read_is_one() -> None:
    mesh = Mesh()
    mesh.log.store.publish("action.claimed.alpha.p01.p-1", b"not json")
    await mesh.say(taken("p-1")[1], "x")
    assert KEYS["p-1"] == (await holder_of(mesh.log, TARGET))[0]
