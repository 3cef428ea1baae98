"""One example of each shape in the API's document, all of one small story: a watcher of a web tier finds a burst of errors."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from services.gateway.wire import asking, lives, mesh, requests, views, work
from services.gateway.wire.problems import ProblemDetails
from shared.contracts.events import Credits, Most
from shared.contracts.persona import PersonaPolicy

NOW = datetime(2026, 11, 22, 12, 0, 30, tzinfo=UTC)
LATER = datetime(2026, 11, 22, 13, 0, 30, tzinfo=UTC)
EVENT, PROPOSAL = "0192f3c1-7a55-7c3e-9a51-2f1f4f7f9a10", "restart-checkout"
DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
CHARTER = "Watch the web tier; say what is out of the ordinary."

_IDENTITY = views.PersonaIdentity(
    id="watcher", name="watcher", role="analyst", charter=CHARTER, swarm_id="web", parent_id=None, depth=0,
    created_at=NOW, tags=(),
)  # fmt: skip
_PLACES: tuple[tuple[str, str, work.Place], ...] = (("p-1", "web", "kept"), ("p-2", "night", "lost"))
_CONFLICT = work.ConflictView(
    id="t-0123456789abcdef0123456789abcdef.1", state="resolved", what="target", target="file:notes/today.md",
    strategy="order", raised_at=NOW, until=NOW, resolved_at=NOW, resolution="order", reason="it was verified first",
    ruled_by=None,
    sides=tuple(
        work.ConflictSide(
            proposal_id=proposal, persona_id="watcher", swarm_id=swarm, title="Write it down", risk="medium", depth=0,
            evidence=2, effect="0123456789abcdef", deadline=LATER, place=place,
        )
        for proposal, swarm, place in _PLACES
    ),
)  # fmt: skip
_INTENT = work.IntentView(
    id="i-5f0c2b1d", swarm_id="web", state="answered", goal="Is anything out of the ordinary in nginx since 11:50?",
    tags=("analyst",), priority=5, deadline=LATER, budget=Credits(tokens=4000, compute_ms=20_000),
    left=Credits(tokens=3000, compute_ms=19_000), fan_out=1, merge="first", options=(), parent_id=None, children=(),
    principal="ada", submitted_at=NOW, updated_at=NOW, routes=1, assigned=(), why="best of 1 that suit",
    considered=(
        work.IntentCandidate(
            swarm_id="web", persona_id="watcher", capability=0.68, memory=0.4, load=0.9, success=0.5, price=0.8,
            total=0.651, note="",
        ),
    ),
    answers=1, result="Since 11:58 checkout answers 500: 60 of 1 177 lines.", choice="", confidence=0.8,
    evidence_refs=(EVENT,),
    contributors=(
        work.IntentContribution(
            swarm_id="web", persona_id="watcher", event_id=EVENT, confidence=0.8, choice="",
            text="Since 11:58 checkout answers 500: 60 of 1 177 lines.",
        ),
    ),
    dissent=(), late=0, reason="merged", detail="", reasons=(), tainted=True,
)  # fmt: skip
_BELIEF = views.Belief(
    id="b-1", belief_key="checkout-errors", claim="checkout answers 500 since 11:58", confidence=0.8,
    evidence_refs=(EVENT,), asserted_by="watcher", confirmed_by=(), contested_by=(), contradicts=(), created_at=NOW,
    updated_at=NOW, review_after=LATER, status="active",
)  # fmt: skip
_PROPOSAL = views.Proposal(
    id=PROPOSAL, persona_id="watcher", title="Write the findings down", rationale="60 errors in 2.5 minutes",
    evidence_refs=(EVENT,), risk="high", status="verified", created_at=NOW, votes={}, vote_deadline=LATER,
    votes_requested=True, quorum_needed=1,
)  # fmt: skip
_APPROVAL = lives.Approval(
    proposal_id=PROPOSAL, request_id=EVENT, persona_id="watcher", swarm_id="web", title="Write the findings down",
    summary="write findings/web/watcher/a.md", outside=("17, syslog: error 500",),
    risk="high", digest=DIGEST, action_kind="file.write",
    action_target="findings/web/watcher/a.md", params={"content": "60 errors"}, policy_version="1",
    policy_ids=("high-needs-people",), quorum=1, granted_by=(), denied_by=(), requested_at=NOW, expires_at=LATER,
    state="pending",
)  # fmt: skip

_HELD = mesh.HeldAction(
    proposal_id=PROPOSAL, persona_id="watcher", swarm_id="web", what="claim", in_log=True,
    title="Write the findings down", target="findings/web/watcher/a.md", at=NOW,
)  # fmt: skip

_PICK = mesh.PickView(policy="operator", principal="ada", reason="the night shift", seq=18, pending=True)
_POLICY = mesh.PolicyView(
    name="operator", version=DIGEST, about="Personas do what their scopes name; people decide the rest."
)

_SLO = mesh.SloWindow(
    window="24h", value=0.98, of=150.0, burn=0.4, met=True, figures=(mesh.SloFigure(name="p95_s", value=0.9),),
)  # fmt: skip

_STORY_EVENT = lives.StoryEvent(
    id="e1", seq=17, type="observation.recorded", time=NOW, who="ada", is_person=True, said="db failed", because=(),
    causation_id=None, signature=None,
)  # fmt: skip

EXAMPLES: tuple[msgspec.Struct, ...] = (
    _SLO, *_SLO.figures,
    mesh.SloView(
        id="decision", title="Proposals are decided soon", meaning="of the proposals, those decided within 2 s",
        objective=0.95, direction="at_least", runbook="See swarm_consumer_lag", windows=(_SLO,),
    ),
    _HELD,
    mesh.HaltState(
        halted=True, kill_switch=False, cause="log_went_back", reason="the log went back: it ends at 812, and had reached 1204",
        principal="",
        since=NOW, seq=813, epoch=813, void=(), void_total=0, unknown=(_HELD,), unknown_total=1,
    ),
    requests.PickPolicy(policy="operator", reason="the night shift"),
    requests.ShadowPolicy(policy="developer"),
    mesh.PoliciesState(
        version=DIGEST, name="reports", gate="policy_gate-1", principal="", seq=17, picked=_PICK, shadow=None,
        policies=(_POLICY,), earlier=(),
    ),
    _PICK,
    _POLICY,
    requests.RuleConflict(winner="p-0123456789abcdef01234567", reason="the other would undo what was agreed"),
    requests.ResolveAction(outcome="success", reason="the ticket is there"),
    _CONFLICT,
    work.UnknownAction(
        proposal_id="p-0123456789abcdef01234567", persona_id="watcher", swarm_id="web", title="Open a ticket",
        action_kind="http.request", action_target="https://tickets.example/new", holds=True, outcome="unknown",
        summary="the request may or may not have been made", at=NOW, resolved_by=None, reason="",
    ),
    requests.FileProposal(kind="file.write", target="notes/today.md", params={"content": "look at checkout"}, title="A note"),
    asking.FiledView(
        proposal_id=PROPOSAL, persona_id="watcher", swarm_id="web", digest=DIGEST, risk="medium",
        would="would write 16 bytes to notes/today.md, over what is there",
    ),
    requests.AnswerQuestion(answer="yes"),
    asking.QuestionView(
        id="q-0123456789abcdef-20261122-1", state="answered", swarm_id="web", persona_id="watcher", proposal_id=PROPOSAL,
        question="Is a deployment of checkout going on?", options=("yes", "no"), wanted="", tainted=True, asked_at=NOW,
        expires_at=LATER, answer="yes", answered_by="ada", answered_at=NOW,
    ),
    asking.ActionKindView(
        kind="file.write", about="write text to a file of the workspace", schema_version=1,
        params=(asking.ParamView(name="content", type="string", required=True, one_of=(), default=None),), risk="low",
        reversible=True, blast_radius="workspace", idempotency="fenced", exclusive=True, outward=False, timeout_ms=5000,
        output_bytes=0, per_day=0,
        rows=(),
    ),
    asking.RowView(
        target="logs", about="the last lines of a service's log", trouble="",
        params=(
            asking.ParamView(
                name="lines", type="integer", required=True, one_of=(), default=None, about="a number of 1 to 200",
            ),
        ),
    ),
    asking.ParamView(name="mode", type="string", required=False, one_of=("create", "create_or_replace"), default="create"),
    requests.HaltMesh(reason="the disk looks odd"),
    requests.ResumeMesh(reason="looked at what is unknown", seq=813),
    requests.StartCognition(loop_interval_ms=750),
    requests.StopCognition(reason="maintenance"),
    requests.CreatePersona(persona_id="watcher", name="watcher", role="analyst", charter=CHARTER, swarm_id="web"),
    requests.SpawnPersona(persona_id="reviewer", name="reviewer", role="reviewer", charter="Doubt what is found."),
    requests.ReapPersona(cascade=True, reason="no longer needed"),
    requests.RecordObservations(text="GET /checkout 500", source="nginx", tags=("prod",)),
    requests.Approve(digest=DIGEST),
    requests.DecideApproval(decision="grant", digest=DIGEST, request_id=EVENT, reason="seen, go on"),
    views.CognitionStatus(
        enabled=True, running=True, loop_interval_ms=2000, started_at=NOW, last_tick_at=None, persona_count=1,
        active_persona_count=1, events_buffered=12, snapshots_buffered=0,
    ),
    views.PersonaRuntimeState(
        identity=_IDENTITY, policy=PersonaPolicy(), status="active", thought_count=3, last_tick_at=NOW, updated_at=NOW,
        tokens_this_window=210, compute_ms_this_window=40, window_started_at=NOW, last_progress_at=NOW,
        budget_paused=False,
    ),
    views.ReapResult(reaped_ids=("watcher", "reviewer"), count=2),
    views.LineageGraph(
        nodes=(
            views.LineageNode(persona_id="reviewer", parent_id="watcher", children=(), depth=1, status="active"),
            views.LineageNode(persona_id="watcher", parent_id=None, children=("reviewer",), depth=0, status="active"),
        ),
        roots=("watcher",), total_edges=1,
    ),
    views.MemorySnapshot(
        id="s-1", generated_at=NOW, swarm_id="web", persona_scope=("watcher",), summary="a burst of 500s at checkout",
        hot_event_count=8, warm_fact_count=3, cold_snapshot_count=1, metadata={"phase": "compress", "source": "rules"},
    ),
    _BELIEF,
    views.AttentionItem(
        id="a-1", topic="checkout-errors", topic_tags=("web",), priority=0.4, source_type="stale_belief",
        source_id="b-1", assigned_persona=None, created_at=NOW, resolved_at=None,
    ),
    _PROPOSAL,
    views.Approved(approved=True, proposal_id=PROPOSAL),
    views.DecisionReceipt(
        id="r-1", proposal_id=PROPOSAL, inputs=(EVENT,), governance_decision="allowed by low-risk-writes",
        capability_leases=(),
        tool_invocations=(
            views.ToolInvocation(
                tool_name="file.write", arguments={"content": "60 errors"}, result="wrote 9 bytes", success=True,
                lease_id="", invoked_at=NOW,
            ),
        ),
        outcome=views.Success(summary="wrote 9 bytes"), created_at=NOW,
    ),
    views.GlobalWorkspace(
        top_beliefs=("b-1",), top_uncertainties=(), top_attention=("a-1",), active_objectives=(CHARTER,),
        updated_at=NOW,
    ),
    views.SwarmGovernance(
        quorum_fraction=0.0, required_approvers_by_role={}, veto_roles=("approve",), vote_timeout_secs=3600,
        quorum_by_risk={"high": 1, "critical": 2}, four_eyes=True, policy_version=DIGEST,
    ),
    views.AuditEntry(
        id=EVENT, seq=42, timestamp=NOW, category="persona", action="persona.spawned", principal="ada",
        outcome="success", detail="watcher", swarm_id="web", persona_id="watcher",
    ),
    views.ThoughtEvent(
        id=EVENT, event_type="thought_generated", persona_id="watcher", swarm_id="web", timestamp=NOW,
        payload=msgspec.Raw(b'{"phase": "observe", "text": "60 of 1 177 lines are errors"}'),
    ),
    lives.ObservationsRecorded(sequences=(41,), ids=(EVENT,), count=1),
    _STORY_EVENT,
    lives.Story(
        proposal_id="p-0123456789abcdef01234567", swarm_id="web", persona_id="watcher", title="Report the failures",
        status="executed", outcome="success", events=(_STORY_EVENT,), missing=(), hidden=0, left_out=0,
    ),
    lives.ProposalLife(
        proposal=_PROPOSAL, swarm_id="web", digest=DIGEST, action_kind="file.write",
        action_target="findings/web/watcher/a.md", policy_ids=("high-needs-people",), policy_version="1", events=(),
        signature=lives.VerdictSignature(key="U" + "A" * 55, good=True, detail="by a key that was good at 42"),
    ),
    _APPROVAL,
    lives.Decided(proposal_id=PROPOSAL, decision="grant", event_id=EVENT, approval=_APPROVAL),
    lives.Recalled(
        persona_id="watcher", query="checkout", seq=44,
        memories=(
            lives.RecalledMemory(
                id=EVENT, seq=41, kind="thought", text="checkout answers 500", at=NOW, score=0.9, semantic=0.9,
                recency=1.0, importance=0.5, persona="watcher", tainted=True,
            ),
        ),
    ),
    requests.SubmitIntent(
        goal="Is anything out of the ordinary in nginx since 11:50?", swarm_id="web", tags=("analyst",), fan_out=2,
        merge="combine", budget=Credits(tokens=4000, compute_ms=20_000),
    ),
    requests.CancelIntent(reason="found it myself"),
    _INTENT,
    work.IntentLife(intent=_INTENT, events=(), truncated=False),
    mesh.SwarmBudget(
        swarm_id="web", window_started_at=NOW, granted=Credits(tokens=2000), settled=Credits(tokens=210),
        outstanding=Credits(tokens=0), paused_personas=(), share=Credits(tokens=50_000, compute_ms=600_000, actions=120),
        share_reason="limited", ceiling=Credits(tokens=50_000, compute_ms=600_000, actions=120), set=Most(tokens=50_000),
        version=1, set_by="ada", reason="too dear",
    ),
    requests.SetBudget(ceiling=Most(tokens=50_000), floor=Credits(tokens=5000), weight=200, reason="too dear", version=0),
    mesh.QuotaView(
        reason="spawn_rate", what="personas spawned a minute", per="swarm", by="governor",
        setting="SWARM_SWARM_SPAWNS_PER_MINUTE", limit=60, refused=1, last_at=NOW, last_swarm_id="web",
        last_persona_id="watcher", last_detail="60 were spawned in this minute",
    ),
    mesh.Reconciliation(
        open=(mesh.Finding(kind="orphan", swarm_id="web", persona_id="reviewer", at=NOW, reason="its parent is reaped"),),
        open_count=1, mended=(),
    ),
    mesh.Health(status="ok", position=44),
    ProblemDetails(
        type="about:blank", title="Not Found", status=404, detail="there is no persona 'watcher'",
        reason="persona_missing",
    ),
)  # fmt: skip
