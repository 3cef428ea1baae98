"""The broker's configuration as text and as grants: who may say what, from the catalog alone."""

from __future__ import annotations

import msgspec
import pytest

from shared.broker import BrokerConfig, grants, operator_grants, render, service_of, tails
from shared.contracts.catalog import CLASSES, class_filter, has_slot, matches
from shared.contracts.ids import slot_of
from shared.contracts.services import SERVICES

KEYS = {name: f"U{n}" for n, name in enumerate(("bootstrap", "operator", "sys", *(f"{s}-1" for s in SERVICES)))}
CONFIG = BrokerConfig(keys=KEYS, store_dir='/a "quoted" folder')


def sample(event_class: str, slot: str = "core") -> str:
    return class_filter(event_class, slot=slot).replace("*", "x")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_may_say_its_own_classes_and_no_other(service: str) -> None:
    allowed = grants(f"{service}-1").publish
    slot = "core" if SERVICES[service].trusted else slot_of(f"{service}-1")
    said = {name for name in CLASSES if any(matches(a, sample(name, slot)) for a in allowed)}
    assert said == set(SERVICES[service].emits)


@pytest.mark.parametrize("name", [name for name in CLASSES if has_slot(name)])
def test_nobody_speaks_in_anothers_slot(name: str) -> None:
    for instance in (f"{row.name}-2" for row in SERVICES.values()):
        own = "core" if SERVICES[service_of(instance)].trusted else slot_of(instance)
        for slot in {"r1", "r2", "c1", "c2", "core"} - {own}:
            assert not any(matches(a, sample(name, slot)) for a in grants(instance).publish), (instance, slot)


@pytest.mark.parametrize("name", [name for row in SERVICES.values() if not row.trusted for name in row.emits])
def test_what_those_say_who_are_not_trusted_bears_their_slot(name: str) -> None:
    assert has_slot(name)


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_hears_more_than_its_inbox_and_discovery_and_the_governor_what_runners_ask(service: str) -> None:
    heard = grants(f"{service}-1").subscribe
    assert heard[0] == f"_INBOX_{service}-1.>"
    others = {subject for subject in heard[1:] if not subject.startswith("$SRV.")}
    asked = {"tail.open.*.*.*", "durable.open.*.*", "door.get.*.*", "door.info.*.*"}
    assert others == (asked if service == "governor" else set())


def test_who_is_not_trusted_keeps_nothing_and_configures_nothing_with_the_broker() -> None:
    for name in ("persona_runner-1", "checker-1"):
        said = grants(name).publish
        assert not [s for s in said if s.startswith(("$KV.checkpoints", "$JS.API.DIRECT.GET.KV_checkpoints"))]
    config = render(CONFIG)
    assert '{ service: { account: CORE, subject: "tail.open._.SWARM.tail-persona_runner-1" }' in config
    assert '{ service: { account: CORE, subject: "durable.open.SWARM.checker" }' in config
    assert 'subject: "$JS.API.CONSUMER.CREATE' not in config
    assert "$JS.API.CONSUMER.CREATE.SWARM.checker" in grants("governor-1", ("checker-1", "checker-2")).publish


def test_no_service_may_change_a_stream_or_anothers_consumer() -> None:
    for service in SERVICES:
        others = {f"{s}" for s in SERVICES if s != service}
        for subject in grants(f"{service}-1").publish:
            assert not matches(subject, "$JS.API.STREAM.UPDATE.SWARM")
            assert not matches(subject, "$JS.API.STREAM.DELETE.SWARM")
            for other in others:
                assert not matches(subject, f"$JS.API.CONSUMER.MSG.NEXT.SWARM.{other}")
                assert not matches(subject, f"$JS.API.CONSUMER.CREATE.SWARM.{other}")
                assert not matches(subject, f"$JS.ACK.SWARM.{other}.1.1.1.1.1")
                assert not matches(subject, f"$KV.checkpoints.{other}.x")


def test_the_operator_says_no_event_and_leaves_consumers_of_services_alone() -> None:
    operator = operator_grants()
    assert not any(matches(a, sample(name)) for name in CLASSES for a in operator.publish)
    assert any(matches(d, "$JS.API.CONSUMER.MSG.NEXT.SWARM.verifier") for d in operator.deny_publish)
    assert any(matches(d, "$JS.API.CONSUMER.DELETE.RECALL.memory_compactor-recall") for d in operator.deny_publish)
    assert not any(matches(d, "$JS.API.CONSUMER.CREATE.SWARM.mine") for d in operator.deny_publish)


def test_tails_are_named_after_the_instance() -> None:
    assert tails("gateway-2") == (("SWARM", "tail-gateway-2"), ("RECALL", "tail-gateway-2-recall"))
    assert tails("governor-1") == ()
    assert service_of("persona_runner-12") == "persona_runner"
    with pytest.raises(ValueError, match="'verifier' is no service instance"):
        service_of("verifier")


def test_the_file_syncs_always_unless_told_otherwise_and_is_strict() -> None:
    text = render(CONFIG)
    assert "  sync_interval: always\n" in text
    assert "  strict: true\n" in text
    assert r'store_dir: "/a \"quoted\" folder"' in text
    relaxed = BrokerConfig(keys=KEYS, store_dir="s", sync_always=False)
    assert "sync_interval" not in render(relaxed)


def test_a_role_without_a_key_is_refused() -> None:
    with pytest.raises(ValueError, match="no nkey for operator"):
        render(BrokerConfig(keys={k: v for k, v in KEYS.items() if k != "operator"}, store_dir="s"))


def test_runners_and_checkers_are_each_in_an_account_of_their_own_and_the_system_api_reaches_core_under_a_private_name() -> (
    None
):
    core, rest = render(CONFIG).split("  RUN {", 1)
    run, check = rest.split("  CHECK {", 1)
    for service in SERVICES:
        where = {"persona_runner": run, "checker": check}.get(service, core)
        assert [where] == [part for part in (core, run, check) if KEYS[f"{service}-1"] in part]
    for part, consumer in ((run, "tail-persona_runner-1"), (check, "checker")):
        asked = f"CONSUMER.CREATE.SWARM.{consumer}"
        assert f'"$JS.API.{asked}": "$JS.CORE.API.{asked}"' in part
    assert "checker" not in run and "persona_runner" not in check


def test_a_runner_of_some_swarms_is_given_its_scope_by_the_broker_and_names_no_other() -> None:
    config = render(msgspec.structs.replace(CONFIG, serves={"persona_runner-1": ("beta", "alpha")}))
    for asked, answered in (
        (
            "$JS.CORE.API.CONSUMER.CREATE.SWARM.tail-persona_runner-1",
            "tail.open.alpha+beta.SWARM.tail-persona_runner-1",
        ),
        ("door.get.persona_runner-1", "door.get.alpha+beta.persona_runner-1"),
    ):
        assert f'{{ service: {{ account: CORE, subject: "{answered}" }}, to: "{asked}" }}' in config
    said = grants("persona_runner-1", serves=("alpha", "beta")).publish
    assert not [s for s in said if s.startswith(("$JS.API.STREAM.", "$JS.API.DIRECT.GET.SWARM"))]
    assert "thought.generated.alpha.*.r1" in said and "thought.generated.*.*.r1" not in said


def test_swarms_for_who_is_no_runner_are_refused() -> None:
    for name in ("verifier-1", "persona_runner-9"):
        with pytest.raises(ValueError, match=f"{name} has no key or is no runner"):
            render(msgspec.structs.replace(CONFIG, serves={name: ("alpha",)}))
