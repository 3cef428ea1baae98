"""Questions to people over HTTP: seen, answered once by who is asked, and told to the persona in the same batch."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import msgspec
import pytest
from gateway_model import Mesh, mesh

from services.gateway.settings import GatewaySettings, Key, Scope
from shared.contracts.action_kinds import KINDS
from shared.contracts.boundaries import question
from shared.contracts.events import AnyEvent, ObservationRecorded, ObservationVouched, QuestionAnswered, QuestionAsked
from shared.contracts.ids import utc_now
from shared.evidence import is_independent
from shared.policy.sides import Feeders

ID = "q-0123456789abcdef-20261122-1"
ASKED = QuestionAsked(
    swarm="s", persona="p", question_id=ID, proposal_id="p-1", question="Is a deployment going on?", tainted=False,
    expires_at=utc_now() + timedelta(hours=1),
)  # fmt: skip
CHOICE = msgspec.structs.replace(ASKED, question_id="q-choice", options=("yes", "no"))
FOR_ADA = msgspec.structs.replace(ASKED, question_id="q-ada", wanted="ada")
OVER = msgspec.structs.replace(ASKED, question_id="q-over", expires_at=utc_now() - timedelta(seconds=1))


@pytest.fixture
async def up() -> AsyncIterator[Mesh]:
    async with mesh(GatewaySettings(outcome_timeout_s=2.0)) as found:
        yield found


@pytest.fixture
async def api(up: Mesh) -> AsyncIterator[httpx.AsyncClient]:
    async with up.client() as client:
        yield client


def said(up: Mesh, cls: type[AnyEvent]) -> list[AnyEvent]:
    return [r.event for r in up.log.store.records if isinstance(r.event, cls)]


async def test_a_question_is_seen_and_answered_once_and_the_persona_is_told_in_one_batch(
    up: Mesh, api: httpx.AsyncClient
) -> None:
    await up.put(ASKED)
    (one,) = (await api.get("/v1/questions?state=open")).json()
    assert (ID, "p", "s", ASKED.question, "") == (
        one["id"], one["persona_id"], one["swarm_id"], one["question"], one["answer"],
    )  # fmt: skip
    first = await api.post(f"/v1/questions/{ID}/answer", json={"answer": "yes, since noon"})
    assert (200, "answered", "local") == (first.status_code, first.json()["state"], first.json()["answered_by"])
    again = await api.post(f"/v1/questions/{ID}/answer", json={"answer": "no"})
    assert (409, "already_answered") == (again.status_code, again.json()["reason"])
    (answer,), (told,) = said(up, QuestionAnswered), said(up, ObservationRecorded)
    assert isinstance(told, ObservationRecorded) and "yes, since noon" in told.text and not told.tainted
    assert ("s", "p") == (told.swarm, told.persona)
    records = up.log.store.records
    assert records[-1].event is told and records[-2].event is answer
    assert [] == (await api.get("/v1/questions?state=open")).json()


async def test_one_key_is_one_answer(up: Mesh, api: httpx.AsyncClient) -> None:
    await up.put(ASKED)
    headers = {"Idempotency-Key": "k1"}
    for _ in range(2):
        got = await api.post(f"/v1/questions/{ID}/answer", json={"answer": "yes"}, headers=headers)
        assert 200 == got.status_code
    other = await api.post(f"/v1/questions/{ID}/answer", json={"answer": "no"}, headers=headers)
    assert 422 == other.status_code and 1 == len(said(up, QuestionAnswered)) == len(said(up, ObservationRecorded))


@pytest.mark.parametrize(
    ("asked", "answer", "status", "reason"),
    [
        (CHOICE, "perhaps", 422, "not_an_option"),
        (CHOICE, "yes", 200, None),
        (FOR_ADA, "yes", 200, None),  # a mesh without keys has one person
        (OVER, "yes", 409, "question_over"),
        (ASKED, " ", 422, "no_answer_given"),
    ],
)
async def test_only_what_was_asked_is_answered(
    up: Mesh, api: httpx.AsyncClient, asked: QuestionAsked, answer: str, status: int, reason: str | None
) -> None:
    await up.put(asked)
    got = await api.post(f"/v1/questions/{asked.question_id}/answer", json={"answer": answer})
    assert (status, reason) == (got.status_code, got.json().get("reason"))


async def test_with_keys_only_who_is_asked_answers() -> None:
    scopes: tuple[Scope, ...] = ("read", "approve")
    keys = tuple(
        Key(principal=name, sha256=hashlib.sha256(name[0].encode() * 32).hexdigest(), scopes=scopes)
        for name in ("ada", "bob")
    )
    async with mesh(GatewaySettings(outcome_timeout_s=2.0, keys=keys)) as up, up.client() as api:
        await up.put(FOR_ADA)
        path, body = f"/v1/questions/{FOR_ADA.question_id}/answer", {"answer": "yes"}
        got = await api.post(path, json=body, headers={"Authorization": "Bearer " + "b" * 32})
        assert (403, "not_asked") == (got.status_code, got.json()["reason"])
        got = await api.post(path, json=body, headers={"Authorization": "Bearer " + "a" * 32})
        assert (200, "ada") == (got.status_code, got.json()["answered_by"])


async def test_two_who_answer_at_once_are_one_answer(up: Mesh, api: httpx.AsyncClient) -> None:
    """The other gateway's is in the log, and this one has not heard of it."""
    await up.put(ASKED)
    entry = up.gateway.projection.questions.by_id[ID]
    await up.put(
        QuestionAnswered(swarm="s", persona="p", question_id=ID, asked_id=entry.asked_id, answer="x", principal="eve")
    )
    entry.answered = None
    got = await api.post(f"/v1/questions/{ID}/answer", json={"answer": "yes"})
    assert 409 == got.status_code and 1 == len(said(up, QuestionAnswered))
    assert question("s", ID) and 404 == (await api.post("/v1/questions/q-9/answer", json={"answer": "x"})).status_code


async def test_an_answer_grounds_nothing_else_and_puts_nobody_on_a_side(up: Mesh, api: httpx.AsyncClient) -> None:
    await up.put(msgspec.structs.replace(ASKED, tainted=True))
    await api.post(f"/v1/questions/{ID}/answer", json={"answer": "yes"})
    feeders = Feeders()
    for recorded in up.log.store.records:
        feeders.apply(recorded)
    (told,) = said(up, ObservationRecorded)
    assert isinstance(told, ObservationRecorded) and told.tainted
    clean = ObservationVouched(**msgspec.structs.asdict(told))
    assert is_independent(msgspec.structs.replace(clean, source="api"))
    assert not is_independent(told) and not is_independent(clean)
    assert "local" not in feeders.of("s", ("p",), 10**6)


async def test_a_checkpoint_keeps_the_questions(up: Mesh, api: httpx.AsyncClient) -> None:
    await up.put(ASKED, OVER)
    kept = msgspec.msgpack.decode(
        msgspec.msgpack.encode(up.gateway.projection.capture().questions),
        type=list[type(up.gateway.projection.questions.by_id[ID])],
    )
    assert [ID, "q-over"] == [entry.asked.question_id for entry in kept]


async def test_the_kinds_of_action_are_listed_with_their_parameters(api: httpx.AsyncClient) -> None:
    found = {one["kind"]: one for one in (await api.get("/v1/actions")).json()}
    assert set(KINDS) == set(found)
    params = {p["name"]: p for p in found["file.write"]["params"]}
    assert params["content"]["required"] and ["create", "create_or_replace"] == params["mode"]["one_of"]
    assert 8 == found["person.ask"]["per_day"]
