"""Which services there are: one row each, from which the broker's permissions, `swarm up`, images, docs and tests come.

A new service is a row here, a package `services/<name>` with a `__main__`, and its classes in `shared/contracts/events`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from shared.contracts.catalog import CLASSES, has_slot

Account = Literal["CORE", "RUN", "CHECK"]
Replicas = Literal["shared", "sharded", "each", "one"]
SLOTS = 16
REPLICAS: dict[Replicas, str] = {
    "shared": "any number: they share a durable consumer, and boundaries in the log keep them from doing a thing twice",
    "sharded": "any number: personas are divided among those that live",
    "each": "any number: each folds the whole log for itself",
    "one": "one: its index folds the log in order",
}
"""How many instances of a service may run at once, and why."""


class ServiceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One service. Classes are named as on the bus.

    `account` of the broker: in CORE are those that decide; RUN (runners) and CHECK (checkers), whose services are not trusted, reach
    the log through exports only.
    `timers` are classes it hands back until their time has come; they have a durable of their own, so that however many wait, the
    service's work does not. `refused_when_crowded` it refuses at once, by one event, when it holds too many of one swarm; a runner or
    actuator that is not answered asks again. All others wait, however many: few may cause them, or nobody may lose them.
    `durables` are pairs (stream, durable consumer) its instances share, `tails` the streams of which each instance may keep one
    ordered tail of its own. `holds` are the secrets it is told, as settings.
    """

    name: str
    job: str
    account: Account = "CORE"
    emits: tuple[str, ...]
    consumes: tuple[str, ...]
    timers: tuple[str, ...] = ()
    refused_when_crowded: tuple[str, ...] = ()
    durables: tuple[tuple[str, str], ...] = ()
    tails: tuple[str, ...] = ()
    holds: tuple[str, ...] = ("core.secret",)
    replicas: Replicas = "shared"

    @property
    def trusted(self) -> bool:
        """Whether what it says needs no slot of its own to be told apart."""
        return self.account == "CORE"

    @property
    def asks_leader(self) -> bool:
        """Whether it may ask the leader of a replicated stream how far that is: a runner's guards hold against a replica that lags, a
        measure has none."""
        return self.account != "RUN"

    @property
    def slots(self) -> int:
        """How many instances there may be, numbered from 1: wildcards of permissions match whole tokens, so each has its name."""
        return 1 if self.replicas == "one" else SLOTS

    @property
    def module(self) -> str:
        """What `python -m` starts."""
        return f"services.{self.name}"


