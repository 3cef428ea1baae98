"""When a persona thinks next, and in which phase.

A cycle is observe → reflect → test → compress. With nothing new, a persona only reflects now and then, ever more rarely.
One that hibernates stops doing even that once its idle time is over: until something happens, it costs nothing.
New input wakes it at once, but no step ever comes sooner than the loop interval after the last; after a failed thought
nothing but time wakes it, and in a cool-down only what is out of the ordinary does, or being asked something.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

import msgspec

from services.persona_runner.mind.goals import goal_of
from services.persona_runner.mind.guard import COOL_DOWN
from services.persona_runner.mind.state import State
from shared.contracts.events import Phase, ThoughtGenerated


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The runner's bounds. `grant_thoughts`: how many thoughts to ask for at once while busy.

    `hold_grant_ms`: a grant is given back before a longer rest than this, or than `share_grant_ms` by who had to wait for credits
    in the last `scarce_s`. To take one and give it back costs four events, so where nobody waits it is held for about a quarter of the
    minute that credits are counted in; where somebody does, what is held keeps others from thinking.
    """

    rest_max_ms: int = 300_000
    check_wait_s: float = 30.0
    proposal_ttl_s: float = 600.0
    ask_again_s: float = 10.0
    grant_thoughts: int = 8
    hold_grant_ms: int = 16_000
    share_grant_ms: int = 8_000
    scarce_s: float = 300.0


def cursor(state: State) -> int:
    """The sequence after which the next step perceives: within a cycle, what the cycle began with."""
    return state.observed_seq if state.resting else state.cycle_seq


def looked(state: State) -> datetime:
    """As `cursor`, of what has no line: the time after which the next step perceives."""
    at = state.looked_at if state.resting else state.cycle_at
    return state.at if at is None else at


def next_phase(state: State, *, unseen: bool, now: datetime, limits: Limits) -> Phase | None:
    """The phase of the next step, or None while check results are still awaited. `unseen`: there are new observations."""
    if state.phase == "observe":
        return "reflect"
    if any(h.result is not None and not h.taken for h in state.hypotheses):
        return "test"
    if state.phase == "reflect" and any(h.check_id is None for h in state.hypotheses):
        return "test"
    if any(until > now for until in _awaited(state, limits)):
        return None
    if not state.resting:
        return "compress"
    return "observe" if unseen and goal_of(state, unseen=True) is None else "reflect"


def due_at(
    state: State,
    *,
    running: bool,
    loop_interval_ms: int,
    heard_seq: int,
    limits: Limits,
    alarm_at: datetime | None = None,
) -> datetime | None:
    """When the persona is to be looked at again; None: not before something happens. `heard_seq`: its newest observation; `alarm_at`: when
    one of its rules tells of silence."""
    if not state.alive:
        return None
    if state.draining:
        return state.at
    if not running:
        return None
    loop = timedelta(milliseconds=loop_interval_ms)
    soonest = state.at + loop if state.step else state.at
    later = max(soonest, state.at + timedelta(milliseconds=state.next_in_ms))
    if state.errors:
        return _after_answer(state, later, limits)
    unseen = max(heard_seq, state.heard_seq) > state.observed_seq
    phase = next_phase(state, unseen=unseen, now=soonest, limits=limits)
    if phase is None:
        return max(soonest, min(until for until in _awaited(state, limits) if until > soonest))
    awake = not state.resting or unseen or bool(state.outcomes or state.outputs or state.assigned)
    alarm = None if alarm_at is None or awake else max(soonest, alarm_at)
    if not awake and state.step and _hibernates(state, later):
        return None if alarm is None else _after_answer(state, alarm, limits)
    if alarm is not None:
        later = min(later, alarm)
    return _after_answer(state, soonest if awake else later, limits)


def _hibernates(state: State, at: datetime) -> bool:
    """Whether a persona that nothing wakes is still without use at a time when others are reaped for it."""
    return state.hibernates and at - state.useful_at > timedelta(seconds=state.policy.idle_ttl_secs)


def rest_ms(
    state: State,
    thought: ThoughtGenerated,
    *,
    raises: bool,
    retry_after_s: float,
    loop_interval_ms: int,
    limits: Limits,
) -> int:
    """How long to rest after a thought when nothing happens. `raises`: hypotheses come with it, so the cycle goes on."""
    loop = min(loop_interval_ms, limits.rest_max_ms)
    backed_off = max(loop, state.next_in_ms)
    if thought.status != "ok":
        wait = max(retry_after_s * 1000, 2 * backed_off if state.errors else loop)
    elif thought.notice == COOL_DOWN:
        wait = limits.rest_max_ms
    elif (
        thought.phase in ("observe", "test")
        or (thought.phase == "reflect" and (state.fresh or raises))
        or thought.progress
    ):
        wait = loop
    else:
        wait = backed_off * max(1.25, 2.0 - thought.novelty)
    return math.ceil(min(max(loop, wait), limits.rest_max_ms))


def _awaited(state: State, limits: Limits) -> list[datetime]:
    """Until when each hypothesis is waited for of which a check has no result."""
    wait = timedelta(seconds=limits.check_wait_s)
    lacking = (h for h in state.hypotheses if h.result is None or len(h.told) < len(h.beside))
    return [h.asked_at + wait for h in lacking if h.asked_at is not None]


def _after_answer(state: State, at: datetime, limits: Limits) -> datetime:
    """Without a grant there is no use in waking before one may be asked for again."""
    if state.grant is not None or state.asked_at is None:
        return at
    if state.exhausted_until is not None:
        return max(at, state.exhausted_until)
    return at if state.answered else max(at, state.asked_at + patience(state, limits))


def patience(state: State, limits: Limits) -> timedelta:
    """How long to wait for an answer before asking again: twice as long each time, since the request itself is not lost."""
    seconds = limits.ask_again_s * 2 ** min(max(0, state.unanswered - 1), 16)
    return timedelta(seconds=min(seconds, max(limits.ask_again_s, limits.rest_max_ms / 1000)))
