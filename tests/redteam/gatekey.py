"""What the login of a gate is worth without the verdict seed: it makes nobody a signer, and what it authorises is not done.

The permissions of CORE keep a service from mistakes, not from all malice: whoever asks for the deliveries of its own durable and names a
subject of the log as where to, has the broker store again what is delivered.
"""

from __future__ import annotations

from datetime import timedelta

import msgspec

from shared.contracts.catalog import subject_of
from shared.contracts.envelope import Message, encode, enveloped
from shared.contracts.events import (
    ActionExecuted,
    ApprovalRequested,
    ProposalAuthorized,
    ProposalVerified,
    Signer,
    SignersChanged,
)
from shared.contracts.ids import EVERYONE, fresh_id, utc_now
from shared.crypto import new_seed, public_key, sign_signers, sign_verdict
from shared.policy.activations import Followed as Policies
from shared.signers import BOUNDARY, Followed
from tests.redteam.attacker import Attacker
from tests.redteam.report import Row
from tests.redteam.siege import HOME, Siege

GATE = "policy_gate-1"
TIMERS = "policy_gate-timers"
SEED = new_seed()
"""A verdict key of the attacker's own."""
TRIES = 200


async def gatekey(siege: Siege) -> list[Row]:
    """All of them."""
    attacker = await Attacker.open(siege.mesh.nats_url, siege.mesh.key(GATE), GATE)
    try:
        return [await saying(siege, attacker), await delivering(siege, attacker), await authorising(siege, attacker)]
    finally:
        await attacker.close()


def word(number: int = 99) -> Message:
    """That verdicts of the attacker's key are good, signed by a root of its own."""
    draft = SignersChanged(
        swarm=EVERYONE,
        persona=EVERYONE,
        number=number,
        signers=(Signer(key=public_key(SEED)),),
        root="",
        signature="",
    )
    return _message(sign_signers(new_seed(), draft))


async def saying(siege: Siege, attacker: Attacker) -> Row:
    """Says it, as the bootstrap would."""
    refused = await attacker.refused([subject_of(word().event)])
    stored = await siege.judge.stored((BOUNDARY,))
    whole = bool(refused) and len(stored) == 1
    return Row(
        name="say whose verdicts are good, by a gate's login",
        refused=whole,
        by="broker permission",
        seen=f"{len(stored)} word",
    )


async def delivering(siege: Siege, attacker: Attacker) -> Row:
    """Says it on a subject of its own, and has the broker deliver that to where it would count."""
    own = subject_of(_asked(siege, "redirected"))
    _, lines, body = encode(word())
    headers = dict(line.split(": ", 1) for line in lines.strip().split("\r\n") if not line.startswith("ce-subject"))
    said = moved = 0
    while said < TRIES and not moved:  # the gate itself asks for its deliveries too, and the broker serves both in turn
        ask = b'{"batch":1,"expires":2000000000}'
        await attacker.say(f"$JS.API.CONSUMER.MSG.NEXT.SWARM.{TIMERS}", ask, reply=BOUNDARY)
        await attacker.client.request(own, body, headers=headers, timeout=5)
        await attacker.settled()
        said += 1
        moved = len(await siege.judge.stored((own,))) - said
    known = await Followed(siege.judge, (siege.root,)).look()
    whole = moved > 0 and len(await siege.judge.stored((BOUNDARY,))) == 1
    whole = whole and public_key(SEED) not in {signer.key for signer in known.now}
    seen = "stored again, under its own subject" if moved else "the broker delivered none of it"
    return Row(
        name="have that delivered where it would count",
        refused=whole,
        by="broker: a delivery keeps its subject",
        seen=seen,
    )


async def authorising(siege: Siege, attacker: Attacker) -> Row:
    """Authorises with a verdict key of its own what people were asked about."""
    name = siege.proposal_id("forged-verdict")
    proposal = siege.proposal(siege.victim, name, elsewhere=True)
    await siege.honest.commit([siege.message(proposal, charter=siege.victim.charter, slot="r1")])
    whose = f"{HOME}.{siege.victim.id}.{name}"
    asked = await siege.first([f"approval.requested.{whose}"])
    verified = await siege.first([f"proposal.verified.{whose}"])
    assert asked is not None and verified is not None and isinstance(verified.event, ProposalVerified)
    draft = ProposalAuthorized(
        swarm=HOME,
        persona=siege.victim.id,
        proposal_id=name,
        digest=proposal.digest,
        risk=verified.event.risk,
        policy_ids=("file-approved",),
        policy_version=(await Policies(siege.judge).look()).active,
        approvals=(asked.id,),
        expires_at=utc_now() + timedelta(minutes=5),
        key="",
        signature="",
    )
    key, signature = sign_verdict(SEED, draft)
    answer = await attacker.commit(_message(msgspec.structs.replace(draft, key=key, signature=signature)))
    assert "error" not in answer, answer
    executed = await siege.first([f"action.executed.{whose}"])
    outcome = executed.event if executed is not None else None
    refused = isinstance(outcome, ActionExecuted) and outcome.error == "bad_signature"
    written = (siege.mesh.workspace / proposal.action.target).exists()
    seen = outcome.summary[:100] if isinstance(outcome, ActionExecuted) else "no outcome"
    return Row(name="authorise with a key of its own", refused=refused and not written, by="actuator", seen=seen)


def _asked(siege: Siege, name: str) -> ApprovalRequested:
    return ApprovalRequested(
        swarm=HOME,
        persona=siege.victim.id,
        proposal_id=name,
        digest="0" * 64,
        risk="high",
        policy_version="1",
        quorum=1,
        expires_at=utc_now() + timedelta(minutes=5),
        summary="x",
    )


def _message(event: SignersChanged | ProposalAuthorized) -> Message:
    return Message(event=event, envelope=enveloped(fresh_id(), source="policy_gate", time=utc_now()))
