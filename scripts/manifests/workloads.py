"""One StatefulSet for each service, its disruption budget and Service, and the Job that declares the streams.

StatefulSets and not Deployments, for every instance has a key of its own at the broker, and a folder that must be found again: what it
last saw of the log, and at an actuator what it was about to do. Pod `verifier-3` is instance `verifier-3`; there are never two of it.
"""

from __future__ import annotations

from scripts.manifests.table import (
    API_PORT,
    BROUGHT,
    FILES,
    HEALTH_PORT,
    IMAGE,
    PART_OF,
    UID,
    VERSION,
    WORKSPACE,
    name_of,
    replicas,
    size_of,
    told,
)
from shared.broker import BOOTSTRAP
from shared.configuration import KEYS
from shared.contracts.services import SERVICES
from shared.settings import reads, variable

Object = dict[str, object]
CONFIG, DATA, KEYS_AT, CA, STOP, WORK = "/config", "/data", "/keys", "/ca", "/stop", "/workspace"
ALL = "services"
"""The headless Service in which every pod of the mesh has its name."""
SLOT = "apps.kubernetes.io/pod-index"
"""A StatefulSet's own label: the pod's number."""
NOBODY: Object = {
    "runAsNonRoot": True,
    "runAsUser": UID,
    "runAsGroup": UID,
    "fsGroup": UID,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
UNPRIVILEGED: Object = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
"""Of a pod, and of each container in it: what the strictest of the pod security standards asks for, and a root nobody writes to."""


def labels(name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": PART_OF}


def meta(name: str, labelled: str = "") -> Object:
    return {"name": name, "labels": labels(labelled or name)}


def workload(service: str) -> list[Object]:
    """Everything of one service that runs or is found."""
    row, name = SERVICES[service], name_of(service)
    claims = [_claim("data", size_of(service).data)] + ([_claim("workspace", WORKSPACE)] if _writes(service) else [])
    stateful_set: Object = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": meta(name),
        "spec": {
            "replicas": replicas(row),
            "serviceName": ALL,
            "podManagementPolicy": "Parallel",
            "ordinals": {"start": 1},
            "selector": {"matchLabels": {"app.kubernetes.io/name": name}},
            "template": {
                "metadata": {
                    "labels": labels(name),
                    "annotations": {
                        "prometheus.io/scrape": "true",
                        "prometheus.io/port": str(HEALTH_PORT),
                        "prometheus.io/path": "/metrics",
                    },
                },
                "spec": {
                    **_pod(15),
                    "topologySpreadConstraints": [
                        {
                            "maxSkew": 1,
                            "topologyKey": "kubernetes.io/hostname",
                            "whenUnsatisfiable": "ScheduleAnyway",
                            "labelSelector": {"matchLabels": {"app.kubernetes.io/name": name}},
                        }
                    ],
                    "containers": [_container(service)],
                    "volumes": _volumes(service),
                },
            },
            "volumeClaimTemplates": claims,
        },
    }
    budget: Object = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": meta(name),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app.kubernetes.io/name": name}}},
    }
    return [stateful_set, budget, *([_api(name)] if reads(service, "http.port") else [])]


