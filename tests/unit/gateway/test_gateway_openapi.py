"""The API's document: names, examples and problems of every route, and that the API does what it says, as schemathesis sees it."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_model import NOW, Mesh, asked, created, executed, key, mesh, raised, recorded, spawned, thought, verified
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from services.gateway.front.operations import OPERATIONS, TAGS
from services.gateway.front.streaming.frames import frame
from services.gateway.settings import GatewaySettings
from shared.contracts.action_kinds import KINDS
from shared.contracts.events import BeliefAsserted, BudgetGranted, Credits, IntentSubmitted, QuestionAsked

SEED = "20261122"
EXCEPTIONS = """
[[operations]]
include-operation-id = "approveProposal"  # with keys an approval without a digest is 428, whatever the rest says
[operations.checks]
positive_data_acceptance.expected-statuses = ["2xx", 401, 403, 404, 409, 428, 429]

[[operations]]
include-operation-id = "recordObservations"  # `date-time` cannot say that its year is one of 2000 to 2199
[operations.checks]
positive_data_acceptance.expected-statuses = ["2xx", 401, 403, 404, 409, 422, 429]

[[operations]]
include-operation-id = "submitIntent"  # nor that it is not over, nor a schema that a budget is not nothing
[operations.checks]
positive_data_acceptance.expected-statuses = ["2xx", 401, 403, 404, 409, 422, 429]

