"""A persona, a proposal and its life, for the tests of the gate."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from services.actuator.terms import Allotted
from shared.contracts.action import Action, action_digest
from shared.contracts.envelope import Envelope, Message, Recorded
from shared.contracts.events import (
    AnyEvent,
    ApprovalRequested,
    EvidenceRef,
    ObservationRecorded,
    ObservationVouched,
    PersonaSpawned,
    PolicyActivated,
    ProposalAuthorized,
    ProposalCreated,
    ProposalVerified,
    Risk,
    Signer,
    SignersChanged,
)
from shared.contracts.ids import EVERYONE
from shared.contracts.persona import Identity, PersonaPolicy, charter_sha256
from shared.crypto import new_seed, public_key, sign_signers
from shared.decider import Decider, Delivered, Effect
from shared.log.memory import MemoryLog
from shared.log.port import DuplicateEvent, Log, StaleBoundary
from shared.runtime.handling import Commit, Ends, Fold, Newest, Perform, Read, Verdict, handle
from shared.signers import Followed, Word

T0 = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
SWARM, PERSONA, PROPOSAL = "alpha", "p01", "p-1"
SEED = new_seed()
KEY = public_key(SEED)
ROOT_SEED = new_seed()
ROOT = public_key(ROOT_SEED)
IDENTITY = Identity(
    id=PERSONA, name=PERSONA, role="watcher", charter="Watch the log", swarm_id=SWARM, created_at=T0 - timedelta(days=1)
)
CHARTER = charter_sha256(IDENTITY)
VERSION = "1" * 64
WHOSE = {"swarm": SWARM, "persona": PERSONA}
LIFE = {**WHOSE, "proposal_id": PROPOSAL}

FINDING = Action(kind="file.write", target="findings/alpha/p01/report.md", params={"content": "disk fails\n"})
NOTE = Action(kind="file.write", target="notes/report.md", params={"content": "disk fails\n"})
POST = Action(kind="http.request", target="https://api.example.org/tickets", params={"method": "POST", "body": "{}"})


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def record(event: AnyEvent, seq: int = 1, *, id: str | None = None, charter: str | None = CHARTER) -> Recorded:
    message = message_of(event, id=id or f"e{seq}", charter=charter, time=T0)
    envelope = message.envelope
    return Recorded(event=event, envelope=envelope, seq=seq, stored_at=T0, subject=message.subject)


def message_of(event: AnyEvent, *, id: str, charter: str | None = CHARTER, time: datetime = T0) -> Message:
    return Message(event=event, envelope=Envelope(id=id, source="test", time=time, correlation="c0", charter=charter))


def delivered(event: AnyEvent, seq: int = 1, *, now: datetime = T0, id: str | None = None) -> Delivered:
    return Delivered(recorded=record(event, seq, id=id), now=now)


def folded(decider: Any, *events: AnyEvent | Recorded) -> Any:
    """The decider's state after the events, which get sequences and ids e1, e2, …"""
    state = decider.initial()
    for seq, event in enumerate(events, start=1):
        state = decider.evolve(state, event if isinstance(event, Recorded) else record(event, seq))
    return state


def spawned(
    principal: str = "ann", policy: PersonaPolicy | None = None, identity: Identity = IDENTITY
) -> PersonaSpawned:
    return PersonaSpawned(
        swarm=identity.swarm_id,
        persona=identity.id,
        identity=identity,
        policy=policy or PersonaPolicy(),
        principal=principal,
    )


def observed(
    text: str = "disk sda1 failed",
    *,
    tainted: bool = True,
    persona: str = "all",
    swarm: str = SWARM,
    principal: str = "",
    source: str = "syslog",
) -> AnyEvent:
    said = ObservationRecorded if tainted else ObservationVouched
    return said(swarm=swarm, persona=persona, text=text, source=source, principal=principal)


def proposed(action: Action = FINDING, **changed: Any) -> ProposalCreated:
    digest = changed.get("digest") or action_digest(**WHOSE, charter=CHARTER, action=action)
    fields: dict[str, Any] = {
        **LIFE,
        "title": "Report the failing disk",
        "rationale": "it failed 12 times",
        "action": action,
        "evidence": (EvidenceRef(id="o1", seq=1),),
        "charter": CHARTER,
        "digest": digest,
        "deadline": at(7200),
    }
    return ProposalCreated(**{**fields, **changed})


