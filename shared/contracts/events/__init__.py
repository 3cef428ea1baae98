"""Every event class of the mesh, as one tagged union.

The tag is the class name and the first two tokens of the subject: `ProposalCreated` is `proposal.created` on the bus.
Fields are only ever added, with defaults; a new meaning is a new class, in the module of its family. Times are UTC; sizes are characters.
"""

from __future__ import annotations

from shared.contracts.events.asking import (
    QuestionAnswered,
    QuestionAsked,
    QuestionEvent,
    ReportGiven,
    WatchAdded,
)
from shared.contracts.events.beliefs import (
    BeliefAsserted,
    BeliefConfirmed,
    BeliefContested,
    BeliefEvent,
    BeliefRevised,
)
from shared.contracts.events.common import (
    MAX_REFS,
    Count,
    Event,
    EvidenceRef,
    Lines,
    Phase,
    Position,
    ProposalEvent,
    Ratio,
    Reason,
    Risk,
    Score,
    Short,
    Usage,
    Window,
    Word,
)
from shared.contracts.events.conflicts import (
    ActionResolved,
    ConflictEvent,
    ConflictExtended,
    ConflictJoined,
    ConflictRaised,
    ConflictResolved,
    ConflictRuled,
    ConflictSettled,
    ProposalKey,
    Resolution,
    Side,
    Strategy,
    TargetFreed,
    TargetHeld,
)
from shared.contracts.events.credits import (
    MAX_SWARMS,
    AllocationChanged,
    AllowanceUsed,
    BudgetExhausted,
    BudgetGranted,
    BudgetLimited,
    BudgetRefused,
    BudgetSettled,
    Credits,
    GrantRequested,
    LimitsChanged,
    LotGranted,
    LotRequested,
    LotShare,
    Most,
    ScopeUse,
    Shares,
    SwarmShare,
)
from shared.contracts.events.intents import (
    REPORT,
    Candidate,
    Contribution,
    IntentAccepted,
    IntentAnswered,
    IntentAssigned,
    IntentCancelled,
    IntentClosed,
    IntentDelayed,
    IntentDelegated,
    IntentDissented,
    IntentEvent,
    IntentReleased,
    IntentReturned,
    IntentRouted,
    IntentSubmitted,
)
from shared.contracts.events.knowledge import (
    Memory,
    RecallAnswered,
    RecallRequested,
    Wanted,
)
from shared.contracts.events.lives import (
    PersonaDraining,
    PersonaFounded,
    PersonaParted,
    PersonaReaped,
    PersonaSpawned,
    ReapRequested,
    SnapshotCompressed,
    SnapshotCounts,
    SnapshotDelayed,
    SpawnRefused,
    SpawnRequested,
    SwarmRequested,
    ThoughtSealed,
)
from shared.contracts.events.mesh import (
    CognitionStarted,
    CognitionStopped,
    DeclaredRow,
    LostAction,
    MeshHalted,
    MeshResumed,
    PlacementChanged,
    PolicyActivated,
    PolicyPicked,
    RowArgument,
    RowsDeclared,
    Signer,
    SignersChanged,
)
from shared.contracts.events.probes import (
    Answer,
    BeliefLookup,
    Counted,
    Filed,
    Found,
    History,
    LogAround,
    LogCount,
    LogResolve,
    LogSearch,
    LogValues,
    MemoryRecall,
    Numbers,
    OutsideLook,
    Probe,
    ProposalHistory,
    Recollection,
    Remembered,
    Report,
    ReportRead,
    SeenLine,
    Share,
    Surroundings,
    Table,
    TemplateRow,
    TemplateTable,
    Values,
    Varying,
)
from shared.contracts.events.proposals import (
    ActionClaimed,
    ActionDelayed,
    ActionExecuted,
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    ProposalAuthorized,
    ProposalCreated,
    ProposalFiled,
    ProposalRejected,
    ProposalVerified,
    Receipt,
)
from shared.contracts.events.thinking import (
    CheckRequested,
    CheckResult,
    HypothesisRaised,
    ObservationRecorded,
    ObservationVouched,
    ThoughtGenerated,
)

