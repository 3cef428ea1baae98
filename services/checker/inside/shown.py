"""What is found in the form it is told in: harmless to look at, cut to its bounds, and said that it was."""

from __future__ import annotations

from collections import Counter

from shared.contracts.envelope import Recorded
from shared.contracts.events import EvidenceRef, ObservationRecorded, SeenLine, Share
from shared.contracts.events.probes import MAX_LINE, MAX_SHARES, MAX_VALUE
from shared.contracts.text import plain


def ref_of(recorded: Recorded) -> EvidenceRef:
    """Its citation."""
    return EvidenceRef(id=recorded.id, seq=recorded.seq)


def line_of(recorded: Recorded) -> SeenLine:
    """An observation on one line, at its source's time where that is known."""
    event = recorded.event
    assert isinstance(event, ObservationRecorded)
    return SeenLine(
        ref=ref_of(recorded),
        source=plain(event.source, 200),
        at=event.observed_at or recorded.stored_at,
        text=plain(event.text, MAX_LINE),
    )


def counted_by(values: Counter[str], total: int, what: str, most: int = MAX_SHARES) -> tuple[tuple[Share, ...], str]:
    """The most frequent, the first of equals first, and what is left out in words."""
    shares = tuple(Share(value=plain(value, MAX_VALUE), count=count) for value, count in values.most_common(most))
    others = total - sum(share.count for share in shares)
    cut = f"{others} of another {what}" if shares and others > 0 else ""
    return shares, cut


def also(*cuts: str) -> str:
    """What was left out, one after the other."""
    return "; ".join(cut for cut in cuts if cut)[:300]
