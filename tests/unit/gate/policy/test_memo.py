"""What was decided once is not evaluated again, and never answers another question."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cedarpy
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.metrics.table import POLICY_MEMO
from shared.policy.bundle import DEFAULT_BUNDLE, Bundle
from shared.policy.memo import KEPT, Memo
from shared.policy.types import PolicyDecision, PolicyRequest
from tests.unit.gate.given import replaced

KNOWN = Bundle.load(DEFAULT_BUNDLE)
AS_JSON = cedarpy.policies_to_json_str("\n".join(f.read_text() for f in sorted(DEFAULT_BUNDLE.glob("*.cedar"))))
ASKED = PolicyRequest(
    swarm="alpha",
    persona="p1",
    action="test.noop",
    target="a",
    digest="0" * 64,
    risk="low",
    tainted=False,
    environment="bench",
)
REQUESTS = st.builds(
    PolicyRequest,
    swarm=st.sampled_from(("alpha", "beta")),
    persona=st.sampled_from(("p1", "p2")),
    action=st.sampled_from(("file.write", "http.request", "test.noop", "no.such")),
    target=st.sampled_from(
        ("findings/alpha/p1/a.md", "findings/a.md", "b.md", "https://a.example/x", "https://b.example/y?z")
    ),
    digest=st.sampled_from(("0" * 64, "1" * 64)),
    risk=st.sampled_from(("low", "medium", "high", "critical")),
    tainted=st.booleans(),
    labels=st.sampled_from(((), ("observation",), ("belief", "intent"))),
    environment=st.sampled_from(("local", "ask", "bench")),
    approvals=st.integers(0, 3),
    quorum=st.integers(0, 3),
    kill_switch=st.booleans(),
    allowed_hosts=st.sampled_from(((), ("a.example:443",))),
)


def written(folder: Path, policy: str) -> Bundle:
    """The default bundle with this policy alone."""
    bundle = Path(shutil.copytree(DEFAULT_BUNDLE, folder / "policies"))
    (bundle / "gate.cedar").write_text(policy)
    golden = [{"name": "asked", "request": msgspec.to_builtins(ASKED), "allow": True}]
    (bundle / "golden.json").write_bytes(msgspec.json.encode(golden))
    for other in (*bundle.glob("*.cedar"), *bundle.glob("golden-*.json")):
        if other.name != "gate.cedar":
            other.unlink()
    return Bundle.load(bundle)


def misses() -> int:
    return int(POLICY_MEMO.by["miss"])


@given(requests=st.lists(REQUESTS, max_size=8))
def test_whatever_was_asked_before_the_answer_is_the_one_of_a_bundle_that_was_never_asked(
    requests: list[PolicyRequest],
) -> None:
    for request in requests:
        remembered, KNOWN._memo = KNOWN._memo, Memo(AS_JSON)
        fresh = KNOWN.decide(request)
        KNOWN._memo = remembered
        assert fresh == KNOWN.decide(request)


def test_another_target_digest_and_persona_are_the_same_question_and_what_policies_read_is_another() -> None:
    bundle = Bundle.load(DEFAULT_BUNDLE)
    bundle.decide(ASKED)
    before = misses()
    for same in ({"target": "b"}, {"digest": "1" * 64}, {"persona": "p2"}):
        assert bundle.decide(replaced(ASKED, **same)).allow
    assert before == misses()
    for other in ({"kill_switch": True}, {"environment": "ask"}, {"risk": "critical"}):
        assert not bundle.decide(replaced(ASKED, **other)).allow


@pytest.mark.parametrize(
    ("condition", "differs"),
    [
        ('context.digest like "0*"', {"digest": "1" * 64}),
        ('resource == Nothing::"a"', {"target": "b"}),
        ('resource.target == "a"', {"target": "b"}),
        ('principal == Persona::"alpha/p1"', {"persona": "p2"}),
        ('principal.name == "p1"', {"persona": "p2"}),
        ('principal in Swarm::"alpha"', {"swarm": "beta"}),
        ('{"a": resource}.a == Nothing::"a"', {"target": "b"}),
        ('!context.labels.contains("intent")', {"labels": ("observation", "intent")}),
        ('!context.labels.containsAny(["intent", "answer"])', {"labels": ("answer",)}),
        ('resource.note == ""', {"params": {"note": "x"}}),
    ],
)
def test_what_a_policy_reads_in_whatever_way_tells_questions_apart(
    tmp_path: Path, condition: str, differs: Any
) -> None:
    policy = f'@id("one") permit (principal, action == Action::"test.noop", resource) when {{ {condition} }};'
    bundle = written(tmp_path, policy)
    assert (True, False) == (bundle.decide(ASKED).allow, bundle.decide(replaced(ASKED, **differs)).allow)
    assert bundle.decide(ASKED).allow


def test_a_scope_that_names_somebody_reads_all_of_it(tmp_path: Path) -> None:
    bundle = written(tmp_path, '@id("one") permit (principal == Persona::"alpha/p1", action, resource);')
    assert (True, False) == (bundle.decide(ASKED).allow, bundle.decide(replaced(ASKED, persona="p2")).allow)


def test_it_has_a_bound_and_keeps_no_errors() -> None:
    memo = Memo(AS_JSON)
    for number in range(KEPT + 5):
        memo.put(str(number).encode(), PolicyDecision(allow=True, reason="permitted", version="v"))
    assert (None, True) == (memo.get(b"4"), memo.get(b"5") is not None)
    memo.put(b"x", PolicyDecision(allow=False, reason="policy_error", version="v", errors=("boom",)))
    assert memo.get(b"x") is None
