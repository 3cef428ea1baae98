"""What must hold of what personas have said to the mesh by proposals; a part of the whole (`log`)."""

from __future__ import annotations

from collections.abc import Callable

from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    ActionClaimed,
    ActionExecuted,
    IntentDelegated,
    IntentSubmitted,
    ObservationRecorded,
    PersonaReaped,
    PersonaSpawned,
    ProposalKey,
    QuestionAnswered,
    QuestionAsked,
    ReapRequested,
    ReportGiven,
    SpawnRefused,
    SpawnRequested,
    WatchAdded,
)

Key = tuple[str, str, str]


class SayingInvariants:
    """Fed with every event that counts, in order. What is said by a proposal lies behind its claim, in one commit, once; a child that a
    proposal asked for is born once, and its outcome tells so; a question is answered once, and the asker is told in the same commit."""

    def __init__(self, broken: Callable[[Recorded, str], None]) -> None:
        self._broken = broken
        self._claim: tuple[int, Key] = (0, ("", "", ""))
        """The claim just before, with its sequence; moved on by what is said with it."""
        self._said: set[Key] = set()
        self._births: dict[Key, bool] = {}
        """Proposals whose wish for a child the governor has answered: whether it was born."""
        self._questions: dict[str, bool] = {}
        self._owes: str | None = None
        self._reaped = ""

    def absorb(self, recorded: Recorded) -> None:
        event = recorded.event
        owed, self._owes = self._owes, None
        if owed is not None and not (isinstance(event, ObservationRecorded) and event.source.endswith(owed)):
            self._broken(recorded, f"the answer to {owed} was not told to who asked, in one commit with it")
        match event:
            case ActionClaimed():
                self._claim = recorded.seq, (event.swarm, event.persona, event.proposal_id)
            case SpawnRequested(proposal=ProposalKey() as key):
                self._behind_claim(recorded, _key(key))
            case QuestionAsked():
                self._behind_claim(recorded, (event.swarm, event.persona, event.proposal_id))
                if event.question_id in self._questions:
                    self._broken(recorded, "a question of that id was asked before")
                self._questions[event.question_id] = False
            case ReapRequested(proposal=ProposalKey() as key) | IntentSubmitted(proposal=ProposalKey() as key):
                self._behind_claim(recorded, _key(key))
            case WatchAdded():
                self._behind_claim(recorded, (event.swarm, event.persona, event.proposal_id))
            case ReportGiven(kind="last"):
                if recorded.seq != self._claim[0] + 1:
                    self._broken(recorded, "last words that were not said in one commit with what asks for the end")
                self._claim = recorded.seq, self._claim[1]
            case ReportGiven(kind="end", by=by) if by != self._reaped:
                self._broken(recorded, f"told the end of {by}, and not in one commit with it")
            case PersonaReaped():
                self._reaped = f"{event.swarm}/{event.persona}"
            case IntentDelegated() if recorded.seq == self._claim[0] + 1:
                self._claim = recorded.seq, self._claim[1]
            case PersonaSpawned(proposal=ProposalKey() as key):
                self._answered(recorded, _key(key), born=True)
            case SpawnRefused(proposal=ProposalKey() as key):
                self._answered(recorded, _key(key), born=False)
            case ActionExecuted():
                born = self._births.get((event.swarm, event.persona, event.proposal_id))
                if born is not None and born != (event.outcome == "success"):
                    self._broken(
                        recorded, f"its outcome is {event.outcome}, and the child was {'' if born else 'not '}born"
                    )
            case QuestionAnswered():
                if self._questions.get(event.question_id, True):
                    self._broken(recorded, "an answer to what was not asked, or the second one")
                self._questions[event.question_id] = True
                self._owes = event.question_id
            case _:
                pass

    def _behind_claim(self, recorded: Recorded, key: Key) -> None:
        if self._claim != (recorded.seq - 1, key):
            self._broken(recorded, f"said for {key}, and not in one commit with its claim")
        if key in self._said:
            self._broken(recorded, f"said for {key} before")
        self._said.add(key)
        self._claim = recorded.seq, key

    def _answered(self, recorded: Recorded, key: Key, *, born: bool) -> None:
        if key not in self._said:
            self._broken(recorded, f"{key} asked for no child")
        if born and self._births.get(key):
            self._broken(recorded, f"{key} has a child already")
        self._births.setdefault(key, born)


def _key(key: ProposalKey) -> Key:
    return key.swarm, key.persona, key.proposal_id
