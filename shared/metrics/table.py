"""Every metric of the mesh: its name, what it says, its labels. `docs/metrics.md` is made from here, and so is what is promised.

Labels are bounded: verdicts, reasons, classes, routes; never ids. Each process tells its own, but for those the gateway folds from
the log: these count what is in the log, whoever wrote it, go on over its restarts, and are the same at each of its replicas (so a
query takes their `max`, no sum). While a gateway still reads the log it tells none of them, so no counter of these is ever seen to fall.
"""

from __future__ import annotations

import platform
from typing import get_args

from prometheus_client import REGISTRY, CollectorRegistry, disable_created_metrics, generate_latest

from shared.contracts.action_kinds import KINDS
from shared.contracts.events import Resolution
from shared.contracts.services import SERVICES
from shared.metrics.instruments import Instrument, Level, Spread, Tally
from shared.quotas import QUOTAS

disable_created_metrics()  # type: ignore[no-untyped-call] # whoever counts here, nobody asks when a series was made

VERDICTS = ("done", "nothing", "ignored", "refused", "retry", "failed", "held", "log_unavailable", "drained", "dead")
UNREADABLE = ("not_an_event", "unknown_class", "oversized", "bad_envelope", "bad_body", "wrong_address", "injected")
BURIED = (*UNREADABLE, "max_deliver", "handler_failed", "not_taken", "not_the_holder")
"""Why something is in the dead letters."""
STATUSES = ("2xx", "3xx", "4xx", "5xx")
S3_CALLS = ("put", "get", "exists", "keys", "bucket_exists")
_OUTCOMES = ("permitted", "asked", "refused")
NAMESPACES = ("own", "descendants", "blackboard", "mesh")
ACTION_KINDS = (*KINDS, "other")
FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
SLOW = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 120)
PATIENT_RULING = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 60, 600)
PATIENT = (1, 10, 60, 300, 900, 3600, 14_400, 86_400)
"""Bounds in seconds: within a machine, of something outside, of people."""
GATEWAY, RUNNER, COMPACTOR = ("gateway",), ("persona_runner",), ("memory_compactor",)
DECIDING = tuple(name for name, row in SERVICES.items() if row.durables)
"""Those with durable consumers."""

# -- every process ---------------------------------------------------------------------------------------------------
BUILD = Level("swarm_build_info", "what runs here", {"service": (), "version": (), "python": ()})
READY = Level("swarm_ready", "1 when every readiness check is fine")
NOT_READY = Level("swarm_not_ready", "1 for a readiness check that is not fine, else 0", {"check": ()})
WARNED = Level("swarm_warned", "1 for what readiness warns of and is ready with", {"warning": ()})
LOOP_LAG = Level("swarm_loop_lag_seconds", "how late the event loop was at its last beat")
CLOCK_OFF = Level("swarm_clock_off_seconds", "this clock minus the broker's; positive: it is ahead")
STORE_USED = Level("swarm_store_used_ratio", "the log's bytes by the most it may have")
HELD_BACK = Level("swarm_held_back", "1 while the store or its disk is so full that nothing new is taken in")
DEAD_LETTERS = Tally("swarm_dead_letters_total", "messages buried here, by reason", {"reason": BURIED})
COMMITS = Tally("swarm_commits_total", "commits by outcome", {"outcome": ("stored", "refused")})
REFUSALS = Tally(
    "swarm_refusals_total",
    "what was refused here because a quota was reached",
    {"quota": tuple(quota.reason for quota in QUOTAS)},
)
LAG = Level(
    "swarm_consumer_lag", "messages in the stream that were not delivered to this consumer yet", {"consumer": ()}
)
UNACKED = Level("swarm_consumer_unacked", "messages delivered and not acknowledged yet", {"consumer": ()}, by=DECIDING)

# -- what handles deliveries -----------------------------------------------------------------------------------------
DELIVERIES = Tally("swarm_deliveries_total", "deliveries by verdict", {"verdict": VERDICTS}, by=DECIDING)
IN_FLIGHT = Level("swarm_in_flight", "deliveries and ticks being handled now", by=DECIDING)
WAITING = Level("swarm_waiting", "deliveries read ahead that wait for their swarm's turn", by=DECIDING)
HANDLE_SECONDS = Spread(
    "swarm_handle_seconds", "from the beginning of its turn to its verdict", bounds=FAST, by=DECIDING
)
HOP_SECONDS = Spread(
    "swarm_hop_seconds",
    "from an event being stored to what follows from it being stored; of deliveries something followed from",
    bounds=SLOW,
    by=DECIDING,
)

POLICY_MEMO = Tally(
    "swarm_policy_memo_total",
    "questions to the policies: decided before, by all that they read, or evaluated",
    {"outcome": ("hit", "miss")},
    by=("policy_gate", "verifier", "checker", "memory_compactor", "gateway"),
)

