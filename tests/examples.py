"""One plausible event of every class, with every field set, so that nothing about a class goes untested."""

from __future__ import annotations

from datetime import UTC, datetime

from shared.contracts.action import Action, action_digest
from shared.contracts.capabilities import DailyLimit
from shared.contracts.catalog import class_of
from shared.contracts.envelope import Envelope, Message, encode
from shared.contracts.events import (
    ActionClaimed,
    ActionDelayed,
    ActionExecuted,
    ActionResolved,
    AllocationChanged,
    AllowanceUsed,
    Answer,
    AnyEvent,
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    BeliefAsserted,
    BeliefConfirmed,
    BeliefContested,
    BeliefLookup,
    BeliefRevised,
    BudgetExhausted,
    BudgetGranted,
    BudgetLimited,
    BudgetRefused,
    BudgetSettled,
    Candidate,
    CheckRequested,
    CheckResult,
    CognitionStarted,
    CognitionStopped,
    ConflictExtended,
    ConflictJoined,
    ConflictRaised,
    ConflictResolved,
    ConflictRuled,
    ConflictSettled,
    Contribution,
    Counted,
    Credits,
    DeclaredRow,
    EvidenceRef,
    Filed,
    Found,
    GrantRequested,
    History,
    HypothesisRaised,
    IntentAccepted,
    IntentAnswered,
    IntentAssigned,
    IntentCancelled,
    IntentClosed,
    IntentDelayed,
    IntentDelegated,
    IntentDissented,
    IntentReleased,
    IntentReturned,
    IntentRouted,
    IntentSubmitted,
    LimitsChanged,
    LogAround,
    LogCount,
    LogResolve,
    LogSearch,
    LogValues,
    LostAction,
    LotGranted,
    LotRequested,
    LotShare,
    Memory,
    MemoryRecall,
    MeshHalted,
    MeshResumed,
    Most,
    Numbers,
    ObservationRecorded,
    ObservationVouched,
    OutsideLook,
    PersonaDraining,
    PersonaFounded,
    PersonaParted,
    PersonaReaped,
    PersonaSpawned,
    PlacementChanged,
    PolicyActivated,
    PolicyPicked,
    ProposalAuthorized,
    ProposalCreated,
    ProposalFiled,
    ProposalHistory,
    ProposalKey,
    ProposalRejected,
    ProposalVerified,
    QuestionAnswered,
    QuestionAsked,
    ReapRequested,
    RecallAnswered,
    RecallRequested,
    Receipt,
    Recollection,
    Remembered,
    Report,
    ReportGiven,
    ReportRead,
    RowArgument,
    RowsDeclared,
    ScopeUse,
    SeenLine,
    Share,
    Side,
    Signer,
    SignersChanged,
    SnapshotCompressed,
    SnapshotCounts,
    SnapshotDelayed,
    SpawnRefused,
    SpawnRequested,
    Surroundings,
    SwarmRequested,
    SwarmShare,
    Table,
    TargetFreed,
    TargetHeld,
    TemplateRow,
    TemplateTable,
    ThoughtGenerated,
    ThoughtSealed,
    Usage,
    Values,
    Varying,
    WatchAdded,
)
from shared.contracts.persona import Identity, PersonaPolicy, charter_sha256
from shared.log.client.wire import read_headers

SWARM, PERSONA, PROPOSAL = "alpha", "p01", "p-0123456789abcdef01234567"
NOW = datetime(2026, 11, 22, 12, 30, 15, 250000, tzinfo=UTC)
LATER = datetime(2026, 11, 22, 12, 31, 45, tzinfo=UTC)
TEXT_SHA = "a" * 64
EVIDENCE = (EvidenceRef(id="0199a7b2-0000-7000-8000-000000000001", seq=17),)

IDENTITY = Identity(
    id=PERSONA,
    name="watcher",
    role="architect",
    charter="Watch the host and say what is out of the ordinary.",
    swarm_id=SWARM,
    parent_id="root",
    depth=1,
    created_at=NOW,
    tags=("ops",),
)
POLICY = PersonaPolicy(share_memory=True, allowed_tools=("file.write",))
ACTION = Action(
    kind="file.write",
    target="findings/2026-11-22.md",
    params={"content": "3 restarts in 60 s", "mode": "create", "again": False, "limit": 3, "note": None},
)
CHARTER = charter_sha256(IDENTITY)
DIGEST = action_digest(swarm=SWARM, persona=PERSONA, charter=CHARTER, action=ACTION)
LIFE = {"swarm": SWARM, "persona": PERSONA, "proposal_id": PROPOSAL}
OF = {"swarm": SWARM, "persona": PERSONA}

