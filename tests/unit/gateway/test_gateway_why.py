"""The story of a decision over HTTP: everything that led to it and came of it, in order, bounded, and what is not there is said."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from gateway_model import Mesh, authorized, claimed, created, executed, mesh, message, raised, thought, verified

from services.cli.commands.asking import why as command
from services.cli.terminal.target import FAILED, HERE, OK, Target
from services.gateway.commands import why as module
from services.gateway.settings import GatewaySettings
from shared.contracts.events import (
    AnyEvent,
    ApprovalGranted,
    ApprovalRequested,
    CheckRequested,
    CheckResult,
    EvidenceRef,
    HypothesisRaised,
    LogSearch,
    ObservationRecorded,
)
from shared.contracts.ids import EVERYONE
from shared.crypto import new_seed, public_key, sign_verdict
from tests.unit.gate.given import ROOT, appointed, replaced

SEED = new_seed()
HIDDEN = "\x1b[31m\u202edb failed"


async def put(up: Mesh, event: AnyEvent) -> EvidenceRef:
    said = message(event)
    (seq,) = await up.log.commit([said])
    await up.gateway.feed.reached(seq, 5)
    return EvidenceRef(id=said.envelope.id, seq=seq)


async def decided(up: Mesh, *, seed: str = SEED, lines: int = 2, name: str = "told") -> dict[str, EvidenceRef]:
    """A proposal from its observations to its outcome, beside things that have nothing to do with it."""
    of: dict[str, Any] = {"swarm": "s", "persona": "p"}
    refs: dict[str, EvidenceRef] = {}
    seen = [
        await put(up, ObservationRecorded(swarm="s", persona=EVERYONE, text=f"{HIDDEN} {n}", principal="ada"))
        for n in range(lines)
    ]
    await put(up, ObservationRecorded(swarm="s", persona=EVERYONE, text="of no concern"))
    said = {"hypothesis_id": "h-1", "topic": "db", "claim": "it fails", "confidence": 0.9, "slot": "r1"}
    refs["raised"] = await put(up, HypothesisRaised(**of, **said, evidence=tuple(seen)))
    await put(up, HypothesisRaised(**of, **{**said, "hypothesis_id": "h-2", "topic": "x"}, evidence=tuple(seen)))
    probe = LogSearch(text="db", first_seq=1, last_seq=9)
    asked = CheckRequested(**of, check_id="c-1", hypothesis_id="h-1", probe=probe, slot="r1")
    refs["asked"] = await put(up, asked)
    result = CheckResult(
        **of, check_id="c-1", hypothesis_id="h-1", outcome="confirmed", findings="2 lines", evidence=tuple(seen)
    )
    refs["checked"] = await put(up, result)
    refs["early"] = await put(up, thought("p", 1))
    refs["thought"] = await put(up, thought("p", 2))
    c = created(name)
    gone = EvidenceRef(id="e-gone", seq=1_000_000)
    c = replaced(c, hypothesis_id="h-1", evidence=(refs["checked"], gone), slot="r1")
    refs["created"] = await put(up, c)
    refs["verified"] = await put(up, verified(c))
    request = ApprovalRequested(
        swarm="s", persona="p", proposal_id=name, digest=c.digest, risk="high", policy_version="v1",
        expires_at=c.deadline, summary="please",
    )  # fmt: skip
    refs["requested"] = await put(up, request)
    yes = ApprovalGranted(
        swarm="s", persona="p", proposal_id=name, digest=c.digest, request_id=refs["requested"].id, principal="ann",
        reason="do it",
    )  # fmt: skip
    refs["granted"] = await put(up, yes)
    key, signature = sign_verdict(seed, draft := replaced(authorized(c), key=""))
    refs["authorized"] = await put(up, replaced(draft, key=key, signature=signature))
    refs["claimed"] = await put(up, claimed(c))
    refs["executed"] = await put(up, executed(c))
    await put(up, raised(1))
    return refs | {f"line {n}": ref for n, ref in enumerate(seen)}


def settings() -> GatewaySettings:
    return GatewaySettings(verdict_roots=(ROOT,))


async def told(client: httpx.AsyncClient, name: str, **query: str) -> dict[str, Any]:
    answer = await client.get(f"/v1/decisions/{name}/why", params=query)
    assert 200 == answer.status_code, answer.text
    story: dict[str, Any] = answer.json()
    return story


async def test_the_story_goes_from_what_was_observed_to_what_came_of_it_in_order_with_who_and_why() -> None:
    async with mesh(settings()) as up, up.client() as client:
        await up.put(appointed(public_key(SEED)))
        refs = await decided(up)
        story = await told(client, "told")
        assert ("told", "executed", "success", 0, 0) == tuple(
            story[name] for name in ("proposal_id", "status", "outcome", "hidden", "left_out")
        )
        left = ("early",)
        expected = sorted((ref.seq, ref.id) for name, ref in refs.items() if name not in left)
        assert expected == [(event["seq"], event["id"]) for event in story["events"]]
        at = {event["seq"]: event for event in story["events"]}
        assert ("ada", True) == tuple(at[refs["line 0"].seq][name] for name in ("who", "is_person"))
        assert ("ann", True) == tuple(at[refs["granted"].seq][name] for name in ("who", "is_person"))
        assert ("test (r1)", False) == tuple(at[refs["created"].seq][name] for name in ("who", "is_person"))
        lines = [refs[name].seq for name in ("line 0", "line 1")]
        assert lines == at[refs["raised"].seq]["because"] == at[refs["checked"].seq]["because"]
        assert refs["checked"].seq in at[refs["created"].seq]["because"]
        assert at[refs["authorized"].seq]["signature"]["good"] is True
        assert {None} == {e["signature"] for s, e in at.items() if s != refs["authorized"].seq}
        assert ["1000000 e-gone"] == story["missing"]
        assert all(not set("\x1b\u202e\n") & set(event["said"]) for event in story["events"])


async def test_any_event_of_it_and_any_sequence_tells_the_same_story() -> None:
    async with mesh(settings()) as up, up.client() as client:
        refs = await decided(up)
        story = await told(client, "told")
        for name in ("created", "granted", "executed"):
            assert story == await told(client, refs[name].id) == await told(client, str(refs[name].seq))
        part = await told(client, refs["checked"].id)
        assert part["proposal_id"] is None
        wanted = sorted(refs[name].seq for name in ("line 0", "line 1", "checked"))
        assert wanted == [event["seq"] for event in part["events"]]
        for unknown in ("nobodys", "999999", "0", "9" * 30):
            assert 404 == (await client.get(f"/v1/decisions/{unknown}/why")).status_code


async def test_a_verdict_of_a_key_that_was_not_good_is_told_so() -> None:
    async with mesh(settings()) as up, up.client() as client:
        await up.put(appointed(public_key(SEED)))
        refs = await decided(up, seed=new_seed())
        (signature,) = [e["signature"] for e in (await told(client, "told"))["events"] if e["signature"]]
        assert signature["good"] is False and str(refs["authorized"].seq) in signature["detail"]


async def test_a_story_without_end_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EVENTS", 15)
    async with mesh(settings()) as up, up.client() as client:
        refs = await decided(up, lines=40)
        story = await told(client, "told")
        kept = {event["seq"] for event in story["events"]}
        assert len(kept) + len(story["missing"]) == 15 and 40 <= story["left_out"] + len(kept & set(range(1, 42))) <= 41
        decision = ("created", "verified", "granted", "authorized", "claimed", "executed", "raised", "checked")
        assert {refs[name].seq for name in decision} <= kept


async def test_the_command_tells_it_and_fails_for_a_signature_that_is_not_good(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with mesh(settings()) as up, up.client() as client:
        await up.put(appointed(public_key(SEED)))
        await decided(up)
        story = await told(client, "told")

    def ask(target: Target, method: str, path: str) -> object:
        assert ("GET", "/v1/decisions/told/why?swarm=s") == (method, path)
        return story

    monkeypatch.setattr(command, "ask", ask)
    assert OK == command.why("told", swarm="s", target=HERE)
    printed = capsys.readouterr()
    assert "signature good" in printed.err and "1 cited and not in the log any more: 1000000 e-gone" in printed.err
    assert "approval.granted" in printed.out and "ann" in printed.out and "\x1b" not in printed.out
    next(event for event in story["events"] if event["signature"])["signature"]["good"] = False
    assert FAILED == command.why("told", swarm="s", target=HERE)
    assert "signature NOT GOOD" in capsys.readouterr().err
