"""Approvals: a person's yes or no to one request and its digest, once per person, guarded by the proposal's own boundary."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from services.gateway.commands.bus import Bus, Command
from services.gateway.projections.proposals import Life, by_age, fold_lives
from services.gateway.wire.ids import as_given, as_token
from services.gateway.wire.problems import Candidate, Problem, ambiguous
from shared.contracts.boundaries import life as life_of
from shared.contracts.boundaries import said
from shared.contracts.envelope import Unreadable
from shared.contracts.events import AnyEvent, ApprovalDenied, ApprovalGranted, ProposalFiled
from shared.contracts.ids import EventId, Sha256, is_life, is_token
from shared.log.port import Expect, StaleBoundary

ATTEMPTS = 20
Vote = Literal["grant", "deny"]


def which(proposal_id: str, swarm: str | None, persona: str | None) -> Which:
    """From ids as they are given."""
    return Which(
        proposal_id=as_token(proposal_id), swarm=swarm and as_token(swarm), persona=persona and as_token(persona)
    )


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody says. `digest` and `request_id` are of what they were shown; None takes what is asked for now."""

    decision: Vote
    digest: Sha256 | None = None
    request_id: EventId | None = None
    reason: str = ""

    def is_said_in(self, event: AnyEvent) -> bool:
        """Whether this vote is this word."""
        kind = ApprovalGranted if self.decision == "grant" else ApprovalDenied
        return (
            isinstance(event, kind)
            and event.reason == self.reason
            and self.digest in (None, event.digest)
            and self.request_id in (None, event.request_id)
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
    whose = (which.swarm or "*", which.persona or "*")
    if not found and is_life(proposal_id) and all(w == "*" or is_token(w) for w in whose):
        filters = (life_of(*whose, proposal_id), said("proposal.created", *whose, proposal_id))
        stored = await bus.log.stored(filters)
        heard = bus.feed.projection.heard
        found = fold_lives([m for m in stored if isinstance(m, Unreadable) or heard(m)], proposal_id)
    if not found:
        raise Problem(404, f"there is no proposal {as_given(proposal_id)[:60]!r}", reason="proposal_missing")
    if len(found) > 1:
        keys = (life.key for life in found)
        shown = (tuple(as_given(token) for token in key) for key in keys)
        candidates = tuple(Candidate(swarm_id=s, persona_id=p, proposal_id=i) for s, p, i in shown)
        raise ambiguous("proposal", as_given(proposal_id), candidates, "?swarm= and ?persona=")
    return found[0]


def matched(header: str | None) -> str | None:
    """The digest an `If-Match` names; None for no header and for `*`, which names none."""
    named = (header or "").strip().removeprefix("W/").strip('"')
    return named if named not in ("", "*") else None


async def vote(bus: Bus, command: Command, which: Which, word: Word) -> tuple[Life, str]:
    """The life after the vote, and the vote's event id.

    Raises `Problem`: 404 unknown, 409 ambiguous, not awaiting approval, another digest or request, or this principal has voted, 403 a
    grant from the proposer's own side.
    """
    event_id = command.event_id("approval")
    life = await find(bus, which)
    swarm, persona, proposal_id = life.key
    which = Which(proposal_id=proposal_id, swarm=swarm, persona=persona)
    for _ in range(ATTEMPTS):
        cast = next((r for r in life.events if r.id == event_id), None)
        if cast is not None:
            if not word.is_said_in(cast.event):
                raise Problem(
                    422, "this Idempotency-Key was used for a different request", reason="idempotency_key_reused"
                )
            return life, event_id
        if refused := refusal(life, command.principal, word, bus.clock()):
            raise refused
        epoch = bus.feed.projection.halts.epoch
        if word.decision == "grant" and life.requested is not None and life.requested.seq < epoch:
            detail = "it was asked before the log went back, and is void; it must be proposed again"
            raise Problem(409, detail, reason="void_after_rollback")
        if word.decision == "grant" and bus.four_eyes and (why := side_of(bus, life, command.principal)):
            raise Problem(403, f"{why}: someone else must approve what it proposes", reason="four_eyes")
        assert life.request is not None and life.requested is not None  # else it was refused
        event = (ApprovalGranted if word.decision == "grant" else ApprovalDenied)(
            swarm=swarm,
            persona=persona,
            proposal_id=proposal_id,
            digest=life.request.digest,
            request_id=life.requested.id,
            principal=command.principal,
            reason=word.reason,
        )
        message = bus.message(command, event_id, event, cause=life.requested, charter=life.created.charter)
        try:
            (seq,) = await bus.log.commit([message], [Expect(life.boundary, life.seq)])
        except StaleBoundary:
            life = await find(bus, which, fresh=True)
            continue
        await bus.feed.reached(seq, bus.timeout_s)
        return await find(bus, which), event_id
    raise Problem(409, "others vote on this proposal at the same time; ask again", reason="contended")


def refusal(life: Life, principal: str, word: Word, now: datetime) -> Problem | None:
    """Why this principal may not say so now; None when they may."""
    name = as_given(life.created.proposal_id)
    state = life.approval_state(now)
    if life.request is None or life.requested is None or state is None:
        return Problem(409, f"proposal {name!r} is {life.status} and awaits no approval", reason="not_awaiting")
    if principal in life.granted_by or principal in life.denied_by:
        return Problem(409, f"{principal} has decided on proposal {name!r} already", reason="already_voted")
    if state != "pending":
        return Problem(409, f"the approval of proposal {name!r} is {state}", reason="not_awaiting")
    if word.digest not in (None, life.request.digest):
        return Problem(409, f"the digest asked for is {life.request.digest}", reason="digest_mismatch")
    if word.request_id not in (None, life.requested.id):
        detail = f"the policies changed and people are asked anew, by request {life.requested.id}; look at it again"
        return Problem(409, detail, reason="request_mismatch")
    return None


def side_of(bus: Bus, life: Life, principal: str) -> str | None:
    """Why this principal is on the proposal's side, where the policy gate would not count their grant, and the inbox must not
    close for it; None for others."""
    created, projection = life.created, bus.feed.projection
    if isinstance(created, ProposalFiled) and created.principal == principal:
        return f"{principal} filed it"
    family = projection.personas.ancestry(created.swarm, created.persona)
    name = as_given(created.persona)
    if principal in {persona.principal for persona in family}:
        return f"{principal} spawned persona {name!r} or one above it"
    ids = {created.persona, *(persona.identity.id for persona in family)}
    if principal in projection.feeders.of(created.swarm, ids, by_age(life)):
        return f"{principal} recorded observations that persona {name!r} or one above it was given"
    return None