PROBES = (
    LogCount(template="service <*> failed", source="syslog", first_seq=1, last_seq=90, at_least=3, at_most=9),
    LogSearch(text="failed password", source="auth.log", first_seq=1, last_seq=90, since=NOW, at_least=1),
    LogResolve(evidence=EVIDENCE),
    MemoryRecall(query="restarts of the database", min_score=0.7, most=3),
    LogAround(line=EVIDENCE[0], before=2, after=3, any_source=True),
    LogValues(template="service <*> failed", source="syslog", first_seq=1, last_seq=90, slot=1),
    TemplateTable(source="syslog", first_seq=1, last_seq=90, most=4),
    BeliefLookup(query="the database"),
    ProposalHistory(whose="swarm", kind="file.write", most=3),
    ReportRead(target="failed-services.md", offset=4000),
    OutsideLook(row="load", arguments={"host": "web", "minutes": 5}),
)
_FILED = Filed(
    ref=EVIDENCE[0],
    persona="p01",
    proposal_id="r-1",
    kind="file.write",
    at=NOW,
    ended="rejected",
    title="Report: failed services",
    target="reports/failed-services.md",
    risk="low",
    why="policy: not_allowed",
)
FOUND: tuple[Found, ...] = (
    Counted(count=5, before=1, by_source=(Share(value="syslog", count=5),), cut="2 more sources"),
    Surroundings(
        lines=(SeenLine(ref=EVIDENCE[0], source="syslog", at=NOW, text="db failed"),), cut="0 lines before it"
    ),
    Values(
        lines=9,
        slots=(
            Varying(
                slot=1,
                after="service",
                distinct=3,
                shares=(Share(value="db", count=5),),
                others=4,
                numbers=Numbers(count=9, first=1.0, last=9.5, least=1.0, most=9.5, mean=5.0, trend="rising"),
            ),
        ),
        cut="1 more slot",
    ),
    Table(
        lines=90,
        rows=(TemplateRow(template="service <*> failed", source="syslog", count=9, first=EVIDENCE[0]),),
        others=81,
        cut="12 more kinds of line",
    ),
    Recollection(
        memories=(
            Remembered(
                ref=EVIDENCE[0], kind="belief", by="p02", at=NOW, text="db restarts", semantic=2.0, tainted=False
            ),
        ),
        cut="3 more",
    ),
    History(proposals=(_FILED,), cut="older ones"),
    Report(filed=_FILED, text="# Failed services", offset=0, size=9000, cut="5000 characters more"),
    Answer(
        row="load", kind="http.get", where="https://m.example.org/load", status=200, size=9000, text="0.7", cut="more"
    ),
)

_PERCEPTION: tuple[AnyEvent, ...] = (
    ObservationRecorded(**OF, text="db failed", source="syslog", tags=("db",), observed_at=NOW, principal="ada"),
    ObservationVouched(**OF, text="We deploy at noon.", source="api", tags=("db",), observed_at=NOW, principal="ada"),
    ThoughtGenerated(
        **OF,
        step=3,
        cycle=1,
        phase="reflect",
        text="The database fails every minute.",
        status="ok",
        thinker="rules",
        context_ids=("e1", "e2"),
        evidence=EVIDENCE,
        observed_seq=17,
        usage=Usage(tokens_in=10, tokens_out=5, compute_ms=3, cost_microusd=1),
        novelty=0.5,
        digest=TEXT_SHA,
        progress=True,
        useful_at=NOW,
        next_in_ms=2000,
        grant_id="g1",
        runner="runner-1",
        notice="you repeat yourself",
        final=True,
    ),
    HypothesisRaised(
        **OF, hypothesis_id="h-1", topic="db-failures", claim="It fails too often.", confidence=0.9, evidence=EVIDENCE
    ),
    CheckRequested(**OF, check_id="c-1", hypothesis_id="h-1", probe=PROBES[0]),
    CheckResult(
        **OF,
        check_id="c-1",
        hypothesis_id="h-1",
        outcome="confirmed",
        findings="5 lines between 1 and 90",
        measured=5,
        evidence=EVIDENCE,
        found=FOUND[0],
    ),
)

