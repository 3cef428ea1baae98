"""What Kubernetes must know of each service beyond its row in the catalog, and by which words all manifests name things.

Who is told a setting is the catalog's (`shared/settings.py` READS); here is what that means in a cluster: `FILES` are secrets and where
they are in the folder of who holds them, `REACHES` whom a service may call because it is told where they are.
"""

from __future__ import annotations

import msgspec

from shared.contracts.services import SERVICES, ServiceRow
from shared.settings import READS, reads

PART_OF, NAMESPACE = "perpetual-persona-swarms", "swarm"
IMAGE, VERSION, UID = "perpetual-persona-swarms", "0.1.0", 10001
NATS, QDRANT, S3 = "nats", "qdrant", "minio"
"""Releases of the charts, and so the names of their services and what their pods are labelled with."""
NATS_PORT, MONITOR_PORT, ROUTE_PORT = 4222, 8222, 6222
QDRANT_PORT, S3_PORT, API_PORT, HEALTH_PORT, MODEL_PORT = 6333, 9000, 4096, 8080, 8080
MONITORING, KEDA = "monitoring", "keda"
"""The namespaces of whoever looks at metrics and takes traces, and of KEDA."""
OTLP_PORT = 4318

FILES: dict[str, str] = {
    "core.secret": "core-secret",
    "verdict.seed_file": "verdict-seed",
    "verdict.root": "verdict-root",
    "verdict.signers": "signers.json",
    "http.keys_file": "http-keys.toml",
    "s3.access_key": "s3-access",
    "s3.secret_key": "s3-secret",
    "qdrant.api_key": "qdrant-key",
}
"""Settings that are the content of a file, and its name in the folder of every service that is told it."""

BROUGHT: dict[str, str] = {"model.api_key": "model", "embeddings.api_key": "embeddings"}
"""Secrets that people bring, where they have one: the setting, and the Secret whose `api-key` it is."""

REACHES: dict[str, str] = {
    "qdrant.url": "qdrant",
    "s3.endpoint": "s3",
    "model.url": "model",
    "model.fallback_url": "model",
    "embeddings.url": "model",
    "traces.url": "collector",
    "outbound.allow_private": "outside",
}
"""Whom a service may open connections to, beside the broker, by the setting that says where they are."""


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """What one pod asks for and may take at most: CPU in thousandths of a core, memory and its data volume in MiB."""

    cpu_m: int = 50
    cpu_most_m: int = 1000
    memory: int = 128
    memory_most: int = 512
    data: int = 1024


SIZES: dict[str, Size] = {
    "memory_compactor": Size(cpu_m=200, memory=512, memory_most=1536, data=10240),
    "gateway": Size(cpu_m=100, memory=256, memory_most=1024),
    "persona_runner": Size(cpu_m=200, memory=256, memory_most=1024),
}
"""Those that need more than most; `docs/kubernetes.md` says from which figures."""
WORKSPACE = 10240
"""MiB the actuator may write files in."""

LAGGING: dict[str, int] = {"verifier": 100, "checker": 100, "policy_gate": 100}
"""Services of which there are more when their durable consumer has more messages waiting and in hand than this for each."""
THOUGHTS_DUE = 64
"""Personas that may wait for their next step, for each runner, before there are more runners."""


def name_of(service: str) -> str:
    """A service as names in Kubernetes are written."""
    return service.replace("_", "-")


def told(service: str, table: dict[str, str]) -> dict[str, str]:
    """The entries of a table by settings that are this process's."""
    return {setting: value for setting, value in table.items() if reads(service, setting)}


def replicas(row: ServiceRow) -> int:
    """How many there are unless told otherwise: two, but for an index that folds in order, and a folder that others do not see."""
    return 1 if row.replicas == "one" or "workspace" in READS[row.name] else 2


def durable_of(service: str) -> tuple[str, str]:
    """Stream and consumer of a service's work."""
    return next(pair for pair in SERVICES[service].durables if pair[1] == service)


def size_of(service: str) -> Size:
    return SIZES.get(service, Size())