_ROWS = (
    ServiceRow(
        name="governor",
        job="who lives, who ends, who may spend how much",
        emits=(
            "persona.spawned",
            "persona.founded",
            "persona.draining",
            "persona.parted",
            "persona.reaped",
            "reap.requested",
            "thought.sealed",
            "report.given",
            "spawn.refused",
            "budget.granted",
            "budget.settled",
            "budget.exhausted",
            "budget.refused",
            "budget.limited",
            "lot.granted",
            "placement.changed",
            "mesh.halted",
        ),
        consumes=(
            "spawn.requested",
            "swarm.requested",
            "reap.requested",
            "grant.requested",
            "lot.requested",
            "snapshot.compressed",
            "persona.spawned",
            "allocation.changed",
            "limits.changed",
            "budget.limited",
        ),
        refused_when_crowded=("spawn.requested", "swarm.requested", "grant.requested", "lot.requested"),
        durables=(("SWARM", "governor"), ("SWARM", "governor-shares"), ("SWARM", "governor-swarms")),
    ),
    ServiceRow(
        name="verifier",
        job="evidence, digest and risk of proposals",
        emits=("proposal.verified", "proposal.rejected"),
        consumes=("proposal.created", "proposal.filed"),
        refused_when_crowded=("proposal.created", "proposal.filed"),
        durables=(("SWARM", "verifier"),),
        tails=("SWARM",),
    ),
    ServiceRow(
        name="policy_gate",
        job="Cedar policies, default deny; asks people; signs what it permits",
        emits=("proposal.authorized", "proposal.rejected", "approval.requested", "policy.activated", "mesh.halted"),
        consumes=("proposal.verified", "conflict.settled", "approval.requested", "approval.granted", "approval.denied"),
        timers=("approval.requested",),
        refused_when_crowded=("proposal.verified",),
        durables=(("SWARM", "policy_gate"), ("SWARM", "policy_gate-timers")),
        tails=("SWARM",),
        holds=("core.secret", "verdict.seed"),
    ),
    ServiceRow(
        name="actuator",
        job="claims and executes authorised actions once",
        emits=(
            "lot.requested",
            "action.delayed",
            "action.claimed",
            "target.held",
            "allowance.used",
            "action.executed",
            "spawn.requested",
            "reap.requested",
            "intent.submitted",
            "intent.delegated",
            "question.asked",
            "watch.added",
            "report.given",
            "rows.declared",
            "mesh.halted",
        ),
        consumes=("proposal.authorized", "persona.spawned", "spawn.refused"),
        refused_when_crowded=("proposal.authorized",),
        durables=(("SWARM", "actuator"),),
        tails=("SWARM",),
    ),
    ServiceRow(
        name="memory_compactor",
        job="embeds, indexes, recalls, compacts, snapshots to S3; keeps what swarms believe",
        emits=(
            "snapshot.compressed",
            "snapshot.delayed",
            "recall.answered",
            "belief.asserted",
            "belief.confirmed",
            "belief.contested",
            "belief.revised",
        ),
        consumes=(
            "persona.spawned",
            "persona.draining",
            "thought.generated",
            "hypothesis.raised",
            "check.result",
            "proposal.created",
            "proposal.rejected",
            "approval.granted",
            "approval.denied",
            "action.executed",
            "recall.requested",
            "belief.asserted",
            "belief.confirmed",
            "belief.contested",
            "belief.revised",
        ),
        timers=("belief.asserted", "belief.confirmed", "belief.revised"),
        refused_when_crowded=("recall.requested",),
        durables=(
            ("SWARM", "memory_compactor"),
            ("SWARM", "memory_compactor-beliefs"),
            ("SWARM", "memory_compactor-merging"),
            ("SWARM", "memory_compactor-timers"),
            ("RECALL", "memory_compactor-recall"),
        ),
        tails=("SWARM",),
        holds=("core.secret", "embeddings.api_key", "qdrant.api_key", "s3.access_key", "s3.secret_key"),
        replicas="one",
    ),
    ServiceRow(
        name="meta_orchestrator",
        job="routes intents, rules on conflicts, shares the global budget among swarms",
        emits=(
            "intent.submitted",
            "intent.routed",
            "intent.delayed",
            "intent.assigned",
            "intent.released",
            "intent.accepted",
            "intent.returned",
            "intent.closed",
            "intent.dissented",
            "report.given",
            "conflict.raised",
            "conflict.extended",
            "conflict.joined",
            "conflict.resolved",
            "conflict.settled",
            "allocation.changed",
        ),
        consumes=(
            "intent.submitted",
            "intent.answered",
            "intent.cancelled",
            "intent.routed",
            "intent.delayed",
            "intent.closed",
            "proposal.verified",
            "conflict.raised",
            "conflict.ruled",
            "allocation.changed",
            "persona.spawned",
            "persona.draining",
            "persona.reaped",
            "budget.granted",
            "budget.settled",
            "budget.exhausted",
            "budget.refused",
            "budget.limited",
            "lot.granted",
            "limits.changed",
        ),
        timers=("intent.routed", "intent.delayed"),
        refused_when_crowded=("intent.answered",),
        durables=(
            ("SWARM", "meta_orchestrator-routing"),
            ("SWARM", "meta_orchestrator-routing-timers"),
            ("SWARM", "meta_orchestrator-arbitration"),
        ),
        tails=("SWARM",),
    ),
    ServiceRow(
        name="gateway",
        job="HTTP: control API, event stream, approvals inbox",
        emits=(
            "observation.recorded",
            "observation.vouched",
            "spawn.requested",
            "swarm.requested",
            "reap.requested",
            "cognition.started",
            "cognition.stopped",
            "approval.granted",
            "approval.denied",
            "action.resolved",
            "target.freed",
            "conflict.ruled",
            "mesh.halted",
            "mesh.resumed",
            "intent.submitted",
            "intent.delegated",
            "intent.cancelled",
            "question.answered",
            "proposal.filed",
            "policy.picked",
            "limits.changed",
            "recall.requested",
        ),
        consumes=tuple(name for name in CLASSES if name != "recall.requested"),
        tails=("SWARM", "RECALL"),
        holds=("core.secret", "http.keys"),
        replicas="each",
    ),
    ServiceRow(
        name="checker",
        job="answers checks by reading the log, memory and what the operator's rows name outside",
        account="CHECK",
        emits=("check.result", "recall.requested"),
        consumes=("check.requested", "recall.answered"),
        refused_when_crowded=("check.requested",),
        durables=(("SWARM", "checker"),),
        tails=("RECALL",),
        holds=(),
    ),
    ServiceRow(
        name="persona_runner",
        job="the cognition loop of many personas",
        account="RUN",
        emits=(
            "thought.generated",
            "hypothesis.raised",
            "check.requested",
            "proposal.created",
            "grant.requested",
            "intent.answered",
            "recall.requested",
        ),
        consumes=(
            "observation.recorded",
            "observation.vouched",
            "thought.generated",
            "hypothesis.raised",
            "check.requested",
            "check.result",
            "proposal.created",
            "proposal.rejected",
            "action.executed",
            "persona.spawned",
            "persona.draining",
            "persona.reaped",
            "placement.changed",
            "thought.sealed",
            "grant.requested",
            "budget.granted",
            "budget.exhausted",
            "cognition.started",
            "cognition.stopped",
            "intent.assigned",
            "intent.released",
            "intent.answered",
            "watch.added",
            "report.given",
            "rows.declared",
            "recall.answered",
        ),
        tails=("SWARM", "RECALL"),
        holds=("model.api_key",),
        replicas="sharded",
    ),
)

BOOTSTRAP_EMITS = ("signers.changed",)
"""What no service may say: the broker's role `bootstrap`, a process that ends, says it (docs/decisions/0017)."""

SERVICES: dict[str, ServiceRow] = {row.name: row for row in _ROWS}
"""Every service by its name, in the order they are told in."""


def speakers(event_class: str) -> frozenset[str]:
    """The services that may say a class as CORE does: in its slot, where the class has slots."""
    may = (row for row in _ROWS if event_class in row.emits)
    return frozenset(row.name for row in may if row.trusted or not has_slot(event_class))


OF_PEOPLE = tuple(name for name in CLASSES if speakers(name) == {"gateway"})
"""What only a gateway may say, and so only people or who holds their keys: `principal` in it is who said it."""
