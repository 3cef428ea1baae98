"""One action's life from its proposal to its outcome, and a process that dies at one point of it.

What there is of the mesh is who has to do with it: governors, verifiers, gates, actuators, two of each. A step is one operation that one of
them asks for (a reading, an effect, a commit), or the ack that ends what it made of a delivery. A process dies before it (it was told the
last one's answer, and has decided), or in it (it is done, and nobody was told); after a step is before the next.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Literal

from shared.contracts.action import Action, action_digest
from shared.contracts.action_kinds import KINDS, classify
from shared.contracts.events import (
    ActionExecuted,
    ApprovalGranted,
    ApprovalRequested,
    EvidenceRef,
    LotRequested,
    LotShare,
    ObservationRecorded,
    PersonaSpawned,
    ProposalCreated,
    ProposalRejected,
    SpawnRequested,
)
from shared.contracts.ids import EVERYONE
from shared.contracts.kinds.files import own_folder
from shared.contracts.kinds.kind import MESH
from shared.invariants import Invariants
from shared.runtime.handling import Verdict
from tests.simulation.mesh import LIMITS, SWARM
from tests.simulation.outside import Outside
from tests.simulation.processes import Replica, Runner, Running

Point = Literal["before", "in"]
POINTS: tuple[Point, ...] = ("before", "in")
CONCERNED = ("governor", "verifier", "policy_gate", "actuator")
ROOT, CHILD = "root", "p1"
PROPOSAL = "p-1"
ROUNDS = 300
BASE = "0" * 64
ALONE, WITH_PEOPLE = (0, 1), (2,)
"""What the simulated policies make of a digest (`Hands.judge`): it is permitted at once, or once people said yes."""

ACTIONS: dict[str, Callable[[int], Action]] = {
    "command.run": lambda n: Action(kind="command.run", target="disk-usage", params={"path": f"/srv/{n}"}),
    "file.write": lambda n: Action(kind="file.write", target="notes/a.md", params={"content": f"{n}"}),
    "file.patch": lambda n: Action(
        kind="file.patch", target="notes/a.md", params={"base": BASE, "find": "a", "replace": f"{n}"}
    ),
    "file.delete": lambda n: Action(
        kind="file.delete", target=f"{own_folder(SWARM, ROOT)}{n}.md", params={"base": BASE}
    ),
    "http.request": lambda n: Action(
        kind="http.request", target="https://api.example.org/tickets", params={"method": "POST", "body": f"{n}"}
    ),
    "intent.submit": lambda n: Action(
        kind="intent.submit", target=SWARM, params={"goal": f"why {n}", "tokens": 900, "compute_ms": 900, "due_s": 600}
    ),
    "mcp.call": lambda n: Action(kind="mcp.call", target="files/move", params={"path": f"{n}"}),
    "nats.publish": lambda n: Action(kind="nats.publish", target="alert", params={"level": n}),
    "notice.send": lambda n: Action(kind="notice.send", target="disk", params={"percent": n}),
    "person.ask": lambda n: Action(kind="person.ask", target="anyone", params={"question": f"why {n}"}),
    "persona.reap": lambda n: Action(kind="persona.reap", target=CHILD, params={"reason": f"done {n}"}),
    "persona.spawn": lambda n: Action(
        kind="persona.spawn", target="k1", params={"name": "k", "role": "r", "charter": f"c {n}"}
    ),
    "watch.add": lambda n: Action(kind="watch.add", target="logins", params={"pattern": f"line <*> {n} failed"}),
    "test.noop": lambda n: Action(kind="test.noop", target="nothing", params={"note": f"{n}"}),
}
"""An action of each kind; the number makes it another one."""


class Life(Outside):
    """One proposal of `ROOT`. `dies` is the step at which a process does, and where in it."""

    def __init__(self, seed: int, kind: str, dies: tuple[int, Point] | None = None) -> None:
        super().__init__(seed)
        self.kind = kind
        self.dies: tuple[int, Point] | None = None
        self.steps = 0
        self.died = ""
        """Who died, once somebody has."""
        self.replicas = [one for one in self.replicas if one.name in CONCERNED]
        whose = {"swarm": SWARM, "name": "n", "role": "r", "charter": "c", "principal": "op"}
        self.client(SpawnRequested(**whose, persona=ROOT))
        self.client(SpawnRequested(**whose, persona=CHILD, parent_id=ROOT))
        self.client(ObservationRecorded(swarm=SWARM, persona=EVERYONE, text="line 0 failed"))
        self.client(LotRequested(swarm=SWARM, persona="actuator", wants=(LotShare(persona=ROOT, actions=4),)))
        self._work_of(*CONCERNED)
        self._propose(kind, people=bool(seed % 2))
        self.dies, self.steps = dies, 0

    def live(self) -> None:  # type: ignore[override]
        """Whoever has something to do does a little of it, in an order of the seed's, until there is an outcome and nothing is open."""
        for _ in range(ROUNDS):
            for _ in range(self.random.randrange(1, 6)):
                self.deliver(self.random.choice(self.replicas))
            while busy := [replica for replica in self.replicas if replica.running]:
                self.advance(self.random.choice(busy))
            self._grant()
            if self.ended and self._quiet():
                return
            self.now += timedelta(seconds=self.random.choice((0.3, 1.0, 6.0)))
        raise AssertionError(f"no outcome after {ROUNDS} rounds")

    def _quiet(self) -> bool:
        """Whether nobody has anything in hand, or could be given anything."""
        held = any(replica.consumer.pending for replica in self.replicas)
        return not held and not any(self.deliver(replica) for replica in self.replicas)

    @property
    def ended(self) -> ActionExecuted | ProposalRejected | None:
        """The last word on the proposal, if it was said."""
        for recorded in self.store.read((f"*.*.{SWARM}.{ROOT}.{PROPOSAL}",)):
            if isinstance(recorded.event, ActionExecuted | ProposalRejected):
                return recorded.event
        return None

    def violations(self) -> list[str]:
        """What the log breaks, what was done twice, and what went to the dead letters."""
        judge = Invariants(LIMITS)
        for recorded in self.store.records:
            judge.absorb(recorded)
        found = [*judge.violations, *(f"{name} reached no terminal state" for name in judge.unfinished())]
        found += [f"{key} was done {times} times" for key, times in self.hands.done.items() if times > 1]
        found += self._untrue()
        for replica in self.replicas:
            found += [f"{replica.name} buried {seq}: {reason}" for seq, reason in replica.consumer.dead]
        return found

    def _untrue(self) -> list[str]:
        """Where the outcome is not what happened, or nobody knows though the kind can tell."""
        row, end = KINDS[self.kind], self.ended
        if not isinstance(end, ActionExecuted) or row.hand == MESH:
            return []
        done = self.hands.done[f"{SWARM}.{ROOT}.{PROPOSAL}"]
        fits = {"success": done == 1, "failure": done == 0, "unknown": row.idempotency == "key"}
        return [] if fits[end.outcome] else [f"{end.outcome}, though it was done {done} times"]

    def _propose(self, kind: str, *, people: bool) -> None:
        born = next(r for r in self.store.records if isinstance(r.event, PersonaSpawned))
        seen = next(r for r in self.store.records if isinstance(r.event, ObservationRecorded))
        whose = {"swarm": SWARM, "persona": ROOT, "charter": born.envelope.charter or ""}
        people = people or classify(ACTIONS[kind](0), SWARM, ROOT) in ("high", "critical")
        wanted, number = WITH_PEOPLE if people else ALONE, 0
        while int(action_digest(**whose, action=ACTIONS[kind](number))[:2], 16) % 4 not in wanted:
            number += 1
        action = ACTIONS[kind](number)
        proposed = ProposalCreated(
            **whose,
            proposal_id=PROPOSAL,
            title="one",
            rationale="it was seen",
            action=action,
            evidence=(EvidenceRef(id=seen.id, seq=seen.seq),),
            digest=action_digest(**whose, action=action),
            deadline=self.now + timedelta(hours=1),
        )
        self.client(proposed, born.envelope.charter)

    def _grant(self) -> None:
        asked = [r for r in self.store.records if isinstance(r.event, ApprovalRequested)]
        if asked and isinstance(request := asked[-1].event, ApprovalRequested):
            whose = {"swarm": SWARM, "persona": ROOT, "proposal_id": PROPOSAL}
            self.approve(
                ApprovalGranted(**whose, digest=request.digest, request_id=asked[-1].id, principal="ann"),
            )

    def _advance(self, owner: Replica | Runner, running: Running) -> None:
        self.steps += 1
        if self.dies is None or self.steps != self.dies[0]:
            super()._advance(owner, running)
            return
        self.died = owner.name
        if self.dies[1] == "before":
            with suppress(StopIteration):
                running.steps.send(running.answer)  # what it asks for is not done; or it is the ack
        else:
            running.done = _unheard  # neither is an ack sent
            super()._advance(owner, running)
        owner.crash()


def _unheard(verdict: Verdict | None) -> None:
    """Nobody is told."""
