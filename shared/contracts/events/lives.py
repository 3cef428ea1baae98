"""A persona's life: spawned, drained, reaped, and the snapshot of its mind."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from shared.contracts.events.common import Count, Event, Reason, Short, Word
from shared.contracts.events.conflicts import ProposalKey
from shared.contracts.ids import CORE, EventId, Instant, Sha256, Slot, Token
from shared.contracts.persona import Identity, Name, PersonaPolicy, Tags, Text


class SpawnRequested(Event, frozen=True, kw_only=True, tag="spawn.requested"):
    """Someone wants a persona; `persona` is the wanted id. `policy` None means the parent's, or the defaults for a root.

    `hibernate`: nobody set the policy's `idle_ttl_secs`; so it is with no policy at all. `proposal`: the parent proposed it.
    """

    name: Name
    role: Name
    charter: Text
    parent_id: Token | None = None
    policy: PersonaPolicy | None = None
    tags: Tags = ()
    principal: Short = ""
    hibernate: bool = False
    proposal: ProposalKey | None = None


class SwarmRequested(Event, frozen=True, kw_only=True, tag="swarm.requested"):
    """Someone wants a persona that begins `swarm`, in which nobody ever was: a child of `parent_id` of `parent_swarm`, whose credits
    come from there. `policy` None means the parent's with half of its budgets. It is answered like `spawn.requested`."""

    name: Name
    role: Name
    charter: Text
    parent_swarm: Token
    parent_id: Token
    policy: PersonaPolicy | None = None
    tags: Tags = ()
    principal: Short = ""


class SpawnRefused(Event, frozen=True, kw_only=True, tag="spawn.refused"):
    """No persona, and why. Reasons: reserved_id, duplicate_id, parent_missing, parent_not_live, root_limit, depth_limit,
    branching_limit, lifetime_limit, beyond_parent, bad_capabilities, swarm_limit, no_budget, spawn_rate, too_many_waiting;
    and of who would begin a swarm: swarm_exists, too_many_swarms, no_share, lent_limit.

    `retry_after_s`: when there may be room again; 0 when waiting brings nothing. `proposal` as in the request.
    """

    reason: Reason
    detail: Annotated[str, Meta(max_length=1000)]
    retry_after_s: Count = 0
    proposal: ProposalKey | None = None


class PersonaSpawned(Event, frozen=True, kw_only=True, tag="persona.spawned"):
    """A persona lives. `hibernates`: after `idle_ttl_secs` without useful progress it rests until something happens, instead
    of being reaped; a root whose time nobody set. `parent_swarm`: where the parent lives, if that is another swarm. `proposal` as in
    the request."""

    identity: Identity
    policy: PersonaPolicy
    principal: Short = ""
    hibernates: bool = False
    parent_swarm: Token | None = None
    proposal: ProposalKey | None = None

    @property
    def parent(self) -> tuple[str, str] | None:
        """Swarm and id of the parent."""
        if self.identity.parent_id is None:
            return None
        return self.parent_swarm or self.swarm, self.identity.parent_id


class PersonaFounded(Event, frozen=True, kw_only=True, tag="persona.founded"):
    """The persona has a child that began the swarm `daughter`: said in its own lineage, in one commit with the child's
    `persona.spawned`. What the child's policy may spend is taken from what the persona, and all above it, may."""

    daughter: Token
    child: Token
    policy: PersonaPolicy
    created_at: Instant


class PersonaParted(Event, frozen=True, kw_only=True, tag="persona.parted"):
    """The child that began `daughter` drains, in one commit with that: it counts as a child no more, and what was taken is back."""

    daughter: Token
    child: Token


class ReapRequested(Event, frozen=True, kw_only=True, tag="reap.requested"):
    """Someone wants a persona to end; without `cascade`, its live descendants drain a little later, as orphans. `proposal`: it, or one
    it is below, proposed that."""

    cascade: bool = False
    reason: Short = "manual_reap"
    principal: Short = ""
    proposal: ProposalKey | None = None


class PersonaDraining(Event, frozen=True, kw_only=True, tag="persona.draining"):
    """First phase of reaping: finish the step, think no further, leave a final snapshot before `deadline`."""

    reason: Short
    deadline: Instant
    principal: Short = ""


class PersonaReaped(Event, frozen=True, kw_only=True, tag="persona.reaped"):
    """Second phase: gone. `snapshot_id` names the final snapshot."""

    reason: Short
    snapshot_id: EventId | None = None


class ThoughtSealed(Event, frozen=True, kw_only=True, tag="thought.sealed"):
    """The end of a persona's history, in one commit with `persona.reaped`: a step that was begun before is refused after it.

    What claims to be a thought of this persona and comes later counts for nobody. `reason`: reaped; zombie when a reaped
    persona's history had no seal, or was gone on with, and the governor found it.
    """

    reason: Reason = "reaped"
    slot: Slot = CORE


class SnapshotCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot holds."""

    thoughts: Count = 0
    kept: Count = 0
    merged: Count = 0
    pinned: Count = 0
    edges: Count = 0


class SnapshotCompressed(Event, frozen=True, kw_only=True, tag="snapshot.compressed"):
    """A distilled state of mind in cold storage; with the log after `seq` it gives the same state, byte for byte."""

    snapshot_id: EventId
    key: Annotated[str, Meta(max_length=1024, description="S3 key")]
    sha256: Sha256
    seq: Count
    summary: Annotated[str, Meta(max_length=4000)]
    counts: SnapshotCounts
    ratio: Annotated[float, Meta(ge=0.0, le=1e9)] = 1.0
    size_bytes: Count = 0
    final: bool = False
    metadata: Annotated[dict[Annotated[str, Meta(max_length=64)], Word], Meta(max_length=64)] = {}  # noqa: RUF012 (msgspec copies it)


class SnapshotDelayed(Event, frozen=True, kw_only=True, tag="snapshot.delayed"):
    """The final snapshot of a draining persona cannot be written now; it is tried again until it is. Said once a draining.

    Reasons: cold_unavailable, index_unavailable, embedder_unavailable.
    """

    reason: Reason
    detail: Annotated[str, Meta(max_length=1000)] = ""
