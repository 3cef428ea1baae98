"""`deploy/k8s`, made of the catalog; `main` writes or compares it (`scripts/gen`). What is written by hand there is `base/swarm.toml`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from scripts.manifests import charts, network, scaling, workloads
from scripts.manifests.table import NAMESPACE, name_of
from scripts.manifests.workloads import Object
from shared.contracts.services import SERVICES

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "deploy/k8s"
HEAD = "# Written by `scripts/gen` from the catalog of services: change scripts/manifests.\n"
KUSTOMIZE = "kustomize.config.k8s.io/v1beta1"


class _Dumper(yaml.SafeDumper):
    """Lists below their key are indented, what occurs twice is written twice, and text of lines stays lines."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, False)

    def ignore_aliases(self, data: object) -> bool:
        return True


def files() -> dict[str, str]:
    """Every generated file by its path in the repository."""
    base = {
        f"{name_of(service)}.yaml": [*workloads.workload(service), network.allowed(service)] for service in SERVICES
    }
    base |= {
        "namespace.yaml": [_namespace()],
        "bootstrap.yaml": [workloads.bootstrap()],
        "mesh.yaml": [workloads.everybody(), *network.mesh()],
    }
    scaled = {f"{name_of(service)}.yaml": [scaling.scaled(service)] for service in scaling.services()}
    scaled["network.yaml"] = [network.scaler()]
    made = {
        **{f"base/{name}": objects for name, objects in base.items()},
        "base/kustomization.yaml": [_base(base)],
        **{f"autoscaled/{name}": objects for name, objects in scaled.items()},
        "autoscaled/kustomization.yaml": [_autoscaled(scaled)],
        "charts/nats.yaml": [charts.nats()],
        "charts/nats-cluster.yaml": [charts.nats_cluster()],
        "charts/qdrant.yaml": [charts.qdrant()],
    }
    return {f"{FOLDER}/{path}": HEAD + _text(objects) for path, objects in made.items()}


def drift(folder: Path, wanted: dict[str, str]) -> list[str]:
    """Paths that are missing, differ, or are left over from a service that is no more."""
    there = {str(path.relative_to(folder)): path.read_text() for path in (folder / FOLDER).rglob("*.yaml")}
    return sorted(path for path in {*there, *wanted} if there.get(path) != wanted.get(path))


def main(arguments: Sequence[str], folder: Path = ROOT) -> int:
    """Write what differs; with `--check` only name it and exit 1."""
    wanted = files()
    differing = drift(folder, wanted)
    for path in differing:
        if "--check" in arguments:
            sys.stderr.write(f"{path} differs from the catalog; run scripts/gen\n")
        elif path not in wanted:
            (folder / path).unlink()
        else:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(wanted[path], encoding="utf-8")
            sys.stdout.write(f"{path}\n")
    return 1 if differing and "--check" in arguments else 0


def _namespace() -> Object:
    standard = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": standard}}


def _base(names: Iterable[str]) -> Object:
    return {
        "apiVersion": KUSTOMIZE,
        "kind": "Kustomization",
        "namespace": NAMESPACE,
        "resources": sorted(names),
        "configMapGenerator": [{"name": "swarm-config", "files": ["swarm.toml"]}],
    }


def _autoscaled(names: Iterable[str]) -> Object:
    return {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "namespace": NAMESPACE,
        "resources": sorted(names),
        "patches": [scaling.patch(service) for service in scaling.services()],
    }


def _text(objects: Sequence[Object]) -> str:
    return yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, width=140, allow_unicode=True)
