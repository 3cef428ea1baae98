"""What the API takes. Unknown fields are ignored, null where there is a default is the default; ids are tokens and are
checked again before they reach a subject."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from services.gateway.wire.ids import GIVEN_PATTERN
from shared.contracts.action import Params
from shared.contracts.action_kinds import KINDS
from shared.contracts.events import Credits, Most
from shared.contracts.events.intents import MAX_FAN_OUT, MAX_ROUTES, Goal, Merge, Options
from shared.contracts.ids import EVERYONE, EventId, Instant, Sha256, Token
from shared.contracts.persona import Name, PersonaPolicy, Text

Id = Annotated[str, Meta(pattern=GIVEN_PATTERN, description="letters, digits, - and _")]
Tag = Annotated[str, Meta(max_length=64)]
Reason = Annotated[str, Meta(max_length=300)]
MAX_OBSERVATIONS = 1000
MANUAL = "manual_reap"


class WantedPolicy(PersonaPolicy, frozen=True, kw_only=True):
    """Limits of a new persona. `idle_ttl_secs` left out: a root hibernates after an hour without use, a child has its parent's."""

    idle_ttl_secs: Annotated[int, Meta(ge=0, le=2**40)] | None = None  # type: ignore[assignment]  # unset is not 3600

    def policy(self) -> PersonaPolicy:
        fields = msgspec.structs.asdict(self)
        return PersonaPolicy(**{name: value for name, value in fields.items() if value is not None})


class CreatePersona(msgspec.Struct, frozen=True, kw_only=True):
    """`persona_id` null: one is made. `swarm_id` null: the parent's, or `swarm-core`."""

    name: Name
    role: Name
    charter: Text
    persona_id: Id | None = None
    swarm_id: Id | None = None
    parent_id: Id | None = None
    policy: WantedPolicy | None = None
    tags: Annotated[tuple[Tag, ...], Meta(max_length=64)] | None = ()


class SpawnPersona(msgspec.Struct, frozen=True, kw_only=True):
    """A child of the persona in the path, under a policy no wider than its parent's; it lives in its parent's swarm, or is the first of
    a new one: `swarm_id`."""

    name: Name
    role: Name
    charter: Text
    persona_id: Id | None = None
    swarm_id: Id | None = None
    policy: WantedPolicy | None = None


class ReapPersona(msgspec.Struct, frozen=True, kw_only=True):
    cascade: bool | None = False
    reason: Reason | None = MANUAL


class StartCognition(msgspec.Struct, frozen=True, kw_only=True):
    """`seed_persona` is used only when no persona exists."""

    loop_interval_ms: Annotated[int, Meta(ge=0)] | None = None
    seed_persona: CreatePersona | None = None


class StopCognition(msgspec.Struct, frozen=True, kw_only=True):
    reason: Reason | None = None


class HaltMesh(msgspec.Struct, frozen=True, kw_only=True):
    reason: Annotated[str, Meta(max_length=1000)] | None = None


class ResumeMesh(msgspec.Struct, frozen=True, kw_only=True):
    """`seq` is that of the halt that was looked at: a later one is not resumed unseen."""

    reason: Annotated[str, Meta(max_length=1000)] | None = None
    seq: Annotated[int, Meta(ge=0, le=2**53)] | None = None


class PickPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """`policy`: a name among the built-in ones, or the version of some that were in force."""

    policy: Annotated[str, Meta(min_length=1, max_length=64)]
    reason: Annotated[str, Meta(max_length=1000)] | None = None


class ShadowPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """`policy` null: none is asked beside those in force."""

    policy: Annotated[str, Meta(max_length=64)] | None = None
    reason: Annotated[str, Meta(max_length=1000)] | None = None


class SetBudget(msgspec.Struct, frozen=True, kw_only=True):
    """What a swarm is to have a minute, whole: at least `floor` when it has use for it, at most `ceiling`, and how much it weighs against
    the others (100 is usual). A resource that `ceiling` leaves out has the setting's. `version` is the one that was looked at."""

    floor: Credits | None = None
    ceiling: Most | None = None
    weight: Annotated[int, Meta(ge=1, le=10_000)] = 100
    reason: Annotated[str, Meta(max_length=1000)] | None = None
    version: Annotated[int, Meta(ge=0, le=2**53)] | None = None


