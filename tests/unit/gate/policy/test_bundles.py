"""The bundles a person can pick: each is good, says what its page says, and shares with the others what all forbid."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.policy_gate.shadow import Shadow, outcome
from shared.contracts.action import Action
from shared.contracts.action_kinds import KINDS
from shared.metrics.table import POLICY_SHADOW
from shared.policy.asking import told
from shared.policy.bundle import BUNDLES, DEFAULT, BadBundle, Bundle, beside, found, names, read_folder
from tests.unit.gate.given import replaced
from tests.unit.gate.policy.test_policy import BASE

LOADED = {name: Bundle.load(found(name)) for name in names()}
GUARDS = read_folder(found(DEFAULT))["guards.cedar"].decode()
FILE = replaced(BASE, target="notes/a.md", risk="medium")
READ = replaced(
    BASE, action="http.request", target="https://a.org/x", risk="medium", tainted=False, allowed_hosts=("a.org:443",)
)
SEND = replaced(READ, risk="high", params={"method": "POST"})
NOOP = replaced(BASE, action="test.noop", target="nothing")


def test_there_are_four_and_at_least_a_hundred_golden_decisions() -> None:
    assert ("developer", "observe-only", "operator", "reports") == names()
    assert all(bundle.golden > 40 for bundle in LOADED.values()), "with those of the guards"
    files = {file.resolve() for file in BUNDLES.rglob("golden*.json")}
    assert sum(len(json.loads(file.read_text())) for file in files) >= 100


def test_all_forbid_the_same_and_every_guard_has_a_golden_no() -> None:
    for name in names():
        contents = read_folder(found(name))
        assert GUARDS == contents["guards.cedar"].decode() and "forbid (" not in contents["gate.cedar"].decode()
    golden = json.loads(read_folder(found(DEFAULT))["golden-guards.json"])
    denied = {policy for case in golden if not case["allow"] for policy in case["policy_ids"]}
    assert denied == {line.split('"')[1] for line in GUARDS.splitlines() if line.startswith("@id(")}


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (BASE, {"observe-only": "refused", "reports": "permitted", "operator": "permitted", "developer": "permitted"}),
        (FILE, {"observe-only": "refused", "reports": "asked", "operator": "asked", "developer": "asked"}),
        (
            replaced(FILE, scope="free"),
            {"observe-only": "refused", "reports": "asked", "operator": "permitted", "developer": "permitted"},
        ),
        (READ, {"observe-only": "refused", "reports": "permitted", "operator": "asked", "developer": "permitted"}),
        (
            replaced(READ, tainted=True),
            {"observe-only": "refused", "reports": "asked", "operator": "asked", "developer": "asked"},
        ),
        (
            replaced(READ, tainted=True, scope="free"),
            {"observe-only": "refused", "reports": "permitted", "operator": "permitted", "developer": "permitted"},
        ),
        (
            replaced(SEND, scope="free", tainted=True),
            {"observe-only": "refused", "reports": "asked", "operator": "asked", "developer": "asked"},
        ),
        (NOOP, {"observe-only": "refused", "reports": "refused", "operator": "refused", "developer": "permitted"}),
    ],
)
def test_what_each_says(request_: object, expected: dict[str, str]) -> None:
    agreed = replaced(request_, approvals=1)
    assert expected == {n: outcome(bundle.decide(request_), bundle.decide(agreed)) for n, bundle in LOADED.items()}  # type: ignore[arg-type]


def test_all_parameters_of_every_kind_are_known_to_the_schema_and_no_guard_is_about_some_kinds_alone() -> None:
    for kind, row in KINDS.items():
        fields = msgspec.structs.fields(row.params)
        named = [field.name for field in fields] == ["arguments"]
        given = {"service": "web", "n": 3} if named else {field.name: _some(field.name, field.type) for field in fields}
        target = "https://a.org/x" if kind == "http.request" else "x"
        said = told(Action(kind=kind, target=target, params=given))
        request = replaced(BASE, action=kind, target=target, params=said, labels=("observation",))
        assert (
            said.keys() - {"arguments"} <= {*given, "bytes"}
            and "policy_error" != LOADED[DEFAULT].decide(request).reason
        )
    assert 'action in Action::"act"' in GUARDS and "action ==" not in GUARDS
    assert ("arguments", ("n=3", "service=web")) == next(
        iter(told(Action(kind="command.run", target="x", params={"service": "web", "n": 3})).items())
    )


def _some(name: str, of: object) -> Any:
    for value in (7, "x", True, "0" * 64, "create", "GET", "first", 60):
        with contextlib.suppress(msgspec.ValidationError):
            return msgspec.convert(value, of)
    raise AssertionError(f"nothing fits {name}")


def test_whatever_a_row_says_is_outward_who_is_tainted_does_not_without_people_or_a_scope(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle = Bundle.load(found("developer"))
    tainted = replaced(NOOP, tainted=True)
    assert bundle.decide(tainted).allow
    monkeypatch.setitem(KINDS, "test.noop", replaced(KINDS["test.noop"], outward=True))
    assert ("tainted-outward",) == bundle.decide(tainted).policy_ids
    for passes in ({"tainted": False}, {"scope": "free"}, {"approvals": 1}):
        assert bundle.decide(replaced(tainted, **passes)).allow


@pytest.mark.parametrize("wanted", ["", "nobody", "../bundles/nobody", "/nowhere"])
def test_what_is_no_bundle_is_refused_and_those_there_are_are_named(wanted: str) -> None:
    with pytest.raises(BadBundle, match="observe-only, operator"):
        found(wanted)


async def test_a_shadow_is_asked_the_same_counted_where_it_differs_and_follows_its_folder(tmp_path: Path) -> None:
    link = tmp_path / "policy-shadow"
    assert (None, link, found("operator")) == (beside(""), beside(str(link)), beside("operator"))
    shadow = Shadow(link)
    before = dict(POLICY_SHADOW.by)

    async def counted(name: str | None) -> dict[str, float]:
        link.unlink(missing_ok=True)
        if name is not None:
            link.symlink_to(found(name))
        await shadow.look()
        for request in (replaced(FILE, scope="free"), BASE):
            agreed = replaced(request, approvals=1)
            said = outcome(LOADED["reports"].decide(request), LOADED["reports"].decide(agreed))
            shadow.compare(request, agreed, said)
        return {str(key): n - before[key] for key, n in POLICY_SHADOW.by.items() if n != before[key]}

    assert {} == await counted(None)
    assert {"asked_permitted": 1, "same": 1} == await counted("operator")
    assert {"asked_permitted": 1, "same": 1, "asked_refused": 1, "permitted_refused": 1} == await counted(
        "observe-only"
    )
    link.unlink()
    link.mkdir()
    await shadow.look()
    assert shadow.bundle is None and shadow.trouble
