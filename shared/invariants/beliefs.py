"""What must hold of beliefs: each rests on a confirmed check, contradictions say so on both sides, and an outsider's word stays one."""

from __future__ import annotations

from collections.abc import Callable

from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    BeliefAsserted,
    BeliefConfirmed,
    BeliefContested,
    BeliefEvent,
    BeliefRevised,
    CheckRequested,
    CheckResult,
    ObservationRecorded,
)
from shared.contracts.ids import EVERYONE
from shared.evidence import says_tainted
from shared.memory.dedup import Said, relation


class BeliefInvariants:
    """Fed with beliefs, and with what they rest on: observations, and checks with their results."""

    def __init__(self, broken: Callable[[Recorded, str], None]) -> None:
        self._broken = broken
        self._checks: set[str] = set()
        self._confirmed: dict[str, tuple[str, str]] = {}
        self._boards: dict[tuple[str, str], dict[str, str]] = {}
        self._unmarked: dict[str, tuple[str | None, set[str]]] = {}
        self._believed: dict[str, str] = {}
        self._outside: set[str] = set()

    def observe(self, recorded: Recorded, event: ObservationRecorded) -> None:
        """Outsiders' words are remembered as such."""
        if event.tainted:
            self._outside.add(recorded.id)

    def ask(self, event: CheckRequested) -> None:
        """A check was asked for."""
        self._checks.add(f"asked {event.check_id}")

    def answer(self, recorded: Recorded, event: CheckResult) -> None:
        """Each check that was asked for has one result."""
        check = event.check_id
        if f"asked {check}" not in self._checks or f"answered {check}" in self._checks:
            self._broken(recorded, "a check was answered twice, or never asked")
        self._checks.add(f"answered {check}")
        if says_tainted(event):
            self._outside.add(recorded.id)
        if event.outcome == "confirmed":
            self._confirmed[recorded.id] = (event.swarm, event.persona)

    def believe(self, recorded: Recorded, event: BeliefEvent) -> None:
        """No belief without a confirmed hypothesis, or on the mesh's blackboard without a swarm's belief; none twice; none that
        contradicts another without both saying so; and an outsider's word stays one."""
        cause = recorded.envelope.causation or ""
        rests_on = {cause, *(ref.id for ref in event.evidence)}
        if event.tainted:
            self._outside.add(recorded.id)
        elif isinstance(event, BeliefAsserted | BeliefConfirmed) and rests_on & self._outside:
            self._broken(recorded, "it rests on an outsider's word, and does not say so")
        board = self._boards.setdefault((event.swarm, event.key_id), {})
        unmarked = self._unmarked.pop(event.swarm, (None, set()))
        if unmarked[0] == recorded.envelope.causation:
            self._unmarked[event.swarm] = unmarked
        elif unmarked[1]:
            self._broken(recorded, f"before it {sorted(unmarked[1])} were contradicted and do not say so")
        match event:
            case BeliefAsserted():
                if event.belief_id in board:
                    self._broken(recorded, "it was asserted before")
                if event.swarm == EVERYONE:
                    if self._believed.get(cause) != event.by:
                        self._broken(recorded, "the swarm that is said to believe it does not")
                elif self._confirmed.get(cause) != (event.swarm, event.by):
                    self._broken(recorded, "no check of its author's confirmed it")
                said = Said(event.claim)
                against = {name for name, claim in board.items() if relation(said, Said(claim)) == "opposite"}
                board[event.belief_id] = event.claim
                self._unmarked[event.swarm] = (recorded.envelope.causation, against | set(event.contradicts))
            case BeliefContested(contradicts=contradicts) if contradicts:
                self._unmarked.get(event.swarm, (None, set()))[1].discard(event.belief_id)
            case BeliefRevised(status="invalidated" | "archived"):
                board.pop(event.belief_id, None)
                self._unmarked.get(event.swarm, (None, set()))[1].discard(event.belief_id)
            case _:
                pass
        self._believed[recorded.id] = event.swarm

    def unmarked(self) -> list[str]:
        """Beliefs that were contradicted last, and do not say so."""
        return [name for _, names in self._unmarked.values() for name in sorted(names)]
