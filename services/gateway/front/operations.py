"""What the API's document says of each route beyond its types: a name a person would choose, its group, how it may be refused.

A new route needs a row in `OPERATIONS`; a test says so. What follows from the kind of a route (a key is asked for, a body may
not match) is not repeated here: `problems` knows it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from services.gateway.front.front import OPEN

Json = Mapping[str, Any]


class Operation(msgspec.Struct, frozen=True):
    """`refused`: statuses of its own problems."""

    id: str
    tag: str
    refused: tuple[int, ...] = ()

    @property
    def summary(self) -> str:
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self.id).lower()
        return words[0].upper() + words[1:]


TAGS = {
    "cognition": "the loop, and what the mesh thinks and believes",
    "personas": "who lives, who came from whom, what one remembers",
    "perception": "what a swarm is to think about",
    "proposals": "what personas want done, and what came of it",
    "approvals": "what waits for people",
    "conflicts": "which of several proposals goes first, and what became of actions nobody can tell of",
    "intents": "work for swarms, and what came of it",
    "operations": "budgets, journal, health, metrics",
}

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("post", "/v1/cognition/start"): Operation("startCognition", "cognition", (400, 409)),
    ("post", "/v1/cognition/stop"): Operation("stopCognition", "cognition", (409,)),
    ("get", "/v1/cognition/status"): Operation("getCognitionStatus", "cognition"),
    ("get", "/v1/cognition/stream"): Operation("streamEvents", "cognition"),
    ("get", "/v1/cognition/snapshots/latest"): Operation("getLatestSnapshot", "cognition", (404,)),
    ("get", "/v1/cognition/beliefs"): Operation("listBeliefs", "cognition"),
    ("get", "/v1/cognition/beliefs/{belief_id}"): Operation("getBelief", "cognition", (404,)),
    ("get", "/v1/cognition/attention"): Operation("listAttention", "cognition"),
    ("get", "/v1/cognition/workspace"): Operation("getWorkspace", "cognition"),
    ("post", "/v1/swarm/personas"): Operation("createPersona", "personas", (400, 404, 409)),
    ("get", "/v1/swarm/personas"): Operation("listPersonas", "personas"),
    ("get", "/v1/cognition/personas/{persona_id}"): Operation("getPersona", "personas", (404, 409)),
    ("post", "/v1/swarm/personas/{persona_id}/spawn"): Operation("spawnPersona", "personas", (400, 404, 409)),
    ("post", "/v1/swarm/personas/{persona_id}/reap"): Operation("reapPersona", "personas", (404, 409)),
    ("get", "/v1/swarm/personas/{persona_id}/memory"): Operation("recallMemory", "personas", (404, 409)),
    ("get", "/v1/swarm/lineage"): Operation("getLineage", "personas"),
    ("get", "/v1/swarm/reconciliation"): Operation("getReconciliation", "personas"),
    ("post", "/v1/swarm/{swarm}/observations"): Operation("recordObservations", "perception", (507,)),
    ("get", "/v1/cognition/proposals"): Operation("listProposals", "proposals"),
    ("get", "/v1/proposals/{proposal_id}"): Operation("getProposalLife", "proposals", (404, 409)),
    ("get", "/v1/decisions/{event}/why"): Operation("getDecisionStory", "proposals", (404, 409)),
    ("get", "/v1/cognition/receipts"): Operation("listReceipts", "proposals"),
    ("post", "/v1/cognition/proposals/{proposal_id}/approve"): Operation(
        "approveProposal", "approvals", (404, 409, 428)
    ),
    ("get", "/v1/approvals"): Operation("listApprovals", "approvals"),
    ("post", "/v1/approvals/{proposal_id}"): Operation("decideApproval", "approvals", (404, 409)),
    ("get", "/v1/cognition/governance"): Operation("getGovernance", "approvals"),
    ("get", "/v1/questions"): Operation("listQuestions", "approvals"),
    ("post", "/v1/questions/{question_id}/answer"): Operation("answerQuestion", "approvals", (403, 404, 409)),
    ("post", "/v1/proposals"): Operation("fileProposal", "proposals", (404, 409, 507)),
    ("get", "/v1/actions"): Operation("listActionKinds", "proposals"),
    ("post", "/v1/intents"): Operation("submitIntent", "intents", (404, 409, 507)),
    ("get", "/v1/intents"): Operation("listIntents", "intents"),
    ("get", "/v1/intents/{intent_id}"): Operation("getIntent", "intents", (404, 409)),
    ("post", "/v1/intents/{intent_id}/cancel"): Operation("cancelIntent", "intents", (404, 409)),
    ("get", "/v1/conflicts"): Operation("listConflicts", "conflicts"),
    ("get", "/v1/conflicts/{conflict_id}"): Operation("getConflict", "conflicts", (404,)),
    ("post", "/v1/conflicts/{conflict_id}/rule"): Operation("ruleConflict", "conflicts", (404, 409)),
    ("get", "/v1/actions/unknown"): Operation("listUnknownActions", "conflicts"),
    ("post", "/v1/actions/{proposal_id}/resolve"): Operation("resolveAction", "conflicts", (404, 409)),
    ("get", "/v1/budgets"): Operation("listBudgets", "operations"),
    ("put", "/v1/budgets/{swarm}"): Operation("setBudget", "operations", (409,)),
    ("get", "/v1/halt"): Operation("getHalt", "operations"),
    ("post", "/v1/halt"): Operation("haltActions", "operations", (409,)),
    ("post", "/v1/resume"): Operation("resumeActions", "operations", (409,)),
    ("get", "/v1/policies"): Operation("listPolicies", "operations"),
    ("post", "/v1/policies/activate"): Operation("activatePolicy", "operations", (404,)),
    ("post", "/v1/policies/shadow"): Operation("shadowPolicy", "operations", (404,)),
    ("get", "/v1/quotas"): Operation("listQuotas", "operations"),
    ("get", "/v1/slo"): Operation("listObjectives", "operations"),
    ("get", "/v1/audit"): Operation("listAudit", "operations", (400,)),
    ("get", "/health"): Operation("getHealth", "operations"),
    ("get", "/health/live"): Operation("getLiveness", "operations"),
    ("get", "/health/ready"): Operation("getReadiness", "operations"),
    ("get", "/metrics"): Operation("getMetrics", "operations"),
}


def problems(path: str, document: Json, own: tuple[int, ...]) -> list[int]:
    """The statuses with which the operation of that document may be refused, in order."""
    found = set(own)
    if path not in OPEN:
        found |= {401, 403, 429}
        if path.startswith("/v1/"):
            found.add(503)
    if any(parameter["in"] != "path" for parameter in document.get("parameters", ())):
        found.add(422)
    if "requestBody" in document:
        found |= {413, 415, 422}
    return sorted(found)