_GATE: tuple[AnyEvent, ...] = (
    ProposalCreated(
        **LIFE,
        title="Report the failures",
        rationale="Somebody should know.",
        action=ACTION,
        evidence=EVIDENCE,
        hypothesis_id="h-1",
        charter=CHARTER,
        digest=DIGEST,
        deadline=LATER,
    ),
    ProposalFiled(
        **LIFE,
        title="Write it down",
        rationale="It was asked for.",
        action=ACTION,
        charter=CHARTER,
        digest=DIGEST,
        deadline=LATER,
        principal="ada",
    ),
    ProposalVerified(
        **LIFE,
        digest=DIGEST,
        risk="low",
        findings=("digest",),
        evidence=EVIDENCE,
        tainted=True,
        outside=("observation 3",),
        labels=("observation",),
        scope="free",
        cost_microusd=2000,
        limits=(DailyLimit(swarm=SWARM, persona=PERSONA, scope=2, per_day=5, microusd_per_day=9000),),
    ),
    ProposalRejected(
        **LIFE,
        stage="policy",
        reasons=("no_permit",),
        detail="no policy permits it",
        digest=DIGEST,
        policy_ids=("default-deny",),
        policy_version="1",
    ),
    ProposalAuthorized(
        **LIFE,
        digest=DIGEST,
        risk="low",
        policy_ids=("findings",),
        policy_version="1",
        conditions=("workspace only",),
        approvals=("e9",),
        expires_at=LATER,
        key="UA",
        signature="c2ln",
    ),
    ApprovalRequested(
        **LIFE,
        digest=DIGEST,
        risk="high",
        policy_version="1",
        policy_ids=("high",),
        quorum=2,
        expires_at=LATER,
        summary="write a report",
    ),
    ApprovalGranted(**LIFE, digest=DIGEST, principal="ada", reason="fine"),
    ApprovalDenied(**LIFE, digest=DIGEST, principal="bob", reason="not now"),
    ActionDelayed(**LIFE, reason="action_limit", scope="swarm", until=LATER),
    ActionClaimed(**LIFE, digest=DIGEST, actuator="actuator-1", timeout_ms=5000, lot_id="lot1"),
    ActionExecuted(
        **LIFE,
        digest=DIGEST,
        outcome="failure",
        summary="disk full",
        error="no_space",
        claim_id="e10",
        receipt=Receipt(target="findings/2026-11-22.md", sha256=TEXT_SHA, size_bytes=18, status=507),
        duration_ms=12,
    ),
)

_LIFECYCLE: tuple[AnyEvent, ...] = (
    SpawnRequested(
        **OF,
        name="watcher",
        role="architect",
        charter="Watch.",
        parent_id="root",
        policy=POLICY,
        tags=("ops",),
        principal="ada",
    ),
    QuestionAsked(
        **OF,
        question_id="q-0123456789abcdef-20261122-1",
        proposal_id=PROPOSAL,
        question="Is a deployment going on?",
        options=("yes", "no"),
        wanted="ada",
        tainted=False,
        expires_at=LATER,
    ),
    QuestionAnswered(**OF, question_id="q-0123456789abcdef-20261122-1", asked_id="e-1", answer="yes", principal="ada"),
    WatchAdded(
        **LIFE,
        name="logins",
        pattern="Failed password for <*> from <*>",
        source="auth",
        at_least=8,
        within_s=60,
        silence_s=30,
        until=LATER,
    ),
    ReportGiven(
        **OF,
        kind="answer",
        by="alpha/p02",
        text="eight logins failed",
        reason="alpha/p02",
        of_intent="i-1",
        tainted=False,
    ),
    RowsDeclared(
        swarm="all",
        persona="all",
        left_out=1,
        rows=(
            DeclaredRow(
                kind="command.run",
                target="logs",
                about="the last lines of a service",
                trouble="no sandbox",
                arguments=(RowArgument(name="lines", type="integer", about="a number of 1 to 200"),),
            ),
        ),
    ),
    SpawnRefused(**OF, reason="depth_limit", detail="depth would be 5, root allows 4"),
    SwarmRequested(
        **OF,
        name="watcher",
        role="architect",
        charter="Watch.",
        parent_swarm="alpha",
        parent_id="root",
        principal="ada",
    ),
    PersonaSpawned(**OF, identity=IDENTITY, policy=POLICY, principal="ada"),
    PersonaFounded(**OF, daughter="beta", child="p02", policy=POLICY, created_at=LATER),
    PersonaParted(**OF, daughter="beta", child="p02"),
    ReapRequested(**OF, cascade=True, reason="manual_reap", principal="ada"),
    PersonaDraining(**OF, reason="idle_ttl", deadline=LATER, principal="ada"),
    PersonaReaped(**OF, reason="idle_ttl", snapshot_id="s1"),
    ThoughtSealed(**OF, reason="zombie"),
    SnapshotDelayed(**OF, reason="cold_unavailable", detail="S3 bucket swarm does not answer"),
    SnapshotCompressed(
        **OF,
        snapshot_id="s1",
        key="alpha/p01/s1.zst",
        sha256=TEXT_SHA,
        seq=99,
        summary="Watched for an hour.",
        counts=SnapshotCounts(thoughts=9, kept=7, merged=2, pinned=1, edges=3),
        ratio=0.4,
        size_bytes=1200,
        final=True,
        metadata={"phase": "compress"},
    ),
)

