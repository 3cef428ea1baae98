"""What the policies in force keep from a key comes out at no route and on no stream, whatever the policies are; all else does.

Every GET route that the gateway has is asked. The oracle is a bundle asked by itself; the marks are words that are said nowhere else.
"""

from __future__ import annotations

import asyncio
import re

import httpx
import pytest
from gateway_model import NOW, Mesh, key, mesh, spawned
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.front.operations import OPERATIONS
from services.gateway.front.reading import Reader
from services.gateway.settings import GatewaySettings
from shared.contracts.events import (
    AnyEvent,
    BeliefAsserted,
    BeliefConfirmed,
    BeliefContested,
    BeliefRevised,
    SnapshotCompressed,
    SnapshotCounts,
)
from shared.contracts.ids import EVERYONE
from shared.policy.bundle import Bundle
from shared.policy.types import ReadRequest
from tests.policies import GOLDEN, InForce, edited

STREAM = "/v1/cognition/stream"
BOARDS = ("alpha", "beta", EVERYONE)
MINDS = (("alpha", "ada"), ("beta", "bob"))
"""Whose snapshots are told of; the last is the newest."""
KEYS = (key("ann-token", "ann", "read"), key("eve-token", "eve", "read", "control"))
SCOPES = {"ann": ("read",), "eve": ("control", "read")}
ONLY_OF_PEOPLE = ("principal is Person", 'principal == Person::"ann"')
CONDITIONS = (
    'resource.kind == "own"',
    'resource.kind == "blackboard"',
    'resource.kind == "mesh"',
    'resource.swarm == "alpha"',
    'resource.persona == "bob"',
    "resource.shared",
    "!resource.shared",
)
RULES = st.lists(
    st.tuples(
        st.sampled_from(("permit", "permit", "permit", "forbid")),
        st.sampled_from((*ONLY_OF_PEOPLE, "principal", "principal is Persona")),
        st.lists(st.sampled_from(CONDITIONS), max_size=2),
        st.booleans(),
    ),
    min_size=1,
    max_size=5,
)


def mark(swarm: str) -> str:
    return f"marigold-{swarm}"


def mind(swarm: str, persona: str) -> str:
    return f"mimosa-{swarm}-{persona}"


def believed(swarm: str) -> list[AnyEvent]:
    """Two beliefs of a blackboard: one confirmed and contested, one stale; every word that is theirs has the mark."""
    whose = {"swarm": swarm, "persona": EVERYONE if swarm == EVERYONE else "ada", "key_id": "k", "by": "ada"}
    events: list[AnyEvent] = [
        BeliefAsserted(
            **whose,
            belief_id=f"{mark(swarm)}-{n}",
            belief_key=f"key {mark(swarm)}",
            claim=f"claim {mark(swarm)}",
            confidence=0.5,
            valid_from=NOW,
            review_after=NOW,
        )
        for n in range(2)
    ]
    said = {**whose, "belief_id": f"{mark(swarm)}-0", "claim": f"claim {mark(swarm)}", "confidence": 0.6}
    events.append(BeliefConfirmed(**said, review_after=NOW))
    events.append(BeliefContested(**said, reason="opposite_claim"))
    late = {**whose, "belief_id": f"{mark(swarm)}-1", "confidence": 0.1, "reason": f"old {mark(swarm)}"}
    events.append(BeliefRevised(**late, status="stale", review_after=NOW))
    return events


def remembered(swarm: str, persona: str) -> SnapshotCompressed:
    return SnapshotCompressed(
        swarm=swarm,
        persona=persona,
        snapshot_id=f"s-{swarm}",
        key=f"key/{mind(swarm, persona)}",
        sha256="0" * 64,
        seq=1,
        summary=f"summary {mind(swarm, persona)}",
        counts=SnapshotCounts(),
    )


def written(rules: list[tuple[str, str, list[str], bool]]) -> str:
    told = []
    for n, (effect, reader, conditions, in_control) in enumerate(rules):
        of_key = ['principal.scopes.contains("control")'] if in_control and reader in ONLY_OF_PEOPLE else []
        when = " && ".join((*conditions, *of_key))
        told.append(
            f'@id("r{n}") {effect} ({reader}, action == Action::"memory.read", resource)'
            + (f" when {{ {when} }};" if when else ";")
        )
    return "\n".join(told)


