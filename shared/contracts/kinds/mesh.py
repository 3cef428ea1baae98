"""Kinds that are said to the mesh by the actuator: a child is born, a descendant ends, a goal is set.

What has several values is one text with a comma or a line between them, for parameters are flat.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared.contracts.action import MAX_INTEGER
from shared.contracts.capabilities import Capabilities, flaws
from shared.contracts.events.intents import MAX_FAN_OUT
from shared.contracts.ids import EVERYONE, is_life, is_token
from shared.contracts.kinds.kind import MESH, ActionKind, Params, Problem, size_trouble
from shared.contracts.text import lines, plain

A_MINUTE = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
_Words = Annotated[str, Meta(max_length=1000)]
MAX_TAGS, TAG_CHARS = 16, 64
MAX_OPTIONS, OPTION_CHARS = 16, 120
MAX_DUE_S = 30 * 86_400


class PersonaSpawn(Params, frozen=True, kw_only=True):
    """A child of the persona, in its swarm; the target is the child's id, and ids are never given twice.

    What it may spend a minute is carved from what the persona may: left out, half of it. `tags` and `tools` are words with a comma
    between them; `tools` narrows what it may propose. `capabilities` are scopes in JSON as for `swarm persona create`, within the
    persona's own, or the child is refused with the difference; left out, it has the persona's, and `{}` is none at all.
    """

    name: Annotated[str, Meta(min_length=1, max_length=120)]
    role: Annotated[str, Meta(min_length=1, max_length=120)]
    charter: Annotated[str, Meta(min_length=1, max_length=4000)]
    tokens_per_minute: A_MINUTE | None = None
    compute_ms_per_minute: A_MINUTE | None = None
    idle_ttl_s: Annotated[int, Meta(ge=0, le=2**40)] | None = None
    max_children: Annotated[int, Meta(ge=0, le=1024)] | None = None
    share_memory: bool = True
    tags: _Words = ""
    tools: _Words = ""
    capabilities: Annotated[str, Meta(max_length=8000)] = ""


class PersonaReap(Params, frozen=True, kw_only=True):
    """The persona itself or one of its descendants ends, with `cascade` all below it too; the target is its id.

    `summary`: of who ends itself, what came of its charter; its parent is told.
    """

    reason: Annotated[str, Meta(min_length=1, max_length=200)] = "done"
    summary: Annotated[str, Meta(max_length=4000)] = ""
    cascade: bool = True


class IntentSubmit(Params, frozen=True, kw_only=True):
    """A goal for whoever suits it; the target is a swarm, or `swarm/persona` for one persona of it.

    `parent` is an intent the persona works on: then the budget is taken from what is left of that one's, and it is due no later.
    Without one the budget is at most what the persona itself may spend until then.
    """

    goal: Annotated[str, Meta(min_length=1, max_length=2000)]
    parent: Annotated[str, Meta(max_length=48)] = ""
    tags: _Words = ""
    options: Annotated[str, Meta(max_length=2000)] = ""
    priority: Annotated[int, Meta(ge=0, le=9)] = 5
    due_s: Annotated[int, Meta(ge=1, le=MAX_DUE_S)] = 3600
    tokens: A_MINUTE = 0
    compute_ms: A_MINUTE = 0
    fan_out: Annotated[int, Meta(ge=1, le=MAX_FAN_OUT)] = 1
    merge: Literal["first", "best", "vote", "combine"] = "first"


def capabilities_of(params: PersonaSpawn) -> Capabilities | None:
    """What is stated of the child's; None: nothing. Raises `msgspec.ValidationError`."""
    return msgspec.json.decode(params.capabilities, type=Capabilities) if params.capabilities else None


def words(text: str) -> tuple[str, ...]:
    """What stands between commas, each once."""
    return tuple(dict.fromkeys(word for part in text.split(",") if (word := part.strip())))


def options(text: str) -> tuple[str, ...]:
    """What stands on lines, each once."""
    return tuple(dict.fromkeys(line for part in text.split("\n") if (line := part.strip())))


def unfit(target: str, *texts: str) -> Problem | None:
    """Text that would not be shown as it is, or is too large."""
    for text in texts:
        if lines(text) != text:
            return Problem(code="bad_params", detail="a text holds control or hidden characters")
    return size_trouble("".join(texts))


def listed(text: str, what: str, most: int, chars: int, split: str = ",") -> Problem | None:
    """Too many words in one text, or one that is too long."""
    found = words(text) if split == "," else options(text)
    if len(found) <= most and all(len(word) <= chars for word in found):
        return None
    return Problem(code="bad_params", detail=f"{what}: at most {most}, of {chars} characters each")


