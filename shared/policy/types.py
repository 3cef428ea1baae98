"""What the policy is asked and what it answers. Pure data: deciders may import it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from shared.contracts.capabilities import Given, Reach
from shared.contracts.events import Risk
from shared.contracts.row import Row

QUORUM: Mapping[Risk, int] = {"low": 1, "medium": 1, "high": 1, "critical": 2}
"""How many different people must say yes, where people are asked."""


Said = Given | tuple[str, ...]
"""A parameter as policies are told it; several with names of the operator's are a set of `name=value`."""


class PolicyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """May `persona` of `swarm` do `action` to `target`, under these circumstances?

    `approvals` counts different people who said yes to exactly `digest`; `quorum` is how many the risk asks for.
    `scope` is where the action stands to the persona's capabilities; `params` are its typed parameters (`asking.told`), `row` is what the
    operator's row says of it, where its kind has rows. `cost_microusd` is its price, `over_limit` says that a scope's limit of the day has
    no room for it. `labels` say what is known of where the outsiders' words come from that it is `tainted` by. `allowed_hosts` are
    `host:port`. `environment` is a free word of the operator's ("local", "production", "bench").
    """

    swarm: str
    persona: str
    action: str
    target: str
    digest: str
    risk: Risk
    tainted: bool
    environment: str
    scope: Reach = "unstated"
    row: Row | None = None
    cost_microusd: int = 0
    over_limit: bool = False
    params: Mapping[str, Said] = {}
    labels: tuple[str, ...] = ()
    approvals: int = 0
    quorum: int = 1
    kill_switch: bool = False
    allowed_hosts: tuple[str, ...] = ()


Namespace = Literal["own", "descendants", "blackboard", "mesh"]
"""Whose memory: one's own; of those one spawned, or who descend from them, what they distilled; what a swarm believes; what several do."""


class ReadRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """May this reader read that namespace? The reader is `persona` of `swarm`, or the `person` with these scopes.

    Of `memory.merge` it is `swarm` itself, and the namespace the mesh's: may what it believes be believed by all? `owner_swarm` and
    `owner_persona` are whose memory it is; `shared`: whether they share it (a blackboard has only what is shared).
    """

    action: Literal["memory.read", "memory.merge"] = "memory.read"
    swarm: str = ""
    persona: str = ""
    person: str = ""
    scopes: tuple[str, ...] = ()
    namespace: Namespace
    owner_swarm: str
    owner_persona: str = ""
    shared: bool = True


Reason = Literal["permitted", "policy_denied", "no_matching_permit", "policy_error"]


class PolicyDecision(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. `policy_ids` are the `@id`s of the policies that decided; `version` is that of the bundle.

    `allow` only with reason `permitted`: Cedar said Allow, with no errors and at least one named policy.
    `policy_denied`: a forbid matched. `no_matching_permit`: nothing spoke for it. `policy_error`: it could not be judged.
    """

    allow: bool
    reason: Reason
    policy_ids: tuple[str, ...] = ()
    version: str
    errors: tuple[str, ...] = ()
