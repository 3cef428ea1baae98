"""One look at one persona, without IO: what the loop and the simulation both drive.

Yields the operations of `shared.runtime.handling`; may be abandoned between any two of them, which is a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from datetime import datetime

from services.persona_runner.decider import decide
from services.persona_runner.hosting.host import Host, Key
from services.persona_runner.hosting.messages import guards, messages
from services.persona_runner.mind.spending import ask_at
from services.persona_runner.mind.state import State
from services.persona_runner.mind.steps import Percepts, Think
from shared.contracts.catalog import about
from shared.contracts.envelope import Recorded, Unreadable
from shared.decider import Performed, Tick
from shared.runtime.handling import Again, Answer, Commit, Done, Operation, Perform, Read, Verdict


def stepping(host: Host, key: Key, clock: Callable[[], datetime], source: str) -> Generator[Operation, Answer, Verdict]:
    """Perhaps a thought, perhaps a commit. The persona is settled in the host unless this is abandoned."""
    state = host.state(key)
    if state is None:
        return Done()
    at = clock()
    facts = host.percepts(key, at)
    tick = Tick(id=key[1], now=at, swarm=key[0], facts=facts)
    decision = decide(state, tick)
    now = tick.now
    if isinstance(decision.effect, Think):
        result, now = yield Perform(decision.effect)  # type: ignore[misc, assignment]
        state = host.state(key)
        if state is None:
            return Done()
        decision = decide(state, Performed(cause=tick, effect=decision.effect, result=result, now=now))  # type: ignore[arg-type]
    pause_s = facts.loop_interval_ms / 1000
    if not decision.events:
        _rest(host, key, state, facts, now)
        return Done()
    batch = messages(state, decision, now, source, host.slot, facts.percept.traces)
    seqs = yield Commit(batch, guards(state, decision))
    if seqs is None:
        # somebody else took this step: learn of it from the log itself
        upto = host.begin(key)
        answer = yield Read(about(*key), 0)
        host.install([m for m in answer if isinstance(m, Recorded | Unreadable) and m.seq <= upto])  # type: ignore[union-attr]
        host.end(key)
        host.settle(key, now, not_before_s=pause_s)
        return Again(pause_s)
    host.committed(key, batch, seqs, now)  # type: ignore[arg-type]
    host.settle(key, now)
    return Done(len(batch))


def _rest(host: Host, key: Key, state: State, facts: Percepts, now: datetime) -> None:
    """Nothing was to do: for lack of credits until more may be asked for, in a cool-down until something new comes."""
    pause_s = facts.loop_interval_ms / 1000
    if state.cooling:
        host.settle(key, now, passed_seq=facts.percept.last_seq, not_before_s=pause_s)
    else:
        credits_s = (ask_at(state, now, facts.limits) - now).total_seconds()
        host.settle(key, now, not_before_s=max(pause_s, credits_s))