def _no_persona(target: str) -> Problem | None:
    if is_token(target) and target != EVERYONE:
        return None
    return Problem(code="bad_target", detail=f"{target[:60]!r} is no persona id: a-z, 0-9 and -, at most 48")


def _spawn_trouble(target: str, params: PersonaSpawn) -> Problem | None:
    if plain(params.name) != params.name or plain(params.role) != params.role:
        return Problem(code="bad_params", detail="name and role are one line without control or hidden characters")
    try:
        wrong = flaws(capabilities_of(params))
    except msgspec.MsgspecError as error:
        return Problem(code="bad_params", detail=f"capabilities: {error}"[:300])
    if wrong:
        return Problem(code="bad_params", detail=plain(f"capabilities: {'; '.join(wrong)}", 1000))
    return (
        _no_persona(target)
        or unfit(target, params.charter, params.tags, params.tools)
        or listed(params.tags, "tags", MAX_TAGS, TAG_CHARS)
        or listed(params.tools, "tools", MAX_TAGS, TAG_CHARS)
    )


def _reap_trouble(target: str, params: PersonaReap) -> Problem | None:
    return _no_persona(target) or unfit(target, params.reason, params.summary)


def _intent_trouble(target: str, params: IntentSubmit) -> Problem | None:
    swarm, slash, persona = target.partition("/")
    if not is_token(swarm) or (slash and not is_token(persona)) or EVERYONE in (swarm, persona):
        said = f"{target[:100]!r} is neither a swarm nor a persona of one, as `alpha` or `alpha/p01`"
        return Problem(code="bad_target", detail=said)
    if params.parent and not is_life(params.parent):
        return Problem(code="bad_params", detail=f"parent: {params.parent[:60]!r} is no intent id")
    if not (params.tokens or params.compute_ms):
        return Problem(code="bad_params", detail="with neither tokens nor compute_ms nobody can think about it")
    if not all(map(is_token, words(params.tags))):
        return Problem(
            code="bad_params", detail="tags are tokens with a comma between them: a-z, 0-9 and -, at most 48"
        )
    return (
        unfit(target, params.goal, params.tags, params.options)
        or listed(params.tags, "tags", MAX_TAGS, TAG_CHARS)
        or listed(params.options, "options", MAX_OPTIONS, OPTION_CHARS, "\n")
    )


def _spawn_dry_run(target: str, params: PersonaSpawn) -> str:
    return f"would spawn {target} ({params.name}, {params.role}) as a child, with this charter: {params.charter}"[:1000]


def _reap_dry_run(target: str, params: PersonaReap) -> str:
    return f"would end {target}{' and all below it' if params.cascade else ''}: {params.reason}"


def _intent_dry_run(target: str, params: IntentSubmit) -> str:
    below = f", as a part of intent {params.parent}" if params.parent else ""
    cost = f"{params.tokens} tokens and {params.compute_ms} ms"
    return f"would ask {target}{below}, for at most {cost}: {params.goal}"[:1000]


KINDS: dict[str, ActionKind] = {
    "persona.spawn": ActionKind(
        about="a child with a charter and a budget carved from one's own; the target is its new id",
        hand=MESH,
        says=("spawn.requested",),
        params=PersonaSpawn,
        risk="medium",
        reversible=True,
        blast_radius="mesh",
        idempotency="once",
        timeout_ms=10_000,
        trouble=_spawn_trouble,
        dry_run=_spawn_dry_run,
    ),
    "persona.reap": ActionKind(
        about="the end of oneself or of a descendant; the target is its id",
        hand=MESH,
        says=("reap.requested", "report.given"),
        params=PersonaReap,
        risk="medium",
        reversible=False,
        blast_radius="mesh",
        idempotency="once",
        timeout_ms=10_000,
        trouble=_reap_trouble,
        dry_run=_reap_dry_run,
    ),
    "intent.submit": ActionKind(
        about="a goal for whoever suits it; the target is a swarm, or `swarm/persona`",
        hand=MESH,
        says=("intent.submitted", "intent.delegated"),
        params=IntentSubmit,
        risk="medium",
        reversible=True,
        blast_radius="mesh",
        idempotency="once",
        timeout_ms=10_000,
        per_day=16,
        trouble=_intent_trouble,
        dry_run=_intent_dry_run,
    ),
}
