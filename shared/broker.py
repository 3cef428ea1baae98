"""The broker's configuration, generated from the contracts: who may say what is written down once, in `shared/contracts/services.py`.

Three accounts. CORE holds the streams and the services that decide. RUN holds the persona runners, which are not trusted:
they reach the log only through service exports, so that even a forbidden subject in a *reply* field stays in their own
account (permissions by subject alone do not stop that: the server's answer would be stored under it). SYS is the system's.

One nkey user per service instance (`verifier-1`), each with
- publish: its own event classes (in its own slot, where their subjects end with one), its dead letters, its checkpoints, and the
  JetStream requests its reading needs;
- subscribe: its own inbox prefix and the discovery subjects of nats.micro (`$SRV`), which it may answer.
Beside them `bootstrap` (declares streams and consumers), `operator` (people: reads everything, says nothing) and `sys`.

Wildcards in permissions match whole tokens only, so consumer names are fixed: a service's durable is named after the service
(`<service>-recall` on RECALL); an instance's ordered tails are `tail-<instance>` on SWARM and `tail-<instance>-recall` on RECALL.

Runners' tails are opened for them (`shared/runtime/tails.py`): a consumer may be told to *push* what it reads, and pushed at another
service's requests it would ask for that service's deliveries in its name. The subject of the request cannot forbid that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import msgspec

from shared.contracts.catalog import class_filter
from shared.contracts.ids import CORE, slot_of
from shared.contracts.services import SERVICES
from shared.log.dead import UNREADABLE
from shared.log.streams import STREAMS
from shared.placement import LEASES

LOG_STREAM, RECALL_STREAM = "SWARM", "RECALL"
BOOTSTRAP, OPERATOR, SYSTEM = "bootstrap", "operator", "sys"
ROLES = (BOOTSTRAP, OPERATOR, SYSTEM)

_STREAMED = ("$JS.API.CONSUMER.MSG.NEXT.", "$JS.API.DIRECT.GET.")
"""Requests with more than one answer: their exports need `response_type: stream`."""

_DISCOVERY = ("PING", "INFO", "STATS")
"""The verbs of nats.micro, each said: a `*` among what may be subscribed to would also let `>` pass."""

_SYSTEM_API = ("$JS.API.CONSUMER.CREATE.", "$JS.API.CONSUMER.DELETE.", "$JS.API.CONSUMER.INFO.", "$JS.API.STREAM.INFO.")
"""Requests the system account answers in every account, with "not enabled" in RUN: there they are mapped to a private name and
imported under it, so that only CORE answers. (`MSG.NEXT` and `DIRECT.GET` are answered by the stream's own account.)"""


_CREATE = "$JS.API.CONSUMER.CREATE."
TAIL_OPEN = "tail.open."
"""What a runner's request for a tail arrives as in CORE, before the stream and the consumer."""

BATCHES_OPEN, BATCH_IDLE = 4, "50ms"
"""Atomic batches a stream takes at once, and how long one may wait for its next message. A batch of ours is sent in one go, so a
client has one open at a time; each that is opened costs the broker some fsyncs, and all of them stand in the way of others."""


class Grants(msgspec.Struct, frozen=True, kw_only=True):
    """What a user may do, as NATS subject filters."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    deny_publish: tuple[str, ...] = ()


class BrokerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What differs from mesh to mesh. `keys` are public nkeys by user name, and must have the three `ROLES`.

    `sync_always` fsyncs before every acknowledgement; without it a power failure loses up to two minutes of acknowledged
    messages. Sizes are bytes.
    """

    keys: Mapping[str, str]
    store_dir: str
    host: str = "127.0.0.1"
    port: int = 4222
    monitor_host: str = "127.0.0.1"
    monitor_port: int = 8222
    server_name: str = "mesh"
    sync_always: bool = True
    max_file: int = 10 * 2**30
    max_memory: int = 256 * 2**20
    max_payload: int = 2**20


def service_of(instance: str) -> str:
    """`persona_runner` of `persona_runner-2`. Raises `ValueError` for what is no instance of a known service."""
    service, _, number = instance.rpartition("-")
    if service not in SERVICES or not number.isdigit():
        raise ValueError(
            f"{instance!r} is no service instance; write <service>-<number>, a service being one of {', '.join(SERVICES)}"
        )
    return service


def inbox_prefix(name: str) -> str:
    """The inbox prefix a user must connect with."""
    return f"_INBOX_{name}"


def tails(instance: str) -> tuple[tuple[str, str], ...]:
    """(stream, ephemeral consumer) the instance may create, read and delete."""
    names = {LOG_STREAM: f"tail-{instance}", RECALL_STREAM: f"tail-{instance}-recall"}
    return tuple((stream, names[stream]) for stream in SERVICES[service_of(instance)].tails)


def emits(instance: str) -> tuple[str, ...]:
    """Subject filters of the classes the instance says: in its own slot where subjects have one, which for all but runners is CORE's."""
    row = SERVICES[service_of(instance)]
    slot = CORE if row.trusted else slot_of(instance)
    return tuple(class_filter(name, slot=slot) for name in row.emits)


def _letters(service: str) -> tuple[str, ...]:
    """Letters of what nobody can read are CORE's: one that was forged in advance would keep the true one out."""
    return (f"dead.{UNREADABLE}.>",) if SERVICES[service].trusted else ()


def grants(instance: str, runners: Iterable[str] = ()) -> Grants:
    """Least privilege of one service instance. `runners`: the instances whose tails the governor opens."""
    service = service_of(instance)
    trusted = SERVICES[service].trusted
    publish = [*emits(instance), f"dead.{service}.>", *_letters(service)]
    probe = f"probe.{instance}"
    publish += [probe, f"$JS.API.DIRECT.GET.PROBE.{probe}"]
    if trusted:
        publish.append("$JS.API.DIRECT.GET.PROBE")
    publish += [f"$JS.API.STREAM.INFO.{stream}" for stream in STREAMS]
    for stream, durable in SERVICES[service].durables:
        publish += [
            f"$JS.API.CONSUMER.CREATE.{stream}.{durable}",
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}",
            f"$JS.API.CONSUMER.INFO.{stream}.{durable}",
            f"$JS.ACK.{stream}.{durable}.>",
            f"$JS.ACK.*.*.{stream}.{durable}.>",
        ]
    for stream, tail in tails(instance):
        publish += [
            f"{_CREATE}{stream}.{tail}",
            f"$JS.API.CONSUMER.DELETE.{stream}.{tail}",
            f"$JS.API.CONSUMER.INFO.{stream}.{tail}",
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{tail}",
        ]
    publish.append(f"$KV.checkpoints.{service}.>" if trusted else f"$KV.leases.{LEASES}{instance}")
    if service == "policy_gate":
        publish.append("$KV.policies.>")
    read = {"policy_gate": ["KV_policies"], "governor": ["KV_leases"]}.get(service, [])
    for stream in (LOG_STREAM, *(["KV_checkpoints"] if trusted else []), *read):
        publish += [f"$JS.API.DIRECT.GET.{stream}", f"$JS.API.DIRECT.GET.{stream}.>"]
    spoken = service.replace("_", "-")
    discovery = [f"$SRV.{verb}{whose}" for verb in _DISCOVERY for whose in ("", f".{spoken}", f".{spoken}.*")]
    opens = (f"{TAIL_OPEN}*.*",) if service == "governor" else ()
    if opens:
        publish += [f"{_CREATE}{stream}.{tail}" for runner in runners for stream, tail in tails(runner)]
    return Grants(publish=tuple(publish), subscribe=(f"{inbox_prefix(instance)}.>", *discovery, *opens))


