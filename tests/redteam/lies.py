"""What a runner may say at all, and must not be believed: the services refuse it, and the log shows that they did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from shared.contracts.action import action_digest
from shared.contracts.boundaries import life, said, thoughts
from shared.contracts.catalog import class_filter
from shared.contracts.envelope import Message, Recorded
from shared.contracts.events import (
    ActionExecuted,
    BudgetGranted,
    BudgetRefused,
    CheckRequested,
    Credits,
    EvidenceRef,
    GrantRequested,
    HypothesisRaised,
    LogResolve,
    ProposalRejected,
    ThoughtGenerated,
    ThoughtSealed,
    Usage,
)
from shared.contracts.ids import caused_id, fresh_id, utc_now
from tests.redteam.report import Row
from tests.redteam.siege import HOME, Persona, Siege

COPIES = 8
SYBILS, SYBILS_COPIES = 7, 3
NOBODY = "0" * 64
NO_USAGE = Usage()


async def lies(siege: Siege) -> list[Row]:
    """All of them, at once, against the same mesh."""
    attacks: tuple[Callable[[Siege], Awaitable[Row]], ...] = (
        taken_ids,
        spending_nothing,
        spending_anothers,
        closing_anothers,
        thinking_after_the_reap,
        proposing_after_the_reap,
        proposing_for_another,
        proposing_twice,
        copying_a_target,
        copying_as_several,
        asking_twice,
        garbage_in_the_way,
    )
    rows = await asyncio.gather(*(attack(siege) for attack in attacks))
    return [*rows, *await bad_proposals(siege)]


async def taken_ids(siege: Siege) -> Row:
    """Takes the dedup ids of everything that will follow from a victim's proposal, its outcome included."""
    name, first = siege.proposal_id("suppressed"), fresh_id()
    victim = siege.victim
    about = f"{HOME}.{victim.id}.{name}"
    verified = caused_id(first, f"proposal.verified.{about}")
    authorized = caused_id(verified, f"proposal.authorized.{about}")
    outcomes = [f"action.claimed.{about}", f"action.executed.{about}"]
    for event_id in (verified, authorized, *(caused_id(authorized, subject) for subject in outcomes)):
        await siege.attacker.commit(siege.message(_hypothesis(siege.own)), Nats_Msg_Id=event_id)
    await siege.propose(name, event_id=first)
    end = await siege.life(victim, name)
    done = end is not None and isinstance(end.event, ActionExecuted) and end.event.outcome == "success"
    derived = end is not None and end.id == caused_id(authorized, outcomes[1])
    return Row(
        name="take the dedup ids of a future verdict, claim and outcome",
        refused=done and derived,
        by="keyed dedup ids",
        seen="the action was done and its outcome stored" if done else "the outcome never came",
    )


async def spending_nothing(siege: Siege) -> Row:
    """Spends tokens that no grant paid for, and cites one that was never given."""
    await think(siege, siege.own, usage=Usage(tokens_in=900), grant_id=None)
    await think(siege, siege.own, usage=Usage(tokens_in=900), grant_id="invented")
    reasons = {"no_grant", "unknown_grant"}
    seen = {reason for reason in reasons if await refused_spending(siege, siege.own, reason, tokens=900)}
    return Row(
        name="spend without a grant, or by an invented one", refused=seen == reasons, by="governor", seen=_all(seen)
    )


async def spending_anothers(siege: Siege) -> Row:
    """Spends what was granted to the victim."""
    grant = await open_grant(siege)
    await think(siege, siege.own, usage=Usage(tokens_in=900), grant_id=grant.grant_id)
    charged = await refused_spending(siege, siege.own, "anothers_grant", tokens=900)
    return Row(
        name="spend another's grant",
        refused=charged,
        by="governor",
        seen="charged to the persona" if charged else "not refused",
    )


async def closing_anothers(siege: Siege) -> Row:
    """Closes what was granted to the victim, as if it had cost all of it."""
    grant = await open_grant(siege)
    asked = siege.message(
        GrantRequested(swarm=HOME, persona=siege.own.id, need=Credits(), closing=grant.grant_id, used=grant.credits)
    )
    await siege.attacker.commit(asked)
    answered = await answer_to(siege, asked)
    refused = answered is not None and isinstance(answered.event, BudgetRefused)
    seen = "-" if answered is None else f"{answered.subject}: {getattr(answered.event, 'reason', 'settled')}"
    return Row(name="close another's grant", refused=refused, by="governor", seen=seen)


