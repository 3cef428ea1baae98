"""Kinds that are said to the mesh: what is said for each, and why it may not be.

Pure. What is said lies in one batch with its claim, and with its outcome where saying it is all there is: no crash is between them, and
none of it is ever in doubt. A spawn ends later, with the governor's answer, which names the proposal.

What a family (a root and all below it) may do so often a day has so many ids a day; each is used once, by the guard of its boundary.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from shared.contracts.action_kinds import KINDS
from shared.contracts.boundaries import intent, question, watches
from shared.contracts.events import (
    AnyEvent,
    Credits,
    IntentDelegated,
    IntentSubmitted,
    PersonaSpawned,
    ProposalCreated,
    ProposalKey,
    QuestionAsked,
    ReapRequested,
    ReportGiven,
    SpawnRefused,
    SpawnRequested,
    WatchAdded,
)
from shared.contracts.ids import EVERYONE, Token, hash64
from shared.contracts.kinds.kind import Params
from shared.contracts.kinds.mesh import IntentSubmit, PersonaReap, PersonaSpawn, capabilities_of, options, words
from shared.contracts.kinds.people import ANYONE, PersonAsk
from shared.contracts.kinds.perceiving import MAX_WATCHES, WatchAdd
from shared.contracts.persona import PersonaPolicy
from shared.intents import Life, why_not_below

MINUTE_S = 60


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the log told when it was looked at.

    `policy` is the proposer's; `kin`: the target is the proposer or below it. `free`: the first of the family's ids of the day that
    nobody has used, where the kind has some. `parent` is the intent it is to be a part of, up to `parent_seq`. `above`: the proposer's
    parent in its swarm. `watching`: names of the rules it has now, up to `watch_seq`.
    """

    policy: PersonaPolicy | None = None
    kin: bool = False
    free: Token | None = None
    parent: Life | None = None
    parent_seq: int = 0
    above: Token | None = None
    watching: frozenset[str] = frozenset()
    watch_seq: int = 0


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What is said, what guards it, and the outcome's summary; None: somebody answers."""

    events: tuple[AnyEvent, ...]
    expects: tuple[tuple[str, int], ...] = ()
    summary: str | None = None


def ids_of(kind: str, root: str, swarm: str, day: datetime) -> tuple[Token, ...]:
    """The ids that a family may use on that day for what the kind says."""
    family = f"{hash64(f'{swarm}/{root}'):016x}"
    letter = "q" if kind == "person.ask" else "i"
    return tuple(f"{letter}-{family}-{day:%Y%m%d}-{n}" for n in range(1, KINDS[kind].per_day + 1))


