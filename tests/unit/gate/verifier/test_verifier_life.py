"""One verdict for each id, whoever asks again: the life of a proposal is CORE's, and it is read whole."""

from __future__ import annotations

from typing import Any

import pytest

from services.verifier import decider
from services.verifier.effects import VerifierEffects
from shared.contracts.events import ProposalRejected, ProposalVerified
from shared.decider import Delivered
from shared.log.memory import MemoryLog
from shared.log.port import Expect
from shared.policy.library import Library
from shared.runtime.handling import Fold, handle
from shared.runtime.shell import drive
from tests.unit.gate.given import T0, message_of, proposed


async def deliver(log: MemoryLog, event: Any, event_id: str) -> None:
    """The event is stored, and reaches a verifier that knows nothing yet."""
    (seq,) = await log.commit([message_of(event, id=event_id)])
    message = Delivered(recorded=await log.get(seq), now=T0)  # type: ignore[arg-type]
    boundary = decider.boundary(message)
    assert boundary is not None
    effects = VerifierEffects(log=log, library=Library(log))
    await drive(log, handle(Fold(decider, boundary), message, source="verifier"), effects.perform)


async def said(log: MemoryLog) -> list[type]:
    """What CORE says under that id."""
    return [type(r.event) for r in await log.read(("*.*.alpha.p01.p-1",))]


@pytest.mark.parametrize("slot", ["r1", "r2"])
async def test_a_proposal_that_is_created_again_gets_no_second_verdict(slot: str) -> None:
    log = MemoryLog()
    await deliver(log, proposed(slot="r1"), "e1")
    (verdict,) = await said(log)
    assert verdict in (ProposalVerified, ProposalRejected)
    await deliver(log, proposed(slot=slot, title="Another one"), "e2")
    assert [verdict] == await said(log)


async def test_what_runners_say_does_not_move_the_life_of_a_proposal() -> None:
    log = MemoryLog()
    await log.commit([message_of(proposed(slot="r1"), id="e1")])
    await log.commit([message_of(proposed(slot="r2"), id="e2")])
    assert (0,) == await log.ends(("*.*.alpha.p01.p-1",))


async def test_the_first_commit_of_a_verdict_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    log, expected = MemoryLog(), []
    commit = log.commit

    async def watched(messages: Any, expect: Any = ()) -> tuple[int, ...]:
        expected.extend(expect)
        return await commit(messages, expect)

    monkeypatch.setattr(log, "commit", watched)
    await deliver(log, proposed(slot="r1"), "e1")
    assert [Expect("*.*.alpha.p01.p-1", 0)] == expected
