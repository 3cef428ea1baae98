"""A specialist: a child that perceives one source alone, born when the source keeps its parent busy, ended by itself when it is quiet.

What it perceives is a tag of its identity, so all who host it or its parent know it from its birth. Its id follows from the source and
the line it became busy with: all who would have it mean the same child.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from shared.contracts.action import Action
from shared.contracts.events import LogCount
from shared.contracts.kinds.mesh import TAG_CHARS, words
from shared.contracts.text import code, lines, plain
from shared.thinker.port import Context, OpenHypothesis, ProposalDraft

TAG = "source:"
BUSY = "busy source "
"""How the topic of a finding begins that tells of a source which keeps the persona busy."""
QUIET = "source-quiet"
"""The name of a specialist's rule on the silence of its source."""
QUIET_S = 600
IDLE_TTL_S = 3600
TOKENS, COMPUTE_MS = 1000, 2000
"""What a specialist may spend a minute."""
TOOLS = "file.write,persona.reap"


def tag_of(source: str) -> str | None:
    """The tag of who perceives this source alone; None for a name that no tag can carry: it has no specialist."""
    tag = TAG + source
    return tag if source and len(tag) <= TAG_CHARS and words(tag) == (tag,) and plain(tag) == tag else None


def source_of(tags: Iterable[str]) -> str | None:
    """The one source that who has these tags perceives; None: all."""
    return next((tag[len(TAG) :] for tag in tags if tag.startswith(TAG) and len(tag) > len(TAG)), None)


def child_id(source: str, first_seq: int) -> str:
    """The specialist's id, at most 40 characters."""
    slug = re.sub(r"[^a-z0-9]+", "-", source.lower()).strip("-")[:31].strip("-") or "source"
    digest = hashlib.sha256(f"{source} {first_seq}".encode()).hexdigest()
    return f"{slug}-{digest[:8]}"


def birth(context: Context, hypothesis: OpenHypothesis) -> ProposalDraft | None:
    """What is proposed of a source that was confirmed to keep the persona busy; None where a specialist has it, or it may have no child."""
    finding = hypothesis.finding
    if finding is None or not isinstance(finding.probe, LogCount) or "persona.spawn" not in context.kinds:
        return None
    source, tag = finding.source, tag_of(finding.source)
    if tag is None:
        return None
    return ProposalDraft(
        title=plain(f"A specialist for {source}", 72),
        rationale=plain(
            f"{hypothesis.claim}. A child that perceives this source alone leaves room for the others; "
            f"it ends itself when the source was quiet for {QUIET_S} s.",
            900,
        ),
        action=Action(
            kind="persona.spawn",
            target=child_id(source, finding.probe.first_seq),
            params={
                "name": plain(f"Specialist for {source}", 120),
                "role": "specialist",
                "charter": f"Watch the source {code(source)} alone, and report what is out of the ordinary there.",
                "tokens_per_minute": TOKENS,
                "compute_ms_per_minute": COMPUTE_MS,
                "idle_ttl_s": IDLE_TTL_S,
                "max_children": 0,
                "tags": tag,
                "tools": TOOLS,
            },
        ),
        evidence=hypothesis.evidence[:16],
        hypothesis_id=hypothesis.hypothesis_id,
    )


def end(context: Context, hypothesis: OpenHypothesis) -> ProposalDraft | None:
    """What a specialist proposes of its source's confirmed silence: its own end, with what it said last as last words."""
    source = source_of(context.identity.tags)
    if source is None or "persona.reap" not in context.kinds:
        return None
    said = [f"{note.phase}: {note.text}" for note in context.recent if note.phase == "compress"]
    summary = "\n".join([f"{source} was quiet for {QUIET_S} s; {context.percept.total} lines seen of it.", *said])
    return ProposalDraft(
        title=plain(f"The end of the specialist for {source}", 72),
        rationale=plain(
            f"{hypothesis.claim}. There is nothing left to watch; its parent perceives the source again.", 900
        ),
        action=Action(
            kind="persona.reap",
            target=context.identity.id,
            params={"reason": "the source is quiet", "summary": lines(summary, 4000)},
        ),
        evidence=hypothesis.evidence[:16],
        hypothesis_id=hypothesis.hypothesis_id,
    )
