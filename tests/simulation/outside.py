"""What people, clients and runners bring into the simulated mesh."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from shared.conflicts import Conflict, evolve
from shared.contracts.action import Action, action_digest
from shared.contracts.boundaries import conflict, life, question
from shared.contracts.boundaries import intent as boundary_of
from shared.contracts.envelope import Message
from shared.contracts.events import (
    AnyEvent,
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    ConflictRaised,
    ConflictRuled,
    Credits,
    EvidenceRef,
    IntentSubmitted,
    LimitsChanged,
    Most,
    ObservationRecorded,
    PersonaSpawned,
    ProposalCreated,
    ProposalKey,
    QuestionAnswered,
    QuestionAsked,
    ReapRequested,
    SpawnRequested,
    SwarmRequested,
)
from shared.contracts.ids import EVERYONE, caused_id, caused_token
from shared.contracts.kinds.files import own_folder
from shared.contracts.persona import PersonaPolicy
from shared.decider import Decision, Tick
from shared.evidence import ANSWER
from shared.log.port import Expect
from shared.runtime.handling import addressed
from tests.simulation.mesh import OTHER, SWARM, Mesh
from tests.simulation.thinker import spoken

SHARED = ("notes/a.md", "Notes/A.md", "notes/b.md")
"""What several want to change; two of them are one."""


class Outside(Mesh):
    """Each commits as an edge of the mesh does: a command, or what the gateway guards by what it has read."""

    def client(self, event: AnyEvent, charter: str | None = None) -> None:
        """An edge of the mesh commits an event."""
        self._serial += 1
        self.store.append([_message(event, f"client-{self._serial}", self.now, charter)])

    def _guarded(self, events: tuple[AnyEvent, ...], expect: tuple[Expect, ...] = ()) -> None:
        """An edge of the mesh commits several events, or none of them."""
        messages = []
        for event in events:
            self._serial += 1
            messages.append(_message(event, f"client-{self._serial}", self.now))
        self._commit(tuple(messages), expect)

    def approve(self, event: ApprovalGranted | ApprovalDenied) -> None:
        """As the gateway does it: at most one word of each principal, guarded by what it has read."""
        boundary = life(event.swarm, event.persona, event.proposal_id)
        seen = self.store.read((boundary,))
        if any(getattr(r.event, "principal", None) == event.principal for r in seen):
            return
        self._serial += 1
        message = _message(event, f"client-{self._serial}", self.now)
        self._commit((message,), (Expect(boundary, seen[-1].seq),))

    def propose(self, *, shared: bool | None = None) -> None:
        """A proposal of the root persona, as a runner would have committed it; what others may want too, or perhaps."""
        spawned = next(r for r in self.store.records if isinstance(r.event, PersonaSpawned))
        seen = next(r for r in self.store.records if isinstance(r.event, ObservationRecorded))
        self._serial += 1
        text = str(self.random.randrange(100))
        own = Action(
            kind="file.write",
            target=f"{own_folder(SWARM, 'root')}{self._serial}.md",
            params={"content": text, "mode": "create_or_replace"},
        )
        wanted = {"content": self.random.choice("abc"), "mode": "create_or_replace"}
        theirs = msgspec.structs.replace(own, target=self.random.choice(SHARED), params=wanted)
        action = theirs if shared or (shared is None and self.random.random() < 0.5) else own
        if shared is None and self.random.random() < 0.6:
            action = spoken(self.random, self._serial)
        charter = spawned.envelope.charter or ""
        whose = {"swarm": SWARM, "persona": "root", "charter": charter}
        self.client(
            ProposalCreated(
                **whose,
                proposal_id=caused_token(f"client-{self._serial}", "p"),
                title="write",
                rationale="it was seen",
                action=action,
                evidence=(EvidenceRef(id=seen.id, seq=seen.seq),),
                digest=action_digest(**whose, action=action),
                deadline=self.now + timedelta(seconds=self.random.choice((20, 600))),
            ),
            charter,
        )

    def found(self) -> None:
        """Somebody wants a child of somebody to begin a swarm, perhaps one there is, or to live in one that was begun."""
        born = [r.event for r in self.store.read(("persona.spawned.*.*",)) if isinstance(r.event, PersonaSpawned)]
        parent = self.random.choice(born)
        self._serial += 1
        name = f"c{self._serial}"
        dice = self.random.random()
        if dice < 0.15:
            self.client(
                ReapRequested(swarm=parent.swarm, persona=parent.persona, cascade=dice < 0.1, reason="test"),
            )
            return
        if dice < 0.4:
            whose = {"swarm": parent.swarm, "parent_id": parent.persona}
            self.client(SpawnRequested(**whose, persona=name, name=name, role="r", charter="c"))
            return
        swarm = self.random.choice((f"s{self._serial}", f"s{self.random.randrange(4)}", OTHER))
        whose = {"swarm": swarm, "parent_swarm": parent.swarm, "parent_id": parent.persona}
        few = PersonaPolicy(token_budget_per_minute=2000, compute_ms_per_minute=2000)
        policy = self.random.choice((None, few, PersonaPolicy()))
        self.client(SwarmRequested(**whose, persona=name, name=name, role="r", charter="c", policy=policy))

    def ask(self) -> None:
        """Somebody has work for the swarm, or wants it no more; or a persona that has some answers."""
        if self.random.random() < 0.12:
            if (found := self.intents.cancellation()) is not None:
                self._guarded(found[0], tuple(Expect(*one) for one in found[1]))
        elif (said := self.intents.said(self.now, lies=self.lies)) is not None:
            self._guarded(said[0], tuple(Expect(*one) for one in said[1]))

    def answer(self) -> None:
        """Somebody answers a question, perhaps one that is answered, as the gateway does it."""
        asked = [r for r in self.store.read((f"question.asked.{SWARM}.*.*",)) if isinstance(r.event, QuestionAsked)]
        if not asked:
            return
        one = self.random.choice(asked)
        event = one.event
        assert isinstance(event, QuestionAsked)
        whose = {"swarm": event.swarm, "persona": event.persona}
        said = QuestionAnswered(**whose, question_id=event.question_id, asked_id=one.id, answer="yes", principal="ann")
        told = ObservationRecorded(**whose, text="ann answers yes", source=f"{ANSWER}{event.question_id}")
        self._guarded((said, told), (Expect(question(event.swarm, event.question_id), one.seq),))

    def people(self) -> None:
        """Somebody outside does something."""
        self._serial += 1
        if self.random.random() < 0.3:
            self.answer()
        living = [r.event.persona for r in self.store.records if isinstance(r.event, PersonaSpawned)] or ["root"]
        asked = [r for r in self.store.records if isinstance(r.event, ApprovalRequested)]
        dice = self.random.random()
        if dice < 0.12:
            self.assign(self.random.choice(living))
        elif dice < 0.40:
            self.client(ObservationRecorded(swarm=SWARM, persona=EVERYONE, text=f"line {self._serial} failed"))
        elif dice < 0.44:
            swarm, version = self.random.choice((SWARM, OTHER)), 1 + self._serial
            most = Most(tokens=self.random.choice((None, 0, 300, 20_000)), actions=self.random.choice((None, 1)))
            self.client(LimitsChanged(swarm=swarm, persona=EVERYONE, version=version, ceiling=most, principal="op"))
        elif dice < 0.53:
            name = self.random.choice((f"p{self._serial}", "p1", "p2"))
            parent = self.random.choice(living)
            self.client(SpawnRequested(swarm=SWARM, persona=name, name=name, role="r", charter="c", parent_id=parent))
        elif dice < 0.94 and asked:
            recorded = self.random.choice(asked)
            request = recorded.event
            assert isinstance(request, ApprovalRequested)
            kind = self.random.choice((ApprovalGranted, ApprovalGranted, ApprovalDenied))
            principal = self.random.choice(("ann", "bob"))
            whose = {"swarm": request.swarm, "persona": request.persona, "proposal_id": request.proposal_id}
            self.approve(kind(**whose, digest=request.digest, request_id=recorded.id, principal=principal))
        elif dice >= 0.94:
            cascade = self.random.random() < 0.5
            self.client(ReapRequested(swarm=SWARM, persona=self.random.choice(living), cascade=cascade, reason="test"))

    def rule(self) -> None:
        """A person says who goes first in a conflict that is open, as the gateway does it."""
        raised = [r.event.target_id for r in self.store.records if isinstance(r.event, ConflictRaised)]
        if not raised:
            return
        boundary = conflict(self.random.choice(raised))
        state, seen = Conflict(), self.store.read((boundary,))
        for recorded in seen:
            state = evolve(state, recorded)
        if not state.open:
            return
        side = self.random.choice(state.sides)
        winner = ProposalKey(swarm=side.swarm, persona=side.persona, proposal_id=side.proposal_id)
        event = ConflictRuled(target_id=state.target_id, generation=state.generation, winner=winner, principal="ann")
        self._serial += 1
        self._commit((_message(event, f"client-{self._serial}", self.now),), (Expect(boundary, seen[-1].seq),))

    def assign(self, persona: str) -> None:
        """Somebody is asked something, of exactly this persona; it has it when it is routed."""
        event = IntentSubmitted(
            swarm=SWARM,
            persona=EVERYONE,
            intent_id=caused_token(f"asked-{self._serial}", "i"),
            goal="why",
            deadline=self.now + timedelta(seconds=self.random.choice((5, 60, 200))),
            budget=Credits(tokens=self.random.choice((0, 4000, 18_000)), compute_ms=18_000),
            wanted_persona=persona,
            principal="ann",
        )
        self._guarded((event,), (Expect(boundary_of(SWARM, event.intent_id), 0),))


def _message(event: AnyEvent, cause: str, now: datetime, charter: str | None = None) -> Message:
    (message,) = addressed(
        Decision(events=(event,), charter=charter),
        Tick(id=caused_id(cause, "client"), now=now, swarm=SWARM),
        now,
        "client",
    )
    return message
