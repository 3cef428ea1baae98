"""What swarms believe: from whose claims, what confirms and contests, how long; and that nothing is said twice."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from believing_model import ARCHIVE_S, BELIEVER, REVIEW_S, START, Swarm, is_waiting, kinds
from hypothesis import given, settings
from hypothesis import strategies as st

from services.memory_compactor.believing import board as boards
from services.memory_compactor.believing.grounds import ground_of
from shared.contracts.catalog import subject_of
from shared.contracts.envelope import Message, Recorded, decode
from shared.contracts.events import (
    BeliefAsserted,
    BeliefConfirmed,
    BeliefContested,
    BeliefRevised,
    CheckResult,
    EvidenceRef,
)
from shared.contracts.events.beliefs import topic_token
from shared.memory.dedup import Said, relation
from tests.examples import on_the_wire

FULL, NOT_FULL = "the disk of db is full", "the disk of db is not full"


# -- from what -------------------------------------------------------------------------------------------------------


async def test_a_confirmed_hypothesis_of_a_persona_that_shares_becomes_a_belief() -> None:
    swarm = await Swarm("ada").born()
    seen = await swarm.observe("no space left on device")
    (asserted,) = await swarm.claims("ada", FULL, seen)
    assert isinstance(asserted, BeliefAsserted)
    assert (asserted.claim, asserted.by, asserted.belief_key, asserted.confidence) == (FULL, "ada", "db", 0.8)
    assert (asserted.evidence, asserted.grounds) == ((seen,), (ground_of("no space left on device"),))
    assert (asserted.valid_from, (asserted.review_after - START).total_seconds()) == (START, REVIEW_S)
    assert subject_of(asserted) == f"belief.asserted.alpha.ada.{topic_token('db')}"
    (stored,) = await swarm.beliefs()
    assert stored.envelope.causation is not None and not asserted.tainted


async def test_what_is_private_unconfirmed_or_unsaid_becomes_none() -> None:
    swarm = await Swarm("ada", private=("bob",)).born()
    seen = await swarm.observe("no space left on device")
    assert await swarm.claims("bob", FULL, seen) == []
    assert await swarm.claims("nobody-born", FULL, seen) == []
    for outcome in ("refuted", "inconclusive"):
        assert await swarm.claims("ada", FULL, seen, outcome=outcome) == []
    stray = await swarm.check("ada", FULL, seen)
    assert isinstance(stray.event, CheckResult)
    unsaid = await swarm.say(msgspec.structs.replace(stray.event, hypothesis_id="h-none"))
    assert await swarm.deliver(unsaid) == []


async def test_who_shares_is_known_of_more_than_the_board_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "KEPT_MEMBERS", 2)
    swarm = await Swarm("ada", "eve", private=("bob", "cyd", "dan")).born()
    assert list((await swarm.board()).members) == ["cyd", "dan"]
    assert kinds(await swarm.claims("ada", FULL, await swarm.observe("no space left"))) == ["asserted"]
    assert kinds(await swarm.claims("eve", FULL, await swarm.observe("write failed"))) == ["confirmed"]
    assert await swarm.claims("bob", FULL, await swarm.observe("still no space")) == []


async def test_who_was_not_heard_raised_no_hypothesis() -> None:
    swarm = await Swarm("ada").born()

    async def not_the_holder(recorded: object) -> str:
        return "r2 does not hold alpha.ada"

    swarm.effects = type(swarm.effects)(log=swarm.log, why_not=not_the_holder)
    assert await swarm.claims("ada", FULL, await swarm.observe("no space left on device")) == []


async def test_a_hypothesis_of_long_ago_is_found() -> None:
    swarm = await Swarm("ada").born()
    seen = await swarm.observe("no space left on device")
    check = await swarm.check("ada", FULL, seen)
    for n in range(5000):
        await swarm.observe(f"line {n}")
    late = await swarm.say(check.event)
    assert kinds(await swarm.deliver(late)) == ["asserted"]


# -- by others -------------------------------------------------------------------------------------------------------


async def test_another_persona_confirms_it_on_other_grounds() -> None:
    swarm = await Swarm("ada", "bob").born()
    await swarm.claims("ada", FULL, await swarm.observe("no space left on device"))
    (confirmed,) = await swarm.claims("bob", "The disk of DB is full.", await swarm.observe("write failed: ENOSPC"))
    assert isinstance(confirmed, BeliefConfirmed)
    (belief,) = await swarm.standing()
    assert (belief.by, belief.held_by, belief.confidence) == ("ada", ["bob"], 0.88)


@pytest.mark.parametrize("same", ["event", "words", "measured", "nothing", "own_words", "belief"])
async def test_an_echo_confirms_nothing(same: str) -> None:
    swarm = await Swarm("ada", "bob").born()
    seen = await swarm.observe("no space left on device")
    check = await swarm.check("ada", FULL, seen)
    await swarm.deliver(check)
    (stored,) = await swarm.beliefs()
    refs: dict[str, tuple[EvidenceRef, ...]] = {
        "event": (seen,),
        "words": (await swarm.observe("No space left on device."),),
        "measured": (EvidenceRef(id=check.id, seq=check.seq),),
        "nothing": (),
        "own_words": (EvidenceRef(id=stored.id, seq=check.seq - 1),),
        "belief": (EvidenceRef(id=stored.id, seq=stored.seq),),
    }
    assert await swarm.claims("bob", FULL, *refs[same]) == []
    assert [b.held_by for b in await swarm.standing()] == [[]]


async def test_the_opposite_stands_beside_it_and_both_say_so() -> None:
    swarm = await Swarm("ada", "bob").born()
    seen = await swarm.observe("no space left on device")
    (first,) = await swarm.claims("ada", FULL, seen)
    second, contested = await swarm.claims("bob", NOT_FULL, seen, confidence=0.6)
    assert isinstance(first, BeliefAsserted) and isinstance(second, BeliefAsserted)
    assert isinstance(contested, BeliefContested)
    assert (second.contradicts, contested.contradicts) == ((first.belief_id,), (second.belief_id,))
    assert (contested.belief_id, contested.reason, contested.confidence) == (first.belief_id, "opposite_claim", 0.56)
    both = {b.id: b.contradicts for b in await swarm.standing()}
    assert both == {first.belief_id: [second.belief_id], second.belief_id: [first.belief_id]}


async def test_other_words_are_another_belief_and_contradict_nothing() -> None:
    swarm = await Swarm("ada", "bob").born()
    await swarm.claims("ada", FULL, await swarm.observe("no space left on device"))
    (second,) = await swarm.claims("bob", "backups of db stopped", await swarm.observe("backup: skipped"))
    assert isinstance(second, BeliefAsserted) and second.contradicts == ()
    assert len(await swarm.standing()) == 2


async def test_a_refuted_check_contests_the_same_claim_of_somebody_else() -> None:
    swarm = await Swarm("ada", "bob").born()
    await swarm.claims("ada", FULL, await swarm.observe("no space left on device"))
    (contested,) = await swarm.claims("bob", FULL, await swarm.observe("df: 40 % used"), outcome="refuted")
    assert isinstance(contested, BeliefContested) and contested.reason == "refuted_check"
    assert contested.confidence == 0.4
    assert await swarm.claims("bob", FULL, await swarm.observe("df: 41 % used"), outcome="refuted") == []


async def test_whoever_refutes_their_own_claim_ends_it_unless_others_hold_it() -> None:
    swarm = await Swarm("ada", "bob").born()
    await swarm.claims("ada", FULL, await swarm.observe("no space left on device"))
    (end,) = await swarm.claims("ada", FULL, await swarm.observe("df: 40 % used"), outcome="refuted")
    assert isinstance(end, BeliefRevised) and (end.status, end.valid_to) == ("invalidated", START)
    await swarm.claims("ada", FULL, await swarm.observe("ENOSPC"))
    await swarm.claims("bob", FULL, await swarm.observe("write failed"))
    assert kinds(await swarm.claims("ada", FULL, await swarm.observe("df: 9 %"), outcome="refuted")) == ["contested"]


async def test_who_says_otherwise_ends_their_own_claim_and_begins_another() -> None:
    swarm = await Swarm("ada").born()
    (first,) = await swarm.claims("ada", FULL, await swarm.observe("no space left on device"))
    swarm.now = START.replace(hour=1)
    second, end = await swarm.claims("ada", NOT_FULL, await swarm.observe("df: 40 % used"))
    assert isinstance(first, BeliefAsserted) and isinstance(second, BeliefAsserted) and isinstance(end, BeliefRevised)
    assert (end.belief_id, end.status, end.valid_to) == (first.belief_id, "invalidated", second.valid_from)
    assert [b.claim for b in await swarm.standing()] == [NOT_FULL]


async def test_what_was_contradicted_only_by_what_is_over_is_settled() -> None:
    swarm = await Swarm("ada", "bob").born()
    seen = await swarm.observe("no space left on device")
    (first,) = await swarm.claims("ada", FULL, seen)
    await swarm.claims("bob", NOT_FULL, seen)
    said = await swarm.claims("bob", "backups of db stopped", await swarm.observe("backup: skipped"))
    assert kinds(said) == ["asserted", "revised", "revised"]
    settled = said[-1]
    assert isinstance(settled, BeliefRevised) and settled.settled
    assert isinstance(first, BeliefAsserted) and settled.belief_id == first.belief_id
    assert [b.contradicts for b in await swarm.standing()] == [[], []]


async def test_taint_is_a_union() -> None:
    swarm = await Swarm("ada", "bob", "eve").born()
    clean, foul = await swarm.observe("no space left on device"), await swarm.observe("ENOSPC", tainted=True)
    (first,) = await swarm.claims("ada", FULL, clean)
    assert isinstance(first, BeliefAsserted) and not first.tainted
    (second,) = await swarm.claims("bob", FULL, foul)
    assert isinstance(second, BeliefConfirmed) and second.tainted
    assert [b.tainted for b in await swarm.standing()] == [True]
    gone = EvidenceRef(id="nowhere", seq=1)
    (third,) = await swarm.claims("eve", "backups stopped", clean, gone)
    assert isinstance(third, BeliefAsserted) and third.tainted


# -- how long --------------------------------------------------------------------------------------------------------


async def test_a_belief_decays_by_time_to_stale_and_is_archived() -> None:
    swarm = await Swarm("ada").born()
    await swarm.claims("ada", FULL, await swarm.observe("no space left on device"))
    assert await swarm.later(REVIEW_S - 1) == []
    (stored,) = await swarm.beliefs()
    assert is_waiting(await swarm.handled(stored))
    (stale,) = await swarm.later(1)
    assert isinstance(stale, BeliefRevised) and (stale.status, stale.confidence) == ("stale", 0.4)
    assert await swarm.later(ARCHIVE_S - 1) == []
    (archived,) = await swarm.later(1)
    assert isinstance(archived, BeliefRevised) and archived.status == "archived"
    assert archived.valid_to is not None and await swarm.standing() == []
    assert await swarm.later(ARCHIVE_S) == []


async def test_new_evidence_of_who_holds_it_keeps_it_and_wakes_a_stale_one() -> None:
    swarm = await Swarm("ada").born()
    await swarm.claims("ada", FULL, await swarm.observe("no space left on device"))
    await swarm.later(REVIEW_S / 2)
    (revised,) = await swarm.claims("ada", FULL, await swarm.observe("ENOSPC"))
    assert isinstance(revised, BeliefRevised) and revised.status == "active"
    assert await swarm.later(REVIEW_S / 2) == []
    assert kinds(await swarm.later(REVIEW_S / 2)) == ["revised"]
    (awake,) = await swarm.claims("ada", FULL, await swarm.observe("write failed"))
    assert isinstance(awake, BeliefRevised) and awake.status == "active"
    assert [b.stale for b in await swarm.standing()] == [False]


async def test_a_board_and_a_topic_have_so_many_beliefs(monkeypatch: pytest.MonkeyPatch) -> None:
    from services.memory_compactor.believing import judging

    monkeypatch.setattr(judging, "MAX_BELIEFS", 4)
    swarm = await Swarm("ada", "eve").born()
    await swarm.claims("ada", "ada says this", await swarm.observe("o"), topic="mine", confidence=0.1)
    for n in range(6):
        await swarm.claims("eve", f"claim {n} of eve", await swarm.observe(f"o {n}"), topic=f"t{n}", confidence=0.5)
    standing = await swarm.standing()
    assert len(standing) == 4
    assert [b.by for b in standing].count("ada") == 1  # whoever fills the board makes room themselves


# -- once ------------------------------------------------------------------------------------------------------------


async def test_a_check_that_comes_again_says_nothing_again_however_late() -> None:
    swarm = await Swarm("ada", "bob", "eve").born()
    seen = await swarm.observe("no space left on device")
    checks = [
        await swarm.check("ada", FULL, seen),
        await swarm.check("bob", FULL, seen),
        await swarm.check("bob", FULL, await swarm.observe("ENOSPC")),
        await swarm.check("eve", NOT_FULL, await swarm.observe("df: 40 % used")),
        await swarm.check("eve", FULL, await swarm.observe("df: 41 % used"), outcome="refuted"),
    ]
    for check in checks:
        await swarm.deliver(check)
    for wait in (0.0, REVIEW_S, ARCHIVE_S - 1, 1.0, ARCHIVE_S):
        await swarm.later(wait)
        for check in checks:
            swarm.crash()
            assert await swarm.deliver(check) == []
    assert await swarm.standing() == []


async def test_two_compactors_with_old_folds_make_one_belief() -> None:
    swarm = await Swarm("ada").born()
    check = await swarm.check("ada", FULL, await swarm.observe("no space left on device"))
    other = Swarm("ada")
    other.log, other.effects, other.now = swarm.log, swarm.effects, swarm.now
    await other.handled(await swarm.check("ada", "backups stopped", await swarm.observe("b"), topic="x"))
    await swarm.deliver(check)
    await other.handled(check)
    assert kinds([r.event for r in await swarm.beliefs()]) == ["asserted", "asserted"]


async def test_a_board_that_lost_its_beginning_goes_on() -> None:
    swarm = await Swarm("ada", "bob").born()
    await swarm.claims("ada", FULL, await swarm.observe("no space left on device"))
    await swarm.claims("bob", FULL, await swarm.observe("ENOSPC"))
    await swarm.claims("bob", NOT_FULL, await swarm.observe("df: 40 % used"))
    await swarm.later(REVIEW_S)
    await swarm.later(ARCHIVE_S)
    said = await swarm.beliefs()
    for begin in range(len(said)):
        board = BELIEVER.initial()
        for recorded in said[begin:]:
            board = BELIEVER.evolve(board, recorded)
        assert board.beliefs == {}


CLAIMS = (FULL, NOT_FULL, "the disk of db is 9 % full", "the disk of db is 80 % full", "backups of db stopped")
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("check"),
            st.sampled_from(("ada", "bob", "eve", "private")),
            st.sampled_from(CLAIMS),
            st.sampled_from(("confirmed", "confirmed", "refuted", "inconclusive")),
            st.lists(st.integers(0, 5), max_size=3),
        ),
        st.tuples(st.just("later"), st.sampled_from((1.0, REVIEW_S / 2, REVIEW_S, ARCHIVE_S))),
        st.tuples(st.just("again"), st.integers(0, 30)),
        st.tuples(st.just("crash")),
    ),
    max_size=24,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_whatever_is_said_and_however_often(steps: list[tuple[Any, ...]]) -> None:
    asyncio.run(lives(steps))


async def lives(steps: list[tuple[Any, ...]]) -> None:
    swarm = await Swarm("ada", "bob", "eve", private=("private",)).born()
    seen = [await swarm.observe(f"line {n}", tainted=n == 5) for n in range(6)]
    checks: list[Recorded] = []
    for step in steps:
        match step:
            case ("check", persona, claim, outcome, grounds):
                checks.append(await swarm.check(persona, claim, *(seen[n] for n in grounds), outcome=outcome))
                await swarm.deliver(checks[-1])
            case ("later", seconds):
                await swarm.later(seconds)
            case ("again", which) if checks:
                assert await swarm.deliver(checks[which % len(checks)]) == []
            case _:
                swarm.crash()
        await must_hold(swarm)
    swarm.crash()
    for check in checks:
        assert await swarm.deliver(check) == []
    assert await swarm.later(0.0) == []


async def must_hold(swarm: Swarm) -> None:
    board = await swarm.board()
    by_id = {r.id: r.event for r in await swarm.log.read(("check.result.>",))}
    for recorded in await swarm.beliefs():
        if isinstance(recorded.event, BeliefAsserted):
            cause = by_id[recorded.envelope.causation or ""]
            assert isinstance(cause, CheckResult)
            assert (cause.outcome, cause.persona) == ("confirmed", recorded.event.by)
            assert recorded.event.by != "private"
    for one in board.beliefs.values():
        assert set(one.contradicts) <= set(board.beliefs)
        assert 0.0 <= one.confidence <= 1.0 and one.by not in one.held_by
        for other in board.on(one.key_id):
            if relation(Said(one.claim), Said(other.claim)) == "opposite":
                assert other.id in one.contradicts and one.id in other.contradicts
    for recorded in await swarm.beliefs():
        assert decode(*on_the_wire(Message(event=recorded.event, envelope=recorded.envelope)), seq=1, stored_at=START)


@pytest.mark.parametrize(
    ("a", "b", "how"),
    [
        ("the disk is full", "The disk is FULL.", "same"),
        ("the disk is full", "disk full", "same"),
        ("the disk is full", "the disk is not full", "opposite"),
        ("the disk isn't full", "the disk is not full", "same"),
        ("p95 is 120 ms", "p95 is 950 ms", "opposite"),
        ("load went up", "load went down", "opposite"),
        ("all hosts answer", "some hosts answer", "opposite"),
        ("the disk may be full", "the disk is full", "different"),
        ("a blames b for it", "b blames a for it", "different"),
        ("the disk is full", "the disk is full of logs", "different"),
        ("the disk is full", "the network is slow", "different"),
        ("not", "never", "different"),
    ],
)
def test_claims_are_compared_by_their_words(a: str, b: str, how: str) -> None:
    assert relation(Said(a), Said(b)) == how
    assert relation(Said(b), Said(a)) == how
