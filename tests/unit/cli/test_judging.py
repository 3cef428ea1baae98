"""Whether a demonstration went as it should is judged by the log: whatever is missing there is named."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import pytest

from services.cli.commands.running.judging import judged, report
from shared.contracts.catalog import subject_of
from shared.contracts.envelope import Envelope, Recorded
from shared.contracts.events import (
    ActionExecuted,
    AnyEvent,
    ConflictRaised,
    ConflictResolved,
    Contribution,
    EvidenceRef,
    IntentClosed,
    IntentSubmitted,
    ObservationRecorded,
    ProposalKey,
    ProposalRejected,
    Side,
)
from shared.contracts.kinds.files import intent_report

NOW = datetime(2026, 11, 28, tzinfo=UTC)
SWARMS = ("web", "db")
KEYS = {name: ProposalKey(swarm=name, persona="ada", proposal_id=f"p-{name}") for name in SWARMS}
SHA = "0" * 64
INTENT = {"swarm": "web", "persona": "all", "intent_id": "i-1"}


def life(name: str) -> dict[str, object]:
    return msgspec.structs.asdict(KEYS[name])


def went() -> list[AnyEvent]:
    """All that a demonstration says, in which `db` wins; the first two are cited."""
    sides = tuple(
        Side(**life(name), seq=1, exact=SHA, effect=SHA, risk="medium", deadline=NOW)  # type: ignore[arg-type]
        for name in SWARMS
    )
    said = {name: Contribution(swarm=name, persona="ada", answer_id=f"a-{name}") for name in SWARMS}
    cited = tuple(EvidenceRef(id=f"e-{seq}", seq=seq) for seq in (1, 2))
    about = {"target_id": "t", "generation": 1}
    return [
        ObservationRecorded(swarm="web", persona="all", text="502 <b>", source="nginx"),
        ObservationRecorded(swarm="db", persona="all", text="too many clients", source="postgres"),
        IntentSubmitted(**INTENT, goal="Is anything odd?", deadline=NOW, principal="ada"),
        ConflictRaised(**about, target=f"file {intent_report('i-1')}", sides=sides, until=NOW),
        ConflictResolved(**about, resolution="order", kept=(KEYS["db"],), lost=(KEYS["web"],)),
        ProposalRejected(
            **life("web"), stage="policy", reasons=("conflict_lost",), detail="p-db goes first", digest=SHA
        ),
        ActionExecuted(**life("db"), digest=SHA, outcome="success", summary="written"),
        IntentClosed(**INTENT, outcome="answered", result="Both.", evidence=cited, contributors=tuple(said.values())),
    ]


def recorded(events: list[AnyEvent]) -> list[Recorded]:
    found = []
    for seq, event in enumerate(events, 1):
        envelope = Envelope(id=f"e-{seq}", source="x", time=NOW, correlation="c")
        found.append(Recorded(seq=seq, subject=subject_of(event), stored_at=NOW, envelope=envelope, event=event))
    return found


def test_what_went_as_it_should_has_no_problem_and_a_report_that_cites_both() -> None:
    verdict = judged(recorded(went()), 0, "i-1", SWARMS)
    assert ((), 1, "p-db", ("p-web",)) == (verdict.problems, verdict.ruled, verdict.winner, verdict.lost)
    text = report(verdict)
    assert "`e-1`: `nginx` `502" in text and "`e-2`: `postgres` `too many clients`" in text and "<b>" not in text


def but(index: int, **changed: object) -> Callable[[list[AnyEvent]], None]:
    def change(events: list[AnyEvent]) -> None:
        events[index] = msgspec.structs.replace(events[index], **changed)

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda events: events.pop(4), "1 conflicts were raised and 0 ruled"),
        (lambda events: events.insert(4, events[4]), "1 conflicts were raised and 2 ruled"),
        (but(3, target="another file"), "over something else"),
        (but(4, kept=tuple(KEYS.values()), lost=()), "not ruled for one"),
        (but(5, reasons=("denied",)), "not rejected as conflict_lost"),
        (but(5, detail="somebody goes first"), "not rejected as conflict_lost naming p-db"),
        (but(6, proposal_id="p-web"), "p-web lost, and was executed"),
        (but(6, outcome="unknown"), "succeeded 0 times"),
        (lambda events: events.pop(7), "closed 0 times"),
        (but(7, outcome="failed"), "answered once is expected"),
        (but(7, contributors=()), "not every swarm contributed"),
        (but(7, evidence=(EvidenceRef(id="e-1", seq=1),)), "no event of db is cited"),
        (but(7, evidence=(EvidenceRef(id="e-1", seq=2), EvidenceRef(id="x", seq=99))), "event x at 99 is cited"),
    ],
)
def test_what_is_missing_is_named(change: Callable[[list[AnyEvent]], object], problem: str) -> None:
    events = went()
    change(events)
    assert problem in "; ".join(judged(recorded(events), 0, "i-1", SWARMS).problems)


def test_what_is_of_another_run_does_not_count() -> None:
    assert "0 conflicts were raised" in judged(recorded(went()), 8, "i-1", SWARMS).problems[0]
