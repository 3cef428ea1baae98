"""One finding through verifier, policy gate and actuator on one log, every message delivered twice."""

from __future__ import annotations

from pathlib import Path

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
from services.verifier import decider as verifier
from services.verifier.effects import VerifierEffects
from shared.contracts.catalog import class_of
from shared.contracts.events import EvidenceRef
from shared.decider import Delivered
from shared.log.memory import MemoryKeyValue
from shared.policy.activations import Followed
from shared.policy.bundle import DEFAULT_BUNDLE
from shared.policy.library import Library
from shared.runtime.halting import Halting
from tests.unit.gate.given import CHARTER, FINDING, KEY, SEED, Mesh, Plenty, believing, observed, proposed, spawned


async def test_a_finding_goes_from_proposal_to_file_and_every_step_names_its_cause(tmp_path: Path) -> None:
    mesh, workspace = Mesh(), Workspace(tmp_path / "workspace")
    policies = Policies(mesh.log, MemoryKeyValue(), DEFAULT_BUNDLE, gate="policy_gate-1")
    await policies.begin()
    services = [
        (verifier, VerifierEffects(log=mesh.log, library=Library(mesh.log)).perform),
        (
            policy_gate,
            PolicyGateEffects(
                log=mesh.log,
                sides=Sides(mesh.log),
                halting=Halting(mesh.log),
                policies=policies,
                signing=Signing(believing(mesh.log), {KEY: SEED}),
            ).perform,
        ),
        (
            actuator,
            ActuatorEffects(
                log=mesh.log,
                hands=hands(workspace, Outbound(), CommandHand({}, workspace.receipts)),
                site=workspace.receipts.identity,
                lots=Plenty(),
                journal=Journal(tmp_path / "claims.jsonl", mesh.now),
                halting=Halting(mesh.log),
                signers=believing(mesh.log),
                policies=Followed(mesh.log),
                clock=lambda: mesh.now,
            ).perform,
        ),
    ]
    await mesh.say(spawned(), "s1")
    seen = await mesh.say(observed(), "o1")
    await mesh.say(proposed(FINDING, evidence=(EvidenceRef(id=seen.id, seq=seen.seq),)), "p1")
    position = 0
    while position < len(mesh.log.store.records):
        recorded = mesh.log.store.records[position]
        position += 1
        for decider, perform in services:
            if decider.boundary(Delivered(recorded=recorded, now=mesh.now)) is not None:
                for attempt in (1, 2):
                    await mesh.handle(decider, perform, recorded, attempt)  # type: ignore[arg-type]
    life = mesh.log.store.records[3:]
    assert [
        "proposal.created", "proposal.verified", "proposal.authorized", "action.claimed", "action.executed",
    ] == [class_of(r.event) for r in life]  # fmt: skip
    assert ["p1", life[1].id, life[2].id, life[2].id] == [r.envelope.causation for r in life[1:]]
    assert {CHARTER} == {r.envelope.charter for r in life} and {"c0"} == {r.envelope.correlation for r in life}
    assert "disk fails\n" == (tmp_path / "workspace" / FINDING.target).read_text()
    workspace.close()
