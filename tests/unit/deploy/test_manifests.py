"""The Kubernetes manifests: of the catalog, consistent, and no wider than they must be. `tests/e2e/test_manifests_run.py` runs them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.manifests import generate
from scripts.manifests.table import FILES, REACHES, name_of
from services.supervisor import holders
from shared.configuration import KEYS, VARIABLES, load
from shared.contracts.services import SERVICES
from shared.metrics.table import TABLE
from shared.settings import READS, reads
from tests.unit.deploy import manifests
from tests.unit.deploy.compose import ROOT, services
from tests.unit.deploy.manifests import FOLDER, Object, container, environment, mounted, of_kind, pod, pod_labels

BASE = manifests.render(FOLDER / "base")
SETS, JOBS = of_kind(BASE, "StatefulSet"), of_kind(BASE, "Job")
POLICIES = of_kind(BASE, "NetworkPolicy")
NAMES = {name_of(service): service for service in SERVICES}
TOLD = {**{name: SETS[name] for name in NAMES if name in SETS}, **JOBS}


def process(name: str) -> str:
    """The row of READS a workload is."""
    return NAMES.get(name, name)


def test_the_manifests_are_the_catalogs(tmp_path: Path) -> None:
    wanted = generate.files()
    assert [] == generate.drift(ROOT, wanted)
    generate.main([], tmp_path)
    (tmp_path / "deploy/k8s/base/nobody.yaml").write_text("left over")
    (tmp_path / "deploy/k8s/base/governor.yaml").write_text("changed")
    assert ["deploy/k8s/base/governor.yaml", "deploy/k8s/base/nobody.yaml"] == generate.drift(tmp_path, wanted)
    assert generate.main(["--check"], tmp_path) == 1
    assert generate.main([], tmp_path) == 0
    assert [] == generate.drift(tmp_path, wanted)


@pytest.mark.parametrize("folder", manifests.KUSTOMIZED)
def test_every_file_is_named_where_it_is_put_together(folder: str) -> None:
    spec = manifests.kustomization(FOLDER / folder)
    named = [*spec["resources"], *(f for made in spec.get("configMapGenerator", ()) for f in made["files"])]
    assert sorted(named) == sorted(p.name for p in (FOLDER / folder).iterdir() if p.name != "kustomization.yaml")


def test_every_service_of_the_catalog_is_there_once_and_nothing_else_runs() -> None:
    assert set(NAMES) == set(SETS)
    assert {"bootstrap"} == set(JOBS)
    kinds = {found["kind"] for found in BASE}
    assert kinds <= {"Namespace", "ConfigMap", "StatefulSet", "Job", "Service", "PodDisruptionBudget", "NetworkPolicy"}
    for name, service in NAMES.items():
        assert [service] == container(SETS[name])["args"], "the image's entry point takes the service's name"
        assert "command" not in container(SETS[name])
        assert SETS[name]["spec"]["replicas"] == 1 or SERVICES[service].replicas != "one"


def test_selectors_find_the_pods_they_are_for() -> None:
    budgets, found = of_kind(BASE, "PodDisruptionBudget"), of_kind(BASE, "Service")
    assert set(NAMES) == set(budgets)
    for name, workload in SETS.items():
        wanted = workload["spec"]["selector"]["matchLabels"]
        assert wanted == budgets[name]["spec"]["selector"]["matchLabels"]
        assert [name] == [n for n, s in SETS.items() if wanted.items() <= pod_labels(s).items()]
        assert workload["spec"]["serviceName"] in found
        assert POLICIES[name]["spec"]["podSelector"]["matchLabels"] == wanted
    for service in found.values():
        backing = [s for s in SETS.values() if service["spec"]["selector"].items() <= pod_labels(s).items()]
        assert backing
        for port in service["spec"]["ports"]:
            assert all(port["targetPort"] in {p["name"] for p in container(s)["ports"]} for s in backing)


@pytest.mark.parametrize("name", TOLD)
def test_every_container_is_bounded_and_may_do_nothing_it_need_not(name: str) -> None:
    spec, row = pod(TOLD[name]), container(TOLD[name])
    assert row["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not spec["automountServiceAccountToken"]
    assert not spec["enableServiceLinks"], "a Service's variables may be taken for settings"
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostPath"} & {*spec, *(key for v in spec["volumes"] for key in v)}
    assert {"cpu", "memory"} == set(row["resources"]["requests"]) == set(row["resources"]["limits"])
    if name in SETS:
        probes = {probe: row[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
        assert probes == {"startup": "/health/live", "liveness": "/health/live", "readiness": "/health/ready"}


@pytest.mark.parametrize("name", TOLD)
def test_a_process_is_told_only_settings_it_reads(name: str) -> None:
    env = environment(TOLD[name], slot=3)
    del env["SWARM_CONFIG"]
    env.pop("SLOT", None)
    assert [] == [n for n in env if n not in VARIABLES or not reads(process(name), VARIABLES[n])]
    brought = [e for e in container(TOLD[name])["env"] if "secretKeyRef" in e.get("valueFrom", {})]
    assert all(KEYS[VARIABLES[e["name"]]].secret and reads(process(name), VARIABLES[e["name"]]) for e in brought)
    if name in SETS:
        assert env["SWARM_INSTANCE"] == f"{NAMES[name]}-3"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("keys")
    holders.deliver(root)
    return root


@pytest.mark.parametrize("name", TOLD)
def test_a_pod_sees_its_holders_secrets_its_own_seed_and_no_others(name: str, keys: Path) -> None:
    secrets = [(at, volume, part) for at, volume, part in mounted(TOLD[name]) if "secret" in volume]
    assert {f"keys-{name}"} == {volume["secret"]["secretName"] for _, volume, _ in secrets}
    held = [part for _, _, part in secrets]
    assert [] == [part for part in held if not (keys / process(name) / part).is_file()]
    own = f"{process(name)}-1.nk" if name in SETS else "bootstrap.nk"
    assert held[0] == own
    files = {v for k, v in environment(TOLD[name]).items() if k.endswith("_FILE")}
    assert files == {at for at, _, _ in secrets}, "what is mounted is told, and what is told is mounted"


@pytest.mark.parametrize("name", TOLD)
def test_the_settings_file_and_the_environment_are_all_a_process_needs(name: str, keys: Path, tmp_path: Path) -> None:
    env = environment(TOLD[name])
    places = {at: keys / process(name) / part for at, volume, part in mounted(TOLD[name]) if "secret" in volume}
    env = (
        manifests.of_the_image()
        | {k: str(places.get(v, v)) for k, v in env.items()}
        | {"SWARM_CONFIG": str(FOLDER / "base" / "swarm.toml")}
    )
    settings = load(env, process=process(name))
    assert settings.nats.url == "nats://nats:4222"
    if name in SETS:
        ports = {port["name"]: port["containerPort"] for port in container(TOLD[name])["ports"]}
        assert (settings.health.host, settings.health.port) == ("0.0.0.0", ports["health"])
        assert settings.http.port == ports.get("http", settings.http.port)
        writable = {at for at, _, _ in mounted(TOLD[name])} - {m["mountPath"] for m in read_only(TOLD[name])}
        assert settings.data_dir in writable
        assert not reads(process(name), "workspace") or settings.workspace in writable


@pytest.mark.parametrize("name", TOLD)
def test_what_people_may_bring_is_an_empty_folder_until_they_do(name: str) -> None:
    brought = {at: v["configMap"] for at, v, _ in mounted(TOLD[name]) if v.get("configMap", {}).get("optional")}
    stops = {"/stop": {"name": "stop", "optional": True}} if reads(process(name), "kill_switch.file") else {}
    assert brought == {"/ca": {"name": "authorities", "optional": True}, **stops}
    assert set(brought) <= {mount["mountPath"] for mount in read_only(TOLD[name]) if "subPath" not in mount}


def read_only(workload: Object) -> list[Object]:
    return [mount for mount in container(workload)["volumeMounts"] if mount.get("readOnly")]


def test_secrets_are_in_no_settings_file_and_every_one_of_the_catalog_has_its_place() -> None:
    text = (FOLDER / "base" / "swarm.toml").read_text()
    assert [] == re.findall(r"^\s*(?:secret|seed|api_key|access_key|secret_key|keys)\b", text, re.MULTILINE)
    placed = {*FILES, "model.api_key", "embeddings.api_key"} | {"http.keys", "verdict.seed"}
    assert {held for row in SERVICES.values() for held in row.holds} <= placed


def reached(name: str) -> set[str]:
    """Names of the pods and `namespaces/` a workload may open connections to, `public` for the outside."""
    found = set()
    for rule in POLICIES[name]["spec"].get("egress", ()):
        for peer in rule["to"]:
            if "ipBlock" in peer:
                found.add("public" if "ports" not in rule else f"public:{rule['ports'][0]['port']}")
            elif "namespaceSelector" in peer:
                found.add(peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] + "/")
            else:
                found.add(peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"])
    return found


def test_nobody_reaches_anybody_but_the_broker_and_whom_it_is_told_the_place_of() -> None:
    assert POLICIES["nobody"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    beyond = {name: reached(name) - {"nats"} for name in [*NAMES, "bootstrap"]}
    assert all("nats" in reached(name) for name in beyond)
    assert {
        "memory-compactor": {"qdrant", "minio", "public:443", "model"},
        "persona-runner": {"model", "public:443"},
        "actuator": {"public"},
        "gateway": {"monitoring/"},
    } == {name: peers for name, peers in beyond.items() if peers}


def test_every_place_a_service_is_told_is_one_it_may_reach() -> None:
    places = {key for key in KEYS if re.search(r"(\.|_)(url|endpoint)$", key)} - {"nats.url", "nats.monitor_url"}
    assert places == {setting for setting in REACHES if setting != "outbound.allow_private"}


def test_private_addresses_and_the_clouds_metadata_are_not_outside() -> None:
    (block,) = [
        peer["ipBlock"] for rule in POLICIES["actuator"]["spec"]["egress"] for peer in rule["to"] if "ipBlock" in peer
    ]
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8"} <= set(block["except"])


def test_the_broker_the_index_and_the_store_are_reached_by_the_mesh_alone() -> None:
    def callers(name: str) -> list[object]:
        return [rule["from"] for rule in POLICIES[name]["spec"]["ingress"]]

    memory = [[{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "memory-compactor"}}}]]
    assert memory == callers("qdrant") == callers("minio")
    ours, watching, other_brokers = callers("nats")
    assert other_brokers == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "nats"}}}]
    assert {"nats"} == reached("nats")
    assert ours == [{"podSelector": {"matchLabels": {"app.kubernetes.io/part-of": "perpetual-persona-swarms"}}}]
    assert watching == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    open_to_all = {
        n: [r["ports"][0]["port"] for r in p["spec"].get("ingress", ()) if "from" not in r] for n, p in POLICIES.items()
    }
    assert {"gateway": [4096]} == {n: ports for n, ports in open_to_all.items() if ports}


def test_what_is_scaled_is_by_a_consumer_of_the_catalog_or_a_metric_of_the_table(tmp_path: Path) -> None:
    objects = manifests.render(manifests.as_the_page_says(tmp_path))
    scaled = of_kind(objects, "ScaledObject")
    assert {"verifier", "checker", "policy-gate", "persona-runner"} == set(scaled)
    for name, found in scaled.items():
        target = found["spec"]["scaleTargetRef"]
        assert "replicas" not in of_kind(objects, target["kind"])[target["name"]]["spec"], "it is KEDA's to say"
        (trigger,) = found["spec"]["triggers"]
        match trigger["type"]:
            case "nats-jetstream":
                told = trigger["metadata"]
                assert (told["stream"], told["consumer"]) in SERVICES[NAMES[name]].durables
                assert told["account"] == "CORE"  # whose the streams are
                assert told["natsServerMonitoringEndpoint"] == "nats-headless.swarm:8222", "of a cluster each by name"
            case "prometheus":
                asked = set(re.findall(r"swarm_\w+", trigger["metadata"]["query"]))
                assert asked and asked <= {metric.name for metric in TABLE}
    callers = of_kind(objects, "NetworkPolicy")["nats-keda"]["spec"]["ingress"][0]["from"]
    assert callers == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}}]


def test_the_folder_of_the_page_changes_image_and_settings_and_nothing_else(tmp_path: Path) -> None:
    objects = manifests.render(manifests.as_the_page_says(tmp_path))
    images = {container(o)["image"] for o in objects if o["kind"] in manifests.WORKLOADS}
    assert {"registry.example/perpetual-persona-swarms:0.1.0"} == images
    (settings,) = of_kind(objects, "ConfigMap").values()
    assert settings["data"]["swarm.toml"].endswith("# changed\n")
    assert {(o["kind"], manifests.name(o)) for o in BASE} <= {(o["kind"], manifests.name(o)) for o in objects}
    assert {"swarm"} == {o["metadata"]["namespace"] for o in objects if o["kind"] != "Namespace"}


def test_broker_and_index_are_those_of_compose() -> None:
    images = {name: services("compose.yaml")[name]["image"] for name in ("nats", "qdrant", "gateway")}
    (nats,), (qdrant,) = (manifests.documents(FOLDER / "charts" / f"{name}.yaml") for name in ("nats", "qdrant"))
    assert images["nats"] == f"nats:{nats['container']['image']['tag']}"
    assert images["qdrant"] == f"qdrant/qdrant:{qdrant['image']['tag']}"
    assert {images["gateway"]} == {container(workload)["image"] for workload in TOLD.values()}
    assert set(READS) >= {process(name) for name in TOLD}