def permitted(policy: str, person: str) -> set[str]:
    """The marks that this person may see."""
    bundle = Bundle.of(edited({"memory.cedar": policy, "golden.json": GOLDEN}), "here")

    def may(namespace: str, swarm: str, persona: str = "") -> bool:
        asked = ReadRequest(
            person=person,
            scopes=SCOPES[person],
            namespace=namespace,  # type: ignore[arg-type]
            owner_swarm=swarm,
            owner_persona=persona,
        )
        return bundle.read(asked).allow

    seen = {mark(swarm) for swarm in BOARDS if may("mesh" if swarm == EVERYONE else "blackboard", swarm)}
    return seen | {mind(*who) for who in MINDS if may("own", *who)}


def marks(text: str) -> set[str]:
    every = (*map(mark, BOARDS), *(mind(*who) for who in MINDS))
    return {one for one in every if re.search(rf"{one}\b", text)}


async def shown(client: httpx.AsyncClient, last: str) -> dict[str, set[str]]:
    """The marks that come out, by where; the stream is read up to the birth of `last`."""
    found: dict[str, set[str]] = {}
    for method, path in OPERATIONS:
        if (
            method != "get" or path == STREAM or path == "/v1/swarm/personas/{persona_id}/memory"
        ):  # asked of memory itself
            continue
        for swarm in ("", "?swarm=alpha", "?swarm=beta", "?swarm=all"):
            asked = re.sub(r"{persona_id}", "ada", re.sub(r"{(?!persona_id)\w+}", "x", path)) + swarm
            found[asked] = marks((await client.get(asked)).text)
    for board in BOARDS:
        answer = await client.get(f"/v1/cognition/beliefs/{mark(board)}-0")
        found[f"one of {board}"] = marks(answer.text) if answer.status_code == 200 else set()
    for query in ("", "&swarm=alpha", "&type=belief.contested,persona.spawned,snapshot.compressed"):
        told = ""
        async with client.stream("GET", f"{STREAM}?from=beginning{query}") as answer:
            async for line in answer.aiter_lines():
                told += line + "\n"
                if last in line:
                    break
        found[f"stream {query}"] = marks(told)
    return found


async def scene(up: Mesh) -> InForce:
    policies = InForce(up.log)
    up.gateway._readings = policies.readings
    await up.put(spawned("ada", swarm="alpha"), spawned("bob", swarm="beta"))
    for swarm in BOARDS:
        await up.put(*believed(swarm))
    await up.put(*(remembered(*who) for who in MINDS))
    return policies


async def no_leaks(up: Mesh, policies: InForce, policy: str, last: str) -> None:
    await policies.put({"memory.cedar": policy, "golden.json": GOLDEN})
    await up.put(spawned(last, swarm="alpha"))
    for person in SCOPES:
        may = permitted(policy, person)
        async with up.client(f"{person}-token") as client:
            found = await shown(client, last)
        leaks = {where: some - may for where, some in found.items() if some - may}
        assert leaks == {}, f"{person}: {policy}"
        boards, newest = {mark(swarm) for swarm in BOARDS} & may, {mind(*MINDS[-1])} & may
        assert found["/v1/cognition/beliefs"] == boards, policy
        assert found["/v1/cognition/attention"] == boards, policy
        assert set.union(*(found[f"one of {board}"] for board in BOARDS)) == boards, policy
        assert found["/v1/cognition/snapshots/latest"] == newest, policy
        assert found["/v1/audit"] == {mind(*who) for who in MINDS} & may, policy
        assert found["stream "] == may, policy


@settings(max_examples=8, deadline=None)
@given(RULES)
def test_what_random_policies_do_not_permit_a_key_leaks_at_no_route(
    rules: list[tuple[str, str, list[str], bool]],
) -> None:
    async def once() -> None:
        async with mesh(GatewaySettings(keys=KEYS)) as up:
            await no_leaks(up, await scene(up), written(rules), "zoe")

    asyncio.run(once())


async def test_a_new_bundle_counts_from_the_next_answer_on() -> None:
    every = ("permit", "principal is Person", [], False)
    async with mesh(GatewaySettings(keys=KEYS)) as up:
        policies = await scene(up)
        for n, rules in enumerate(([every], [("forbid", "principal", [], False)], [every])):
            await no_leaks(up, policies, written(rules), f"zoe-{n}")


@pytest.mark.parametrize("unasked", ["board", "memory", "sees", "reads"])
async def test_a_gateway_that_does_not_ask_is_found_out(unasked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reader, unasked, lambda *_: True)
    async with mesh(GatewaySettings(keys=KEYS)) as up:
        policies = await scene(up)
        with pytest.raises(AssertionError, match=r"marigold|mimosa"):
            await no_leaks(up, policies, written([("forbid", "principal", [], False)]), "zoe")