def everybody() -> Object:
    """The headless Service of all pods."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(ALL),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"app.kubernetes.io/part-of": PART_OF},
            "ports": [{"name": "health", "port": HEALTH_PORT, "targetPort": "health"}],
        },
    }


def bootstrap() -> Object:
    """The Job that declares streams and buckets, as often as it is run."""
    container: Object = {
        "name": BOOTSTRAP,
        "image": f"{IMAGE}:{VERSION}",
        "command": ["python", "-m", "services.supervisor.bootstrap"],
        "env": [
            _env("SWARM_CONFIG", f"{CONFIG}/swarm.toml"),
            _env("SWARM_NATS_SEED_FILE", f"{KEYS_AT}/seed"),
            *_told_files(BOOTSTRAP),
        ],
        "resources": _resources(50, 1000, 64, 256),
        "securityContext": UNPRIVILEGED,
        "volumeMounts": [
            _mount("config", CONFIG),
            _mount("authorities", CA),
            _key("bootstrap.nk", "seed"),
            *_told_keys(BOOTSTRAP),
        ],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta(BOOTSTRAP),
        "spec": {
            "backoffLimit": 10,
            "ttlSecondsAfterFinished": 600,
            "template": {
                "metadata": {"labels": labels(BOOTSTRAP)},
                "spec": {
                    **_pod(15),
                    "restartPolicy": "OnFailure",
                    "containers": [container],
                    "volumes": [_config(), _if_there("authorities"), _secret(BOOTSTRAP)],
                },
            },
        },
    }


def _container(service: str) -> Object:
    size = size_of(service)
    ports = [{"name": "health", "containerPort": HEALTH_PORT}]
    if reads(service, "http.port"):
        ports.append({"name": "http", "containerPort": API_PORT})
    return {
        "name": name_of(service),
        "image": f"{IMAGE}:{VERSION}",
        "args": [service],
        "env": _environment(service),
        "ports": ports,
        "startupProbe": _probe("live", period_s=5, failures=60),
        "livenessProbe": _probe("live", period_s=10, failures=3),
        "readinessProbe": _probe("ready", period_s=10, failures=2),
        "resources": _resources(size.cpu_m, size.cpu_most_m, size.memory, size.memory_most),
        "securityContext": UNPRIVILEGED,
        "volumeMounts": _mounts(service),
    }


def _environment(service: str) -> list[Object]:
    """Who it is, and where its secrets are; all else is in the settings file, which is the same for all."""
    return [
        {"name": "SLOT", "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{SLOT}']"}}},
        _env("SWARM_CONFIG", f"{CONFIG}/swarm.toml"),
        _env(variable("instance"), f"{service}-$(SLOT)"),
        _env(variable("nats.seed_file"), f"{KEYS_AT}/seed"),
        *_told_files(service),
        *(
            {
                "name": variable(setting),
                "valueFrom": {"secretKeyRef": {"name": secret, "key": "api-key", "optional": True}},
            }
            for setting, secret in told(service, BROUGHT).items()
        ),
    ]


def _told_files(process: str) -> list[Object]:
    return [_env(_file_variable(setting), f"{KEYS_AT}/{_as(setting)}") for setting in told(process, FILES)]


def _told_keys(process: str) -> list[Object]:
    return [_key(file, _as(setting)) for setting, file in told(process, FILES).items()]


def _file_variable(setting: str) -> str:
    """The variable that names the file a setting is in."""
    return variable(setting) + ("_FILE" if KEYS[setting].has_file and not setting.endswith("_file") else "")


def _as(setting: str) -> str:
    """What a secret's file is called in the pod."""
    return setting.removesuffix("_file").replace(".", "-").replace("_", "-")


def _mounts(service: str) -> list[Object]:
    """Of the secret of all instances of the service, a pod sees its own seed and what they share."""
    seed: Object = {
        "name": "keys",
        "mountPath": f"{KEYS_AT}/seed",
        "subPathExpr": f"{service}-$(SLOT).nk",
        "readOnly": True,
    }
    return [
        _mount("config", CONFIG),
        _mount("authorities", CA),
        seed,
        *_told_keys(service),
        {"name": "data", "mountPath": DATA},
        {"name": "tmp", "mountPath": "/tmp"},
        *([_mount("stop", STOP)] if reads(service, "kill_switch.file") else []),
        *([{"name": "workspace", "mountPath": WORK}] if _writes(service) else []),
    ]


def _volumes(service: str) -> list[Object]:
    return [
        _config(),
        _if_there("authorities"),
        _secret(service),
        {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
        *([_if_there("stop")] if reads(service, "kill_switch.file") else []),
    ]


def _api(name: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(name),
        "spec": {
            "selector": {"app.kubernetes.io/name": name},
            "ports": [{"name": "http", "port": API_PORT, "targetPort": "http"}],
        },
    }


def _pod(grace_s: int) -> Object:
    """What every pod has: no rights, nothing of the cluster's API, no variables with the names of Services."""
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_s,
        "securityContext": NOBODY,
    }


def _probe(what: str, *, period_s: int, failures: int) -> Object:
    return {
        "httpGet": {"path": f"/health/{what}", "port": "health"},
        "periodSeconds": period_s,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _resources(cpu_m: int, cpu_most_m: int, memory: int, memory_most: int) -> Object:
    return {
        "requests": {"cpu": f"{cpu_m}m", "memory": f"{memory}Mi"},
        "limits": {"cpu": f"{cpu_most_m}m", "memory": f"{memory_most}Mi"},
    }


def _claim(name: str, mib: int) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": f"{mib}Mi"}}},
    }


def _writes(service: str) -> bool:
    return reads(service, "workspace")


def _env(name: str, value: str) -> Object:
    return {"name": name, "value": value}


def _mount(name: str, path: str) -> Object:
    return {"name": name, "mountPath": path, "readOnly": True}


def _key(file: str, called: str) -> Object:
    return {"name": "keys", "mountPath": f"{KEYS_AT}/{called}", "subPath": file, "readOnly": True}


def _config() -> Object:
    return {"name": "config", "configMap": {"name": "swarm-config"}}


def _if_there(name: str) -> Object:
    """What people may make: an empty folder until they do."""
    return {"name": name, "configMap": {"name": name, "optional": True}}


def _secret(holder: str) -> Object:
    return {"name": "keys", "secret": {"secretName": f"keys-{name_of(holder)}", "defaultMode": 0o440}}
