"""How many there are, by what waits: KEDA's ScaledObjects, and what takes the fixed number out of the base."""

from __future__ import annotations

from scripts.manifests.table import (
    LAGGING,
    MONITOR_PORT,
    MONITORING,
    NAMESPACE,
    NATS,
    THOUGHTS_DUE,
    durable_of,
    name_of,
    replicas,
)
from scripts.manifests.workloads import Object, meta
from shared.contracts.services import SERVICES

RUNNER = "persona_runner"
DUE = "sum(swarm_thoughts_due)"
"""Personas of the whole mesh whose next step is due and has not begun."""


def scaled(service: str) -> Object:
    """By the broker's word how much of its durable waits, or for runners by how many personas do."""
    name = name_of(service)
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": meta(name),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name},
            "pollingInterval": 15,
            "minReplicaCount": replicas(SERVICES[service]),
            "maxReplicaCount": SERVICES[service].slots,
            "advanced": {
                "horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}}}
            },
            "triggers": [_due() if service == RUNNER else _lag(service)],
        },
    }


def services() -> tuple[str, ...]:
    """Those whose number changes by itself."""
    return (*LAGGING, RUNNER)


def patch(service: str) -> Object:
    """The number is KEDA's: said in the base too, each `kubectl apply` would set it back."""
    return {
        "target": {"kind": "StatefulSet", "name": name_of(service)},
        "patch": "- {op: remove, path: /spec/replicas}\n",
    }


def _lag(service: str) -> Object:
    stream, durable = durable_of(service)
    return {
        "type": "nats-jetstream",
        "metadata": {
            "natsServerMonitoringEndpoint": f"{NATS}-headless.{NAMESPACE}:{MONITOR_PORT}",
            "account": "CORE",  # that of the streams, and so of their consumers, whoever takes from them
            "stream": stream,
            "consumer": durable,
            "lagThreshold": str(LAGGING[service]),
        },
    }


def _due() -> Object:
    return {
        "type": "prometheus",
        "metadata": {
            "serverAddress": f"http://prometheus-server.{MONITORING}",
            "query": DUE,
            "threshold": str(THOUGHTS_DUE),
        },
    }