# -- the runner ------------------------------------------------------------------------------------------------------
PERSONAS = Level("swarm_personas_hosted", "personas this runner hosts", by=RUNNER)
THOUGHTS_DUE = Level("swarm_thoughts_due", "personas whose next step is due and has not begun", by=RUNNER)
MODEL_CALLS = ("ok", "busy", "unfit")
MODEL_SECONDS = Spread(
    "swarm_model_seconds",
    "calls of a model: answered, busy or broken (tried again), or unfit",
    {"outcome": MODEL_CALLS},
    bounds=SLOW,
    by=RUNNER,
)
ASKS_REFUSED = Tally(
    "swarm_asks_refused_total",
    "checks that models asked for and could not have, by reason",
    {"reason": ("no_hypothesis", "unknown_probe", "incomplete", "too_many")},
    by=RUNNER,
)

LEFT_OUT = ("no_hypothesis", "not_confirmed", "not_allowed", "nothing_said")
PROPOSALS_LEFT_OUT = Tally(
    "swarm_proposals_left_out_total",
    "what a model would have proposed and could not, by why; what is malformed the gate refuses, and it counts there",
    {"why": LEFT_OUT},
    by=RUNNER,
)

# -- memory and cold storage -----------------------------------------------------------------------------------------
MEMORY_BEHIND = Level("swarm_memory_behind", "events in the log that memory has not taken in yet", by=COMPACTOR)
MEMORY_BEHIND_S = Level("swarm_memory_behind_seconds", "how long the oldest of them has waited", by=COMPACTOR)
RECALL_SECONDS = Spread("swarm_recall_seconds", "recalls, without the way there and back", bounds=FAST, by=COMPACTOR)
POLICY_SHADOW = Tally(
    "swarm_policy_shadow_total",
    "what the policies in the shadow would have said of proposals: the same, or what was said and what they would have",
    {
        "difference": ("same", *(f"{a}_{b}" for a in _OUTCOMES for b in _OUTCOMES if a != b)),
    },
    by=("policy_gate",),
)
MEMORY_DENIED = Tally(
    "swarm_memory_denied_total",
    "reads of memory that policy denied, or its owner does not share, by whose memory it is",
    {"namespace": NAMESPACES},
    by=("memory_compactor", "verifier", "checker", "gateway"),
)
SNAPSHOT_SECONDS = Spread(
    "swarm_snapshot_seconds", "snapshots, from the wish to cold storage", bounds=SLOW, by=COMPACTOR
)
S3_SECONDS = Spread("swarm_s3_seconds", "calls of cold storage", {"call": S3_CALLS}, bounds=SLOW, by=COMPACTOR)
S3_FAILED = Tally(
    "swarm_s3_failures_total", "calls of cold storage that failed for good", {"call": S3_CALLS}, by=COMPACTOR
)

# -- the gateway's own -----------------------------------------------------------------------------------------------
HTTP_REQUESTS = Tally("swarm_http_requests_total", "requests", {"route": (), "status": STATUSES}, by=GATEWAY)
HTTP_SECONDS = Spread(
    "swarm_http_seconds", "from a request to the end of its answer; event streams left out", {"route": ()},
    bounds=(0.005, 0.025, 0.1, 0.25, 1, 2.5, 10), by=GATEWAY,
)  # fmt: skip
SPANS = Tally("swarm_spans_total", "spans for a collector", {"fate": ("sent", "dropped")}, by=GATEWAY)
STREAM_CLIENTS = Level("swarm_stream_clients", "open event streams", by=GATEWAY)

