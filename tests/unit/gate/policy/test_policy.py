"""The wrapper denies whenever it is unsure, and a bundle must prove itself before it decides anything."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.events import PolicyActivated
from shared.policy.activations import KEPT, Activations
from shared.policy.bundle import DEFAULT_BUNDLE, BadBundle, Bundle, packed, read_folder, unpacked, version_of
from shared.policy.types import PolicyRequest
from tests.unit.gate.given import activated, record, replaced

BASE = PolicyRequest(
    swarm="alpha",
    persona="p01",
    action="file.write",
    target="findings/alpha/p01/a.md",
    digest="0" * 64,
    risk="low",
    tainted=True,
    environment="local",
)
DEFAULT = Bundle.load(DEFAULT_BUNDLE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEFAULT_BUNDLE, tmp_path / "policies"))


def edit(folder: Path, name: str, change: Callable[[str], str]) -> None:
    file = folder / name
    file.write_text(change(file.read_text()))


def test_a_permitted_request_names_its_policy_and_the_version() -> None:
    decision = DEFAULT.decide(BASE)
    assert decision.allow and ("file-findings",) == decision.policy_ids and "permitted" == decision.reason
    assert DEFAULT.version == decision.version and len(decision.version) == 64


def test_a_forbid_wins_and_is_named() -> None:
    decision = DEFAULT.decide(replaced(BASE, kill_switch=True))
    assert (False, "policy_denied", ("kill-switch",)) == (decision.allow, decision.reason, decision.policy_ids)


def test_what_nothing_speaks_for_is_denied() -> None:
    decision = DEFAULT.decide(replaced(BASE, target="notes/a.md", risk="medium"))
    assert (False, "no_matching_permit", ()) == (decision.allow, decision.reason, decision.policy_ids)


@pytest.mark.parametrize(
    "broken",
    [
        {"approvals": "many"},
        {"approvals": None},
        {"approvals": 2**70},
        {"approvals": 1.5},
        {"tainted": "no"},
        {"kill_switch": None},
        {"allowed_hosts": ("a", 3)},
        {"risk": 1},
        {"target": None},
        {"target": "\ud800"},
        {"swarm": 7},
        {"digest": object()},
        {"scope": None},
        {"params": {"mode": 7}},
        {"params": {"bytes": "many"}},
        {"params": None},
        {"action": "process.start"},
        {"action": 'x" || true'},
        {"action": None},
        {"action": "http.request"},
        {"action": "http.request", "target": "https://user@example.org/"},
    ],
)
def test_a_request_that_cannot_be_judged_is_denied_as_an_error(broken: dict[str, Any]) -> None:
    decision = DEFAULT.decide(replaced(BASE, **broken))
    assert not decision.allow and "policy_error" == decision.reason and decision.errors


@given(
    swarm=st.text(max_size=20),
    persona=st.text(max_size=20),
    action=st.sampled_from(["file.write", "http.request", "test.noop", "other"]),
    target=st.text(max_size=60),
    risk=st.sampled_from(["low", "medium", "high", "critical"]),
    tainted=st.booleans(),
    scope=st.sampled_from(["own", "free", "ask", "unstated", "beyond"]),
    approvals=st.integers(-3, 5),
    quorum=st.integers(-3, 5),
)
def test_high_impact_is_never_permitted_without_people_and_nothing_tainted_leaves_without_them_or_a_scope(
    **fields: Any,
) -> None:
    decision = DEFAULT.decide(replaced(BASE, **fields))
    if fields["risk"] in ("high", "critical") and decision.allow:
        assert fields["approvals"] >= fields["quorum"] >= 1
    if fields["tainted"] and fields["action"] == "http.request" and decision.allow:
        assert fields["approvals"] >= fields["quorum"] >= 1 or fields["scope"] == "free"
    assert not (decision.allow and (decision.errors or not decision.policy_ids))
    stopped = DEFAULT.decide(replaced(BASE, **fields, kill_switch=True))
    assert not stopped.allow


def test_what_is_beyond_its_capabilities_no_approval_permits_and_what_they_ask_about_is_asked() -> None:
    note = replaced(BASE, target="notes/a.md", risk="medium", approvals=1)
    assert DEFAULT.decide(note).allow and DEFAULT.decide(replaced(note, scope="ask")).allow
    assert ("beyond-capabilities",) == DEFAULT.decide(replaced(note, scope="beyond")).policy_ids
    assert ("people-by-scope",) == DEFAULT.decide(replaced(note, scope="ask", approvals=0)).policy_ids


FAIL_OPEN = {
    "a forbid that reads a missing attribute": "forbid (principal, action, resource) when { resource.owner == principal };",
    "a forbid that compares the wrong type": "forbid (principal, action, resource) when { context.approvals > context.risk };",
    "a forbid about an unknown action": 'forbid (principal, action == Action::"file.erase", resource);',
    "a forbid about an unknown type": 'forbid (principal == Robot::"x", action, resource);',
}


@pytest.mark.parametrize("policy", FAIL_OPEN.values(), ids=FAIL_OPEN.keys())
def test_a_policy_that_could_only_fail_does_not_load(folder: Path, policy: str) -> None:
    edit(folder, "gate.cedar", lambda text: f'{text}\n@id("trap")\n{policy}\n')
    with pytest.raises(BadBundle):
        Bundle.load(folder)


@pytest.mark.parametrize(
    "trap",
    [
        "context.approvals + 9223372036854775807 > 0",  # overflow
        'Persona::"alpha/nobody".swarm == "alpha"',  # an entity that is not there
    ],
)
def test_a_forbid_that_errors_when_evaluated_denies_and_does_not_fail_open(folder: Path, trap: str) -> None:
    """Cedar itself answers Allow here, because it skips the forbid."""
    edit(
        folder,
        "gate.cedar",
        lambda text: f'{text}\n@id("trap") forbid (principal, action in Action::"act", resource) when {{ {trap} }};\n',
    )
    (folder / "golden-guards.json").unlink()
    edit(folder, "golden.json", lambda _: json.dumps([golden("nothing is permitted any more", False, approvals=1)]))
    decision = Bundle.load(folder).decide(replaced(BASE, approvals=1))
    assert not decision.allow and "policy_error" == decision.reason and decision.errors


def golden(name: str, allow: bool, **changed: Any) -> dict[str, Any]:
    request = {field: getattr(BASE, field) for field in BASE.__struct_fields__} | changed
    return {"name": name, "request": request, "allow": allow}


BAD: dict[str, tuple[str, Callable[[str], str]]] = {
    "syntax": ("gate.cedar", lambda text: text + "permit ("),
    "a policy without an @id": (
        "gate.cedar",
        lambda text: text + "\nforbid (principal, action, resource) when { false };",
    ),
    "an empty @id": (
        "gate.cedar",
        lambda text: text + '\n@id("") forbid (principal, action, resource) when { false };',
    ),
    "an @id used twice": ("gate.cedar", lambda text: text.replace('@id("file-approved")', '@id("file-findings")')),
    "a template": ("gate.cedar", lambda text: text + '\n@id("t") permit (principal == ?principal, action, resource);'),
    "a schema it does not fit": ("schema.cedarschema", lambda text: text.replace("tainted: Bool", "taint: Bool")),
    "no schema": ("schema.cedarschema", lambda _: "entity"),
    "a failing golden decision": ("gate.cedar", lambda text: text.replace("resource.own && ", "")),
    "no policies": ("gate.cedar", lambda _: ""),
    "no golden decisions": ("golden.json", lambda _: "[]"),
    "a golden request with an unknown field": ("golden.json", lambda text: text.replace('"risk"', '"risky"', 1)),
    "a golden decision by another policy": (
        "golden.json",
        lambda text: text.replace('["file-findings"]', '["other"]', 1),
    ),
}


@pytest.mark.parametrize(("file", "change"), BAD.values(), ids=BAD.keys())
def test_a_bad_bundle_is_refused(folder: Path, file: str, change: Callable[[str], str]) -> None:
    edit(folder, file, change)
    with pytest.raises(BadBundle, match=str(folder)):
        Bundle.load(folder)


@pytest.mark.parametrize("gone", ["gate.cedar", "schema.cedarschema", "golden.json"])
def test_a_bundle_with_a_file_missing_is_refused(folder: Path, gone: str) -> None:
    (folder / gone).unlink()
    with pytest.raises(BadBundle):
        Bundle.load(folder)


@pytest.mark.parametrize("options", ["{", '{"revoke": 1}', '{"revok": true}', "[]"])
def test_options_nobody_knows_are_refused(folder: Path, options: str) -> None:
    (folder / "bundle.json").write_text(options)
    with pytest.raises(BadBundle):
        Bundle.load(folder)


def test_a_bundle_of_any_size_is_not_a_bundle(folder: Path) -> None:
    edit(folder, "gate.cedar", lambda text: text + "// so much more\n" * 40_000)
    with pytest.raises(BadBundle, match="524288"):
        Bundle.load(folder)


def test_what_is_stored_is_that_bundle_or_none(folder: Path) -> None:
    contents = read_folder(folder)
    version = version_of(contents)
    assert contents == unpacked(packed(contents), version)
    for stored in (b"", b"\xff", packed({}), packed({**contents, "gate.cedar": b""})):
        with pytest.raises(BadBundle):
            unpacked(stored, version)


def test_a_version_is_good_once_it_was_in_force_and_until_a_later_one_revokes() -> None:
    def trouble(version: str, *events: PolicyActivated) -> str | None:
        known = Activations()
        for seq, event in enumerate(events, start=1):
            known.apply(record(event, seq))
        found = known.trouble(version)
        return None if found is None else found[0]

    a, b, c = "a" * 64, "b" * 64, "c" * 64
    assert "policy_version_unknown" == trouble(a) == trouble(a, activated(b)) == trouble("", activated(b))
    assert "policy_version_unknown" == trouble(a, replaced(activated(a), mode="shadow"))
    assert trouble(a, activated(a)) is None is trouble(a, activated(a), activated(b), activated(c))
    revoking = activated(b, revokes=True)
    assert (
        "policy_version_revoked"
        == trouble(a, activated(a), revoking)
        == trouble(a, activated(a), revoking, activated(c))
    )
    assert trouble(b, activated(a), revoking, activated(c)) is None
    assert trouble(a, activated(a), revoking, activated(a)) is None


def test_so_many_versions_are_remembered() -> None:
    known = Activations()
    for n in range(KEPT + 1):
        known.apply(record(activated(f"{n:064x}"), n + 1))
    assert known.trouble(f"{0:064x}") and not known.trouble(f"{1:064x}")


def test_the_version_covers_every_file(folder: Path) -> None:
    versions = {Bundle.load(folder).version}
    for name, more in [("gate.cedar", "// more\n"), ("schema.cedarschema", "// more\n"), ("golden.json", "\n")]:
        edit(folder, name, lambda text, more=more: text + more)  # type: ignore[misc]
        versions.add(Bundle.load(folder).version)
    (folder / "bundle.json").write_text('{"revoke": true}')
    revoking = Bundle.load(folder)
    assert revoking.revokes and 5 == len(versions | {revoking.version})
