"""`swarm proposals --waiting`: whatever waits for a person is told, with the command that answers it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
import pytest

from services.cli.commands.asking import proposals
from services.cli.terminal.target import HERE, OK, Target
from services.gateway.wire.asking import QuestionView
from services.gateway.wire.lives import Approval
from services.gateway.wire.work import ConflictSide, ConflictView, UnknownAction
from shared.contracts.events import Strategy

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
DIGEST = "0123456789abcdef" * 4
APPROVAL = Approval(
    proposal_id="p-ask", persona_id="ann", swarm_id="web", title="Ask", summary="write a file", risk="high", digest=DIGEST,
    action_kind="file.write", action_target="a.md", params={}, policy_version="v", policy_ids=("ask",), request_id="r", quorum=1,
    outside=(), granted_by=(), denied_by=(), requested_at=AT, expires_at=AT, state="pending",
)  # fmt: skip


def side(name: str, swarm: str = "web", title: str = "Restart it") -> ConflictSide:
    return ConflictSide(
        proposal_id=name, persona_id="ann", swarm_id=swarm, title=title, risk="medium", depth=0, evidence=2, effect="e",
        deadline=AT, place="waits",
    )  # fmt: skip


def conflict(name: str, strategy: Strategy, *sides: ConflictSide) -> ConflictView:
    return ConflictView(
        id=name, state="open", what="target", target="command.run restart db", strategy=strategy, raised_at=AT, until=AT,
        resolved_at=None, resolution=None, reason="", ruled_by=None, sides=sides,
    )  # fmt: skip


def unknown(name: str, *, holds: bool) -> UnknownAction:
    return UnknownAction(
        proposal_id=name, persona_id="bob", swarm_id="db", title="Tell them", action_kind="http.request",
        action_target="http://x/", holds=holds, outcome="unknown", summary="no answer", at=AT, resolved_by=None, reason="",
    )  # fmt: skip


class Gateway:
    """Answers in the wire's own shapes."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        approvals: tuple[Approval, ...] = (),
        conflicts: tuple[ConflictView, ...] = (),
        unknown: tuple[UnknownAction, ...] = (),
        questions: tuple[QuestionView, ...] = (),
    ) -> None:
        self.rows: dict[str, object] = {
            "/v1/approvals": approvals,
            "/v1/conflicts": conflicts,
            "/v1/actions/unknown": unknown,
            "/v1/questions": questions,
        }
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        monkeypatch.setattr(proposals, "ask_rows", self.ask_rows)

    def ask_rows(self, target: Target, path: str, query: Mapping[str, str]) -> list[dict[str, object]]:
        self.asked.append((path, query))
        return msgspec.json.decode(msgspec.json.encode(self.rows[path]), type=list[dict[str, object]])


def shown(capfd: pytest.CaptureFixture[str], *, as_json: bool = False) -> tuple[str, str]:
    assert OK == proposals.proposals(waiting=True, target=Target(json=True) if as_json else HERE)
    out, err = capfd.readouterr()
    return out, err


def test_an_approval_is_a_row_with_enough_of_its_digest_to_say_it_by(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    gateway = Gateway(monkeypatch, (APPROVAL,))
    out, err = shown(capfd)
    assert ["p-ask", "high", "2026-01-01T12:00:00Z", "web", "ann", DIGEST[:16], "write a file"] == out.rstrip().split(
        "\t"
    )
    assert "" == err
    assert ("/v1/approvals", {"state": "pending"}) in gateway.asked and (
        "/v1/conflicts",
        {"state": "open"},
    ) in gateway.asked


@pytest.mark.parametrize("strategy", ["person", "vote"])
def test_a_conflict_that_a_person_may_rule_is_told_with_both_sides_and_how(
    strategy: Strategy, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sides = side("p-1", title="Restart \x1b[31mit\nnow"), side("p-2", "db", "Leave it")
    Gateway(monkeypatch, conflicts=(conflict("c-1.1", strategy, *sides),))
    out, err = shown(capfd)
    assert "nothing waits for people" in out  # of approvals
    over, first, second = err.splitlines()
    assert "conflict over command.run restart db until 2026-01-01T12:00:00Z" in over
    assert "swarm conflicts show c-1.1" in over and "rule c-1.1 PROPOSAL" in over
    assert (
        "p-1 of web/ann" in first
        and "medium" in first
        and "Restart" in first
        and "now" in first
        and "\x1b" not in first
    )
    assert "p-2 of db/ann" in second and "Leave it" in second


def test_a_conflict_that_rules_itself_waits_for_nobody(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Gateway(monkeypatch, conflicts=(conflict("c-1.1", "order", side("p-1"), side("p-2")),))
    assert "" == shown(capfd)[1]


def test_of_many_sides_the_rest_is_counted(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    many = tuple(side(f"p-{n}") for n in range(proposals.SIDES + 3))
    Gateway(monkeypatch, conflicts=(conflict("c-1.1", "person", *many),))
    told = shown(capfd)[1].splitlines()
    assert (1 + proposals.SIDES + 1, "  and 3 more") == (len(told), told[-1])


def test_an_unknown_outcome_is_told_with_what_it_holds_up_and_how_to_say_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Gateway(monkeypatch, unknown=(unknown("p-held", holds=True), unknown("p-free", holds=False)))
    held, free = shown(capfd)[1].splitlines()
    assert "outcome unknown of p-held of db/bob, and others wait for its target: Tell them" in held
    assert "swarm conflicts resolve p-held success|failure --reason WHY" in held
    assert "p-free of db/bob: Tell them" in free


def test_as_json_it_is_the_approvals_alone_with_whole_digests(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    waiting = conflict("c-1.1", "person", side("p-1"), side("p-2"))
    gateway = Gateway(monkeypatch, (APPROVAL,), (waiting,), (unknown("p-held", holds=True),))
    out, err = shown(capfd, as_json=True)
    assert ([("p-ask", DIGEST)], "") == ([(one["proposal_id"], one["digest"]) for one in json.loads(out)], err)
    assert [("/v1/approvals", {"state": "pending"})] == gateway.asked


@pytest.mark.parametrize(("options", "tainted", "told"), [((), False, "TEXT"), (("yes", "no"), True, "yes|no")])
def test_a_question_is_told_with_whose_words_it_is_in_and_how_to_answer(
    options: tuple[str, ...],
    tainted: bool,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    question = QuestionView(
        id="q-1", state="open", swarm_id="web", persona_id="ann", proposal_id="p-1", question="Is it\n\x1b[31mdown?", options=options,
        wanted="", tainted=tainted, asked_at=AT, expires_at=AT, answer="", answered_by=None, answered_at=None,
    )  # fmt: skip
    gateway = Gateway(monkeypatch, questions=(question,))
    _, err = shown(capfd)
    (line,) = err.splitlines()
    assert line.startswith("ann asks") and line.endswith(f"-> swarm answer q-1 {told}") and "\x1b" not in line
    assert ("an outsider's words" in line) == tainted and ("/v1/questions", {"state": "open"}) in gateway.asked
