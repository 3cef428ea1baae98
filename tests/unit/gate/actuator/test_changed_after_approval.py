"""What was approved is what is done: a thousand changes of an action after people said yes to it, and none of them is ever done.

A change is made by whoever could: in the verdict that has the proposal (a stolen verifier's key), in that and in the authorisation as
well (a stolen broker key, without the gate's seed), or by another proposal under the same id (a runner). The first two are refused; the
third changes nothing of what is done.
"""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec

from services.actuator import decider
from services.actuator.effects import ActuatorEffects
from services.actuator.hands.hand import Task
from services.actuator.journal import Journal
from services.actuator.terms import Outcome
from shared.contracts.action import Action, Scalar, action_digest
from shared.contracts.action_kinds import KINDS, classify
from shared.contracts.events import ActionClaimed, ActionExecuted, EvidenceRef, ProposalCreated
from shared.contracts.kinds.kind import MESH
from shared.crypto import sign_verdict
from shared.policy.activations import Followed
from shared.runtime.halting import Halting
from shared.runtime.handling import Done
from tests.simulation.lives import ACTIONS
from tests.unit.gate.given import (
    CHARTER,
    SEED,
    WHOSE,
    Mesh,
    Plenty,
    activated,
    authorized,
    believing,
    proposed,
    replaced,
    verified,
)

CHANGES = 1000
Where = Literal["verdict", "both", "again"]
WHERE: tuple[Where, ...] = ("verdict", "both", "again")
OUTSIDE = sorted(kind for kind, row in KINDS.items() if row.hand != MESH)
REFUSED = {"digest_mismatch", "bad_signature", "bad_params", "bad_target", "kind_unknown"}


class Noting:
    """A hand that does nothing but remember what it was given."""

    def __init__(self) -> None:
        self.given: list[Action] = []

    async def act(self, task: Task) -> Outcome:
        self.given.append(task.job.action)
        return Outcome(outcome="success", summary="done")

    async def inquire(self, task: Task) -> Outcome:
        raise AssertionError


def changed(action: Action, dice: random.Random) -> Action:
    """Another action, by little."""
    while True:
        match dice.randrange(8):
            case 0:
                other = msgspec.structs.replace(action, target=_text(action.target, dice))
            case 1:
                kinds = sorted(KINDS.keys() - {action.kind})
                other = msgspec.structs.replace(action, kind=dice.choice(kinds))
            case 2:
                other = msgspec.structs.replace(action, schema_version=action.schema_version + dice.randrange(1, 3))
            case 3:
                other = msgspec.structs.replace(
                    action, params={**action.params, dice.choice("xyz"): _value(None, dice)}
                )
            case 4 if action.params:
                gone = dice.choice(list(action.params))
                other = msgspec.structs.replace(
                    action, params={name: value for name, value in action.params.items() if name != gone}
                )
            case 5 if action.params:
                name = dice.choice(list(action.params))
                renamed = {_text(name, dice) if key == name else key: value for key, value in action.params.items()}
                other = msgspec.structs.replace(action, params=renamed)
            case _ if action.params:
                name = dice.choice(list(action.params))
                other = msgspec.structs.replace(
                    action, params={**action.params, name: _value(action.params[name], dice)}
                )
            case _:
                continue
        if msgspec.json.encode(other, order="sorted") != msgspec.json.encode(action, order="sorted"):
            return other


def _text(text: str, dice: random.Random) -> str:
    at = dice.randrange(len(text) + 1)
    return dice.choice(
        (
            text + dice.choice((" ", "/", "\u200b", ".", "a", "e\u0301", "\0")),
            text[:at] + dice.choice("aZ0-/") + text[at:],
            text[: at - 1] + text[at:] if at else text.swapcase(),
            text.swapcase(),
            text.replace("a", "\u0430").replace("o", "\u043e"),
        )
    ) or "x"  # fmt: skip


def _value(value: Scalar, dice: random.Random) -> Scalar:
    match value:
        case bool():
            return dice.choice((not value, int(value), str(value).lower()))
        case int():
            return dice.choice((value + 1, -value - 1, str(value), None))
        case str() if dice.random() < 0.8:
            return _text(value, dice)
        case _:
            return dice.choice(("", "x", 0, 1, True, False, None))


class Changing(Mesh):
    """One approved action, and an actuator whose hands note what they are given."""

    def __init__(self, folder: Path, dice: random.Random) -> None:
        super().__init__()
        self.dice, self.hand = dice, Noting()
        self.actuator = ActuatorEffects(
            log=self.log,
            hands={row.hand: self.hand for row in KINDS.values()},
            site="site",
            lots=Plenty(),
            journal=Journal(folder / "claims.jsonl", self.now),
            halting=Halting(self.log),
            signers=believing(self.log),
            policies=Followed(self.log),
            clock=lambda: self.now,
        )

    async def approve(self, action: Action, other: Action, where: Where) -> None:
        """The life of `action`, approved by people, as it is found where somebody put `other` there; then the actuator is told."""
        created, honest = _proposal(other if where != "again" else action, self.dice), proposed(action)
        if where == "verdict" and self.dice.random() < 0.5:
            created = replaced(created, digest=honest.digest)  # which is that of the action that was approved
        draft = authorized(honest, key="", risk=classify(action, **WHOSE), approvals=("g1",))
        key, signature = sign_verdict(SEED, draft)
        verdict = replaced(draft, key=key, signature=signature)
        if where == "both":
            verdict = replaced(verdict, digest=created.digest)
        await self.say(activated(), "b1")
        await self.say(verified(created, verdict.risk, digest=verdict.digest), "v1")
        said = await self.say(verdict, "a1")
        if where == "again":
            for number in range(2):
                again = _proposal(other, self.dice)
                await self.say(again, f"p{number}")
                await self.say(verified(again, verdict.risk), f"w{number}")
        first = self.dice.choice((1, 2))
        for attempt in (first, first + 1):
            if isinstance(await self.handle(decider, self.actuator.perform, said, attempt), Done):
                return
            self.now += timedelta(seconds=1)  # what was said since the authorisation made its first claim stale


def _proposal(action: Action, dice: random.Random) -> ProposalCreated:
    evidence = (EvidenceRef(id="o1", seq=1), EvidenceRef(id=f"o{dice.randrange(9)}", seq=dice.randrange(1, 9)))
    return proposed(action, evidence=evidence, digest=action_digest(**WHOSE, charter=CHARTER, action=action))


async def test_whatever_is_changed_after_people_said_yes_is_not_done(tmp_path: Path) -> None:
    seen: set[Any] = set()
    for number in range(CHANGES):
        dice = random.Random(number)
        kind, where = OUTSIDE[number % len(OUTSIDE)], WHERE[number // len(OUTSIDE) % len(WHERE)]
        action = ACTIONS[kind](number)
        other = changed(action, dice)
        mesh = Changing(tmp_path / str(number), dice)
        await mesh.approve(action, other, where)
        (executed,) = mesh.events(ActionExecuted)
        if where == "again":
            assert ("success", [action]) == (executed.outcome, mesh.hand.given), (number, other)
        else:
            assert [] == mesh.hand.given and [] == mesh.events(ActionClaimed), (number, other)
            assert "failure" == executed.outcome and executed.error in REFUSED, (number, other, executed)
        seen.add((kind, where, executed.error))
    assert {(kind, where) for kind in OUTSIDE for where in WHERE} <= {(kind, where) for kind, where, _ in seen}
    assert {"digest_mismatch", "bad_signature"} <= {error for _, _, error in seen}
