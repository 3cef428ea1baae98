"""Approvals: a person's yes or no, bound to a digest, once per person, guarded by the proposal's own boundary."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from services.gateway.commands.bus import Bus, Command
from services.gateway.projections.proposals import Life, fold_lives
from services.gateway.wire.ids import as_given, as_token
from services.gateway.wire.problems import Candidate, Problem, ambiguous
from shared.contracts.events import ApprovalDenied, ApprovalGranted
from shared.contracts.ids import is_token
from shared.log.port import Expect, StaleBoundary

ATTEMPTS = 20
Vote = Literal["grant", "deny"]


def which(proposal_id: str, swarm: str | None, persona: str | None) -> Which:
    """From ids as they are given."""
    return Which(
        proposal_id=as_token(proposal_id), swarm=swarm and as_token(swarm), persona=persona and as_token(persona)
    )


class Which(msgspec.Struct, frozen=True, kw_only=True):
    """A proposal as it is asked for: its id, and where that may mean several its swarm and persona."""

    proposal_id: str
    swarm: str | None = None
    persona: str | None = None


async def find(bus: Bus, which: Which, *, fresh: bool = False) -> Life:
    """The proposal's life, from memory or, when it is old or must be `fresh`, from the log.

    Raises `Problem`: 404, 409 when the id may mean several.
    """
    proposal_id = which.proposal_id
    found = [] if fresh else bus.feed.projection.proposals.named(proposal_id, which.swarm, which.persona)
    words = (which.swarm or "*", which.persona or "*", proposal_id)
    if not found and all(w == "*" or is_token(w) for w in words):
        life = ".".join(words)
        found = fold_lives(await bus.log.stored((f"*.*.{life}", f"*.*.{life}.*")), proposal_id)
    if not found:
        raise Problem(404, f"there is no proposal {as_given(proposal_id)[:60]!r}", reason="proposal_missing")
    if len(found) > 1:
        keys = (life.key for life in found)
        shown = (tuple(as_given(token) for token in key) for key in keys)
        candidates = tuple(Candidate(swarm_id=s, persona_id=p, proposal_id=i) for s, p, i in shown)
        raise ambiguous("proposal", as_given(proposal_id), candidates, "?swarm= and ?persona=")
    return found[0]


async def vote(
    bus: Bus, command: Command, which: Which, decision: Vote, digest: str | None, reason: str
) -> tuple[Life, str]:
    """The life after the vote, and the vote's event id. `digest` None takes the one shown.

    Raises `Problem`: 404 unknown, 409 ambiguous, not awaiting approval, wrong digest, or this principal has voted, 403 a grant from
    the proposer's own side.
    """
    kind = ApprovalGranted if decision == "grant" else ApprovalDenied
    event_id = command.event_id("approval")
    life = await find(bus, which)
    swarm, persona, proposal_id = life.key
    which = Which(proposal_id=proposal_id, swarm=swarm, persona=persona)
    for _ in range(ATTEMPTS):
        request, requested = life.request, life.requested
        shown = "" if request is None else request.digest
        event = kind(
            swarm=swarm,
            persona=persona,
            proposal_id=proposal_id,
            digest=digest or shown or life.created.digest,
            principal=command.principal,
            reason=reason,
        )
        cast = next((r for r in life.events if r.id == event_id), None)
        if cast is not None:
            if cast.event != event:
                raise Problem(
                    422, "this Idempotency-Key was used for a different request", reason="idempotency_key_reused"
                )
            return life, event_id
        if refused := refusal(life, command.principal, digest, bus.clock()):
            raise refused
        if decision == "grant" and bus.four_eyes:
            _assert_other_eyes(bus, life, command.principal)
        message = bus.message(command, event_id, event, cause=requested, charter=life.created.charter)
        try:
            (seq,) = await bus.log.commit([message], [Expect(life.boundary, life.approval_seq)])
        except StaleBoundary:
            life = await find(bus, which, fresh=True)
            continue
        await bus.feed.reached(seq, bus.timeout_s)
        return await find(bus, which), event_id
    raise Problem(409, "others vote on this proposal at the same time; ask again", reason="contended")


def refusal(life: Life, principal: str, digest: str | None, now: datetime) -> Problem | None:
    """Why this principal may not vote now; None when they may."""
    name = as_given(life.created.proposal_id)
    state = life.approval_state(now)
    if life.request is None or state is None:
        return Problem(409, f"proposal {name!r} is {life.status} and awaits no approval", reason="not_awaiting")
    if principal in life.granted_by or principal in life.denied_by:
        return Problem(409, f"{principal} has decided on proposal {name!r} already", reason="already_voted")
    if state != "pending":
        return Problem(409, f"the approval of proposal {name!r} is {state}", reason="not_awaiting")
    if digest is not None and digest != life.request.digest:
        return Problem(409, f"the digest asked for is {life.request.digest}", reason="digest_mismatch")
    return None


def _assert_other_eyes(bus: Bus, life: Life, principal: str) -> None:
    """Raises `Problem` (403): the policy gate would not count this grant, and the inbox must not close for it."""
    if principal in bus.feed.projection.personas.proposer_side(life.created.swarm, life.created.persona):
        proposer = as_given(life.created.persona)
        detail = f"{principal} spawned persona {proposer!r} or one above it: someone else must approve what it proposes"
        raise Problem(403, detail, reason="four_eyes")