_CREDITS = Credits(tokens=1000, compute_ms=500, actions=1)
_BUDGET: tuple[AnyEvent, ...] = (
    GrantRequested(**OF, need=_CREDITS, closing="g1", used=Credits(tokens=10)),
    BudgetGranted(**OF, grant_id="g2", window=29_918_190, credits=_CREDITS, expires_at=LATER),
    BudgetSettled(**OF, grant_id="g2", window=29_918_190, credits=_CREDITS, in_full=True),
    BudgetExhausted(**OF, scope="swarm", resource="compute_ms", retry_at=LATER, need=_CREDITS),
    BudgetRefused(**OF, reason="anothers_grant", grant_id="g9", window=29_918_190, credits=_CREDITS, upto=77),
    PlacementChanged(**OF, slots=("r1", "r2"), shards=64),
    LotRequested(**OF, wants=(LotShare(persona="p01", actions=4),)),
    LotGranted(
        **OF,
        lot_id="lot1",
        window=29_918_190,
        shares=(LotShare(persona="p01", actions=2),),
        held=(LotShare(persona="p02", actions=1, scope="swarm"),),
        expires_at=LATER,
    ),
    CognitionStarted(**OF, loop_interval_ms=750, principal="ada"),
    CognitionStopped(**OF, reason="maintenance", principal="ada"),
    PolicyActivated(**OF, digest=DIGEST, revokes=True, gate="policy_gate-1", principal="ada"),
    PolicyPicked(**OF, mode="active", which="operator", principal="ada", reason="the night shift"),
    SignersChanged(
        **OF,
        number=2,
        signers=(Signer(key="UOLD", until=LATER), Signer(key="UNEW")),
        root="UROOT",
        signature="c2ln",
    ),
    MeshHalted(
        **OF,
        cause="log_went_back",
        reason="an older store was put behind the broker",
        principal="ada",
        reached=4711,
        lost=(LostAction(**OF, proposal_id="p-1", digest="0" * 64, claimed_at=LATER, known=True),),
        lost_total=1,
    ),
    MeshResumed(**OF, reason="looked at all of it", principal="ada"),
)

_BELIEF = {**OF, "key_id": "k-1", "belief_id": "b-1", "by": PERSONA}
_MEMORY: tuple[AnyEvent, ...] = (
    RecallRequested(**OF, query="database", limit=3, principal="ada"),
    RecallAnswered(
        **OF,
        memories=(
            Memory(
                id="e2",
                seq=5,
                kind="thought",
                text="It failed before.",
                at=NOW,
                score=0.8,
                semantic=0.9,
                recency=0.7,
                importance=0.5,
                persona=PERSONA,
                tainted=True,
            ),
        ),
        seq=99,
    ),
    BeliefAsserted(
        **_BELIEF,
        belief_key="db-unstable",
        claim="The database is unstable.",
        confidence=0.8,
        evidence=EVIDENCE,
        grounds=("0" * 16,),
        contradicts=("b-2",),
        valid_from=NOW,
        review_after=LATER,
    ),
    BeliefConfirmed(**_BELIEF, claim="The database is unstable.", confidence=0.9, review_after=LATER),
    BeliefContested(**_BELIEF, claim="It was the network.", confidence=0.5, evidence=EVIDENCE),
    BeliefRevised(**_BELIEF, confidence=0.2, status="invalidated", reason="network fixed", valid_to=LATER),
    AllocationChanged(**OF, shares=(SwarmShare(swarm="s", credits=_CREDITS),), window=7, reason="s is short"),
    BudgetLimited(**OF, credits=_CREDITS, window=7, reason="allocated"),
    LimitsChanged(
        **OF,
        version=1,
        floor=_CREDITS,
        ceiling=Most(tokens=5000),
        weight=200,
        principal="ada",
        reason="too dear",
    ),
)