class SubmitIntent(msgspec.Struct, frozen=True, kw_only=True):
    """Work for somebody. `swarm_id` is its home, `swarm-core` or its parent's where it is left out; `wanted_swarm` and `wanted_persona`
    narrow down who may get it. It is due at `deadline`, or in `deadline_secs`: an hour, or when its parent
    is, where neither is said. `budget` is for all who work on it together."""

    goal: Goal
    swarm_id: Id | None = None
    tags: Annotated[tuple[Token, ...], Meta(max_length=16)] | None = ()
    priority: Annotated[int, Meta(ge=0, le=9)] | None = 5
    deadline: Instant | None = None
    deadline_secs: Annotated[int, Meta(ge=1, le=2_592_000)] | None = None
    budget: Credits | None = None
    wanted_swarm: Id | None = None
    wanted_persona: Id | None = None
    fan_out: Annotated[int, Meta(ge=1, le=MAX_FAN_OUT)] | None = 1
    merge: Merge | None = "first"
    options: Options | None = ()
    max_routes: Annotated[int, Meta(ge=1, le=MAX_ROUTES)] | None = 8
    parent_id: Id | None = None


INTENT_BUDGET = Credits(tokens=20_000, compute_ms=60_000)
"""Where none is said."""


class CancelIntent(msgspec.Struct, frozen=True, kw_only=True):
    reason: Annotated[str, Meta(max_length=1000)] | None = ""


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """`persona` narrows it to one persona; by default all of the swarm perceive it.

    `vouched`: these are words of yours that you stand by, and no outsider's. It needs the scope `approve`.
    """

    text: Annotated[str, Meta(min_length=1, max_length=8192)]
    source: Annotated[str, Meta(max_length=200)] | None = "api"
    tags: Annotated[tuple[Tag, ...], Meta(max_length=64)] | None = ()
    persona: Id | None = EVERYONE
    observed_at: Instant | None = None
    vouched: bool | None = False


class RecordObservations(msgspec.Struct, frozen=True, kw_only=True):
    """Either one observation by its own fields, or up to 1000 in `observations`."""

    observations: Annotated[tuple[Observation, ...], Meta(max_length=MAX_OBSERVATIONS)] | None = ()
    text: Annotated[str, Meta(min_length=1, max_length=8192)] | None = None
    source: Annotated[str, Meta(max_length=200)] | None = "api"
    tags: Annotated[tuple[Tag, ...], Meta(max_length=64)] | None = ()
    persona: Id | None = EVERYONE
    observed_at: Instant | None = None
    vouched: bool | None = False

    def each(self) -> tuple[Observation, ...]:
        """Raises `ValueError` when there is none, or one in both forms."""
        if (self.text is None) == (not self.observations):
            raise ValueError("give either text, or observations with 1 to 1000 entries")
        if self.text is None:
            return self.observations or ()
        one = Observation(
            text=self.text,
            source=self.source,
            tags=self.tags,
            persona=self.persona,
            observed_at=self.observed_at,
            vouched=self.vouched,
        )
        return (one,)


class Approve(msgspec.Struct, frozen=True, kw_only=True):
    """`digest` is the one shown with the request; `If-Match` may say it instead."""

    digest: Sha256 | None = None


class DecideApproval(msgspec.Struct, frozen=True, kw_only=True):
    """`digest` is the one shown with the request, and so is `request_id` where it is given; any other is refused."""

    decision: Literal["grant", "deny"]
    digest: Sha256
    request_id: EventId | None = None
    reason: Annotated[str, Meta(max_length=1000)] | None = ""


class RuleConflict(msgspec.Struct, frozen=True, kw_only=True):
    """`winner` is the proposal that goes first; swarm and persona tell two of one id apart."""

    winner: Id
    swarm_id: Id | None = None
    persona_id: Id | None = None
    reason: Annotated[str, Meta(max_length=1000)] | None = ""


class ResolveAction(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it, as somebody who has looked says."""

    outcome: Literal["success", "failure"]
    reason: Annotated[str, Meta(min_length=1, max_length=1000)]


class FileProposal(msgspec.Struct, frozen=True, kw_only=True):
    """What a person or program wants done, in the name of a persona and within its bounds; where several live, say which.

    `params` as `GET /v1/actions` lists them. With `dry_run` nothing is stored: only what would be done is told, and its risk.
    """

    kind: Annotated[str, Meta(max_length=48, extra_json_schema={"enum": sorted(KINDS)})]
    target: Annotated[str, Meta(min_length=1, max_length=1024)]
    params: Params = {}
    title: Annotated[str, Meta(min_length=1, max_length=72)] | None = None
    rationale: Annotated[str, Meta(min_length=1, max_length=900)] | None = None
    persona_id: Id | None = None
    swarm_id: Id | None = None
    deadline_secs: Annotated[int, Meta(ge=1, le=604_800)] | None = 3600
    dry_run: bool | None = False


class AnswerQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """One of the question's options, where it has some, else a text."""

    answer: Annotated[str, Meta(min_length=1, max_length=4000)]


ROOT_THINKER = CreatePersona(
    persona_id="root-thinker",
    name="root-thinker",
    role="orchestrator",
    charter="Watch everything the swarm perceives, find what is out of the ordinary, and propose what would help.",
    swarm_id="swarm-core",
    tags=("orchestration",),
)
"""The seed when none is given."""
DEFAULT_SWARM = "swarm-core"
