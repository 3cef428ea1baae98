"""A step's events as messages: their ids, causes and guards, all derived, so that two runners write the same ones.

A thought's cause is what it took in: the observation or the assignment it begins with, the check result it judges, else the
thought before it.
Its correlation is what began the cycle, and so is its trace. So the causes of a proposal lead back to an observation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime

import msgspec

from services.persona_runner.mind.goals import Assigned
from services.persona_runner.mind.state import State
from shared.contracts import boundaries
from shared.contracts.catalog import class_of
from shared.contracts.envelope import Envelope, Message
from shared.contracts.events import GrantRequested, ThoughtGenerated
from shared.contracts.ids import caused_id
from shared.contracts.trace import carried_on
from shared.decider import Decision
from shared.log.port import Expect


def thought_id(state: State) -> str:
    """The id of the persona's next thought."""
    return caused_id(f"{state.swarm}.{state.persona}.{state.step + 1}", "thought.generated")


def messages(
    state: State, decision: Decision, now: datetime, source: str, slot: str, traces: Mapping[str, str]
) -> tuple[Message, ...]:
    """The decision's events in their envelopes, said in this slot. `now` is the time of the step, `traces` as in `Percept`."""
    this = thought_id(state)
    thought = next((e for e in decision.events if isinstance(e, ThoughtGenerated)), None)
    cause = state.thought_id if thought is None else _cause(state, thought)
    begins = thought is not None and thought.phase == "observe"
    correlation = (cause if begins else state.correlation) or this
    trace = traces.get(correlation) if begins else state.traceparent
    if thought is not None and (asked := _asked(state, thought)) is not None:
        cause, correlation, trace = asked.id, asked.correlation, asked.traceparent
    counted: Counter[str] = Counter()
    made: list[Message] = []
    for event in decision.events:
        name = class_of(event)
        match event:
            case ThoughtGenerated():
                event_id, causation = this, cause
            case GrantRequested():
                event_id = caused_id(f"{state.swarm}.{state.persona}.{state.step}", name, state.asks)
                causation = state.thought_id
            case _:
                event_id, causation = caused_id(this, name, counted[name]), this
        counted[name] += 1
        envelope = Envelope(
            id=event_id,
            source=source,
            time=now,
            correlation=correlation,
            causation=causation,
            charter=decision.charter,
            traceparent=carried_on(event_id, correlation, trace),
        )
        made.append(Message(event=msgspec.structs.replace(event, slot=slot), envelope=envelope))
    return tuple(made)


def guards(state: State, decision: Decision) -> tuple[Expect, ...]:
    """The boundaries of the decision's events, at the sequences this state rests on."""
    last = {
        boundaries.thoughts(state.swarm, state.persona): state.thought_seq,
        boundaries.said("grant.requested", state.swarm, state.persona): state.ask_seq,
    }
    return tuple(Expect(subject, last[subject]) for subject in decision.guards or ())


def _asked(state: State, thought: ThoughtGenerated) -> Assigned | None:
    """What begins a cycle that is made for an assignment."""
    if thought.assignment is None or not state.resting:
        return None
    return next((a for a in state.assigned if a.id == thought.assignment), None)


def _cause(state: State, thought: ThoughtGenerated) -> str | None:
    if thought.phase == "observe" and thought.evidence:
        return thought.evidence[0].id
    if thought.phase == "test":
        results = [h.result_id for h in state.hypotheses if h.result_id is not None and not h.taken]
        return results[0] if results else state.thought_id
    return state.thought_id