_OVER = {"target_id": "t-0123456789abcdef0123456789abcdef", "generation": 1}
_MINE, _OTHER = ProposalKey(**LIFE), ProposalKey(swarm="beta", persona="p02", proposal_id="p-2")
_SIDE = {"exact": "1" * 64, "effect": "2" * 64, "risk": "medium", "deadline": LATER, "title": "Write it down"}
_SIDES = (
    Side(**LIFE, **_SIDE, seq=7, evidence=2),
    Side(swarm="beta", persona="p02", proposal_id="p-2", **_SIDE, seq=9, depth=1),
)
_CONFLICTS: tuple[AnyEvent, ...] = (
    ConflictRaised(**_OVER, target="file:notes/today.md", sides=_SIDES, until=LATER),
    ConflictExtended(**_OVER, side=_SIDES[1]),
    ConflictJoined(**LIFE, **_OVER, others=(_OTHER,)),
    ConflictRuled(**_OVER, winner=_MINE, principal="ada", reason="it was first"),
    ConflictResolved(**_OVER, resolution="order", kept=(_MINE,), lost=(_OTHER,), reason="it has more evidence"),
    ConflictSettled(
        **LIFE, **_OVER, outcome="kept", winner=_MINE, resolution="merge", reason="the same", evidence=EVIDENCE
    ),
    AllowanceUsed(**OF, day=20779, used=(ScopeUse(scope=2, actions=3, microusd=6000),), by=_MINE),
    TargetHeld(persona=_OVER["target_id"], holder=_MINE, target="file:notes/today.md"),
    TargetFreed(persona=_OVER["target_id"], holder=_MINE),
    ActionResolved(
        **LIFE, digest=DIGEST, outcome="success", executed_id="e-9", principal="ada", reason="the file is there"
    ),
)

_HOME = {"swarm": SWARM, "persona": "all", "intent_id": "i-1"}
_HAS_IT = {**OF, "intent_id": "i-1", "home": SWARM}
_CANDIDATE = Candidate(
    swarm=SWARM, persona=PERSONA, capability=0.9, load=0.5, price=0.7, success=0.6, memory=0.8, total=0.7
)
_SAID = Contribution(
    swarm=SWARM, persona=PERSONA, answer_id="a-1", seq=7, confidence=0.8, text="Since 10:00, 60 errors."
)
_INTENTS = (
    IntentSubmitted(
        **_HOME,
        goal="Is anything out of the ordinary in api?",
        tags=("logs",),
        deadline=LATER,
        budget=_CREDITS,
        principal="ada",
    ),
    IntentDelegated(**_HOME, child_id="i-2", budget=_CREDITS),
    IntentRouted(**_HOME, to=(_CANDIDATE,), until=LATER, route=1, why=(_CANDIDATE,), reason="it knows the source"),
    IntentDelayed(**_HOME, reason="nobody_suitable", detail="no persona of beta lives", until=LATER),
    IntentAssigned(
        **_HAS_IT, goal="Is anything out of the ordinary in api?", until=LATER, budget=_CREDITS, principal="ada"
    ),
    IntentReleased(**_HAS_IT, reason="cancelled"),
    IntentReturned(
        **_HOME, of_swarm="beta", of_persona="p02", route=1, reason="declined", detail="a rule answers no such question"
    ),
    IntentAccepted(
        **_HOME, by=_SAID, route=1, answer="Since 10:00, 60 errors.", evidence=EVIDENCE, unresolved=1, spent=_CREDITS
    ),
    IntentAnswered(**_HAS_IT, answer="Since 10:00, 60 errors.", confidence=0.8, evidence=EVIDENCE, slot="r1"),
    IntentCancelled(**_HOME, principal="ada", reason="found it myself"),
    IntentClosed(
        **_HOME,
        outcome="answered",
        result="Since 10:00, 60 errors.",
        confidence=0.8,
        evidence=EVIDENCE,
        contributors=(_SAID,),
    ),
    IntentDissented(**_HOME, late=_SAID),
)

EXAMPLES: dict[str, AnyEvent] = {
    class_of(event): event for event in (*_PERCEPTION, *_GATE, *_LIFECYCLE, *_BUDGET, *_MEMORY, *_INTENTS, *_CONFLICTS)
}
"""An example by class name."""

ENVELOPE = Envelope(
    id="0199a7b2-0000-7000-8000-00000000000a",
    source="/verifier/v-1",
    time=NOW,
    correlation="0199a7b2-0000-7000-8000-000000000001",
    causation="0199a7b2-0000-7000-8000-000000000002",
    charter=CHARTER,
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)


def on_the_wire(message: Message) -> tuple[str, dict[str, str], bytes]:
    """Subject, headers and body of a message, as whoever reads it gets them."""
    subject, lines, body = encode(message)
    return subject, read_headers(lines.encode()), body
