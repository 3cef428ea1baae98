"""Who may begin, and who must end: the decisions that rest on the lineage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from math import ceil

import msgspec

from services.governor.limits import Limits
from services.governor.lineage import Daughter, Lineage, Member
from shared.contracts.capabilities import excess, flaws
from shared.contracts.events import (
    PersonaDraining,
    PersonaParted,
    PersonaReaped,
    PersonaSpawned,
    ReapRequested,
    ReportGiven,
    SnapshotCompressed,
    SpawnRefused,
    SpawnRequested,
    SwarmRequested,
    ThoughtSealed,
)
from shared.contracts.ids import EVERYONE
from shared.contracts.persona import Identity, PersonaPolicy, charter_sha256, clamp
from shared.contracts.text import plain
from shared.decider import NOTHING, Boundary, Decision, Delivered, Result, Tick

RATE_WINDOW = timedelta(seconds=60)
CROWDED_FOR_S = 2
WITHOUT_SNAPSHOT = "_without_snapshot"
MAX_REASON = 300
NAMED = 8
DAUGHTERS_AT_ONCE = 64
"""Asked to be reaped in one commit with their parents; the next tick finds the others."""

Ending = PersonaDraining | PersonaParted | PersonaReaped | ReapRequested | ReportGiven | ThoughtSealed


class LastThoughts(Result, frozen=True, kw_only=True):
    """Facts of a tick: when each persona last made useful progress, by the last thought of each.

    `running_since`: since when personas could think without a break; None while the loop stands, and then nobody is called idle.
    `snapshot_at`: when anybody, of any swarm, was last reaped with a final snapshot, or since when that is looked at.
    `zombies`: reaped, and their thoughts do not end with a seal.
    """

    useful_at: dict[str, datetime] = msgspec.field(default_factory=dict)
    running_since: datetime | None = None
    snapshot_at: datetime | None = None
    zombies: tuple[str, ...] = ()


def spawn(lineage: Lineage, delivered: Delivered, request: SpawnRequested, limits: Limits) -> Decision:
    """One persona, or a refusal with its reason; nothing when this very request was answered before."""
    request_id = delivered.recorded.id
    if is_answered(lineage, request.persona, request_id):
        return NOTHING
    parent = None if request.parent_id is None else lineage.members.get(request.parent_id)
    policy = request.policy or (limits.root_policy if parent is None else parent.policy)
    if parent is not None:
        policy = clamp(policy, parent.policy)
    refusal = _refusal(lineage, request, parent, policy, delivered.now, limits)
    if refusal is not None:
        reason, detail = refusal
        again_s = room_in_s(lineage, delivered.now, limits) if reason == "spawn_rate" else 0
        return Decision(events=(refused(request, reason, detail, again_s),))
    identity = newborn(request, parent, delivered.now)
    spawned = PersonaSpawned(
        swarm=request.swarm,
        persona=request.persona,
        identity=identity,
        policy=policy,
        principal=request.principal,
        hibernates=parent is None and (request.policy is None or request.hibernate),
        proposal=request.proposal,
    )
    return Decision(events=(spawned,), charter=charter_sha256(identity))


def is_answered(lineage: Lineage, persona: str, request_id: str) -> bool:
    """Whether this very request for the persona was answered before."""
    known = lineage.members.get(persona)
    return request_id in lineage.refused or (known is not None and known.request == request_id)


def newborn(request: SpawnRequested | SwarmRequested, parent: Member | None, now: datetime) -> Identity:
    """Who is asked for, a level below its parent."""
    return Identity(
        id=request.persona,
        name=request.name,
        role=request.role,
        charter=request.charter,
        swarm_id=request.swarm,
        parent_id=request.parent_id,
        depth=0 if parent is None else parent.depth + 1,
        created_at=now,
        tags=request.tags,
    )


def refused(request: SpawnRequested | SwarmRequested, reason: str, detail: str, again_s: int) -> SpawnRefused:
    """No, and in how many seconds there may be room; 0: waiting brings nothing."""
    return SpawnRefused(
        swarm=request.swarm,
        persona=request.persona,
        reason=reason,
        detail=detail,
        retry_after_s=again_s,
        proposal=request.proposal if isinstance(request, SpawnRequested) else None,
    )


def answers(request: SpawnRequested | SwarmRequested) -> Boundary:
    """What was answered to this very request for a persona, if anything."""
    whose = f"{request.swarm}.{request.persona}"
    return Boundary(reads=(f"persona.spawned.{whose}", f"spawn.refused.{whose}"), guards=(), opens=True)


def crowded(lineage: Lineage, delivered: Delivered, request: SpawnRequested | SwarmRequested) -> Decision:
    """No persona, at once, unless this very request was answered before. It rests on no limit, so nothing is guarded."""
    if is_answered(lineage, request.persona, delivered.recorded.id):
        return NOTHING
    detail = f"{delivered.crowd} requests of {request.swarm} wait already, more than its share; ask again in {CROWDED_FOR_S} s"
    return Decision(events=(refused(request, "too_many_waiting", detail, CROWDED_FOR_S),), guards=())


def _refusal(
    lineage: Lineage,
    request: SpawnRequested,
    parent: Member | None,
    policy: PersonaPolicy,
    now: datetime,
    limits: Limits,
) -> tuple[str, str] | None:
    """Reason code and detail of the first limit in the way."""
    if EVERYONE in (request.persona, request.swarm):
        return "reserved_id", f"{EVERYONE!r} means everyone and can be neither a persona nor a swarm"
    if lineage.was_given(request.persona):
        return (
            "duplicate_id",
            f"swarm {request.swarm} has or had a persona {request.persona}; ids are never given twice",
        )
    if parent is None:
        if request.parent_id is not None and lineage.was_given(request.parent_id):
            return "parent_not_live", f"{request.parent_id} is reaped, and nobody is born below it"
        if request.parent_id is not None:
            return "parent_missing", f"swarm {request.swarm} has no persona {request.parent_id}"
        if lineage.live_roots >= limits.max_roots:
            return "root_limit", f"{lineage.live_roots} root personas live, the limit is {limits.max_roots}"
    elif (refusal := no_child(lineage, request.parent_id or "", parent, request.policy, limits)) is not None:
        return refusal
    if lineage.live >= limits.max_personas:
        return "swarm_limit", f"{lineage.live} personas live in {request.swarm}, the limit is {limits.max_personas}"
    return no_start(lineage, policy, now, limits)


def no_child(
    lineage: Lineage, name: str, parent: Member, wanted: PersonaPolicy | None, limits: Limits
) -> tuple[str, str] | None:
    """Why the parent may have no further child of that policy, in whatever swarm: reason code and detail."""
    for above, member in lineage.ancestors(name):
        if member.phase != "live":
            return "parent_not_live", f"{above} is {member.phase}, and nobody is born below it"
    if parent.depth + 1 > parent.policy.max_spawn_depth:
        return "depth_limit", f"depth would be {parent.depth + 1}, {name} allows {parent.policy.max_spawn_depth}"
    if parent.live_children >= parent.policy.max_branching_factor:
        branching = parent.policy.max_branching_factor
        return "branching_limit", f"{name} has {parent.live_children} live children, its limit is {branching}"
    if parent.had_children >= limits.max_lifetime_children:
        cap = limits.max_lifetime_children
        return "lifetime_limit", f"{name} has had {parent.had_children} children, the limit is {cap}"
    beyond = excess(wanted.capabilities, parent.policy.capabilities) if wanted is not None else ()
    if beyond:
        return "beyond_parent", plain(f"{name} may not do itself: {_named(beyond)}", 1000)
    return None


def _named(sentences: tuple[str, ...]) -> str:
    more = f"; and {len(sentences) - NAMED} more" if len(sentences) > NAMED else ""
    return "; ".join(sentences[:NAMED]) + more


def no_start(lineage: Lineage, policy: PersonaPolicy, now: datetime, limits: Limits) -> tuple[str, str] | None:
    """Why nobody of that policy begins now: it could never think, or too many were spawned of late in this lineage."""
    if wrong := flaws(policy.capabilities):
        return "bad_capabilities", plain(_named(wrong), 1000)
    if policy.token_budget_per_minute == 0 and policy.compute_ms_per_minute == 0:
        return "no_budget", "0 tokens and 0 ms of compute a minute: it could never think"
    if (again_s := room_in_s(lineage, now, limits)) > 0:
        quota = limits.spawns_per_minute
        return (
            "spawn_rate",
            f"{quota} personas were spawned in the last 60 s, which is the limit; ask again in {again_s} s",
        )
    return None


def room_in_s(lineage: Lineage, now: datetime, limits: Limits) -> int:
    """Whole seconds until the quota lets another be spawned; 0: now."""
    quota = limits.spawns_per_minute
    if len(lineage.recent) < quota:
        return 0
    return max(0, ceil((lineage.recent[-quota] + RATE_WINDOW - now).total_seconds()))


# -- reap ------------------------------------------------------------------------------------------------------------


def reap(lineage: Lineage, delivered: Delivered, request: ReapRequested, limits: Limits) -> Decision:
    """The target drains, and with `cascade` all its live descendants, parents first, `limits.batch` in one commit.

    What does not fit drains as the request comes again, at once. Who below them lives in another swarm is asked to be reaped there, in
    the same commit. Without `cascade` the descendants are orphans, and drain at the next tick.
    """
    if request.persona not in lineage.members:
        return NOTHING
    family = lineage.subtree(request.persona) if request.cascade else islice(lineage.subtree(request.persona), 1)
    live = (name for name, member in family if member.phase == "live")
    ending = list(islice(live, limits.batch))
    deadline = delivered.now + timedelta(seconds=limits.drain_s)
    events: list[Ending] = []
    for name in ending:
        events += _draining(lineage, request.swarm, name, request.reason, deadline, request.principal)
    if request.cascade and lineage.daughters:
        gone = set(ending)
        below = ((swarm, daughter) for swarm, daughter in lineage.daughters.items() if daughter.parent in gone)
        events += (
            _reap_daughter(swarm, daughter, request.reason, request.principal)
            for swarm, daughter in islice(below, DAUGHTERS_AT_ONCE)
        )
    decision = _about(lineage, events)
    return decision if next(live, None) is None else msgspec.structs.replace(decision, retry_s=0.0)


def snapshot(lineage: Lineage, event: SnapshotCompressed) -> Decision:
    """The final snapshot of a draining persona is the end of it."""
    member = lineage.members.get(event.persona)
    if member is None or member.phase != "draining" or not event.final:
        return NOTHING
    return _about(lineage, _reaped(lineage, event.swarm, event.persona, member.reason, event))


def reconcile(lineage: Lineage, tick: Tick, limits: Limits) -> Decision:
    """What time ends: drains nobody finished, orphans, the idle with their descendants, zombies; `limits.batch` at most."""
    events: list[Ending] = []
    for together in _due(lineage, tick, limits):
        if events and len(events) + len(together) > limits.batch:
            break
        events += together
    return _about(lineage, events)


def _due(lineage: Lineage, tick: Tick, limits: Limits) -> Iterator[tuple[Ending, ...]]:
    """What is to be said, each in one commit."""
    for name in _given_up(lineage, tick, limits):
        reason = lineage.members[name].reason[: MAX_REASON - len(WITHOUT_SNAPSHOT)] + WITHOUT_SNAPSHOT
        yield _reaped(lineage, tick.swarm, name, reason, None)
    ending: set[str] = set()
    deadline = tick.now + timedelta(seconds=limits.drain_s)
    for top, reason in _ended_by_time(lineage, tick):
        if top in ending:
            continue
        for name, member in lineage.subtree(top):
            if member.phase == "live" and name not in ending:
                ending.add(name)
                yield _draining(lineage, tick.swarm, name, reason, deadline)
    for swarm, daughter in lineage.daughters.items():
        if not lineage.is_live(daughter.parent) and lineage.was_given(daughter.parent):
            yield (_reap_daughter(swarm, daughter, "orphaned"),)
    for name in _zombies(lineage, tick.facts):
        yield (ThoughtSealed(swarm=tick.swarm, persona=name, reason="zombie"),)


def _draining(
    lineage: Lineage, swarm: str, persona: str, reason: str, deadline: datetime, principal: str = ""
) -> tuple[Ending, ...]:
    """The beginning of the end. Who began the swarm parts from its parent, whose lineage is not guarded: that only makes room there."""
    draining = PersonaDraining(swarm=swarm, persona=persona, reason=reason, deadline=deadline, principal=principal)
    mother = lineage.members[persona].mother
    if mother is None:
        return (draining,)
    return draining, PersonaParted(swarm=mother[0], persona=mother[1], daughter=swarm, child=persona)


def _reap_daughter(swarm: str, daughter: Daughter, reason: str, principal: str = "") -> ReapRequested:
    """Below one that is not live everything drains, also in other swarms; until it has parted it is asked for again."""
    return ReapRequested(swarm=swarm, persona=daughter.child, cascade=True, reason=reason, principal=principal)


def _zombies(lineage: Lineage, facts: Result | None) -> Iterator[str]:
    """Reaped by a release that did not seal, or thought for afterwards: a clumsy runner's next step is refused once more."""
    for name in facts.zombies if isinstance(facts, LastThoughts) else ():
        member = lineage.members.get(name)
        if member is None or member.phase == "reaped":
            yield name