async def thinking_after_the_reap(siege: Siege) -> Row:
    """A step of a persona that is gone: as a slow runner commits it, guarded, and as a liar does, unguarded."""
    gone = siege.gone
    boundary = thoughts(HOME, gone.id)
    before = (await siege.judge.ends((boundary,)))[0]
    records = await siege.judge.read((boundary,))
    last = [r for r in records if isinstance(r.event, ThoughtGenerated)][-1]
    late = await think(siege, gone, guard=(boundary, last.seq))
    held = "error" in late and (await siege.judge.ends((boundary,)))[0] == before
    await think(siege, gone)
    sealed = await siege.first(
        [boundary], lambda r: isinstance(r.event, ThoughtSealed) and r.event.reason == "zombie", after=before
    )
    return Row(
        name="think after the reap",
        refused=held and sealed is not None,
        by="broker, sealed boundary; governor",
        seen="the guarded step was refused, the unguarded one sealed off" if sealed else "nobody sealed it off",
    )


async def proposing_after_the_reap(siege: Siege) -> Row:
    """Wants something done in the name of a persona that is gone."""
    return await _ignored(siege, siege.gone, "undead", "propose after the reap")


async def proposing_for_another(siege: Siege) -> Row:
    """Wants something done in the name of a persona that another runner holds."""
    return await _ignored(siege, siege.victim, "forged", "propose in another's name")


async def proposing_twice(siege: Siege) -> Row:
    """Creates a proposal again under its id, with another action, while the first goes its way."""
    name, own = siege.proposal_id("twice"), siege.own
    for text in ("first", "second", "third"):
        event = siege.proposal(own, name, text=text)
        await siege.attacker.commit(siege.message(event, charter=own.charter))
    end = await siege.life(own, name)
    file = siege.mesh.workspace / f"findings/{HOME}/{own.id}/{name}.md"
    written = file.read_text() if file.exists() else ""
    outcomes = await siege.judge.read((f"action.executed.{HOME}.{own.id}.{name}",))
    once = end is not None and len(outcomes) <= 1 and written in ("", f"{name} first")
    return Row(
        name="create a proposal again with another action",
        refused=once,
        by="verifier, gate, actuator",
        seen=f"written: {written or 'nothing'}",
    )


async def copying_a_target(siege: Siege) -> Row:
    """Proposes to write another's file itself, again and again, while people are asked about the other's proposal."""
    return await _copied(siege, [siege.own] * COPIES, f"copy another's target {COPIES} times")


async def copying_as_several(siege: Siege) -> Row:
    """The same by many personas at once, none of which loses often: together more than one conflict has sides."""
    sybils = [await siege.persona(f"sybil{n}") for n in range(SYBILS)]
    return await _copied(siege, sybils * SYBILS_COPIES, f"copy another's target as {SYBILS} personas at once")