# -- folded from the log by the gateway ------------------------------------------------------------------------------
VERIFIED = Tally(
    "swarm_verified_total", "proposals by the verifier's word", {"verdict": ("passed", "rejected")}, by=GATEWAY
)
PROPOSALS = Tally("swarm_proposals_total", "proposals created", by=GATEWAY)
AUTHORIZED = Tally("swarm_authorized_total", "proposals authorised", by=GATEWAY)
ASKED = Tally("swarm_approvals_requested_total", "proposals that people were asked about", by=GATEWAY)
REJECTED = Tally(
    "swarm_rejected_total", "proposals rejected", {"stage": ("verify", "policy", "approval", "arbitration")}, by=GATEWAY
)
REASONS = Tally(
    "swarm_rejection_reasons_total", "why proposals were rejected; the first reason of each", {"reason": ()}, by=GATEWAY
)
DECISION_SECONDS = Spread(
    "swarm_decision_seconds",
    "from a proposal to its first verdict: rejected, authorised, or people asked",
    bounds=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 60),
    by=GATEWAY,
)
APPROVAL_SECONDS = Spread(
    "swarm_approval_wait_seconds", "from asking people to the verdict", bounds=PATIENT, by=GATEWAY
)
ACTION_SECONDS = Spread("swarm_action_seconds", "from the authorisation to the outcome", bounds=SLOW, by=GATEWAY)
OUTCOMES = Tally(
    "swarm_actions_total",
    "actions by kind and outcome",
    {"kind": ACTION_KINDS, "outcome": ("success", "failure", "unknown")},
    by=GATEWAY,
)
UNSAFE = Tally(
    "swarm_unsafe_actions_total",
    "proposals the gate or people refused (prevented), and actions claimed without a standing authorisation of theirs (done)",
    {"fate": ("prevented", "done")},
    by=GATEWAY,
)
CONFLICTS = Tally(
    "swarm_conflicts_total",
    "conflicts that were ruled, and proposals that lost at once, by how",
    {"resolution": get_args(Resolution)},
    by=GATEWAY,
)
CONFLICTS_OPEN = Level("swarm_conflicts_open", "conflicts that are not ruled yet", by=GATEWAY)
RULING_SECONDS = Spread(
    "swarm_ruling_seconds", "from raising a conflict to its ruling", bounds=PATIENT_RULING, by=GATEWAY
)
HOLDS = Level(
    "swarm_targets_held", "targets an exclusive action has now, also those whose outcome is unknown", by=GATEWAY
)
LIVES = Level("swarm_personas", "personas now", {"stage": ("live", "draining")}, by=GATEWAY)
SPAWNED = Tally("swarm_personas_spawned_total", "personas that began", by=GATEWAY)
ENDED = Tally(
    "swarm_personas_ended_total",
    "personas reaped: asked for, idle, orphaned, or without a last snapshot",
    {"how": ("asked", "idle", "orphaned", "without_snapshot")},
    by=GATEWAY,
)
PERSONA_DRAIN_SECONDS = Spread("swarm_persona_drain_seconds", "from draining to reaped", bounds=SLOW, by=GATEWAY)
THOUGHTS = Tally("swarm_thoughts_total", "thoughts by status", {"status": ("ok", "model_error", "empty")}, by=GATEWAY)
TOKENS = Tally("swarm_spent_tokens_total", "tokens that thoughts cost", {"direction": ("in", "out")}, by=GATEWAY)
COMPUTE = Tally("swarm_spent_compute_seconds_total", "compute that thoughts cost", by=GATEWAY)
MONEY = Tally("swarm_spent_usd_total", "what thoughts cost, where the model's price is known", by=GATEWAY)
GRANTS = Tally("swarm_grants_total", "grants of credits", by=GATEWAY)
GRANTED_TOKENS = Tally("swarm_granted_tokens_total", "tokens granted", by=GATEWAY)
SETTLED_TOKENS = Tally("swarm_settled_tokens_total", "tokens settled", by=GATEWAY)
GRANTED_COMPUTE = Tally("swarm_granted_compute_seconds_total", "compute granted", by=GATEWAY)
SETTLED_COMPUTE = Tally("swarm_settled_compute_seconds_total", "compute settled", by=GATEWAY)
EXHAUSTED = Tally(
    "swarm_budget_exhausted_total",
    "requests that found too little left",
    {"resource": ("tokens", "compute_ms", "actions")},
    by=GATEWAY,
)
SNAPSHOTS = Tally(
    "swarm_snapshots_total",
    "snapshots in cold storage, and whether one is smaller than its source",
    {"smaller": ("yes", "no")},
    by=GATEWAY,
)
SNAPSHOT_SOURCE = Tally("swarm_snapshot_source_bytes_total", "text that snapshots were made from", by=GATEWAY)
SNAPSHOT_STORED = Tally("swarm_snapshot_stored_bytes_total", "bytes of snapshots in cold storage", by=GATEWAY)
INTENTS_OPEN = Level("swarm_intents_open", "intents that are neither closed nor cancelled", by=GATEWAY)
INTENTS = Tally("swarm_intents_total", "intents submitted", by=GATEWAY)
INTENTS_ENDED = Tally(
    "swarm_intents_ended_total", "intents by their end", {"outcome": ("answered", "failed", "cancelled")}, by=GATEWAY
)
ROUTING_SECONDS = Spread(
    "swarm_intent_routing_seconds", "from an intent's submission to its first route", bounds=SLOW, by=GATEWAY
)
INTENT_SECONDS = Spread("swarm_intent_seconds", "from an intent's submission to its close", bounds=PATIENT, by=GATEWAY)
OBSERVATIONS = Tally("swarm_observations_total", "observations recorded", by=GATEWAY)
POSITION = Level("swarm_log_position", "the last sequence of the log the gateway has folded", by=GATEWAY)

TABLE: tuple[Instrument, ...] = tuple(entry for entry in tuple(globals().values()) if isinstance(entry, Instrument))
BY_NAME = {instrument.name: instrument for instrument in TABLE}


def of(service: str) -> tuple[Instrument, ...]:
    """The metrics a service has."""
    return tuple(i for i in TABLE if not i.by_services or service in i.by_services)


def exposition(service: str) -> bytes:
    """All of them now, with the process's own, in the text format of Prometheus."""
    own = CollectorRegistry()
    for instrument in of(service):
        own.register(instrument)
    return generate_latest(REGISTRY) + generate_latest(own)


def tell_build(service: str, version: str) -> None:
    """Say what runs here."""
    BUILD.set(1, (service, version, platform.python_version()))
