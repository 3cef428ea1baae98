"""The mesh itself: the loop's control, who runs, the policies in force, whose verdicts are good, halts."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared.contracts.events.common import MAX_REFS, Count, Event, Short, Word
from shared.contracts.ids import Instant, Sha256, Slot, Token
from shared.contracts.persona import Name


class CognitionStarted(Event, frozen=True, kw_only=True, tag="cognition.started"):
    """The loop runs, no step of one persona sooner than `loop_interval_ms` after its last."""

    loop_interval_ms: Annotated[int, Meta(ge=100, le=86_400_000)] = 2000
    principal: Short = ""


class CognitionStopped(Event, frozen=True, kw_only=True, tag="cognition.stopped"):
    """The loop stands; nothing is lost."""

    reason: Short = ""
    principal: Short = ""


class PlacementChanged(Event, frozen=True, kw_only=True, tag="placement.changed"):
    """Which runners there are from now on; of `shards` shards each is held by one of them (`shared/placement.py`).

    Of all swarms but those with a word of their own; one of those without slots takes it back.
    """

    slots: Annotated[tuple[Slot, ...], Meta(max_length=MAX_REFS)]
    shards: Annotated[int, Meta(ge=1, le=65_536)]


class PolicyActivated(Event, frozen=True, kw_only=True, tag="policy.activated"):
    """From here on the bundle of this digest decides. Of the whole mesh: swarm and persona are `all`.

    The bundle itself is in the bucket `policies` under its digest. `mode` shadow decides nothing. `revokes`: what was authorised under
    earlier bundles is void, else it is good to its expiry. `gate` is the instance that activated it, from its folder or, by the word of
    `principal`, because it was picked.
    """

    digest: Sha256
    mode: Literal["active", "shadow"] = "active"
    revokes: bool = False
    gate: Word = ""
    principal: Short = ""


class PolicyPicked(Event, frozen=True, kw_only=True, tag="policy.picked"):
    """A person wants the mesh to go by these policies, or (`shadow`) to have them asked beside those in force; swarm and persona are `all`.

    `which`: a name among the built-in ones, or the digest of some that were in force; "" ends a shadow. Gates prove and activate them.
    """

    mode: Literal["active", "shadow"]
    which: Word = ""
    principal: Name
    reason: Annotated[str, Meta(max_length=1000)] = ""


class RowArgument(msgspec.Struct, frozen=True, kw_only=True):
    """An argument by its name, and in words what it may be."""

    name: Word
    type: Literal["string", "integer", "boolean"] = "string"
    required: bool = True
    about: Annotated[str, Meta(max_length=300)] = ""


class DeclaredRow(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator named for personas to propose: an action of `kind` at `target`, with these arguments. `trouble`: why it is not
    done now."""

    kind: Word
    target: Word
    about: Annotated[str, Meta(max_length=300)] = ""
    arguments: Annotated[tuple[RowArgument, ...], Meta(max_length=32)] = ()
    trouble: Annotated[str, Meta(max_length=300)] = ""


class RowsDeclared(Event, frozen=True, kw_only=True, tag="rows.declared"):
    """From here on these are all the rows the operator's files have for the actuator. Of the whole mesh: swarm and persona are `all`.

    `left_out`: so many more there was no room for; they are done all the same.
    """

    rows: Annotated[tuple[DeclaredRow, ...], Meta(max_length=MAX_REFS)] = ()
    left_out: Count = 0


class Signer(msgspec.Struct, frozen=True, kw_only=True):
    """A public nkey whose verdicts are good, until just before `until` by the broker's time; None is without end."""

    key: Word
    until: Instant | None = None


class SignersChanged(Event, frozen=True, kw_only=True, tag="signers.changed"):
    """From here on a verdict is good that one of these keys signed, and no other. Of the whole mesh: swarm and persona are `all`.

    `number` grows with every change. `signature` is `shared.crypto.sign_signers` by `root` over all of it, Base64: who may only say it
    cannot make it.
    """

    number: Annotated[int, Meta(ge=1, le=2**53)]
    signers: Annotated[tuple[Signer, ...], Meta(max_length=16)]
    root: Word
    signature: Word


class LostAction(msgspec.Struct, frozen=True, kw_only=True):
    """An action that was claimed, and perhaps done, in a part of the log that is gone. `known`: its proposal is still there."""

    swarm: Token
    persona: Token
    proposal_id: Token
    digest: Sha256
    claimed_at: Instant
    known: bool = False


class MeshHalted(Event, frozen=True, kw_only=True, tag="mesh.halted"):
    """No action is authorised or executed any more; what waits goes on waiting. Of the whole mesh: swarm and persona are `all`.

    With cause `log_went_back` the sequence of this event begins a new epoch: authorisations and approvals before it are void.
    `reached` is the last sequence somebody had seen before; `lost` are at most 64 of `lost_total` actions.
    """

    cause: Literal["person", "log_went_back"]
    reason: Annotated[str, Meta(max_length=1000)] = ""
    principal: Short = ""
    reached: Count = 0
    lost: Annotated[tuple[LostAction, ...], Meta(max_length=64)] = ()
    lost_total: Count = 0


class MeshResumed(Event, frozen=True, kw_only=True, tag="mesh.resumed"):
    """Actions go on; a person said so, knowing what is void and what is unknown."""

    reason: Annotated[str, Meta(max_length=1000)] = ""
    principal: Short = ""
