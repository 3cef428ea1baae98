"""The actuator with real files and real keys, on a log, through the kernel's own handling; alone, in a race and after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.actuator import decider
from services.actuator.effects import ActuatorEffects
from services.actuator.hands.commands import CommandHand
from services.actuator.hands.outbound import Outbound
from services.actuator.hands.receipts import RECEIPTS
from services.actuator.hands.table import hands
from services.actuator.hands.workspace import Workspace
from services.actuator.journal import Journal
from services.actuator.terms import Check, Claim, Execute, Inquire, NotOurs
from shared.contracts.action import Action
from shared.contracts.events import ActionClaimed, ActionExecuted, MeshHalted, MeshResumed, ProposalCreated, Signer
from shared.contracts.ids import EVERYONE
from shared.crypto import new_seed, public_key, sign_verdict
from shared.log.memory import MemoryLog
from shared.log.port import Expect, LogUnavailable, StaleBoundary
from shared.policy.activations import Followed
from shared.runtime.halting import Halting
from shared.runtime.handling import Again, Done
from shared.signers import Followed as Signers
from tests.unit.gate.actuator.test_outbound import sink
from tests.unit.gate.given import (
    FINDING,
    KEY,
    LIFE,
    POST,
    ROOT,
    SEED,
    Mesh,
    Plenty,
    activated,
    appointed,
    at,
    authorized,
    believing,
    proposed,
    replaced,
    verified,
)

GET = Action(kind="http.request", target="http://replaced.example.org/", params={"method": "GET"})
SETTLED_S = 10.0
"""Longer than the time-out of a file write and the margin."""


class Crash(Exception):
    """The process dies while it performs an effect."""


class Act(Mesh):
    """A mesh, a workspace, and as many actuators on it as wanted."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.opened: list[Workspace] = []

    def actuator(
        self, name: str = "one", root: Path | None = None, outbound: Outbound | None = None, **changed: Any
    ) -> ActuatorEffects:
        workspace = Workspace(root or self.root)
        self.opened.append(workspace)
        settings: dict[str, Any] = {
            "log": self.log,
            "hands": hands(workspace, outbound or Outbound(), CommandHand({}, workspace.receipts)),
            "site": workspace.receipts.identity,
            "lots": Plenty(),
            "journal": Journal(self.root.parent / f"claims-{name}.jsonl", self.now),
            "halting": Halting(self.log),
            "signers": believing(self.log),
            "policies": Followed(self.log),
            "instance": name,
            "clock": lambda: self.now,
        }
        return ActuatorEffects(**{**settings, **changed})

    async def authorize(self, action: Action = FINDING, seed: str = SEED, **changed: Any) -> Any:
        created = proposed(action)
        await self.say(activated(), "b1")
        await self.say(created, "p1")
        await self.say(verified(created), "v1")
        draft = authorized(created, key="", **changed)
        key, signature = sign_verdict(seed, draft)
        return await self.say(replaced(draft, key=key, signature=signature), "a1")

    async def deliver(self, recorded: Any, actuator: ActuatorEffects, attempt: int = 1) -> Any:
        return await self.handle(decider, actuator.perform, recorded, attempt)

    @property
    def outcome(self) -> Any:
        (executed,) = self.events(ActionExecuted)
        return executed

    @property
    def files(self) -> list[str]:
        return sorted(
            str(p.relative_to(self.root)) for p in self.root.rglob("*") if p.is_file() and RECEIPTS not in p.parts
        )


@pytest.fixture
def act(tmp_path: Path) -> Iterator[Act]:
    act = Act(tmp_path / "workspace")
    yield act
    for workspace in act.opened:
        workspace.close()


async def test_what_is_authorised_is_claimed_done_and_recorded_once_however_often_it_is_delivered(act: Act) -> None:
    message, actuator = await act.authorize(), act.actuator()
    for attempt in (1, 1, 2):
        assert isinstance(await act.deliver(message, actuator, attempt), Done)
    assert ("success", act.newest(ActionClaimed).id) == (act.outcome.outcome, act.outcome.claim_id)
    assert [FINDING.target] == act.files and 1 == len(act.events(ActionClaimed))
    assert act.newest(ActionClaimed).event.actuator.startswith(f"one/{actuator.site}/")


@pytest.mark.parametrize(("revokes", "error"), [(False, None), (True, "policy_version_revoked")])
async def test_what_was_authorised_under_earlier_policies_is_good_unless_they_were_revoked(
    act: Act, revokes: bool, error: str | None
) -> None:
    message = await act.authorize()
    actuator = act.actuator()
    await act.say(activated("2" * 64, revokes=revokes), "b2")
    await act.deliver(message, actuator)
    assert error == act.outcome.error


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"seed": new_seed()}, "bad_signature"),
        ({"policy_version": "0" * 64}, "policy_version_unknown"),
        ({"expires_at": at(0)}, "authorization_expired"),
        ({"digest": "0" * 64}, "digest_mismatch"),
    ],
)
async def test_what_is_not_in_order_is_refused_untouched(act: Act, how: dict[str, Any], error: str) -> None:
    await act.deliver(await act.authorize(**how), act.actuator())
    assert ("failure", error, None) == (act.outcome.outcome, act.outcome.error, act.outcome.claim_id)
    assert [] == act.files and [] == act.events(ActionClaimed)


