"""Answers about the mesh itself: quotas, halts, objectives, budgets, reconciliation, health."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from services.gateway.wire.views import View
from shared.contracts.events import Credits, Most
from shared.contracts.ids import Instant


class QuotaView(View, frozen=True, kw_only=True):
    """One quota: its limit, how often it was refused for, and what was refused last. `reason` is what a refusal says; `refused`
    counts what is in the log, and what this gateway turned away since it started."""

    reason: str
    what: str
    per: str
    by: str
    setting: str | None
    limit: float | None
    refused: int
    last_at: Instant | None
    last_swarm_id: str | None
    last_persona_id: str | None
    last_detail: str | None


class HeldAction(View, frozen=True, kw_only=True):
    """An action that a halt because the log went back concerns. `in_log`: its proposal is still there, `title` and `target` are of it."""

    proposal_id: str
    persona_id: str
    swarm_id: str
    what: Literal["authorization", "approval", "claim"]
    in_log: bool
    title: str
    target: str
    at: Instant


class HaltState(View, frozen=True, kw_only=True):
    """Whether actions are halted, and what is void or unknown since the log went back; at most 100 of each, and how many in all.

    They are while the log says so, or the kill switch's file is there: `kill_switch`, as far as this gateway sees. `cause`, `reason`,
    `principal` and `since` are the log's where it says so. `seq` is the sequence of the halt in force in the log, 0 where there is
    none, `epoch` that from which on authorisations and approvals count.
    """

    halted: bool
    kill_switch: bool
    cause: Literal["person", "log_went_back", "kill_switch"] | None
    reason: str
    principal: str
    since: Instant | None
    seq: int
    epoch: int
    void: tuple[HeldAction, ...]
    void_total: int
    unknown: tuple[HeldAction, ...]
    unknown_total: int


class PolicyView(View, frozen=True, kw_only=True):
    """Built-in policies."""

    name: str
    version: str
    about: str


class PickView(View, frozen=True, kw_only=True):
    """What a person picked, by name or version; `pending` until a gate has activated it, or something else since."""

    policy: str
    principal: str
    reason: str
    seq: int
    pending: bool


class PoliciesState(View, frozen=True, kw_only=True):
    """Which policies are in force since `seq`: their version, their name where they are built-in, the gate that activated them, and by
    whose word where they were picked. `earlier`: versions that were in force, the newest first."""

    version: str
    name: str
    gate: str
    principal: str
    seq: int
    picked: PickView | None
    shadow: PickView | None
    policies: tuple[PolicyView, ...]
    earlier: tuple[str, ...]


class SloFigure(View, frozen=True, kw_only=True):
    """A number beside an objective; null where there is nothing to reckon it from. `_s` are seconds."""

    name: str
    value: float | None


class SloWindow(View, frozen=True, kw_only=True):
    """How an objective fares in the hours up to now, whole hours. `value` is of `of` things; `burn` 1 spends exactly what is allowed."""

    window: str
    value: float
    of: float
    burn: float
    met: bool
    figures: tuple[SloFigure, ...]


class SloView(View, frozen=True, kw_only=True):
    """One objective: what is reckoned, the least share or the largest value, how it fares, and what to do when it is missed."""

    id: str
    title: str
    meaning: str
    objective: float
    direction: Literal["at_least", "at_most"]
    runbook: str
    windows: tuple[SloWindow, ...]


class SwarmBudget(View, frozen=True, kw_only=True):
    """What a swarm was granted and what was settled in the newest minute it asked for any; `outstanding` is unsettled, all minutes.

    `share` is what it may spend a minute (null: nothing yet), and `share_reason` why: fresh, allocated, or limited by what a person
    set. `floor`, `ceiling` and `weight` bound what the allocator gives it; `set` is the part of the ceiling that a person set,
    `version` counts what was set. `in_force`: the share is within the ceiling.
    """

    swarm_id: str
    window_started_at: Instant
    granted: Credits
    settled: Credits
    outstanding: Credits
    paused_personas: tuple[str, ...]
    share: Credits | None = None
    share_reason: str = ""
    floor: Credits = Credits()
    ceiling: Credits = Credits()
    set: Most | None = None
    weight: int = 100
    version: int = 0
    set_by: str = ""
    reason: str = ""
    in_force: bool = True


FindingKind = Literal["orphan", "zombie", "stuck_drain", "expired_grant"]


class Finding(View, frozen=True, kw_only=True):
    """Something reconciliation finds, since when and why it is one; or how it was mended, and when."""

    kind: FindingKind
    swarm_id: str
    persona_id: str
    at: Instant
    reason: str


class Reconciliation(View, frozen=True, kw_only=True):
    """What is open now, at most 256 of `open_count`, and what the governor mended last, newest first, at most 64."""

    open: tuple[Finding, ...]
    open_count: int
    mended: tuple[Finding, ...]


class Health(View, frozen=True, kw_only=True):
    """`problems` is what the process is not ready for, by check, and `warnings` what should be known; only readiness looks."""

    status: Literal["ok", "catching_up", "bus_away", "not_ready"]
    position: int
    problems: Mapping[str, str] = {}
    warnings: Mapping[str, str] = {}
