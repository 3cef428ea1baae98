"""What holds for all of the mesh is known as of now, by one reading of the log for all of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.actuator import decider as actuator
from services.actuator.effects import ActuatorEffects
from services.actuator.hands.commands import CommandHand
from services.actuator.hands.outbound import Outbound
from services.actuator.hands.table import hands
from services.actuator.hands.workspace import Workspace
from services.actuator.journal import Journal
from services.policy_gate import decider as policy_gate
from services.policy_gate.effects import PolicyGateEffects
from services.policy_gate.policies import Policies
from services.policy_gate.sides import Sides
from services.policy_gate.signing import Signing
from shared.contracts.action import Action
from shared.contracts.envelope import Recorded, Stored
from shared.contracts.events import ActionExecuted, MeshHalted, MeshResumed, ProposalAuthorized
from shared.contracts.ids import EVERYONE
from shared.log.memory import MemoryKeyValue, MemoryLog
from shared.looking import look
from shared.policy.activations import Followed
from shared.policy.bundle import DEFAULT_BUNDLE
from shared.runtime.halting import Halting
from shared.signers import Followed as Signers
from shared.signers import announce
from tests.unit.gate.given import (
    KEY,
    ROOT,
    SEED,
    VERSION,
    Mesh,
    Plenty,
    activated,
    appointed,
    message_of,
    proposed,
    spawned,
    verified,
)

ALL: dict[str, Any] = {"swarm": EVERYONE, "persona": EVERYONE}
NOTHING = Action(kind="test.noop", target="nothing")


class Counting(MemoryLog):
    """What is asked of the log, by name."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.asked: list[str] = []

    async def stored(self, filters: Sequence[str], after: int = 0, *, upto: int | None = None) -> list[Stored]:
        self.asked.append("stored")
        return await super().stored(filters, after, upto=upto)

    async def read(self, *args: Any, **kwargs: Any) -> list[Recorded]:
        self.asked.append("read")
        return await super().read(*args, **kwargs)

    async def last(self, filters: Sequence[str]) -> list[Recorded]:
        self.asked.append("last")
        return await super().last(filters)

    async def ends(self, filters: Sequence[str]) -> tuple[int, ...]:
        self.asked.append("ends")
        return await super().ends(filters)


async def test_a_proposal_without_conflict_that_changes_nothing_costs_gate_and_actuator_one_reading_to_judge_it(
    tmp_path: Path,
) -> None:
    mesh = Mesh()
    mesh.log = log = Counting(clock=lambda: mesh.now)
    policies = Policies(log, MemoryKeyValue(), DEFAULT_BUNDLE, gate="policy_gate-1")
    await policies.begin()
    await announce(log, appointed(KEY))
    gate = PolicyGateEffects(
        log=log,
        sides=Sides(log),
        halting=Halting(log),
        policies=policies,
        signing=Signing(Signers(log, (ROOT,)), {KEY: SEED}),
        environment="bench",
    )
    workspace = Workspace(tmp_path / "workspace")
    effects = ActuatorEffects(
        log=log,
        hands=hands(workspace, Outbound(), CommandHand({}, workspace.receipts)),
        site=workspace.receipts.identity,
        lots=Plenty(),  # type: ignore[arg-type]
        journal=Journal(tmp_path / "claims.jsonl", mesh.now),
        halting=Halting(log),
        signers=Signers(log, (ROOT,)),
        policies=Followed(log),
        clock=lambda: mesh.now,
    )
    await mesh.say(spawned(), "s1")
    created = await mesh.say(proposed(NOTHING), "p1")
    verdict = await mesh.say(verified(proposed(NOTHING), "low", proposed_seq=created.seq), "v1")
    asked: dict[str, list[str]] = {}

    def counted(perform: Any) -> Any:
        async def counting(effect: Any) -> Any:
            del log.asked[:]
            result = await perform(effect)
            asked[type(effect).__name__] = list(log.asked)
            return result

        return counting

    await mesh.handle(policy_gate, counted(gate.perform), verdict)
    (authorized,) = [r for r in log.store.records if isinstance(r.event, ProposalAuthorized)]
    await mesh.handle(actuator, counted(effects.perform), authorized)
    assert {"Evaluate": ["stored"], "Sign": [], "Check": ["stored"]} == {
        name: asked[name] for name in ("Evaluate", "Sign", "Check")
    }
    assert 1 == len(mesh.events(ActionExecuted))
    workspace.close()


async def test_each_has_all_of_its_own_whichever_was_looked_at_before_and_however_readings_overlap() -> None:
    log = MemoryLog()
    halting, signers, policies = Halting(log), Signers(log, (ROOT,)), Followed(log)
    assert "yet to be read" in (halting.why or "")
    await look(halting, signers, policies)
    assert (None, (), "") == (halting.why, signers.known.now, policies.known.active)

    await log.commit([message_of(MeshHalted(**ALL, cause="person", principal="ann"), id="h1")])
    await announce(log, appointed(KEY))
    await log.commit([message_of(activated(), id="b1")])
    await policies.look()
    assert (None, 0, VERSION) == (halting.why, signers.known.number, policies.known.active)
    await look(halting, signers, policies)
    assert "halted by ann" in (halting.why or "") and 1 == signers.known.number

    before = await log.stored((halting.boundary, signers.boundary, policies.boundary), 0)
    await log.commit([message_of(MeshResumed(**ALL, principal="ann"), id="r1")])
    await look(halting, signers, policies)
    for message in before:  # a reading that began earlier and ends later
        halting.take(message) if message.subject.startswith("mesh.") else None
    assert (None, 4) == (halting.why, halting.upto)