async def test_a_replayed_authorisation_of_another_proposal_is_refused(act: Act) -> None:
    message = await act.authorize()
    other = replaced(message.event, proposal_id="p-2")
    created = replaced(proposed(FINDING), proposal_id="p-2")
    await act.say(replaced(verified(created), proposal_id="p-2"), "v2")
    await act.deliver(await act.say(other, "a2"), act.actuator())
    assert "bad_signature" == act.outcome.error and [] == act.files


async def test_the_kill_switch_stops_before_the_claim_and_between_claim_and_effect(act: Act, tmp_path: Path) -> None:
    switch = tmp_path / "stop"
    actuator = act.actuator(kill_switch=switch)

    async def thrown_after_the_check(effect: Any) -> Any:
        result = await actuator.perform(effect)
        if isinstance(effect, Check):
            switch.touch()
        return result

    message = await act.authorize()
    await act.handle(decider, thrown_after_the_check, message)
    assert ("failure", "kill_switch") == (act.outcome.outcome, act.outcome.error) and act.outcome.claim_id
    assert [] == act.files


async def test_with_the_kill_switch_on_it_waits_as_in_a_halt_and_no_resume_lifts_the_file(
    act: Act, tmp_path: Path
) -> None:
    switch = tmp_path / "stop"
    switch.touch()
    message, actuator = await act.authorize(), act.actuator(kill_switch=switch)
    whose: Any = {"swarm": EVERYONE, "persona": EVERYONE, "principal": "ann"}
    for said in (None, MeshHalted(**whose, cause="person"), MeshResumed(**whose)):
        if said is not None:
            await act.say(said, type(said).__name__)
        assert isinstance(await act.deliver(message, actuator), Again) and not act.events(ActionClaimed)
    switch.unlink()
    await act.deliver(message, actuator)
    assert "success" == act.outcome.outcome


@pytest.mark.parametrize("action", [FINDING, GET])
async def test_the_kill_switch_stops_what_waits_for_its_turn(
    act: Act, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: Action
) -> None:
    """Claimed and looked at; then the thread or the name's look-up takes its time, and the switch is thrown."""
    switch = tmp_path / "stop"
    async with sink() as target:
        outbound = Outbound(frozenset({target.where}), frozenset({target.where}))
        actuator = act.actuator(kill_switch=switch, outbound=outbound)
        action = replaced(action, target=f"http://{target.where}/") if action is GET else action
        loop = asyncio.get_running_loop()
        look_up, place = loop.getaddrinfo, Workspace._parent

        async def slow_look_up(*args: Any, **kwargs: Any) -> Any:
            switch.touch()
            return await look_up(*args, **kwargs)

        def slow_thread(self: Workspace, name: str, *, create: bool) -> Any:
            switch.touch()
            return place(self, name, create=create)

        message = await act.authorize(action)
        monkeypatch.setattr(loop, "getaddrinfo", slow_look_up)
        monkeypatch.setattr(Workspace, "_parent", slow_thread)
        await act.deliver(message, actuator)
        assert ("failure", "kill_switch") == (act.outcome.outcome, act.outcome.error) and act.outcome.claim_id
        assert [] == act.files and [] == target.requests


class Forgetful(MemoryLog):
    """A log that takes the second claim for a repetition of the first, as happens when an answer was lost."""

    async def commit(self, messages: Any, expect: Any = ()) -> tuple[int, ...]:
        try:
            return await super().commit(messages, expect)
        except StaleBoundary:
            return self.store.append(messages)


async def test_of_two_actuators_that_are_both_told_they_claimed_one_acts(act: Act) -> None:
    act.log = Forgetful(clock=lambda: act.now)
    message, first, second = await act.authorize(), act.actuator("one"), act.actuator("two")
    done: list[str] = []

    async def watched(effect: Any, actuator: ActuatorEffects) -> Any:
        result = await actuator.perform(effect)
        if isinstance(effect, Execute):
            done.append(f"{actuator.instance} {type(result).__name__}")
        return result

    async def overtaken(effect: Any) -> Any:
        """Between the check of the first and its claim, the second does it all."""
        result = await first.perform(effect) if not isinstance(effect, Execute) else await watched(effect, first)
        if isinstance(effect, Check):
            await act.handle(decider, lambda e: watched(e, second), message, attempt=2)
        return result

    await act.handle(decider, overtaken, message, attempt=2)
    assert ["two Outcome", "one NotOurs"] == done
    assert "success" == act.outcome.outcome and "two/" in act.events(ActionClaimed)[0].actuator