def _given_up(lineage: Lineage, tick: Tick, limits: Limits) -> Iterator[str]:
    """Who drains and will leave no final snapshot any more, as far as anybody can tell.

    Snapshots are written one after another, and not at all while cold storage is away. So a persona waits for its turn as long
    as others get theirs, and patience runs from the last one anybody left.
    """
    facts = tick.facts
    moved_at = facts.snapshot_at if isinstance(facts, LastThoughts) else None
    patience = timedelta(seconds=limits.drain_patience_s)
    if moved_at is not None and tick.now <= moved_at + patience:
        return
    for name in lineage.draining:
        deadline = lineage.members[name].deadline
        if deadline is not None and tick.now > deadline + patience:
            yield name


def _ended_by_time(lineage: Lineage, tick: Tick) -> Iterator[tuple[str, str]]:
    """Live personas whose time is up, and why; in the order they were spawned, so parents come first."""
    yield from ((name, "orphaned") for name in lineage.orphans)
    facts = tick.facts
    if not isinstance(facts, LastThoughts) or facts.running_since is None:
        return
    for name, member in lineage.members.items():
        ttl_s = member.policy.idle_ttl_secs
        if member.phase == "live" and ttl_s and not member.hibernates:
            since = max(member.created_at, facts.running_since, facts.useful_at.get(name, member.created_at))
            if (tick.now - since).total_seconds() > ttl_s:
                yield name, "idle_ttl"


