"""Values for the official charts of NATS and Qdrant, so that broker and index are as the mesh needs them.

Who may say what is in none of them: the accounts are public keys, made with the others, and given to the chart as a file.
"""

from __future__ import annotations

from scripts.manifests.table import ROUTE_PORT
from scripts.manifests.workloads import NOBODY, UNPRIVILEGED, Object
from shared.broker import BATCH_IDLE, BATCHES_OPEN
from shared.settings import STORE_BYTES


def nats() -> Object:
    """Of chart `nats` (nats-io/k8s), release `nats`."""
    secured: Object = {"merge": {"securityContext": UNPRIVILEGED}}
    return {
        "config": {
            "jetstream": {
                "enabled": True,
                "fileStore": {"pvc": {"size": f"{STORE_BYTES * 3 // 2**31}Gi"}, "maxSize": f"{STORE_BYTES}"},
                "merge": {
                    "sync_interval": "always",
                    "strict": True,
                    "limits": {"batch": {"max_inflight_per_stream": BATCHES_OPEN, "timeout": BATCH_IDLE}},
                },
            },
            "merge": {"zz$include": "accounts.conf", "ping_interval": "20s", "ping_max": 2},
        },
        "container": {
            "image": {"tag": "2.15.0-alpine"},
            "env": {"GOMEMLIMIT": "1500MiB"},
            **secured,
            "resources": {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"cpu": "2", "memory": "2Gi"}},
        },
        "reloader": secured,
        "service": {"ports": {"monitor": {"enabled": True}}},
        "podTemplate": {"merge": {"spec": {"automountServiceAccountToken": False, "securityContext": NOBODY}}},
        "natsBox": {"enabled": False},
    }


def nats_cluster() -> Object:
    """Laid over `nats`: three brokers on nodes of their own, each with a copy of the log (`store.replicas`)."""
    apart: Object = {"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
    return {
        "config": {"cluster": {"enabled": True, "replicas": 3, "port": ROUTE_PORT}},
        "podTemplate": {"topologySpreadConstraints": {"kubernetes.io/hostname": apart}},
    }


def qdrant() -> Object:
    """Of chart `qdrant` (qdrant/qdrant-helm), release `qdrant`.

    The key comes by the environment: the chart's own `apiKey` looks the Secret up when it is installed, and where it finds none
    (`helm template`, GitOps) it starts an index that asks nobody for a key.
    """
    return {
        "image": {"tag": "v1.19.0", "useUnprivilegedImage": True},
        "config": {"cluster": {"enabled": False}, "telemetry_disabled": True},
        "env": [
            {
                "name": "QDRANT__SERVICE__API_KEY",
                "valueFrom": {"secretKeyRef": {"name": "keys-qdrant", "key": "qdrant-key"}},
            }
        ],
        "podSecurityContext": {"runAsNonRoot": True, "fsGroup": 3000, "seccompProfile": {"type": "RuntimeDefault"}},
        "containerSecurityContext": {"runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 2000, **UNPRIVILEGED},
        "persistence": {"size": "20Gi"},
        "resources": {"requests": {"cpu": "200m", "memory": "512Mi"}, "limits": {"cpu": "2", "memory": "2Gi"}},
    }