async def test_a_claim_is_refused_by_the_boundary_when_another_holds_it(act: Act) -> None:
    message, first, second = await act.authorize(), act.actuator("one"), act.actuator("two")

    async def overtaken(effect: Any) -> Any:
        result = await first.perform(effect)
        if isinstance(effect, Check) and not act.events(ActionClaimed):
            assert isinstance(await act.deliver(message, second), Done)
        return result

    assert isinstance(await act.handle(decider, overtaken, message), Done)
    assert 1 == len(act.events(ActionClaimed)) and "success" == act.outcome.outcome


async def crash_in_execute(act: Act, message: Any, actuator: ActuatorEffects, before: bool) -> None:
    async def dying(effect: Any) -> Any:
        if isinstance(effect, Execute):
            if not before:
                await actuator.perform(effect)
            raise Crash
        return await actuator.perform(effect)

    with pytest.raises(Crash):
        await act.handle(decider, dying, message)


@pytest.mark.parametrize(("before", "outcome"), [(True, "failure"), (False, "success")])
async def test_after_a_crash_the_file_system_is_asked_and_nothing_is_tried_again(
    act: Act, before: bool, outcome: str
) -> None:
    message = await act.authorize()
    await crash_in_execute(act, message, act.actuator(), before)
    restarted = act.actuator("two")
    wait = await act.deliver(message, restarted, 2)
    assert isinstance(wait, Again) and 0 < wait.delay_s < SETTLED_S and not act.events(ActionExecuted)
    act.now = at(SETTLED_S)
    assert isinstance(await act.deliver(message, restarted, 3), Done)
    assert outcome == act.outcome.outcome and ([FINDING.target] if outcome == "success" else []) == act.files


async def test_after_a_crash_of_a_request_nobody_can_tell(act: Act) -> None:
    message = await act.authorize(POST)
    await crash_in_execute(act, message, act.actuator(), before=True)
    act.now = at(60)
    await act.deliver(message, act.actuator("two"), 2)
    assert ("unknown", "cannot_tell") == (act.outcome.outcome, act.outcome.error)


async def test_a_claim_made_on_another_workspace_is_not_answered_from_here(act: Act, tmp_path: Path) -> None:
    message = await act.authorize()
    await crash_in_execute(act, message, act.actuator(), before=False)
    elsewhere, asked = act.actuator("two", root=tmp_path / "elsewhere"), 0
    act.now = at(SETTLED_S)
    while isinstance(again := await act.deliver(message, elsewhere, 2 + asked), Again):
        assert not act.events(ActionExecuted) and again.delay_s >= 1
        act.now, asked = act.now + timedelta(seconds=again.delay_s), asked + 1
    assert ("unknown", "cannot_tell") == (act.outcome.outcome, act.outcome.error)
    assert 5 < asked < 30 and timedelta(seconds=120) < act.now - at(0) < timedelta(seconds=240)


async def test_what_one_actuator_cannot_tell_another_is_asked_for(act: Act, tmp_path: Path) -> None:
    message = await act.authorize()
    await crash_in_execute(act, message, act.actuator(), before=False)
    act.now = at(SETTLED_S)
    assert isinstance(await act.deliver(message, act.actuator("two", root=tmp_path / "elsewhere"), 2), Again)
    act.now = at(2 * SETTLED_S)
    await act.deliver(message, act.actuator("three"), 3)
    assert "success" == act.outcome.outcome