def _reaped(
    lineage: Lineage, swarm: str, persona: str, reason: str, snapshot: SnapshotCompressed | None
) -> tuple[Ending, ...]:
    """The end of a persona and of its history. The seal is not guarded, so nobody can hold a reap up; it moves the boundary of
    steps, so that one a stalled runner still holds is refused. Its parent is told, with what was distilled of it."""
    reaped = PersonaReaped(
        swarm=swarm, persona=persona, reason=reason, snapshot_id=None if snapshot is None else snapshot.snapshot_id
    )
    ended: tuple[Ending, ...] = (reaped, ThoughtSealed(swarm=swarm, persona=persona))
    parent = lineage.members[persona].parent
    if parent is None or not lineage.is_live(parent):
        return ended
    told = ReportGiven(
        swarm=swarm,
        persona=parent,
        kind="end",
        by=f"{swarm}/{persona}",
        text="" if snapshot is None else snapshot.summary,
        reason=reason,
    )
    return (*ended, told)


def _about(lineage: Lineage, events: Iterable[Ending]) -> Decision:
    """A decision; it carries a charter when all of it is about one persona."""
    settled = tuple(events)
    names = {event.persona for event in settled if not isinstance(event, PersonaParted | ReapRequested | ReportGiven)}
    charter = lineage.members[names.pop()].charter if len(names) == 1 else None
    return Decision(events=settled, charter=charter) if settled else NOTHING