def refusal(created: ProposalCreated, params: Params, facts: Facts, now: datetime) -> tuple[str, str] | None:
    """Why it may not be said: reason code and sentence."""
    target, per_day = created.action.target, KINDS[created.action.kind].per_day
    if facts.policy is None:
        return "persona_unknown", f"nobody of the name {created.persona} was ever born in {created.swarm}"
    match params:
        case PersonaReap() if not facts.kin:
            return "not_descendant", f"{target} is neither {created.persona} nor one of its descendants"
        case PersonaReap(summary=str(summary)) if summary and target != created.persona:
            return "not_its_own", f"a summary is of who ends itself, not of {target}"
        case WatchAdd() if params.for_s and target not in facts.watching and len(facts.watching) >= MAX_WATCHES:
            return (
                "too_many_watches",
                f"it has {len(facts.watching)} rules, which is the limit; one of these names may be replaced: "
                + ", ".join(sorted(facts.watching)),
            )
        case IntentSubmit(parent=str(parent)) if parent:
            life = facts.parent or Life()
            if not any(route.whose == (created.swarm, created.persona) for route in life.open):
                return "parent_refuses", f"{created.persona} does not work on intent {parent}"
            if (why := why_not_below(life, _intent(created, params, "i-0", now, life))) is not None:
                return "parent_refuses", f"intent {parent}: {why}"
        case IntentSubmit():
            minutes = -(-params.due_s // MINUTE_S)
            most = (facts.policy.token_budget_per_minute * minutes, facts.policy.compute_ms_per_minute * minutes)
            if params.tokens > most[0] or params.compute_ms > most[1]:
                said = f"until then {created.persona} itself may spend {most[0]} tokens and {most[1]} ms, and gives no more"
                return "beyond_budget", said
        case _:
            pass
    if per_day and facts.free is None:
        return "limit_of_day", f"its family has done {per_day} of {created.action.kind} today, which is the limit"
    return None


def say(created: ProposalCreated, params: Params, facts: Facts, now: datetime, *, tainted: bool) -> Said:
    """The events; what may not be said is refused before."""
    whose = {"swarm": created.swarm, "persona": created.persona}
    target = created.action.target
    free = facts.free or ""
    match params:
        case PersonaSpawn():
            return Said(events=(_child(created, params, facts.policy or PersonaPolicy()),))
        case PersonaReap():
            reap = ReapRequested(
                swarm=created.swarm,
                persona=target,
                cascade=params.cascade,
                reason=f"proposed by {created.persona}: {params.reason}"[:300],
                proposal=_key(created),
            )
            summary = f"asked for the end of {target}"
            if not params.summary or facts.above is None:
                return Said(events=(reap,), summary=summary)
            last = ReportGiven(
                swarm=created.swarm,
                persona=facts.above,
                kind="last",
                by=f"{created.swarm}/{target}",
                text=params.summary,
                reason=params.reason,
                tainted=tainted,
            )
            return Said(events=(reap, last), summary=summary)
        case IntentSubmit():
            submitted = _intent(created, params, free, now, facts.parent, tainted=tainted)
            guard = (intent(created.swarm, free), 0)
            summary = f"submitted intent {free}"
            if facts.parent is None:
                return Said(events=(submitted,), expects=(guard,), summary=summary)
            taken = IntentDelegated(
                swarm=created.swarm,
                persona=EVERYONE,
                intent_id=params.parent,
                child_id=free,
                budget=submitted.budget,
            )
            above = (intent(created.swarm, params.parent), facts.parent_seq)
            return Said(events=(submitted, taken), expects=(guard, above), summary=summary)
        case PersonAsk():
            asked = QuestionAsked(
                **whose,
                question_id=free,
                proposal_id=created.proposal_id,
                question=params.question,
                options=options(params.options),
                wanted="" if target == ANYONE else target,
                tainted=tainted,
                expires_at=now + timedelta(seconds=params.open_s),
            )
            return Said(
                events=(asked,), expects=((question(created.swarm, free), 0),), summary=f"asked as question {free}"
            )
        case WatchAdd():
            added = WatchAdded(
                **whose,
                proposal_id=created.proposal_id,
                name=target,
                pattern=params.pattern,
                source=params.source,
                at_least=params.at_least,
                within_s=params.within_s,
                silence_s=params.silence_s,
                until=now + timedelta(seconds=params.for_s),
            )
            told = f"watches as {target} until {added.until.isoformat(timespec='seconds')}"
            guard = (watches(created.swarm, created.persona), facts.watch_seq)
            return Said(events=(added,), expects=(guard,), summary=told if params.for_s else f"the rule {target} ends")
        case _:
            raise TypeError(f"nothing is said for {type(params).__name__}")


def _child(created: ProposalCreated, params: PersonaSpawn, parent: PersonaPolicy) -> SpawnRequested:
    """Half of what the parent may spend where nothing is said; the governor clamps the rest."""

    def of(wanted: int | None, has: int) -> int:
        return has // 2 if wanted is None else min(wanted, has)

    policy = msgspec.structs.replace(
        parent,
        token_budget_per_minute=of(params.tokens_per_minute, parent.token_budget_per_minute),
        compute_ms_per_minute=of(params.compute_ms_per_minute, parent.compute_ms_per_minute),
        idle_ttl_secs=parent.idle_ttl_secs if params.idle_ttl_s is None else params.idle_ttl_s,
        max_branching_factor=parent.max_branching_factor if params.max_children is None else params.max_children,
        share_memory=params.share_memory,
        allowed_tools=words(params.tools) or parent.allowed_tools,
        capabilities=capabilities_of(params),  # none stated: its parent's, by the governor
    )
    return SpawnRequested(
        swarm=created.swarm,
        persona=created.action.target,
        name=params.name,
        role=params.role,
        charter=params.charter,
        parent_id=created.persona,
        policy=policy,
        tags=words(params.tags),
        proposal=_key(created),
    )


def _intent(
    created: ProposalCreated,
    params: IntentSubmit,
    intent_id: str,
    now: datetime,
    parent: Life | None,
    *,
    tainted: bool = True,
) -> IntentSubmitted:
    swarm, _, persona = created.action.target.partition("/")
    deadline = now + timedelta(seconds=params.due_s)
    above = parent.submitted if parent is not None and params.parent else None
    return IntentSubmitted(
        swarm=created.swarm,
        persona=EVERYONE,
        intent_id=intent_id,
        goal=params.goal,
        tags=words(params.tags),
        priority=params.priority,
        deadline=deadline if above is None else min(deadline, above.deadline),
        budget=Credits(tokens=params.tokens, compute_ms=params.compute_ms),
        wanted_swarm=swarm,
        wanted_persona=persona or None,
        fan_out=params.fan_out,
        merge=params.merge,
        options=options(params.options),
        parent_id=params.parent or None,
        principal=f"persona {created.swarm}/{created.persona}",
        tainted=tainted,
        proposal=_key(created),
    )


def _key(created: ProposalCreated) -> ProposalKey:
    return ProposalKey(swarm=created.swarm, persona=created.persona, proposal_id=created.proposal_id)


def answered(answer: PersonaSpawned | SpawnRefused) -> tuple[bool, str, str]:
    """Whether there is a child now, the summary, and the reason code of a refusal."""
    if isinstance(answer, PersonaSpawned):
        return True, f"{answer.persona} lives, a child of {answer.identity.parent_id}", ""
    again = f"; there may be room in {answer.retry_after_s} s" if answer.retry_after_s else ""
    return False, f"{answer.persona} was not spawned: {answer.detail}{again}", answer.reason
