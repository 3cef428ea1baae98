"""Answers about what personas ask of people, and about what they may propose to do."""

from __future__ import annotations

from typing import Literal

from services.gateway.wire.views import View
from shared.contracts.events import Risk
from shared.contracts.ids import Instant


class QuestionView(View, frozen=True, kw_only=True):
    """A persona's question to people. `wanted`: who is asked, empty for anyone. `tainted`: its words may be an outsider's."""

    id: str
    state: Literal["open", "answered", "expired"]
    swarm_id: str
    persona_id: str
    proposal_id: str
    question: str
    options: tuple[str, ...]
    wanted: str
    tainted: bool
    asked_at: Instant
    expires_at: Instant
    answer: str
    answered_by: str | None
    answered_at: Instant | None


class ParamView(View, frozen=True, kw_only=True):
    """One parameter: its JSON type, or the texts it is one of; what it is when it is left out; in words what it may be."""

    name: str
    type: str
    required: bool
    one_of: tuple[str, ...]
    default: str | int | bool | None
    about: str = ""


class RowView(View, frozen=True, kw_only=True):
    """What an operator named: an action of the kind at `target`. `trouble`: why it is not done now, empty when it is."""

    target: str
    about: str
    params: tuple[ParamView, ...]
    trouble: str


class ActionKindView(View, frozen=True, kw_only=True):
    """A kind of action. `risk` is the least it can have. `idempotency` says what is done after a crash in its middle: it is inquired
    about and fenced off (`fenced`), the target has a key (`key`), doing it twice is doing it once (`free`), it is one commit with its
    claim (`once`). `outward`: what it says leaves the mesh. `per_day`: so many of one family, 0 sets no limit. `rows`: the targets an
    operator named, with their parameters."""

    kind: str
    about: str
    schema_version: int
    params: tuple[ParamView, ...]
    risk: Risk
    reversible: bool
    blast_radius: str
    idempotency: str
    exclusive: bool
    outward: bool
    timeout_ms: int
    output_bytes: int
    per_day: int
    rows: tuple[RowView, ...]


class FiledView(View, frozen=True, kw_only=True):
    """What was filed, or with `dry_run` would be: `would` tells it in a sentence. `proposal_id` None: nothing was stored."""

    proposal_id: str | None
    persona_id: str
    swarm_id: str
    digest: str
    risk: Risk
    would: str
