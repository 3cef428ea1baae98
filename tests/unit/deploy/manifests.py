"""The manifests as `kubectl kustomize` puts them together, as far as these files use it (`scripts/k8s-check` compares the two)."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.unit.deploy.compose import ROOT, text

Object = dict[str, Any]
FOLDER = ROOT / "deploy" / "k8s"
KUSTOMIZED = ("base", "autoscaled")
PAGE = ROOT / "docs" / "kubernetes.md"
WORKLOADS = ("StatefulSet", "Job")
_REFERENCE = re.compile(r"\$\(([A-Z_]+)\)")


def documents(file: Path) -> list[Object]:
    return [found for found in yaml.safe_load_all(file.read_text()) if found is not None]


def kustomization(folder: Path) -> Object:
    (found,) = documents(folder / "kustomization.yaml")
    return found


def render(folder: Path) -> list[Object]:
    """All objects of a folder with a kustomization, patched, in its namespace."""
    spec = kustomization(folder)
    objects: list[Object] = []
    for name in spec.get("resources", ()):
        path = folder / name
        objects += render(path) if path.is_dir() else documents(path)
    for made in spec.get("configMapGenerator", ()):
        if made.get("behavior") == "replace":
            objects.remove(of_kind(objects, "ConfigMap")[made["name"]])
        data = {Path(name).name: (folder / name).read_text() for name in made["files"]}
        objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": made["name"]}, "data": data})
    for name in spec.get("components", ()):
        inner = kustomization(folder / name)
        objects += render(folder / name)
        objects = patched(objects, inner.get("patches", ()))
    for image in spec.get("images", ()):
        for row in (pod(o)["containers"][0] for o in objects if o["kind"] in WORKLOADS):
            if row["image"].partition(":")[0] == image["name"]:
                row["image"] = f"{image['newName']}:{image['newTag']}"
    for found in objects:
        if "namespace" in spec and found["kind"] != "Namespace":
            found["metadata"]["namespace"] = spec["namespace"]
    return objects


def patched(objects: list[Object], patches: Any) -> list[Object]:
    """With removals at what each patch targets."""
    for patch in patches:
        (found,) = (o for o in objects if (o["kind"], name(o)) == (patch["target"]["kind"], patch["target"]["name"]))
        for operation in yaml.safe_load(patch["patch"]):
            assert operation["op"] == "remove"
            *way, last = operation["path"].strip("/").split("/")
            place = found
            for step in way:
                place = place[step]
            del place[last]
    return objects


def as_the_page_says(folder: Path) -> Path:
    """The kustomization docs/kubernetes.md shows, in a folder below which the files are as it has them."""
    (block,) = re.findall(r"^```yaml\n# kustomization\.yaml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    shutil.copytree(FOLDER, folder / "deploy" / "k8s")
    (folder / "kustomization.yaml").write_text(block)
    (folder / "swarm.toml").write_text((FOLDER / "base" / "swarm.toml").read_text() + "\n# changed\n")
    return folder


def name(found: Object) -> str:
    return str(found["metadata"]["name"])


def of_kind(objects: list[Object], *kinds: str) -> dict[str, Object]:
    """By name; each name once."""
    found = {name(o): o for o in objects if o["kind"] in kinds}
    assert len(found) == sum(o["kind"] in kinds for o in objects)
    return found


def pod(workload: Object) -> Object:
    return dict(workload["spec"]["template"]["spec"])


def container(workload: Object) -> Object:
    (found,) = pod(workload)["containers"]
    return dict(found)


def pod_labels(workload: Object) -> dict[str, str]:
    return dict(workload["spec"]["template"]["metadata"]["labels"])


def environment(workload: Object, slot: int = 1) -> dict[str, str]:
    """What the process is told, as the kubelet fills it in; secrets nobody brought are left out."""
    env: dict[str, str] = {}
    for entry in container(workload).get("env", ()):
        source = entry.get("valueFrom", {})
        if "fieldRef" in source:
            assert source["fieldRef"]["fieldPath"] == "metadata.labels['apps.kubernetes.io/pod-index']"
            env[entry["name"]] = str(slot)
        elif "secretKeyRef" in source:
            assert source["secretKeyRef"]["optional"]
        else:
            env[entry["name"]] = expanded(entry["value"], env)
    return env


def of_the_image() -> dict[str, str]:
    """Settings that the image's environment has, where the manifests say nothing else."""
    lines = text("Dockerfile").replace("\\\n", " ").splitlines()
    return dict(re.findall(r"\b(SWARM_\w+)=(\S+)", " ".join(line for line in lines if line.startswith("ENV "))))


def expanded(value: str, env: dict[str, str]) -> str:
    """`$(NAME)` of what was said before it."""
    return _REFERENCE.sub(lambda found: env[found[1]], value)


def mounted(workload: Object, slot: int = 1) -> Iterator[tuple[str, Object, str]]:
    """Where, of which volume, and which part of it ("" is all)."""
    spec, env = pod(workload), environment(workload, slot)
    volumes = {volume["name"]: volume for volume in spec.get("volumes", ())}
    volumes |= {name(claim): claim for claim in workload["spec"].get("volumeClaimTemplates", ())}
    for mount in container(workload)["volumeMounts"]:
        part = mount.get("subPath") or expanded(mount.get("subPathExpr", ""), env)
        yield mount["mountPath"], volumes[mount["name"]], part