async def _copied(siege: Siege, copiers: Sequence[Persona], attack: str) -> Row:
    """Each copy is said by the copier in its turn, all without waiting; a person says yes to what was there before."""
    name, victim = siege.proposal_id("copied"), siege.victim
    wanted = siege.proposal(victim, name, elsewhere=True)
    await siege.honest.commit([siege.message(wanted, charter=victim.charter, slot="r1")])
    life_of = f"{HOME}.{victim.id}.{name}"
    asked = await siege.first([f"approval.requested.{life_of}"])
    copies = []
    for n, copier in enumerate(copiers):
        event = siege.proposal(copier, f"{name}-{n}", elsewhere=True, text="mine")
        action = msgspec.structs.replace(event.action, target=wanted.action.target)
        digest = action_digest(swarm=HOME, persona=copier.id, charter=copier.charter, action=action)
        copies.append((copier, msgspec.structs.replace(event, action=action, digest=digest)))
    await asyncio.gather(*(siege.attacker.commit(siege.message(e, charter=c.charter)) for c, e in copies))
    ends = await asyncio.gather(*(siege.life(copier, event.proposal_id) for copier, event in copies))
    yes = {"decision": "grant", "digest": wanted.digest, "reason": "it is hers"}
    answer = await siege.api.post(f"/v1/approvals/{name}", params={"swarm": HOME, "persona": victim.id}, json=yes)
    done = await siege.life(victim, name)
    stopped = len(await siege.judge.read((f"conflict.joined.{life_of}",)))
    lost = sum(
        end is not None and isinstance(end.event, ProposalRejected) and "conflict_lost" in end.event.reasons
        for end in ends
    )
    went = done is not None and isinstance(done.event, ActionExecuted) and done.event.outcome == "success"
    return Row(
        name=attack,
        refused=asked is not None and answer.status_code == 200 and went and lost == len(copies) and stopped <= 1,
        by="arbitration, gate",
        seen=f"{lost} of {len(copies)} lost, the other stood still {stopped} times and was {'done' if went else 'NOT done'}",
    )


async def asking_twice(siege: Siege) -> Row:
    """Asks for one check twice; it is answered once."""
    check = siege.proposal_id("check")
    event = CheckRequested(
        swarm=HOME, persona=siege.own.id, check_id=check, hypothesis_id="h1", probe=LogResolve(evidence=(siege.seen,))
    )
    for _ in range(3):
        await siege.attacker.commit(siege.message(event))
    result = said("check.result", HOME, siege.own.id, check)
    found = await siege.first([result])
    last = siege.proposal_id("check")
    await siege.attacker.commit(siege.message(msgspec.structs.replace(event, check_id=last)))
    await siege.first([said("check.result", HOME, siege.own.id, last)])  # by then the repeats before it were looked at
    answers = await siege.judge.read((result,))
    return Row(
        name="ask for one check three times",
        refused=found is not None and len(answers) == 1,
        by="checker",
        seen=f"{len(answers)} result",
    )


async def garbage_in_the_way(siege: Siege) -> Row:
    """Bodies nobody can read, on the boundary of a victim's thoughts and in the life of its proposal."""
    victim, name = siege.victim, siege.proposal_id("blocked")
    proposal, thought = siege.message(siege.proposal(victim, name)), siege.message(_thought(victim, 1))
    for message in (proposal, thought, proposal):
        await siege.attacker.ask(message.subject)
    before = await siege.end()
    await siege.propose(name)
    await siege.attacker.ask(proposal.subject)
    end = await siege.life(victim, name)
    done = end is not None and isinstance(end.event, ActionExecuted)
    goes_on = await siege.thinks(victim, before)
    seen = f"proposal {'executed' if done else 'stuck'}, thoughts {'go on' if goes_on else 'stand'}"
    return Row(
        name="unreadable bodies on a victim's boundaries",
        refused=done and goes_on is not None,
        by="guards count what is stored",
        seen=seen,
    )


async def bad_proposals(siege: Siege) -> list[Row]:
    """Proposals of its own persona that are not what they say."""
    own = siege.own
    missing = EvidenceRef(id=fresh_id(), seq=siege.seen.seq)
    grant = await siege.first([f"budget.granted.{HOME}.{siege.victim.id}"])
    assert grant is not None
    foreign = EvidenceRef(id=grant.id, seq=grant.seq)
    cases: Sequence[tuple[str, dict[str, object]]] = (
        ("digest_mismatch", {"digest": NOBODY}),
        ("charter_mismatch", {"charter": NOBODY}),
        ("no_evidence", {"evidence": ()}),
        ("evidence_missing", {"evidence": (missing,)}),
        ("evidence_foreign", {"evidence": (foreign,)}),
        ("deadline_passed", {"deadline": utc_now()}),
    )

    async def propose(reason: str, changes: dict[str, object]) -> Row:
        name = siege.proposal_id("bad")
        event = msgspec.structs.replace(siege.proposal(own, name), **changes)
        await siege.attacker.commit(siege.message(event, charter=own.charter))
        return await _rejected(siege, own, name, f"propose with {reason.replace('_', ' ')}", reason)

    return list(await asyncio.gather(*(propose(*case) for case in cases)))