def operator_grants(instances: Iterable[str] = ()) -> Grants:
    """People and the `nats` CLI: read everything, discover services; no event class, and no hand on a service's own consumers,
    durable or of the tails of `instances`.
    """
    api = (
        "INFO",
        "STREAM.NAMES",
        "STREAM.LIST",
        "STREAM.INFO.*",
        "STREAM.MSG.GET.*",
        "CONSUMER.NAMES.*",
        "CONSUMER.LIST.*",
    )
    consumer = (
        "CONSUMER.INFO.*.*",
        "CONSUMER.CREATE.*.>",
        "CONSUMER.DELETE.*.*",
        "CONSUMER.MSG.NEXT.*.*",
        "DIRECT.GET.>",
    )
    own = [pair for row in SERVICES.values() for pair in row.durables]
    own += [pair for instance in instances for pair in tails(instance)]
    return Grants(
        publish=(*(f"$JS.API.{verb}" for verb in api + consumer), "$SRV.>"),
        subscribe=(">",),
        deny_publish=tuple(
            f"$JS.API.CONSUMER.{verb}.{stream}.{durable}{rest}"
            for stream, durable in own
            for verb, rest in (("CREATE", ""), ("CREATE", ".>"), ("DELETE", ""), ("MSG.NEXT", ""))
        ),
    )