async def test_while_the_receipts_cannot_be_read_it_is_asked_again(act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
    message = await act.authorize()
    await crash_in_execute(act, message, act.actuator(), before=False)
    restarted = act.actuator("two")
    act.now = at(SETTLED_S)

    def away(*_: object) -> str:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(type(act.opened[-1].receipts), "fence", away)
        assert isinstance(await act.deliver(message, restarted, 2), Again)
    await act.deliver(message, restarted, 3)
    assert "success" == act.outcome.outcome


async def test_a_claim_older_than_receipts_are_kept_is_unknown(act: Act) -> None:
    message = await act.authorize()
    await crash_in_execute(act, message, act.actuator(), before=False)
    act.now = at(timedelta(days=16).total_seconds())
    await act.deliver(message, act.actuator(), 2)
    assert "unknown" == act.outcome.outcome


async def test_nothing_begins_after_its_time(act: Act) -> None:
    message, actuator = await act.authorize(), act.actuator()

    async def slow(effect: Any) -> Any:
        if isinstance(effect, Execute):
            act.now = at(SETTLED_S)
        return await actuator.perform(effect)

    await act.handle(decider, slow, message)
    assert ("failure", "too_late", []) == (act.outcome.outcome, act.outcome.error, act.files)


async def test_without_a_claim_in_the_log_nothing_is_done(act: Act) -> None:
    actuator = act.actuator()
    message = await act.authorize()
    (created,) = act.events(ProposalCreated)
    job = decider._job(decider.initial(), created)  # type: ignore[arg-type]
    assert isinstance(await actuator.perform(Execute(job=job, digest="0" * 64, actuator="x", deadline=at(60))), NotOurs)
    claim = Claim(id="e9", actuator="x", at=at(0), timeout_ms=1)
    assert "unknown" == (await actuator.inquire(Inquire(job=job, claim=claim))).outcome
    assert [] == act.files and message


async def test_doing_nothing_succeeds_also_when_nobody_knows_whether_it_was_done(act: Act) -> None:
    noop = Action(kind="test.noop", target="nothing")
    message = await act.authorize(noop)
    await crash_in_execute(act, message, act.actuator(), before=True)
    act.now = at(60)
    await act.deliver(message, act.actuator(), 2)
    assert "success" == act.outcome.outcome


async def test_one_expectation_guards_the_claim(act: Act) -> None:
    seen: list[Any] = []
    real = act.log.commit

    async def commit(messages: Any, expect: Any = ()) -> tuple[int, ...]:
        seen.extend(expect)
        return await real(messages, expect)

    message = await act.authorize()
    act.log.commit = commit  # type: ignore[method-assign]
    await act.deliver(message, act.actuator())
    assert Expect("*.*.alpha.p01.p-1", message.seq) == seen[0]


async def test_what_is_authorised_again_is_done_once(act: Act) -> None:
    first = await act.authorize()
    await act.deliver(first, act.actuator())
    again = await act.say(first.event, "a2")
    assert isinstance(await act.deliver(again, act.actuator("two")), Done)
    assert (1, 1) == (len(act.events(ActionClaimed)), len(act.events(ActionExecuted)))


async def test_an_action_that_something_unreadable_may_have_claimed_is_not_done(act: Act) -> None:
    message, actuator = await act.authorize(), act.actuator()
    act.log.store.publish(f"action.claimed.{'.'.join(LIFE.values())}", b"{}")
    assert isinstance(await act.deliver(message, actuator), Again)
    await act.deliver(message, actuator, 2)
    assert ("unknown", "cannot_tell", []) == (act.outcome.outcome, act.outcome.error, act.files)


async def test_a_verdict_is_held_against_the_keys_of_its_place_in_the_log(act: Act) -> None:
    """Rotation, without a restart: what stood when the verdict was stored counts, whatever stands when it is delivered."""
    old, new = SEED, new_seed()
    actuator = act.actuator(signers=Signers(act.log, (ROOT,)))
    await act.say(appointed(public_key(old)), "w1")
    before = await act.authorize(seed=old)
    await act.say(appointed(public_key(new), number=2), "w2")
    await act.deliver(before, actuator)
    assert "success" == act.outcome.outcome


@pytest.mark.parametrize("stolen", [True, False])
async def test_a_key_that_was_taken_away_is_good_no_more_and_a_new_one_at_once(act: Act, stolen: bool) -> None:
    new = new_seed()
    actuator = act.actuator(signers=Signers(act.log, (ROOT,)))
    await act.say(appointed(KEY), "w1")
    await actuator.signers.look()
    await act.say(appointed(public_key(new), number=2), "w2")
    await act.deliver(await act.authorize(seed=SEED if stolen else new), actuator)
    assert (("failure", "bad_signature") if stolen else ("success", None)) == (act.outcome.outcome, act.outcome.error)


async def test_the_old_key_is_good_until_its_time_by_the_brokers_clock(act: Act) -> None:
    actuator = act.actuator(signers=Signers(act.log, (ROOT,)))
    await act.say(appointed(Signer(key=KEY, until=at(60)), public_key(new_seed())), "w1")
    act.now = at(59)
    message = await act.authorize()
    act.now = at(61)
    await act.deliver(message, actuator)
    assert "success" == act.outcome.outcome


async def test_what_was_authorised_before_the_log_said_who_signs_is_held_against_its_first_word(act: Act) -> None:
    """An actuator of this release on a log of the last one: it waits for the word, and does not take it for a forgery."""
    actuator, message = act.actuator(signers=Signers(act.log, (ROOT,))), await act.authorize()
    with pytest.raises(LogUnavailable, match="run the bootstrap"):
        await act.deliver(message, actuator)
    await act.say(appointed(public_key(new_seed()), root=new_seed()), "forged")
    with pytest.raises(LogUnavailable, match="run the bootstrap"):
        await act.deliver(message, actuator)
    assert not act.events(ActionExecuted)
    await act.say(appointed(KEY), "w1")
    await act.deliver(message, actuator)
    assert "success" == act.outcome.outcome
