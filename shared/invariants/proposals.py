"""What must hold of proposals: one verdict a stage, no action without its verdict and its people, none done twice."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from shared.contracts.approvals import answered
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    ActionClaimed,
    ActionExecuted,
    ActionResolved,
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    ConflictJoined,
    ConflictSettled,
    ObservationRecorded,
    ProposalAuthorized,
    ProposalCreated,
    ProposalEvent,
    ProposalRejected,
    ProposalVerified,
    SignersChanged,
)
from shared.contracts.ids import EVERYONE
from shared.crypto import verify_verdict
from shared.invariants.credits import CreditInvariants
from shared.invariants.targets import Owed, TargetInvariants, key_of
from shared.signers import Signers


class Life(msgspec.Struct):
    """One proposal so far. `verdict` is its first authorisation, which is the one that counts."""

    digest: str
    stages: list[str] = []
    verdict: Recorded | None = None
    quorum: int = 0
    request: str = ""
    granted: set[str] = msgspec.field(default_factory=set)
    claims: int = 0
    outcomes: int = 0
    is_known: bool = False
    hold: str = ""
    resolved: bool = False
    conflicts: set[str] = msgspec.field(default_factory=set)
    lost: bool = False


class ProposalInvariants:
    """Fed with everything in the lives of proposals, and with who signs verdicts: `roots` say that, by default the root of the first word
    there is. A log without one (of the simulation) has nothing to hold a signature against."""

    def __init__(
        self,
        broken: Callable[[Recorded, str], None],
        roots: tuple[str, ...],
        credits: CreditInvariants,
        targets: TargetInvariants,
    ) -> None:
        self._broken, self._roots, self._credits, self._targets = broken, roots, credits, targets
        self._signers = Signers()
        self.lives: dict[str, Life] = {}
        self._told: dict[tuple[str, str], int] = {}
        """Since when there is an outsider's word for a persona, or for a whole swarm."""
        self._halted = False
        self._behind_a_halt: set[str] = set()
        """What was claimed since the halt that is in force: its claim may have been on its way already, its effect may not."""
        self.owes: Owed | None = None
        """What must be said next, in the same batch."""

    def observe(self, recorded: Recorded, event: ObservationRecorded) -> None:
        """What outsiders say taints whoever it is said to."""
        if event.tainted:
            self._told.setdefault((event.swarm, event.persona), recorded.seq)

    def _is_tainted(self, event: ProposalVerified) -> bool:
        told = (self._told.get((event.swarm, name)) for name in (EVERYONE, event.persona))
        return any(seq is not None and seq < event.proposed_seq for seq in told)

    def sign(self, recorded: Recorded, event: SignersChanged) -> None:
        """Who signs from now on."""
        self._roots = self._roots or (event.root,)
        self._signers.apply(recorded, self._roots)

    def halt(self, *, is_halted: bool) -> None:
        """Whether actions are halted from now on."""
        self._halted = is_halted
        if not is_halted:
            self._behind_a_halt.clear()

    def over(self, proposal_id: str) -> bool:
        """Whether it is known what became of it, by its outcome or a person's word."""
        life = self.lives.get(proposal_id)
        return life is not None and (life.is_known or life.resolved)

    def unfinished(self) -> list[str]:
        """Those that have not reached their one terminal state."""
        return [name for name, life in self.lives.items() if life.outcomes == 0 and "rejected" not in life.stages]

    def absorb(self, recorded: Recorded, event: ProposalEvent) -> None:
        life = self.lives.get(event.proposal_id)
        if isinstance(event, ProposalCreated):
            if life is not None:
                self._broken(recorded, "it was proposed before")
            self.lives[event.proposal_id] = Life(event.digest)
            return
        if life is None:
            self._broken(recorded, "nobody proposed it")
            return
        if getattr(event, "digest", life.digest) != life.digest:
            self._broken(recorded, "its digest is not the proposal's")
        ended = life.outcomes > 0 or "rejected" in life.stages
        match event:
            case ProposalVerified():
                if not event.tainted and not event.filed_by and self._is_tainted(event):
                    self._broken(recorded, "its persona was told something by outsiders, and that is not said")
                self._stage(recorded, life, "verified", allowed=not life.stages)
            case ProposalRejected():
                self._stage(recorded, life, "rejected", allowed="authorized" not in life.stages and not ended)
            case ApprovalRequested():
                life.quorum, life.request = max(life.quorum, event.quorum), recorded.id
                life.granted.clear()  # a new request is for new eyes: what was said to an old one does not carry over
            case ApprovalGranted() if answered(recorded) == life.request:
                if life.quorum == 0 or event.principal in life.granted:
                    self._broken(recorded, "an approval nobody asked for, or given twice")
                life.granted.add(event.principal)
            case ApprovalDenied():
                life.quorum = max(life.quorum, 1)
            case ConflictJoined() | ConflictSettled():
                name = f"{event.target_id}.{event.generation}"
                if life.stages != ["verified"]:
                    self._broken(recorded, f"in a conflict after {life.stages or 'nothing'}")
                if isinstance(event, ConflictJoined):
                    life.conflicts.add(name)
                else:
                    life.conflicts.discard(name)
                    life.lost |= event.outcome == "lost"
            case ProposalAuthorized():
                life.verdict = life.verdict or recorded
                if life.conflicts or life.lost:
                    self._broken(recorded, f"authorised in a conflict, {'lost' if life.lost else 'open'}")
                self._stage(recorded, life, "authorized", allowed="verified" in life.stages and not ended)
                if len(life.granted) < life.quorum:
                    self._broken(recorded, f"authorised with {len(life.granted)} of {life.quorum} approvals")
                if event.risk in ("high", "critical") and life.quorum == 0:
                    self._broken(recorded, f"{event.risk} risk was authorised without people")
            case ActionClaimed():
                self._credits.take(recorded, event)
                self._signed(recorded, life.verdict)
                if self._halted:
                    self._behind_a_halt.add(key_of(event))
                life.claims += 1
                if life.claims > 1 or "authorized" not in life.stages or life.outcomes:
                    self._broken(recorded, "a claim that is not the first, or without an authorisation")
                if event.hold is not None:
                    life.hold = event.hold
                    self.owes = ("target.held", event.hold, key_of(event))
            case ActionExecuted():
                life.outcomes += 1
                gone = event.error == "claim_lost"  # with the part of the log that had its claim and authorisation
                if life.outcomes > 1 or ("authorized" not in life.stages and not gone):
                    self._broken(recorded, "an outcome that is not the first, or without an authorisation")
                if event.outcome == "success" and key_of(event) in self._behind_a_halt:
                    self._broken(recorded, "done, though it was claimed when the mesh was halted already")
                if event.outcome != "failure" and life.claims != 1 and not gone:
                    self._broken(recorded, "executed without a claim")
                life.is_known |= event.outcome != "unknown"
                if life.is_known:
                    self._targets.free(life.hold, key_of(event))
            case ActionResolved():
                if life.outcomes != 1 or life.resolved:
                    self._broken(recorded, "a person's word on what has no outcome, or the second one")
                life.resolved = True
            case _:
                pass

    def _signed(self, recorded: Recorded, verdict: Recorded | None) -> None:
        """What is claimed was authorised by a key that was good at its place in the log."""
        if verdict is None or not isinstance(verdict.event, ProposalAuthorized) or not self._signers.words:
            return
        if not verify_verdict(verdict.event, self._signers.at(verdict.seq), verdict.stored_at):
            self._broken(recorded, f"claimed on {verdict.seq}, which no key signed that was good there")

    def _stage(self, recorded: Recorded, life: Life, stage: str, *, allowed: bool) -> None:
        if not allowed or stage in life.stages:
            self._broken(recorded, f"{stage} after {life.stages or 'nothing'}")
        life.stages.append(stage)
