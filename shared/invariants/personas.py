"""What must hold of personas: one history each, one life each, and children within their parents' limits."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    AnyEvent,
    PersonaDraining,
    PersonaReaped,
    PersonaSpawned,
    ThoughtGenerated,
    ThoughtSealed,
)

BEHIND_THE_SEAL = "a thought of one who was reaped"


class Persona(msgspec.Struct):
    """One persona so far."""

    spawned: PersonaSpawned
    phase: str = "live"
    step: int = 0
    final: bool = False
    live_children: int = 0
    children: int = 0


class PersonaInvariants:
    """Fed with lifecycles and thoughts; `histories_forked` counts steps that follow none or another."""

    def __init__(self, broken: Callable[[Recorded, str], None], lifetime_children: int) -> None:
        self._broken, self._lifetime_children = broken, lifetime_children
        self.histories_forked = 0
        self._personas: dict[tuple[str, str], Persona] = {}
        self._unsealed: tuple[str, str] | None = None

    def get(self, key: tuple[str, str]) -> Persona | None:
        """By swarm and id."""
        return self._personas.get(key)

    def next(self, recorded: Recorded, event: AnyEvent) -> None:
        """Whatever comes after a reap must be its seal."""
        is_seal = isinstance(event, ThoughtSealed) and (event.swarm, event.persona) == self._unsealed
        if self._unsealed is not None and not is_seal:
            self._broken(recorded, f"{self._unsealed} was reaped and its thoughts were not sealed with it")
        self._unsealed = None

    def seal(self, recorded: Recorded, event: ThoughtSealed) -> None:
        """Only who is reaped is sealed."""
        if (persona := self._personas.get((event.swarm, event.persona))) is None or persona.phase != "reaped":
            self._broken(recorded, "sealed, but it is not reaped")

    def think(self, recorded: Recorded, event: ThoughtGenerated) -> None:
        persona = self._personas.get((event.swarm, event.persona))
        if persona is None:
            self._broken(recorded, "a persona nobody spawned is thinking")
            return
        if event.step != persona.step + 1:
            self.histories_forked += 1
            self._broken(recorded, f"step {event.step} follows step {persona.step}: two histories")
        if persona.phase == "reaped":
            self._broken(recorded, BEHIND_THE_SEAL)
        elif persona.final:
            self._broken(recorded, "a thought after the final one")
        persona.step, persona.final = event.step, event.final

    def live(self, recorded: Recorded, event: PersonaSpawned | PersonaDraining | PersonaReaped) -> None:
        key = (event.swarm, event.persona)
        persona = self._personas.get(key)
        match event:
            case PersonaSpawned():
                if persona is not None:
                    self._broken(recorded, "it was spawned before")
                    return
                self._personas[key] = Persona(event)
                if event.parent is not None:
                    self._child(recorded, event, self._personas.get(event.parent))
            case PersonaDraining():
                if persona is None or persona.phase != "live":
                    self._broken(recorded, f"draining, but it is {persona.phase if persona else 'unknown'}")
                    return
                persona.phase = "draining"
                parent = self._personas.get(persona.spawned.parent or ("", ""))
                if parent is not None:
                    parent.live_children -= 1
            case PersonaReaped():
                if persona is None or persona.phase != "draining":
                    self._broken(recorded, f"reaped, but it is {persona.phase if persona else 'unknown'}")
                    return
                persona.phase = "reaped"
                self._unsealed = key

    def _child(self, recorded: Recorded, event: PersonaSpawned, parent: Persona | None) -> None:
        if parent is None or parent.phase != "live":
            self._broken(recorded, "its parent does not live")
            return
        policy, own = parent.spawned.policy, event.policy
        parent.live_children += 1
        parent.children += 1
        if event.identity.depth != parent.spawned.identity.depth + 1 or event.identity.depth > policy.max_spawn_depth:
            self._broken(recorded, f"depth {event.identity.depth}, the limit is {policy.max_spawn_depth}")
        if parent.live_children > policy.max_branching_factor:
            self._broken(recorded, f"{parent.live_children} live children, the limit is {policy.max_branching_factor}")
        if parent.children > self._lifetime_children:
            self._broken(recorded, f"{parent.children} children ever, the limit is {self._lifetime_children}")
        for name in ("max_spawn_depth", "max_branching_factor", "token_budget_per_minute", "compute_ms_per_minute"):
            if getattr(own, name) > getattr(policy, name):
                self._broken(recorded, f"its {name} is wider than its parent's")
