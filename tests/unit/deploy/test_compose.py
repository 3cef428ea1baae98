"""The compose files: of the schema, of the catalog, and no wider than they must be. `scripts/compose-test` runs them for real."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from shared.configuration import VARIABLES
from shared.contracts.services import SERVICES
from shared.placement import groups_of
from shared.settings import READS, reads, variable
from tests.unit.deploy.compose import ROOT, command_of, load, mounts, services, text, variables

FILES = ("compose.yaml", "compose.embedded.yaml", "compose.cluster.yaml", "compose.serve.yaml", "compose.sandbox.yaml")
MESHES = (("compose.yaml",), *(("compose.yaml", file) for file in FILES[1:]))
OURS = "perpetual-persona-swarms:"


@pytest.mark.parametrize("name", FILES)
def test_a_compose_file_is_what_the_specification_wants(name: str) -> None:
    schema = json.loads((ROOT / "tests" / "schemas" / "compose-spec.json").read_text())
    loaded = load(name)
    loaded["services"] = _without_resets(loaded["services"])
    jsonschema.Draft7Validator(schema).validate(loaded)


def _without_resets(loaded: Any) -> Any:
    """But for what `!reset` takes away."""
    if not isinstance(loaded, dict):
        return loaded
    return {key: _without_resets(value) for key, value in loaded.items() if value is not None}


@pytest.mark.parametrize("mesh", MESHES, ids=" ".join)
@pytest.mark.parametrize("service", SERVICES)
def test_every_service_of_the_catalog_is_there(mesh: tuple[str, ...], service: str) -> None:
    row = services(*mesh)[service]
    assert [service] == command_of(row), "the image's entry point takes the service's name"
    assert row["image"].startswith(OURS)
    assert row["healthcheck"]["test"] == ["CMD", "healthcheck"]
    bucket = {"bucket"} & set(services(*mesh)) if service == "memory_compactor" else set()
    ready = {"condition": "service_completed_successfully"}
    assert row["depends_on"] == dict.fromkeys({"bootstrap"} | bucket, ready)


@pytest.mark.parametrize("name", services("compose.yaml"))
def test_every_container_is_bounded_and_may_do_nothing_it_need_not(name: str) -> None:
    row = services("compose.yaml")[name]
    assert row["init"] and row["cap_drop"] == ["ALL"]
    assert row["security_opt"] == ["no-new-privileges:true"]
    assert row["mem_limit"] and row["pids_limit"] and row["stop_grace_period"] and row["logging"]["options"]["max-size"]
    if name == "observability":
        return  # an image of many parts, which write beside themselves
    assert row["read_only"]
    if name == "keys":
        assert row["user"] == "0:0"
        assert row["network_mode"] == "none", "who has all keys and is root speaks to nobody"
    else:
        assert row["user"] == "10001:10001"
        assert "cap_add" not in row


def test_whoever_stays_is_started_again_and_looked_at() -> None:
    stays = {
        n: s for n, s in services("compose.yaml").items() if s["restart"] == "unless-stopped" and "profiles" not in s
    }
    assert {*SERVICES, "nats", "minio", "qdrant"} == set(stays)
    assert all(s["healthcheck"]["retries"] == 3 for s in stays.values())


@pytest.mark.parametrize("mesh", MESHES, ids=" ".join)
@pytest.mark.parametrize("process", [*SERVICES, "bootstrap", "bucket", "keys"])
def test_a_process_is_told_only_settings_it_reads(mesh: tuple[str, ...], process: str) -> None:
    told = services(*mesh).get(process, {}).get("environment", {})
    assert [] == [name for name in told if name not in VARIABLES or not reads(process, VARIABLES[name])]
    held = ("/keys/", "/run/secrets/")
    assert [] == [n for n, v in told.items() if n.endswith("_FILE") and not v.startswith(held) and ".toml" not in v]
    assert process in READS


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_told_every_secret_its_row_says_it_holds(service: str) -> None:
    told = services("compose.yaml")[service]["environment"]
    assert {f"{variable(key)}_FILE" for key in SERVICES[service].holds} <= set(told)


@pytest.mark.parametrize("mesh", MESHES, ids=" ".join)
def test_nobody_sees_anothers_keys(mesh: tuple[str, ...]) -> None:
    holders: dict[str, set[str]] = {}
    for name, row in services(*mesh).items():
        for source, read_only in mounts(row).values():
            if source.startswith("keys-") and name != "keys":
                assert read_only, f"{name} may change {source}"
                holders.setdefault(source, set()).add(name)
    assert {"cli", "nats-box"} == holders.pop("keys-operator"), "people's tools are one holder"
    brokers = {name for name in services(*mesh) if re.fullmatch(r"nats(-\d)?", name)}
    assert brokers == holders.pop("keys-nats")
    assert [] == [source for source, names in holders.items() if len(names) != 1]
    assert "keys-sys" not in holders
    made = {source for source, _ in mounts(services(*mesh)["keys"]).values()}
    assert set(holders) <= made


@pytest.mark.parametrize("service", SERVICES)
def test_in_a_cluster_there_are_as_many_of_a_service_as_its_row_allows(service: str) -> None:
    row = services("compose.yaml", "compose.cluster.yaml")[service]
    assert {"one": 1, "each": 2, "shared": 2, "sharded": 3}[SERVICES[service].replicas] == row.get("scale", 1)
    assert row["environment"]["SWARM_STORE_REPLICAS"] == "3"
    ports = [port.split(":")[-2] for port in row.get("ports", [])]
    room = [int(last) - int(first) + 1 for first, last in (port.split("-") for port in ports)]
    assert all(count >= row.get("scale", 1) for count in room), "each has a port of this machine"


def test_a_runner_of_some_swarms_has_the_one_key_for_them_and_the_governor_knows() -> None:
    rows = services("compose.yaml", "compose.serve.yaml")
    (told,) = {rows[name]["environment"]["SWARM_PLACEMENT_GROUPS"] for name in ("keys", "governor")}
    runners = {name: row for name, row in rows.items() if "SWARM_PLACEMENT_SERVES" in row.get("environment", {})}
    served = {
        (f"persona_runner-{name.rpartition('_')[2]}", tuple(row["environment"]["SWARM_PLACEMENT_SERVES"].split(",")))
        for name, row in runners.items()
    }
    assert served == {(f"persona_runner-{s[1:]}", swarms) for swarms, slots in groups_of(told).items() for s in slots}
    for name, _ in served:
        (source, _), volume = mounts(runners[name.replace("-", "_")])["/keys"], f"/volumes/{name}"
        assert source == mounts(rows["keys"])[volume][0]


def test_only_memory_reaches_its_stores_and_only_two_doors_are_open_on_this_machine() -> None:
    rows = {n: s for n, s in services("compose.yaml").items() if n != "observability"}
    reach = {n for n, s in rows.items() if "memory" in s.get("networks", [])}
    assert {"memory_compactor", "minio", "bucket", "qdrant"} == reach
    published = {name: port for name, s in rows.items() for port in s.get("ports", [])}
    assert {"gateway", "nats"} == set(published)
    assert all(port.startswith("127.0.0.1:") for port in published.values())
    assert {"actuator", "memory_compactor", "persona_runner"} == {
        n for n, s in rows.items() if "outside" in s.get("networks", [])
    }


def test_who_runs_what_the_operator_named_may_make_namespaces_and_nothing_else_is_more_than_it_was() -> None:
    plain, sandboxed = services("compose.yaml"), services("compose.yaml", "compose.sandbox.yaml")
    changed = {n: {k for k in row if row[k] != plain[n].get(k)} for n, row in sandboxed.items() if row != plain[n]}
    walls, given = {"image", "build", "security_opt"}, {"environment", "volumes"}
    assert {"actuator": walls | given, "checker": walls | given | {"networks"}, "verifier": given} == changed
    for name in ("actuator", "checker"):
        assert {"no-new-privileges:true", "seccomp=./deploy/seccomp/sandbox.json"} < set(
            sandboxed[name]["security_opt"]
        )
    for name in changed:
        told = {p for p in sandboxed[name]["environment"].values() if str(p).endswith(".toml")}
        assert told and all(mounts(sandboxed[name])[path] == ("/dev/null", True) for path in told)
    rules = json.loads(text("deploy/seccomp/sandbox.json"))["syscalls"]
    free = [rule for rule in rules if {"unshare", "mount"} & set(rule["names"]) and not rule.get("includes")]
    assert [{"clone", "mount", "pivot_root", "sethostname", "umount2", "unshare"}] == [set(r["names"]) for r in free]


def test_prometheus_looks_at_every_service() -> None:
    (scraped,) = load("deploy/compose/prometheus.yaml")["scrape_configs"]
    (found,) = scraped["dns_sd_configs"]
    assert set(SERVICES) == set(found["names"])
    assert f"SWARM_HEALTH_PORT={found['port']}" in text("Dockerfile")


def test_the_embedded_mesh_needs_no_image_but_this_projects() -> None:
    rows = services("compose.yaml", "compose.embedded.yaml")
    assert "qdrant" not in rows
    foreign = {n for n, s in rows.items() if not s["image"].startswith(OURS) and "profiles" not in s}
    assert set() == foreign


def test_every_variable_and_volume_is_named_where_people_look() -> None:
    example = set(re.findall(r"^#?([A-Z_]+)=", text(".env.example"), re.MULTILINE))
    assert example == {name for file in FILES for name in variables(file)}
    for file in FILES:
        loaded = load(file)
        named = {v[0] for s in loaded["services"].values() if s for v in mounts(s).values() if v[0][0] not in "./"}
        assert named <= set(loaded.get("volumes", {})) | {"nats"}


def test_an_image_has_a_version() -> None:
    images = {s["image"] for s in services("compose.yaml").values()}
    assert [] == [image for image in images if not re.search(r":[^:/]+$", image) or image.endswith(":latest")]


def test_the_image_is_built_from_the_lock_files_by_their_hashes_and_runs_as_nobody() -> None:
    lines = text("Dockerfile").replace("\\\n", " ").splitlines()
    installs = [part for line in lines if line.startswith("RUN") for part in line.split("&&") if " pip " in part]
    assert installs
    assert [] == [p for p in installs if not re.search("--require-hashes|--no-index|--no-deps -w /own", p)]
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", text("Dockerfile"), re.MULTILINE)
    assert [] == [base for base, _ in stages if base != "${BASE_IMAGE}" and base not in [name for _, name in stages]]
    assert stages[-1] == ("runtime", "mesh"), "what is built without a target has no servers in it"
    assert "USER 10001:10001" in lines
    assert 'ENTRYPOINT ["python", "-m", "services"]' in lines


def test_what_the_image_copies_reaches_the_builder() -> None:
    let_in = {line[1:] for line in text(".dockerignore").splitlines() if line.startswith("!")}
    copied = [w for line in text("Dockerfile").splitlines() if line.startswith("COPY ") and "--from" not in line
              for w in line.split()[1:-1]]  # fmt: skip
    assert [] == [name for name in copied if name not in let_in or not Path(ROOT, name).exists()]


def test_in_the_image_health_is_answered_to_others_without_being_told_so() -> None:
    told = dict(re.findall(r"\b(SWARM_[A-Z_]+)=(\S+)", text("Dockerfile")))
    assert {"SWARM_DATA_DIR": "/data", "SWARM_HEALTH_HOST": "0.0.0.0", "SWARM_HEALTH_PORT": "8080"} == told
    assert all(reads(service, VARIABLES[name]) for name in told for service in SERVICES)
    assert not set(told) & {name for row in services("compose.yaml").values() for name in row.get("environment", {})}
