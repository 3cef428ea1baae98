"""The policy gate with real policies and real keys, on a log, through the kernel's own handling."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from services.policy_gate import decider
from services.policy_gate import sides as sides_module
from services.policy_gate.effects import PolicyGateEffects
from services.policy_gate.policies import Policies
from services.policy_gate.sides import Sides
from services.policy_gate.signing import Signing
from shared.allowances import day_of
from shared.contracts.action import Action
from shared.contracts.capabilities import DailyLimit
from shared.contracts.events import (
    AllowanceUsed,
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    MeshHalted,
    MeshResumed,
    ProposalAuthorized,
    ProposalKey,
    ProposalRejected,
    ProposalVerified,
    Risk,
    ScopeUse,
    Signer,
)
from shared.contracts.ids import EVERYONE
from shared.contracts.persona import Identity
from shared.crypto import verify_verdict
from shared.log.memory import MemoryKeyValue
from shared.policy.bundle import DEFAULT_BUNDLE
from shared.policy.sides import LOCAL
from shared.runtime.halting import Halting
from shared.runtime.handling import Again, Done
from tests.unit.gate.given import (
    FINDING,
    IDENTITY,
    KEY,
    LIFE,
    NOTE,
    POST,
    SEED,
    Mesh,
    at,
    believing,
    observed,
    proposed,
    replaced,
    spawned,
    verified,
)

TRUST = (Signer(key=KEY),)
HOSTS = ("api.example.org:443",)


class Gate(Mesh):
    """A mesh with a policy gate; `ann` spawned the persona."""

    def __init__(self, folder: Path = DEFAULT_BUNDLE, **settings: Any) -> None:
        super().__init__()
        self.policies = Policies(self.log, MemoryKeyValue(), folder, gate="policy_gate-1")
        self.effects = PolicyGateEffects(
            log=self.log,
            sides=Sides(self.log),
            halting=Halting(self.log),
            policies=self.policies,
            signing=Signing(believing(self.log), {KEY: SEED}),
            **{"allowed_hosts": HOSTS, **settings},
        )

    async def deliver(self, recorded: Any, attempt: int = 1) -> Any:
        return await self.handle(decider, self.effects.perform, recorded, attempt)

    async def propose(self, action: Action, risk: Risk, *, spawner: str = "ann", **changed: Any) -> Any:
        await self.policies.begin()
        await self.say(spawned(spawner), "s1")
        created = proposed(action)
        seq = (await self.say(created, "p1")).seq
        verdict = verified(created, risk, proposed_seq=seq, **changed)
        return await self.deliver(await self.say(verdict, "v1"))

    async def vote(self, principal: str, cls: Any = ApprovalGranted) -> Any:
        request = self.newest(ApprovalRequested)
        word = cls(**LIFE, digest=request.event.digest, request_id=request.id, principal=principal)
        vote = await self.say(word, f"{cls.__name__}-{principal}")
        return await self.deliver(vote)

    @property
    def verdicts(self) -> list[Any]:
        return [*self.events(ProposalAuthorized), *self.events(ProposalRejected)]


async def test_nothing_is_authorised_while_the_mesh_is_halted_and_what_was_approved_before_it_went_back_is_void() -> (
    None
):
    gate = Gate()
    await gate.propose(NOTE, "medium")
    everyone = {"swarm": EVERYONE, "persona": EVERYONE}
    await gate.say(MeshHalted(**everyone, cause="log_went_back"), "h1")
    held = await gate.vote("bob")
    assert isinstance(held, Again) and [] == gate.verdicts
    await gate.say(MeshResumed(**everyone, principal="ann"), "r1")
    await gate.vote("cid")
    (rejected,) = gate.verdicts
    assert ("approval", ("void_after_rollback",)) == (rejected.stage, rejected.reasons)


async def test_with_the_kill_switch_on_it_waits_as_in_a_halt_and_nobody_is_asked(tmp_path: Path) -> None:
    switch = tmp_path / "stop"
    switch.touch()
    for action, risk in ((FINDING, "low"), (NOTE, "medium"), (POST, "high")):
        gate = Gate(kill_switch=switch)
        assert isinstance(await gate.propose(action, risk), Again)  # type: ignore[arg-type]
        assert not gate.verdicts and not gate.events(ApprovalRequested)
        switch.unlink()
        await gate.deliver(gate.newest(ProposalVerified))
        assert gate.verdicts or gate.events(ApprovalRequested), "no file, no wait"
        switch.touch()


async def test_what_its_limits_of_the_day_have_no_room_for_is_refused_and_it_is_said_which() -> None:
    limit = DailyLimit(swarm="alpha", persona="root", scope=3, per_day=1)
    for day, refused in ((day_of(at(0)) - 1, False), (day_of(at(0)), True)):
        gate = Gate(clock=lambda: at(0))
        use = (ScopeUse(scope=3, actions=1),)
        await gate.say(AllowanceUsed(swarm="alpha", persona="root", day=day, used=use, by=ProposalKey(**LIFE)), "u1")
        await gate.propose(NOTE, "medium", scope="ask", limits=(limit,))
        assert refused == bool(gate.verdicts)
        if refused:
            assert ("beyond-limits",) == gate.verdicts[0].policy_ids
            assert "scope 3 of root in alpha has done 1 of 1 today" in gate.verdicts[0].detail
        else:
            await gate.vote("bob")
            assert isinstance(gate.verdicts[0], ProposalAuthorized)


async def test_a_finding_is_authorized_with_a_signature_that_verifies() -> None:
    gate = Gate()
    await gate.propose(FINDING, "low")
    (verdict,) = gate.verdicts
    assert isinstance(verdict, ProposalAuthorized) and verify_verdict(verdict, TRUST, at(0))
    assert ("file-findings",) == verdict.policy_ids and (
        await gate.policies.current()
    ).version == verdict.policy_version
    assert at(300) == verdict.expires_at and proposed(FINDING).digest == verdict.digest


async def test_a_change_outside_waits_for_a_person_who_is_not_the_proposers_side() -> None:
    gate = Gate()
    await gate.propose(POST, "high")
    (request,) = gate.events(ApprovalRequested)
    assert 1 == request.quorum and not gate.verdicts
    assert isinstance(await gate.deliver(gate.newest(ApprovalRequested)), Again)
    assert isinstance(await gate.vote("ann"), Done) and not gate.verdicts
    assert isinstance(await gate.vote("bob"), Done)
    (verdict,) = gate.verdicts
    assert isinstance(verdict, ProposalAuthorized) and ("ApprovalGranted-bob",) == verdict.approvals
    assert verify_verdict(verdict, TRUST, at(0))


async def test_critical_needs_two_people() -> None:
    gate = Gate()
    await gate.propose(POST, "critical")
    await gate.vote("bob")
    assert not gate.verdicts
    await gate.vote("cid")
    assert ("ApprovalGranted-bob", "ApprovalGranted-cid") == gate.verdicts[0].approvals


async def test_who_fed_the_persona_cannot_approve_what_it_made_of_it() -> None:
    gate = Gate()
    await gate.say(observed(principal="eve"), "o1")
    await gate.propose(POST, "high")
    await gate.say(observed(principal="bob"), "o2")  # after the proposal: nothing it rests on
    await gate.vote("eve")
    assert not gate.verdicts
    await gate.vote("bob")
    assert ("ApprovalGranted-bob",) == gate.verdicts[0].approvals


async def test_who_filed_it_cannot_approve_it_unless_there_is_nobody_else() -> None:
    gate = Gate()
    await gate.propose(POST, "high", filed_by="eve")
    await gate.vote("eve")
    assert not gate.verdicts
    await gate.vote("bob")
    assert ("ApprovalGranted-bob",) == gate.verdicts[0].approvals
    alone = Gate()
    await alone.propose(POST, "high", filed_by=LOCAL)
    await alone.vote(LOCAL)
    assert (f"ApprovalGranted-{LOCAL}",) == alone.verdicts[0].approvals


async def test_the_one_person_of_a_mesh_without_keys_approves_what_they_asked_for_themselves() -> None:
    gate = Gate()
    await gate.say(observed(principal=LOCAL), "o1")
    await gate.propose(POST, "high", spawner=LOCAL)
    await gate.vote(LOCAL)
    assert (f"ApprovalGranted-{LOCAL}",) == gate.verdicts[0].approvals


async def test_without_four_eyes_the_only_person_may_approve() -> None:
    gate = Gate(four_eyes=False)
    await gate.propose(NOTE, "medium")
    await gate.vote("ann")
    assert isinstance(gate.verdicts[0], ProposalAuthorized)


async def test_nobody_is_asked_about_what_is_forbidden_anyway() -> None:
    for settings, risk, tainted, ids in (
        ({"allowed_hosts": ()}, "high", False, ()),
        ({}, "high", True, None),
    ):
        gate = Gate(**settings)
        await gate.propose(POST, risk, tainted=tainted)  # type: ignore[arg-type]
        if ids is None:
            assert [] == gate.verdicts and 1 == len(gate.events(ApprovalRequested)), "people decide on what is tainted"
            continue
        (verdict,) = gate.verdicts
        assert isinstance(verdict, ProposalRejected) and ("policy", ids) == (verdict.stage, verdict.policy_ids)
        assert not gate.events(ApprovalRequested)


async def test_the_action_that_does_nothing_runs_only_in_a_benchmark() -> None:
    noop = Action(kind="test.noop", target="nothing")
    for environment, cls in (("local", ProposalRejected), ("bench", ProposalAuthorized)):
        gate = Gate(environment=environment)
        await gate.propose(noop, "low")
        assert [cls] == [type(v) for v in gate.verdicts]


async def test_a_denial_ends_it_and_a_later_grant_changes_nothing() -> None:
    gate = Gate()
    await gate.propose(NOTE, "medium")
    await gate.vote("cid", ApprovalDenied)
    await gate.vote("bob")
    (verdict,) = gate.verdicts
    assert isinstance(verdict, ProposalRejected) and ("approval", ("denied",)) == (verdict.stage, verdict.reasons)


async def test_nobody_deciding_in_time_ends_it_also_after_a_restart() -> None:
    gate = Gate()
    await gate.propose(NOTE, "medium")
    timer = gate.newest(ApprovalRequested)
    wait = await gate.deliver(timer)
    assert isinstance(wait, Again)
    gate.now = at(wait.delay_s)
    assert isinstance(await gate.deliver(timer, attempt=2), Done)
    assert ("approval_expired",) == gate.verdicts[0].reasons
    await gate.vote("bob")
    assert 1 == len(gate.verdicts)


async def test_policies_changed_while_waiting_ask_again(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(DEFAULT_BUNDLE, tmp_path / "policies"))
    gate = Gate(folder)
    await gate.propose(NOTE, "medium")
    with (folder / "gate.cedar").open("a") as file:
        file.write("// reviewed\n")
    await gate.policies.look()
    await gate.vote("bob")
    first, second = gate.events(ApprovalRequested)
    assert (
        first.policy_version != second.policy_version == (await gate.policies.current()).version and not gate.verdicts
    )
    await gate.vote("cid")
    assert second.policy_version == gate.verdicts[0].policy_version


async def test_every_delivery_again_changes_nothing() -> None:
    gate = Gate()
    await gate.propose(NOTE, "medium")
    await gate.vote("bob")
    before = list(gate.log.store.records)
    for recorded in before:
        if decider.boundary(decider.Delivered(recorded=recorded, now=gate.now)) is not None:
            await gate.deliver(recorded, attempt=2)
    assert before == gate.log.store.records


CHILD: Identity = replaced(IDENTITY, id="c01", parent_id="p01", depth=1)


async def test_the_side_goes_up_to_the_root_and_an_unreadable_lineage_approves_nothing() -> None:
    mesh = Mesh()
    sides = Sides(mesh.log)
    await mesh.say(spawned("persona:p01", identity=CHILD), "s2")
    assert await sides.of("alpha", "c01", 9) is None
    await mesh.say(spawned("ann"), "s1")
    assert frozenset({"ann", "persona:p01"}) == await sides.of("alpha", "c01", 9)


async def test_the_side_has_all_who_fed_it_or_one_above_it_before_it_proposed_vouched_for_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sides_module, "PAGE", 2)
    mesh = Mesh()
    sides = Sides(mesh.log)
    await mesh.say(spawned("ann"), "s1")
    await mesh.say(spawned("ann", identity=CHILD), "s2")
    fed = [
        ("all", "everyone"), ("p01", "parent"), ("c01", "own"), ("p02", "other"),
        ("all", "everyone"), ("all", "one"), ("all", "two"),
    ]  # fmt: skip
    for n, (persona, principal) in enumerate(fed):
        await mesh.say(observed(persona=persona, principal=principal), f"o{n}")
    await mesh.say(observed(persona="all", principal="vouches", tainted=False), "o8")
    await mesh.say(observed(persona="all", principal="elsewhere", swarm="beta"), "o9")
    await mesh.say(observed(persona="c01", principal="answers", source="answer:q-1"), "o11")
    proposed_at = await mesh.say(proposed(NOTE), "p1")
    before = {"ann", "everyone", "parent", "own", "one", "two", "vouches"}
    assert before == await sides.of("alpha", "c01", proposed_at.seq)
    assert before - {"own"} == await sides.of("alpha", "p01", proposed_at.seq)
    late = await mesh.say(observed(persona="all", principal="late"), "o10")
    assert before == await sides.of("alpha", "c01", proposed_at.seq)
    assert before | {"late"} == await sides.of("alpha", "c01", late.seq + 1)


def test_the_seed_is_never_shown() -> None:
    assert SEED not in repr(Gate().effects) and SEED not in str(Gate().effects)