def verified(created: ProposalCreated, risk: Risk = "low", **changed: Any) -> ProposalVerified:
    fields: dict[str, Any] = {**LIFE, "digest": created.digest, "risk": risk, "tainted": False, "proposal": created}
    return ProposalVerified(**{**fields, **changed})


def asked(created: ProposalCreated, **changed: Any) -> ApprovalRequested:
    fields: dict[str, Any] = {
        **LIFE,
        "digest": created.digest,
        "risk": "medium",
        "policy_version": VERSION,
        "quorum": 1,
        "expires_at": at(3600),
        "summary": "please",
    }
    return ApprovalRequested(**{**fields, **changed})


def authorized(created: ProposalCreated, **changed: Any) -> ProposalAuthorized:
    fields: dict[str, Any] = {
        **LIFE,
        "digest": created.digest,
        "risk": "low",
        "policy_ids": ("file-findings",),
        "policy_version": VERSION,
        "expires_at": at(300),
        "key": KEY,
        "signature": "",
    }
    return ProposalAuthorized(**{**fields, **changed})


def activated(version: str = VERSION, *, revokes: bool = False, gate: str = "policy_gate-1") -> PolicyActivated:
    return PolicyActivated(swarm=EVERYONE, persona=EVERYONE, digest=version, revokes=revokes, gate=gate)


def appointed(*signers: Signer | str, number: int = 1, root: str = ROOT_SEED) -> SignersChanged:
    """Who signs verdicts, said by a root."""
    known = tuple(Signer(key=signer) if isinstance(signer, str) else signer for signer in signers)
    draft = SignersChanged(swarm=EVERYONE, persona=EVERYONE, number=number, signers=known, root="", signature="")
    return sign_signers(root, draft)


def believing(log: Log, *signers: Signer | str) -> Followed:
    """Whose verdicts are good, as if that had been said before all that is in the log: by default `KEY`'s."""
    followed = Followed(log, (ROOT,))
    followed.known.words.append(Word(seq=0, event=appointed(*(signers or (KEY,)))))
    return followed


class Mesh:
    """A log in memory, and one service on it, handled by the kernel's own code."""

    def __init__(self) -> None:
        self.now = T0
        self.log = MemoryLog(clock=lambda: self.now)

    async def say(self, event: AnyEvent, id: str, charter: str | None = CHARTER) -> Recorded:
        (seq,) = await self.log.commit([message_of(event, id=id, charter=charter, time=self.now)])
        recorded = await self.log.get(seq)
        assert recorded is not None
        return recorded

    async def handle(
        self, decider: Decider[Any], perform: Callable[[Effect], Any], recorded: Recorded, attempt: int = 1
    ) -> Verdict:
        message = Delivered(recorded=recorded, now=self.now, attempt=attempt)
        boundary = decider.boundary(message)
        assert boundary is not None
        steps = handle(Fold(decider, boundary), message, source="test")
        answer: Any = None
        while True:
            try:
                operation = steps.send(answer)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            match operation:
                case Read(filters, after):
                    answer = await self.log.stored(filters, after)
                case Ends(filters):
                    answer = await self.log.ends(filters)
                case Newest(filters):
                    answer = await self.log.newest(filters)
                case Commit(messages, expect):
                    try:
                        answer = await self.log.commit(messages, expect)
                    except (StaleBoundary, DuplicateEvent):
                        answer = None
                case Perform(effect):
                    answer = (await perform(effect), self.now)

    def events(self, cls: type[AnyEvent]) -> list[Any]:
        return [r.event for r in self.log.store.records if isinstance(r.event, cls)]

    def newest(self, cls: type[AnyEvent]) -> Recorded:
        return next(r for r in reversed(self.log.store.records) if isinstance(r.event, cls))


def replaced(struct: Any, **changed: Any) -> Any:
    return msgspec.structs.replace(struct, **changed)


class Plenty:
    """Lots that never end."""

    async def take(self, swarm: str, persona: str, key: str) -> Allotted:
        return Allotted(lot_id="lot-1")
