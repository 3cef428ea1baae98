"""Whose verdicts are good where in the log: by a word of the root, whatever else is said, lost or said twice."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.envelope import Message, Stored, Unreadable
from shared.contracts.events import Signer, SignersChanged
from shared.crypto import new_seed, public_key
from shared.log.memory import MemoryLog
from shared.log.port import Expect, StaleBoundary
from shared.settings import SettingsError
from shared.signers import BOUNDARY, KEPT, Followed, Signers, Superseded, announce, roots_of
from tests.unit.gate.given import KEY, ROOT, T0, appointed, at, message_of, record

OTHER = public_key(new_seed())
STRANGER = new_seed()


def known(*messages: Stored) -> Signers:
    found = Signers()
    for message in messages:
        found.apply(message, (ROOT,))
    return found


def word(seq: int, *signers: Signer | str, number: int = 1, root: str | None = None) -> Stored:
    return record(appointed(*signers, number=number, **({} if root is None else {"root": root})), seq)


def keys(signers: Iterable[Signer]) -> list[str]:
    return [signer.key for signer in signers]


def test_the_word_that_stood_at_a_sequence_holds_there_and_the_first_also_before_it() -> None:
    found = known(word(10, KEY), word(20, KEY, OTHER, number=2), word(30, OTHER, number=3))
    holds = {1: [KEY], 10: [KEY], 11: [KEY], 20: [KEY], 21: [KEY, OTHER], 30: [KEY, OTHER], 31: [OTHER], 99: [OTHER]}
    assert holds == {seq: keys(found.at(seq)) for seq in holds}
    assert [OTHER] == keys(found.now) and () == Signers().at(5)


def test_what_the_root_did_not_say_or_said_before_counts_for_nothing_moves_the_boundary_and_is_told() -> None:
    first, second = word(10, KEY, number=1), word(20, OTHER, number=2)
    for forged in (
        word(30, public_key(STRANGER), number=9, root=STRANGER),
        word(30, KEY, number=1),
        word(30, KEY, number=2),
    ):
        found = known(first, second, forged)
        assert ([OTHER], 30, 30) == (keys(found.at(99)), found.position, found.strange)
        found.apply(word(40, KEY, number=3), (ROOT,))
        assert ([KEY], 40, 0) == (keys(found.at(99)), found.position, found.strange)
    unreadable = Unreadable(id="x", seq=50, stored_at=T0, subject=BOUNDARY, reason="bad_body", detail="")
    found = known(first, second, unreadable)
    assert ([OTHER], 50) == (keys(found.now), found.position)


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=12), st.integers(0, 12))
def test_whatever_is_said_numbers_grow_and_a_missing_prefix_changes_nothing_after_the_next_word(
    said: list[tuple[int, bool]], missing: int
) -> None:
    messages = [
        word(n + 1, KEY, number=number, root=None if ours else STRANGER) for n, (number, ours) in enumerate(said)
    ]
    whole = known(*messages)
    numbers = [w.event.number for w in whole.words]
    assert numbers == sorted(set(numbers))
    part = known(*messages[missing:])
    if part.words and whole.words and part.words[-1] == whole.words[-1]:
        assert part.at(10**6) == whole.at(10**6)
    again = known(*(m for message in messages for m in (message, message)))
    assert again.words == whole.words


def test_so_many_words_are_remembered_and_a_copy_is_its_own() -> None:
    found = known(*(word(n, KEY, number=n) for n in range(1, KEPT + 10)))
    copy = msgspec.json.decode(msgspec.json.encode(found.copy()), type=Signers)
    assert KEPT == len(found.words) and copy == found
    taken = found.copy()
    found.apply(word(1000, OTHER, number=1000), (ROOT,))
    assert [KEY] == keys(taken.now)


async def test_a_word_is_said_once_and_an_old_or_another_one_is_refused() -> None:
    log = MemoryLog(clock=lambda: T0)
    first, second = appointed(KEY), appointed(Signer(key=KEY, until=at(60)), OTHER, number=2)
    assert [True, False, True, False] == [await announce(log, event) for event in (first, first, second, second)]
    for old in (first, appointed(KEY, number=2)):
        with pytest.raises(Superseded, match="the log has number 2 already"):
            await announce(log, old)
    assert await announce(log, appointed(OTHER, number=1, root=STRANGER)), "who has another root begins anew"
    assert [first, second] == [w.event for w in (await Followed(log, (ROOT,)).look()).words]


class Between(MemoryLog):
    """Something else is said right before the first commit."""

    def __init__(self, event: SignersChanged) -> None:
        super().__init__(clock=lambda: T0)
        self._event: SignersChanged | None = event

    async def commit(self, messages: list[Message], expect: list[Expect] = []) -> tuple[int, ...]:  # type: ignore[override]  # noqa: B006
        if (event := self._event) is not None:
            self._event = None
            await super().commit([message_of(event, id="between")])
        return await super().commit(messages, expect)


async def test_of_two_rotations_from_one_state_one_counts() -> None:
    log = Between(appointed(OTHER, number=2))
    with pytest.raises(Superseded):
        await announce(log, appointed(KEY, number=2))
    assert [OTHER] == keys((await Followed(log, (ROOT,)).look()).now)
    with pytest.raises(StaleBoundary):
        await log.commit([message_of(appointed(KEY, number=3), id="x")], [Expect(BOUNDARY, 0)])
    later = Between(appointed(OTHER, number=2))
    assert await announce(later, appointed(KEY, number=3)) and [KEY] == keys(
        (await Followed(later, (ROOT,)).look()).now
    )


async def test_what_follows_the_log_says_why_no_verdict_is_good_and_what_was_tried() -> None:
    log = MemoryLog(clock=lambda: T0)
    followed = Followed(log, (ROOT,))
    assert "run the bootstrap" in (await followed.unready() or "") and followed.trouble() is None
    await log.commit([message_of(appointed(KEY, root=STRANGER), id="forged")])
    assert "run the bootstrap" in (await followed.unready() or "")
    assert "signers.changed at 1 counts for nothing" in (followed.trouble() or "")
    await announce(log, appointed(KEY))
    assert (None, None) == (await followed.unready(), followed.trouble())


def test_a_root_that_is_no_key_is_a_setting_that_cannot_be_used() -> None:
    assert (ROOT,) == roots_of(f"{ROOT}\n")
    with pytest.raises(SettingsError, match="SWARM_VERDICT_ROOT"):
        roots_of("nonsense")


def test_times_of_the_log_are_read_as_they_were_written() -> None:
    until = datetime.fromisoformat("2026-01-01T13:00:00.000001+00:00")
    event = appointed(Signer(key=KEY, until=until))
    assert event == msgspec.json.decode(msgspec.json.encode(event), type=SignersChanged)