def render(config: BrokerConfig) -> str:
    """The nats-server configuration file. Each key on its own line: the parser refuses compact JetStream blocks.

    Raises `ValueError` when a role has no key or a key belongs to no service instance.
    """
    if missing := [role for role in ROLES if role not in config.keys]:
        raise ValueError(f"no nkey for {', '.join(missing)}; the broker needs one for each of {', '.join(ROLES)}")
    instances = [name for name in config.keys if name not in ROLES]
    runners = [name for name in instances if not SERVICES[service_of(name)].trusted]
    core = [name for name in instances if name not in runners]
    exported = _unique(subject for name in runners for subject in grants(name).publish)
    return "\n".join(
        [
            f"server_name: {_quote(config.server_name)}",
            f"listen: {_quote(f'{config.host}:{config.port}')}",
            f"http: {_quote(f'{config.monitor_host}:{config.monitor_port}')}",
            f"max_payload: {config.max_payload}",
            "max_pending: 64MB",
            'write_deadline: "10s"',
            'ping_interval: "20s"',
            "ping_max: 2",
            "jetstream {",
            f"  store_dir: {_quote(config.store_dir)}",
            f"  max_mem: {config.max_memory}",
            f"  max_file: {config.max_file}",
            *(["  sync_interval: always"] if config.sync_always else []),
            "  strict: true",
            "  limits {",
            "    batch {",
            f"      max_inflight_per_stream: {BATCHES_OPEN}",
            f"      timeout: {_quote(BATCH_IDLE)}",
            "    }",
            "  }",
            "}",
            "accounts {",
            "  CORE {",
            "    jetstream: enabled",
            "    users: [",
            f"      {{ nkey: {config.keys[BOOTSTRAP]} }}",
            _user(config.keys[OPERATOR], operator_grants(instances), responds=False),
            *(_user(config.keys[name], grants(name, runners)) for name in core),
            "    ]",
            "    exports: [",
            *(
                f"      {{ service: {_quote(_served(s))}, accounts: [RUN], response_type: {_responses(s)} }}"
                for s in exported
            ),
            "    ]",
            "    imports: [",
            '      { service: { account: RUN, subject: "$SRV.>" } }',
            "    ]",
            "  }",
            "  RUN {",
            "    users: [",
            *(_user(config.keys[name], _seen_from_run(grants(name))) for name in runners),
            "    ]",
            "    exports: [",
            '      { service: "$SRV.>", accounts: [CORE], response_type: stream }',
            "    ]",
            "    mappings: {",
            *(f"      {_quote(s)}: {_quote(_renamed(s))}" for s in exported if s.startswith(_SYSTEM_API)),
            "    }",
            "    imports: [",
            *(_import(s) for s in exported),
            "    ]",
            "  }",
            "  SYS {",
            f"    users: [ {{ nkey: {config.keys[SYSTEM]} }} ]",
            "  }",
            "}",
            "system_account: SYS",
            "",
        ]
    )


def _user(key: str, granted: Grants, *, responds: bool = True) -> str:
    deny = f", deny: {json.dumps(granted.deny_publish)}" if granted.deny_publish else ""
    responses = '        allow_responses: { max: 1, expires: "5s" }\n' if responds else ""
    return (
        f"      {{ nkey: {key}, permissions: {{\n"
        f"        publish: {{ allow: {json.dumps(granted.publish)}{deny} }}\n"
        f"        subscribe: {{ allow: {json.dumps(granted.subscribe)} }}\n"
        f"{responses}      }} }}"
    )


def _import(subject: str) -> str:
    to = f", to: {_quote(_renamed(subject))}" if subject.startswith(_SYSTEM_API) else ""
    return f"      {{ service: {{ account: CORE, subject: {_quote(_served(subject))} }}{to} }}"


def _served(subject: str) -> str:
    """Who answers a runner's request in CORE: the broker, but for what opens a tail."""
    return TAIL_OPEN + subject.removeprefix(_CREATE) if subject.startswith(_CREATE) else subject


def _seen_from_run(granted: Grants) -> Grants:
    """Mappings come before permissions, so what is mapped is permitted under its private name."""
    renamed = tuple(_renamed(s) if s.startswith(_SYSTEM_API) else s for s in granted.publish)
    return msgspec.structs.replace(granted, publish=renamed)


def _renamed(subject: str) -> str:
    return subject.replace("$JS.API.", "$JS.CORE.API.", 1)


def _responses(subject: str) -> str:
    return "stream" if subject.startswith(_STREAMED) else "singleton"


def _unique(subjects: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(subjects))


def _quote(text: str) -> str:
    return json.dumps(text)