# -- what it is made of ----------------------------------------------------------------------------------------------


def _hypothesis(persona: Persona) -> HypothesisRaised:
    return HypothesisRaised(
        swarm=HOME, persona=persona.id, hypothesis_id="h1", topic="t", claim="c", confidence=0.5, evidence=()
    )


def _thought(persona: Persona, step: int) -> ThoughtGenerated:
    return ThoughtGenerated(
        swarm=HOME,
        persona=persona.id,
        step=step,
        cycle=step,
        phase="observe",
        text="forged",
        thinker="rules",
        digest=NOBODY,
        useful_at=utc_now(),
    )


async def think(
    siege: Siege,
    persona: Persona,
    *,
    usage: Usage = NO_USAGE,
    grant_id: str | None = None,
    guard: tuple[str, int] | None = None,
    final: bool = False,
    text: str = "forged",
) -> dict[str, object]:
    """A step in the persona's name, by the stolen key; what the broker answers."""
    headers = (
        {}
        if guard is None
        else {
            "Nats_Expected_Last_Subject_Sequence_Subject": guard[0],
            "Nats_Expected_Last_Subject_Sequence": str(guard[1]),
        }
    )
    steps = await siege.judge.read((class_filter("thought.generated", HOME, persona.id),))
    event = msgspec.structs.replace(
        _thought(persona, len(steps) + 1), usage=usage, grant_id=grant_id, final=final, text=text
    )
    return await siege.attacker.commit(siege.message(event), **headers)


async def answer_to(siege: Siege, asked: Message) -> Recorded | None:
    """What the governor answers to the request."""
    return await siege.first([f"budget.*.{HOME}.>"], lambda r: r.envelope.causation == asked.envelope.id)


async def open_grant(siege: Siege) -> BudgetGranted:
    """One of the victim's that is still open."""
    whose = f"budget.*.{HOME}.{siege.victim.id}"
    before = await siege.end()
    granted = await siege.first([whose], lambda r: isinstance(r.event, BudgetGranted), after=before - 1)
    granted = granted or (await siege.judge.read((f"budget.granted.{HOME}.{siege.victim.id}",)))[-1]
    assert isinstance(granted.event, BudgetGranted)
    return granted.event


async def refused_spending(siege: Siege, persona: Persona, reason: str, *, tokens: int) -> bool:
    """Whether the governor said so, and charged them."""

    def fits(recorded: Recorded) -> bool:
        event = recorded.event
        return isinstance(event, BudgetRefused) and event.reason == reason and event.credits.tokens == tokens

    return await siege.first([f"budget.refused.{HOME}.{persona.id}"], fits) is not None


async def _ignored(siege: Siege, persona: Persona, prefix: str, attack: str) -> Row:
    """Nobody answers what the slot may not say; the verifier buries it, and the honest one of the same id goes its way."""
    name = siege.proposal_id(prefix)
    message = siege.message(siege.proposal(persona, name, text="forged"), charter=persona.charter)
    await siege.attacker.commit(message)
    letter = await siege.letter(f"dead.verifier.SWARM.*.{message.subject}")
    answers = await siege.judge.read((life(HOME, persona.id, name),))
    honest = persona is not siege.victim
    if not honest:
        await siege.propose(name)
        end = await siege.life(persona, name)
        file = siege.mesh.workspace / f"findings/{HOME}/{persona.id}/{name}.md"
        honest = isinstance(end and end.event, ActionExecuted) and file.exists() and file.read_text() == f"{name} ok"
    return Row(
        name=attack,
        refused=letter and not answers and honest,
        by="verifier, by who holds the persona",
        seen="buried and not answered" if letter and not answers else "answered",
    )


async def _rejected(siege: Siege, persona: Persona, name: str, attack: str, reason: str) -> Row:
    end = await siege.life(persona, name)
    reasons = end.event.reasons if end is not None and isinstance(end.event, ProposalRejected) else ()
    return Row(name=attack, refused=reason in reasons, by="verifier", seen=", ".join(reasons) or "not rejected")


def _all(words: set[str]) -> str:
    return ", ".join(sorted(words))
