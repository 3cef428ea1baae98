"""Who may open a connection to whom: nobody to anybody, but for what is written here.

Everybody reaches the broker, which knows what each may say. Beyond it a service reaches what it is told the place of (`REACHES`):
memory its stores, runners a model, the actuator the outside. A private address is not the outside, nor is the cloud's metadata.
"""

from __future__ import annotations

from collections.abc import Iterable

from scripts.manifests.table import (
    API_PORT,
    HEALTH_PORT,
    KEDA,
    MODEL_PORT,
    MONITOR_PORT,
    MONITORING,
    NATS,
    NATS_PORT,
    OTLP_PORT,
    PART_OF,
    QDRANT,
    QDRANT_PORT,
    REACHES,
    ROUTE_PORT,
    S3,
    S3_PORT,
    name_of,
    told,
)
from scripts.manifests.workloads import Object, meta
from shared.broker import BOOTSTRAP
from shared.contracts.services import SERVICES
from shared.settings import reads

_NOT_OUTSIDE = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"),
    *("224.0.0.0/4", "240.0.0.0/4"),
)
_PUBLIC: list[Object] = [{"ipBlock": {"cidr": "0.0.0.0/0", "except": list(_NOT_OUTSIDE)}}]
_DNS: list[Object] = [
    {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    },
    {"ipBlock": {"cidr": "169.254.20.10/32"}},
]
"""The cluster's names: its pods, or the cache that many clusters have on each node."""


def allowed(service: str) -> Object:
    """What one service may reach, and who may reach it."""
    name = name_of(service)
    egress = [_to(_pods(NATS), NATS_PORT, MONITOR_PORT)]
    for whom in dict.fromkeys(told(service, REACHES).values()):
        egress += _BEYOND[whom]
    ingress = [_from([_namespace(MONITORING)], HEALTH_PORT)]
    if reads(service, "http.port"):
        ingress.append({"ports": _ports(API_PORT)})
    return _policy(name, _matching(name), ingress=ingress, egress=egress)


def mesh() -> list[Object]:
    """What holds for all, and for those that are no service of the catalog."""
    ours: Object = {"podSelector": {"matchLabels": {"app.kubernetes.io/part-of": PART_OF}}}
    names = _policy("names", {}, egress=[{"to": _DNS, "ports": [_port(53, "UDP"), _port(53)]}])
    broker = _policy(
        NATS,
        _matching(NATS),
        ingress=[
            _from([ours], NATS_PORT, MONITOR_PORT),
            _from([_namespace(MONITORING)], MONITOR_PORT),
            _from([_pods(NATS)], ROUTE_PORT),
        ],
        egress=[_to(_pods(NATS), ROUTE_PORT)],
    )
    stores = [
        _policy(store, _matching(store), ingress=[_from([_pods(name) for name in callers], port)])
        for store, port, callers in (
            (QDRANT, QDRANT_PORT, _callers("qdrant.url")),
            (S3, S3_PORT, _callers("s3.endpoint")),
        )
    ]
    bootstrap = _policy(BOOTSTRAP, _matching(BOOTSTRAP), ingress=[], egress=[_to(_pods(NATS), NATS_PORT)])
    return [_policy("nobody", {}, ingress=[], egress=[]), names, broker, *stores, bootstrap]


def scaler() -> Object:
    """KEDA asks the broker how much waits."""
    return _policy("nats-keda", _matching(NATS), ingress=[_from([_namespace(KEDA)], MONITOR_PORT)])


def _callers(setting: str) -> list[str]:
    return [name_of(service) for service in SERVICES if reads(service, setting)]


def _policy(
    name: str, selector: Object, *, ingress: list[Object] | None = None, egress: list[Object] | None = None
) -> Object:
    """None of a direction leaves it to other policies; an empty one allows nothing."""
    types = {"Ingress": ingress, "Egress": egress}
    rules = {kind.lower(): allowed for kind, allowed in types.items() if allowed}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta(name),
        "spec": {"podSelector": selector, "policyTypes": [k for k, v in types.items() if v is not None], **rules},
    }


def _matching(name: str) -> Object:
    return {"matchLabels": {"app.kubernetes.io/name": name}}


def _pods(name: str) -> Object:
    return {"podSelector": _matching(name)}


def _namespace(name: str) -> Object:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _to(peer: Object, *ports: int) -> Object:
    return {"to": [peer], "ports": _ports(*ports)}


def _from(peers: Iterable[Object], *ports: int) -> Object:
    return {"from": list(peers), "ports": _ports(*ports)}


def _ports(*ports: int) -> list[Object]:
    return [_port(port) for port in ports]


def _port(port: int, protocol: str = "TCP") -> Object:
    return {"port": port, "protocol": protocol}


_BEYOND: dict[str, list[Object]] = {
    "qdrant": [_to(_pods(QDRANT), QDRANT_PORT)],
    "s3": [_to(_pods(S3), S3_PORT), {"to": _PUBLIC, "ports": _ports(443)}],
    "model": [_to(_pods("model"), MODEL_PORT), {"to": _PUBLIC, "ports": _ports(443)}],
    "collector": [_to(_namespace(MONITORING), OTLP_PORT)],
    "outside": [{"to": _PUBLIC}],
}
"""Rules by whom `REACHES` names. Stores and models are in the namespace, or public and asked over TLS."""