AnyEvent = (
    ObservationRecorded
    | ObservationVouched
    | ThoughtGenerated
    | HypothesisRaised
    | CheckRequested
    | CheckResult
    | ProposalCreated
    | ProposalFiled
    | ProposalVerified
    | ProposalRejected
    | ProposalAuthorized
    | ApprovalRequested
    | ApprovalGranted
    | ApprovalDenied
    | ActionDelayed
    | ActionClaimed
    | ActionExecuted
    | SpawnRequested
    | SwarmRequested
    | SpawnRefused
    | PersonaSpawned
    | PersonaFounded
    | PersonaParted
    | ReapRequested
    | PersonaDraining
    | PersonaReaped
    | ThoughtSealed
    | SnapshotCompressed
    | SnapshotDelayed
    | GrantRequested
    | BudgetGranted
    | BudgetSettled
    | BudgetExhausted
    | BudgetRefused
    | PlacementChanged
    | LotRequested
    | LotGranted
    | AllowanceUsed
    | CognitionStarted
    | CognitionStopped
    | PolicyActivated
    | PolicyPicked
    | SignersChanged
    | MeshHalted
    | MeshResumed
    | RecallRequested
    | RecallAnswered
    | BeliefAsserted
    | BeliefConfirmed
    | BeliefContested
    | BeliefRevised
    | IntentSubmitted
    | IntentDelegated
    | IntentRouted
    | IntentDelayed
    | IntentAssigned
    | IntentReleased
    | IntentReturned
    | IntentAnswered
    | IntentAccepted
    | IntentCancelled
    | IntentClosed
    | IntentDissented
    | ConflictRaised
    | ConflictExtended
    | ConflictRuled
    | ConflictResolved
    | ConflictJoined
    | ConflictSettled
    | TargetHeld
    | TargetFreed
    | ActionResolved
    | AllocationChanged
    | BudgetLimited
    | LimitsChanged
    | QuestionAsked
    | QuestionAnswered
    | RowsDeclared
    | WatchAdded
    | ReportGiven
)

__all__ = [
    "MAX_REFS",
    "MAX_SWARMS",
    "REPORT",
    "ActionClaimed",
    "ActionDelayed",
    "ActionExecuted",
    "ActionResolved",
    "AllocationChanged",
    "AllowanceUsed",
    "Answer",
    "AnyEvent",
    "ApprovalDenied",
    "ApprovalGranted",
    "ApprovalRequested",
    "BeliefAsserted",
    "BeliefConfirmed",
    "BeliefContested",
    "BeliefEvent",
    "BeliefLookup",
    "BeliefRevised",
    "BudgetExhausted",
    "BudgetGranted",
    "BudgetLimited",
    "BudgetRefused",
    "BudgetSettled",
    "Candidate",
    "CheckRequested",
    "CheckResult",
    "CognitionStarted",
    "CognitionStopped",
    "ConflictEvent",
    "ConflictExtended",
    "ConflictJoined",
    "ConflictRaised",
    "ConflictResolved",
    "ConflictRuled",
    "ConflictSettled",
    "Contribution",
    "Count",
    "Counted",
    "Credits",
    "DeclaredRow",
    "Event",
    "EvidenceRef",
    "Filed",
    "Found",
    "GrantRequested",
    "History",
    "HypothesisRaised",
    "IntentAccepted",
    "IntentAnswered",
    "IntentAssigned",
    "IntentCancelled",
    "IntentClosed",
    "IntentDelayed",
    "IntentDelegated",
    "IntentDissented",
    "IntentEvent",
    "IntentReleased",
    "IntentReturned",
    "IntentRouted",
    "IntentSubmitted",
    "LimitsChanged",
    "Lines",
    "LogAround",
    "LogCount",
    "LogResolve",
    "LogSearch",
    "LogValues",
    "LostAction",
    "LotGranted",
    "LotRequested",
    "LotShare",
    "Memory",
    "MemoryRecall",
    "MeshHalted",
    "MeshResumed",
    "Most",
    "Numbers",
    "ObservationRecorded",
    "ObservationVouched",
    "OutsideLook",
    "PersonaDraining",
    "PersonaFounded",
    "PersonaParted",
    "PersonaReaped",
    "PersonaSpawned",
    "Phase",
    "PlacementChanged",
    "PolicyActivated",
    "PolicyPicked",
    "Position",
    "Probe",
    "ProposalAuthorized",
    "ProposalCreated",
    "ProposalEvent",
    "ProposalFiled",
    "ProposalHistory",
    "ProposalKey",
    "ProposalRejected",
    "ProposalVerified",
    "QuestionAnswered",
    "QuestionAsked",
    "QuestionEvent",
    "Ratio",
    "ReapRequested",
    "Reason",
    "RecallAnswered",
    "RecallRequested",
    "Receipt",
    "Recollection",
    "Remembered",
    "Report",
    "ReportGiven",
    "ReportRead",
    "Resolution",
    "Risk",
    "RowArgument",
    "RowsDeclared",
    "ScopeUse",
    "Score",
    "SeenLine",
    "Share",
    "Shares",
    "Short",
    "Side",
    "Signer",
    "SignersChanged",
    "SnapshotCompressed",
    "SnapshotCounts",
    "SnapshotDelayed",
    "SpawnRefused",
    "SpawnRequested",
    "Strategy",
    "Surroundings",
    "SwarmRequested",
    "SwarmShare",
    "Table",
    "TargetFreed",
    "TargetHeld",
    "TemplateRow",
    "TemplateTable",
    "ThoughtGenerated",
    "ThoughtSealed",
    "Usage",
    "Values",
    "Varying",
    "Wanted",
    "WatchAdded",
    "Window",
    "Word",
]
