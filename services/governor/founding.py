"""A persona of one swarm begins another, in which nobody ever was: one commit, and the boundaries of both.

Theory of operation. The child is its parent's child like any other: depth, live and lifetime children, the spawn rate and the clamp of
its policy are the parent's lineage's to allow, and counted there (`persona.founded`), while the child itself is at the top of its own
swarm's lineage. What its policy may spend is lent by the parent and all above it there. The new swarm's credits are a part of the share
of the parent's swarm, which falls in the same commit (`sharing.founded`). All is said together or not at all, guarded by the lineages
and the budgets of both swarms and by the shares of all: who founds the same swarm, spawns in it or below the parent, spends, or writes a
share meanwhile refuses it, and it is decided anew.

Invariants, at every prefix of the log, with any number of governors:
- a swarm is begun once, and a child of another swarm is alone there when it comes;
- a persona and all below it, in whatever swarm, spend no more than its policy says, from the minute after a child was founded on;
- a swarm and its daughters have no more than it had alone.
"""

from __future__ import annotations

import msgspec

from services.governor import lineage, sharing
from services.governor.lifecycle import answers, crowded, is_answered, newborn, no_child, no_start, refused, room_in_s
from services.governor.limits import Limits
from services.governor.lineage import Lineage, Member
from services.governor.sharing import Shares
from shared.contracts import boundaries
from shared.contracts.envelope import Recorded
from shared.contracts.events import PersonaFounded, PersonaSpawned, SwarmRequested
from shared.contracts.ids import EVERYONE
from shared.contracts.persona import PersonaPolicy, charter_sha256, clamp
from shared.decider import NOTHING, Boundary, Decision, Delivered, Input, Tick

CHILDS_PART = 2
"""Of its parent's budgets a child gets one part in so many when nobody says what it is to have."""
NO_SHARE_FOR_S = 60
SPENT = ("token_budget_per_minute", "compute_ms_per_minute")


class Swarms(msgspec.Struct, kw_only=True):
    """The lineages of the two swarms, and the shares of all."""

    lineages: dict[str, Lineage] = {}
    shares: Shares = msgspec.field(default_factory=Shares)

    def of(self, swarm: str) -> Lineage:
        return self.lineages.get(swarm, Lineage())


class Founding(msgspec.Struct, frozen=True, kw_only=True):
    """A `shared.decider.Decider` under these limits."""

    limits: Limits = Limits()

    def initial(self) -> Swarms:
        return Swarms()

    def boundary(self, message: Delivered | Tick) -> Boundary | None:
        if isinstance(message, Tick) or not isinstance(message.recorded.event, SwarmRequested):
            return None
        event = message.recorded.event
        if message.crowd:
            return answers(event)
        both = (event.parent_swarm, event.swarm) if event.parent_swarm != event.swarm else (event.swarm,)
        personas = tuple(f"persona.*.{swarm}.>" for swarm in both)
        refused = tuple(f"spawn.refused.{swarm}.>" for swarm in both)
        return Boundary(
            reads=(*personas, *refused, boundaries.SHARES, boundaries.ALLOCATION, boundaries.limits("*")),
            guards=(*personas, *(boundaries.budget(swarm) for swarm in both), boundaries.SHARES),
            keeps=False,
        )

    def decide(self, state: Swarms, message: Input) -> Decision:
        if not isinstance(message, Delivered) or not isinstance(message.recorded.event, SwarmRequested):
            return NOTHING
        request, request_id = message.recorded.event, message.recorded.id
        above, below = state.of(request.parent_swarm), state.of(request.swarm)
        if message.crowd:
            return crowded(below, message, request)
        if is_answered(below, request.persona, request_id):
            return NOTHING
        parent = above.members.get(request.parent_id)
        policy = _policy(request, parent)
        refusal = _refusal(state, request, parent, policy, message, self.limits)
        shares = None
        if refusal is None:
            shares = sharing.founded(state.shares, self.limits, message.now, request.parent_swarm, request.swarm)
            refusal = None if shares is not None else _no_share(request.parent_swarm)
        if refusal is not None or shares is None or parent is None:
            reason, detail, again_s = refusal or _no_share(request.parent_swarm)
            return Decision(events=(refused(request, reason, detail, again_s),))
        identity = newborn(request, parent, message.now)
        born = PersonaSpawned(
            swarm=request.swarm,
            persona=request.persona,
            identity=identity,
            policy=policy,
            principal=request.principal,
            parent_swarm=request.parent_swarm,
        )
        founded = PersonaFounded(
            swarm=request.parent_swarm,
            persona=request.parent_id,
            daughter=request.swarm,
            child=request.persona,
            policy=policy,
            created_at=message.now,
        )
        return Decision(events=(*shares.events, born, founded), charter=charter_sha256(identity))

    def evolve(self, state: Swarms, recorded: Recorded) -> Swarms:
        sharing.evolve(state.shares, recorded)
        swarm = recorded.event.swarm
        if swarm != EVERYONE:
            lineage.evolve(state.lineages.setdefault(swarm, Lineage()), recorded, self.limits)
        return state


Refusal = tuple[str, str, int]
"""Reason code, detail, and in how many seconds there may be room; 0: waiting brings nothing."""


def _policy(request: SwarmRequested, parent: Member | None) -> PersonaPolicy:
    if parent is None:
        return request.policy or PersonaPolicy()
    if request.policy is not None:
        return clamp(request.policy, parent.policy)
    half = {name: getattr(parent.policy, name) // CHILDS_PART for name in SPENT}
    return msgspec.structs.replace(parent.policy, **half)


def _no_share(swarm: str) -> Refusal:
    return "no_share", f"swarm {swarm} has no share of the budget to give a part of; ask again", NO_SHARE_FOR_S


def _refusal(
    state: Swarms,
    request: SwarmRequested,
    parent: Member | None,
    policy: PersonaPolicy,
    message: Delivered,
    limits: Limits,
) -> Refusal | None:
    """The first limit in the way, but for what there is to give."""
    above, name = state.of(request.parent_swarm), request.parent_id
    if EVERYONE in (request.persona, request.swarm, request.parent_swarm):
        return "reserved_id", f"{EVERYONE!r} means everyone and can be neither a persona nor a swarm", 0
    if state.of(request.swarm).given:
        detail = f"swarm {request.swarm} has or had personas; a child begins a new swarm, or lives in its parent's"
        return "swarm_exists", detail, 0
    if parent is None:
        if above.was_given(name):
            return "parent_not_live", f"{name} is reaped, and nobody is born below it", 0
        return "parent_missing", f"swarm {request.parent_swarm} has no persona {name}", 0
    found = no_child(above, name, parent, request.policy, limits) or no_start(above, policy, message.now, limits)
    if found is not None:
        return *found, room_in_s(above, message.now, limits) if found[0] == "spawn_rate" else 0
    for ancestor, member in above.ancestors(name):
        if member.tokens < policy.token_budget_per_minute or member.compute_ms < policy.compute_ms_per_minute:
            detail = (
                f"it wants {policy.token_budget_per_minute} tokens and {policy.compute_ms_per_minute} ms a minute; {ancestor} has "
                f"{member.tokens} and {member.compute_ms} that are not lent to children in swarms of their own"
            )
            return "lent_limit", detail, 0
    if sharing.is_full(state.shares, limits, message.now):
        return "too_many_swarms", f"{limits.max_swarms} swarms share the budget, which is the limit", NO_SHARE_FOR_S
    return None
