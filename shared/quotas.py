"""What anybody may ask of the mesh, and how much: the one table of quotas, by the reason a refusal gives.

A refusal says the limit, what was asked or is there, and when to come again: as an answer 429 with `Retry-After`, or as an event
with this reason. Each is counted under its reason (`swarm_refusals`), and `GET /v1/quotas`, `swarm doctor` and `swarm status`
tell what was refused. The limits are settings, the same for all services of a mesh.
"""

from __future__ import annotations

import msgspec

from shared.contracts.events import ActionExecuted, AnyEvent, BudgetRefused, ProposalRejected, SpawnRefused


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """`setting` is the key of the setting (`shared/settings.py`) that holds the limit; none where the limit is not one number."""

    reason: str
    what: str
    per: str
    by: str
    setting: str | None = None


QUOTAS = (
    Quota(reason="rate_limited", what="requests a second", per="key", by="gateway", setting="http.rate_per_s"),
    Quota(reason="too_many_streams", what="open event streams", per="key", by="gateway", setting="http.streams"),
    Quota(
        reason="too_many_open_requests",
        what="requests of one kind that wait for their answer",
        per="swarm",
        by="gateway",
        setting="swarm.open_requests",
    ),
    Quota(
        reason="observation_rate",
        what="observations a minute",
        per="key and swarm",
        by="gateway",
        setting="http.observations_per_minute",
    ),
    Quota(
        reason="recall_rate",
        what="recalls a minute",
        per="key and swarm",
        by="gateway",
        setting="http.recalls_per_minute",
    ),
    Quota(
        reason="spawn_rate",
        what="spawns a minute, asked for at a gateway or done",
        per="swarm",
        by="gateway and governor",
        setting="swarm.spawns_per_minute",
    ),
    Quota(
        reason="too_many_intents",
        what="intents that are open",
        per="swarm",
        by="gateway",
        setting="swarm.open_intents",
    ),
    Quota(
        reason="too_many_swarms",
        what="swarms that have a share of the budget",
        per="mesh",
        by="gateway",
        setting="global.swarms",
    ),
    Quota(
        reason="too_many_open",
        what="proposals that are neither decided nor done",
        per="persona",
        by="verifier",
        setting="persona.open_proposals",
    ),
    Quota(
        reason="action_limit",
        what="actions a minute, of it and all below it",
        per="persona",
        by="governor",
        setting="persona.actions_per_minute",
    ),
    Quota(
        reason="too_many_actions",
        what="actions that wait or are being done",
        per="swarm",
        by="actuator",
        setting="swarm.open_actions",
    ),
    Quota(reason="too_many_waiting", what="a fair share of what a service holds", per="swarm", by="every service"),
    Quota(reason="no_grant", what="thoughts that cite a grant", per="persona", by="governor"),
    Quota(reason="unknown_grant", what="thoughts paid by a grant there is", per="persona", by="governor"),
    Quota(reason="anothers_grant", what="thoughts paid by a grant of their own", per="persona", by="governor"),
)
REASONS = frozenset(quota.reason for quota in QUOTAS)


def refused(event: AnyEvent) -> str | None:
    """The quota an event refuses something for, by its reason; None for what is no such refusal."""
    match event:
        case SpawnRefused(reason=reason) | BudgetRefused(reason=reason):
            found: str | None = reason
        case ProposalRejected(reasons=(reason, *_)):
            found = reason
        case ActionExecuted(outcome="failure", error=reason):
            found = reason
        case _:
            return None
    return found if found in REASONS else None
