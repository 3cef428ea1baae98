"""Whether a verdict is signed by whom the log says may sign at its place in it. Pure."""

from __future__ import annotations

from services.gateway.projections.proposals import Life
from services.gateway.wire.lives import VerdictSignature
from shared.contracts.envelope import Recorded
from shared.contracts.events import ProposalAuthorized
from shared.crypto import verify_verdict
from shared.signers import NOBODY, Signers


def signature_of(life: Life, signers: Signers) -> VerdictSignature | None:
    """Of the authorisation that counts, the first; None where there is none."""
    return next((found for recorded in life.events if (found := checked(recorded, signers)) is not None), None)


def checked(recorded: Recorded, signers: Signers) -> VerdictSignature | None:
    """Of an authorisation; None of anything else, which has no signature."""
    if not isinstance(event := recorded.event, ProposalAuthorized):
        return None
    if not signers.words:
        return VerdictSignature(key=event.key, good=None, detail=NOBODY)
    good = verify_verdict(event, signers.at(recorded.seq), recorded.stored_at)
    why = "by a key that was good" if good else "by no key that was good"
    return VerdictSignature(key=event.key, good=good, detail=f"{why} at {recorded.seq}")