[[operations]]
include-operation-id = "fileProposal"  # nor that each kind has parameters of its own, which GET /v1/actions lists
[operations.checks]
positive_data_acceptance.expected-statuses = ["2xx", 401, 403, 404, 409, 422, 429, 507]
"""
"""With `openapi_exceptions.py`, and the stream, which never ends and has tests of its own, all that is excepted."""


@pytest.fixture
async def document() -> dict[str, Any]:
    async with mesh() as up, up.client() as client:
        found: dict[str, Any] = (await client.get("/schema/openapi.json")).json()
        assert found == (await client.get("/schema/openapi.json")).json()
        return found


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, part) for path, item in document["paths"].items() for method, part in item.items()]


def references(node: object) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(v) for v in node.values()))
    return set().union(*map(references, node)) if isinstance(node, list) else set()


async def test_every_route_has_its_row_with_a_name_of_its_own(document: dict[str, Any]) -> None:
    routes = {(method, path) for method, path, _ in operations(document)}
    remedy = "each route needs its row in OPERATIONS of services/gateway/front/operations.py, and each row its route"
    assert set(OPERATIONS) == routes, remedy
    names = [part["operationId"] for _, _, part in operations(document)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+([A-Z][a-z]+)+", name) for name in names), names
    assert {tag for _, _, part in operations(document) for tag in part["tags"]} == set(TAGS)
    assert [tag["name"] for tag in document["tags"]] == list(TAGS)
    assert all(part["summary"] and part["description"] for _, _, part in operations(document))


async def test_every_shape_is_defined_and_every_body_and_answer_has_an_example_of_it(document: dict[str, Any]) -> None:
    defined = {
        f"#/components/{kind}/{name}" for kind in ("schemas", "responses") for name in document["components"][kind]
    }
    remedy = "a new shape needs its example in services/gateway/wire/examples.py"
    assert references(document) <= defined, remedy
    shown = 0
    for method, path, part in operations(document):
        contents = [*part.get("requestBody", {}).get("content", {}).values()]
        contents += part["responses"]["200"]["content"].values() if path != "/metrics" else ()
        for content in contents:
            assert "example" in content, f"{method} {path}: {remedy}"
            schema = {**content["schema"], "components": document["components"]}
            Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(
                content["example"]
            )
            shown += 1
    assert shown > len(OPERATIONS)


async def test_every_status_a_route_is_refused_with_is_named_and_is_a_problem(document: dict[str, Any]) -> None:
    reap = document["paths"]["/v1/swarm/personas/{persona_id}/reap"]["post"]
    refused = {"401", "403", "404", "409", "413", "415", "422", "429", "503"}
    assert set(reap["responses"]) == {"200"} | refused
    assert reap["requestBody"]["required"] is False
    beliefs = document["paths"]["/v1/cognition/beliefs"]["get"]
    assert set(beliefs["responses"]) == {"200", "304", "401", "403", "422", "429", "503"}
    assert set(beliefs["responses"]["200"]["headers"]) == {"ETag", "Link"}
    assert set(document["paths"]["/health"]["get"]["responses"]) == {"200", "304"}
    for name, answer in document["components"]["responses"].items():
        shape = answer["content"]["application/problem+json"]["schema"]["$ref"]
        assert shape.endswith("/ProblemDetails"), name
    assert "Retry-After" in document["components"]["responses"]["TooManyRequests"]["headers"]


async def test_the_stream_says_what_its_events_are_and_how_a_browser_is_let_in(document: dict[str, Any]) -> None:
    content = document["paths"]["/v1/cognition/stream"]["get"]["responses"]["200"]["content"]["text/event-stream"]
    assert content["schema"]["contentSchema"] == {"$ref": "#/components/schemas/ThoughtEvent"}
    schema = {"components": document["components"], **content["schema"]["contentSchema"]}
    for text in (content["example"].encode(), frame(recorded(spawned("p"), 3)), frame(recorded(thought("p", 1), 4))):
        data = next(line for line in text.split(b"\n") if line.startswith(b"data: "))
        event = json.loads(data.removeprefix(b"data: "))
        Draft202012Validator(schema).validate(event)
        assert set(event) == set(document["components"]["schemas"]["ThoughtEvent"]["properties"])
    token = document["components"]["securitySchemes"]["token"]
    assert (token["type"], token["in"], token["name"]) == ("apiKey", "query", "token")
    assert document["security"] == [{"bearer": []}, {"token": []}]


async def fill(up: Mesh) -> None:
    """Two of everything that is listed."""
    for n in range(2):
        c = created(f"x-{n}", swarm="web", persona="watcher")
        belief = BeliefAsserted(
            swarm="web", persona="watcher", belief_id=f"b-{n}", key_id="k", by="watcher", belief_key="k", claim="c",
            confidence=0.5, valid_from=NOW, review_after=NOW,
        )  # fmt: skip
        grant = BudgetGranted(
            swarm=f"s{n}", persona="p", grant_id="g", window=5, credits=Credits(tokens=7), expires_at=NOW
        )
        late = created(f"late-{n}", swarm="web", persona="watcher", deadline=NOW)
        intent = IntentSubmitted(
            swarm="web", persona="all", intent_id=f"i-{n}", goal="g", deadline=NOW, principal="ada"
        )
        await up.put(spawned(f"p-{n}", swarm="web"), belief, late, c, verified(c), asked(c), executed(c), grant, intent)
        u = created(f"u-{n}", swarm="web", persona="watcher")
        question = QuestionAsked(
            swarm="web", persona="watcher", question_id=f"q-{n}", proposal_id=f"x-{n}", question="why?", expires_at=NOW
        )
        await up.put(question)
        await up.put(raised(n), u, verified(u), executed(u, "unknown"))


async def known(up: Mesh) -> str:
    """Cursors of these lists and ids that exist, for schemathesis."""
    # a random cursor is none, and is refused
    lines = [f'hooks = "{Path(__file__).with_name("openapi_exceptions.py")}"']
    async with up.client("t") as client:
        document = (await client.get("/schema/openapi.json")).json()
        for path, item in document["paths"].items():
            if any(parameter["name"] == "after" for parameter in item.get("get", {}).get("parameters", ())):
                answer = await client.get(path, params={"limit": 1, "state": "all"})
                cursor = httpx.URL(answer.links["next"]["url"]).params["after"]
                lines += ["[[operations]]", f'include-operation-id = "{item["get"]["operationId"]}"']
                lines += [f'parameters = {{ "query.after" = "{cursor}" }}']
    return "\n".join(lines) + EXCEPTIONS


async def test_the_api_does_what_its_document_says(tmp_path: Path) -> None:
    settings = GatewaySettings(keys=(key("t", "ada", "admin"),), rate_per_s=1e6, burst=10**6, outcome_timeout_s=10)
    async with mesh(settings) as up:
        await fill(up)
        (tmp_path / "schemathesis.toml").write_text(await known(up))
        command = [
            sys.executable, "-m", "schemathesis.cli", "run", f"{up.url}/schema/openapi.json", "-H", "Authorization: Bearer t",
            "--seed", SEED, "--max-examples", "5", "--exclude-operation-id", "streamEvents", "--no-color",
            "--continue-on-failure",
        ]  # fmt: skip
        run = await asyncio.create_subprocess_exec(
            *command, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await run.communicate()
    assert run.returncode == 0, said.decode()


async def test_the_document_lists_the_kinds_of_action(document: dict[str, Any]) -> None:
    assert sorted(KINDS) == document["components"]["schemas"]["FileProposal"]["properties"]["kind"]["enum"]
