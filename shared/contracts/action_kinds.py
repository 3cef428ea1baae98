"""The declared kinds of action: what each may touch, what its parameters are, how risky and how repeatable it is.

`read` turns an action into its typed parameters or into a `Problem`; the verifier and the actuator both call it, so nothing
undeclared is ever judged or done. `classify` reads the risk off this table and the target, and where the kind has rows off the
operator's `row`, never off the persona's word.
`touched` says what an action shares with others (`targets`). A new kind is a parameter struct and a row in its family's module
(`kinds/`), and what does it in the actuator (`services/actuator/hands/`).
"""

from __future__ import annotations

from typing import get_args

import msgspec

from shared.contracts.action import Action
from shared.contracts.events import Risk
from shared.contracts.kinds import bridge, commands, files, http, mesh, notices, people, perceiving, testing, tools
from shared.contracts.kinds.kind import ActionKind, Params, Problem, Whose
from shared.contracts.row import Row
from shared.contracts.targets import Touched

KINDS: dict[str, ActionKind] = (
    bridge.KINDS
    | commands.KINDS
    | files.KINDS
    | http.KINDS
    | mesh.KINDS
    | notices.KINDS
    | people.KINDS
    | perceiving.KINDS
    | testing.KINDS
    | tools.KINDS
)
RISKS: tuple[Risk, ...] = get_args(Risk)
"""From least to most."""


def read(action: Action) -> Params | Problem:
    """The action's typed parameters, once kind, schema version, target and parameters are all in order."""
    kind = KINDS.get(action.kind)
    if kind is None:
        return Problem(code="unknown_kind", detail=f"{action.kind} is no declared action kind")
    if action.schema_version != kind.schema_version:
        detail = f"{action.kind} has schema version {kind.schema_version}, not {action.schema_version}"
        return Problem(code="bad_params", detail=detail)
    try:
        params = kind.params.of(action.params)
    except msgspec.ValidationError as error:
        return Problem(code="bad_params", detail=f"{action.kind}: {error}"[:300])
    return kind.trouble(action.target, params) or params


def is_outward(kind: str, row: Row | None) -> bool:
    """Whether what it is told leaves the mesh."""
    return (kind not in KINDS or KINDS[kind].outward) if row is None else row.outward


def classify(action: Action, swarm: str, persona: str, row: Row | None = None) -> Risk:
    """The risk class, by the table and whose action it is. What cannot be read is critical (and is refused anyway)."""
    params = read(action)
    if isinstance(params, Problem):
        return "critical"
    kind = KINDS[action.kind]
    if kind.grade is None:
        return kind.risk
    return max(kind.risk, kind.grade(action.target, params, Whose(swarm, persona, row)), key=RISKS.index)


def touched(action: Action, swarm: str, persona: str, row: Row | None = None) -> Touched | None:
    """What the action shares with others; None when nothing, as a persona's own reports, or when it is no action of ours."""
    params = read(action)
    if isinstance(params, Problem):
        return None
    return KINDS[action.kind].touches(action.target, params, Whose(swarm, persona, row))


def held(action: Action, swarm: str, persona: str, row: Row | None = None) -> Touched | None:
    """What the action must have to itself while it is done, if anything."""
    return touched(action, swarm, persona, row) if action.kind in KINDS and KINDS[action.kind].exclusive else None


def not_alone(action: Action, swarm: str, persona: str) -> Problem | None:
    """Why the action may not be done unless a person said yes to it, whatever the policy lets pass; None when it may."""
    params = read(action)
    if isinstance(params, Problem):
        return params
    return KINDS[action.kind].alone(action.target, params, Whose(swarm, persona))
