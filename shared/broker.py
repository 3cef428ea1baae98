"""The broker's configuration, generated from the contracts: who may say what is written down once, in `shared/contracts/services.py`.

Four accounts. CORE holds the streams and the services that decide. RUN holds the persona runners and CHECK the checkers, which are
not trusted: they reach the log only through service exports, so that even a forbidden subject in a *reply* field stays in their own
account (permissions by subject alone do not stop that: the server's answer would be stored under it). SYS is the system's.

One nkey user per service instance (`verifier-1`), each with
- publish: its own event classes (in its own slot, where their subjects end with one), its dead letters, its checkpoints, and the
  JetStream requests its reading needs;
- subscribe: its own inbox prefix and the discovery subjects of nats.micro (`$SRV`), which it may answer.
Beside them `bootstrap` (declares streams and consumers), `operator` (people: reads everything, says nothing) and `sys`.

Wildcards in permissions match whole tokens only, so consumer names are fixed: a service's durable is named after the service
(`<service>-recall` on RECALL); an instance's ordered tails are `tail-<instance>` on SWARM and `tail-<instance>-recall` on RECALL.

Consumers of both are made for them (`shared/runtime/doors.py`): a consumer may be told to *push* what it reads, and pushed at another
service's requests it would ask for that service's deliveries in its name. The subject of the request cannot forbid that.

A runner that serves some swarms only says and reads nothing of any other. What it says is bounded by the swarm in the subject. What it
reads would be in the body of a request, so it has no reading of its own but of its tail: it asks the governor,
on a subject that becomes in CORE one with its scope in it, which it can neither see nor choose.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from shared.cluster import Member, local_block
from shared.contracts.catalog import class_filter
from shared.contracts.ids import CORE, EVERYONE, slot_of
from shared.contracts.services import SERVICES
from shared.log.dead import UNREADABLE
from shared.log.streams import STREAMS
from shared.placement import LEASES

LOG_STREAM, RECALL_STREAM = "SWARM", "RECALL"
BOOTSTRAP, OPERATOR, SYSTEM = "bootstrap", "operator", "sys"
ROLES = (BOOTSTRAP, OPERATOR, SYSTEM)

_STREAMED = ("$JS.API.CONSUMER.MSG.NEXT.", "$JS.API.DIRECT.GET.", "door.get.")
"""Requests with more than one answer: their exports need `response_type: stream`."""

_DISCOVERY = ("PING", "INFO", "STATS")
"""The verbs of nats.micro, each said: a `*` among what may be subscribed to would also let `>` pass."""

_SYSTEM_API = (
    "$JS.API.CONSUMER.CREATE.",
    "$JS.API.CONSUMER.DELETE.",
    "$JS.API.CONSUMER.INFO.",
    "$JS.API.STREAM.INFO.",
    "$JS.API.STREAM.MSG.GET.",
)
"""Requests the system account answers in every account, with "not enabled" in RUN and CHECK: there they are mapped to a private name
and imported under it, so that only CORE answers. (`MSG.NEXT` and `DIRECT.GET` are answered by the stream's own account.)"""


_ACKS = ("$JS.ACK", "$JS.ACK.*.*")
"""What the subject of an acknowledgement begins with, before stream and consumer: as it is, and with domain and account."""

_CREATE = "$JS.API.CONSUMER.CREATE."
TAIL_OPEN, DURABLE_OPEN, DOOR_GET, DOOR_INFO = "tail.open.", "durable.open.", "door.get.", "door.info."
"""What requests of who is not trusted arrive as in CORE: for a tail, before its scope, the stream and the consumer; for a durable,
before the stream and the consumer; for a direct get from the log, before its scope and its name; for what is known of a stream,
before the stream and its name."""
DOORS = (f"{TAIL_OPEN}*.*.*", f"{DURABLE_OPEN}*.*", f"{DOOR_GET}*.*", f"{DOOR_INFO}*.*")
EVERY_SWARM = "_"
"""The scope of who may read everything; another is names of swarms with `+` in between."""
UNTRUSTED = ("RUN", "CHECK")
"""The accounts beside CORE."""
SAID_TO_ALL = ("cognition.started", "cognition.stopped", "rows.declared")
PUBLIC = tuple(class_filter(name, EVERYONE, EVERYONE) for name in SAID_TO_ALL)
"""What is said to the whole mesh and runners of every scope read."""
READ_POLICIES = ("policy_gate", "memory_compactor", "verifier", "checker", "gateway")
"""Who asks the policies: of actions, and of reads of memory."""
SLOTS = "slot."
"""Keys of the bucket `leases` begin so that say which process is an instance; the instance follows, who alone may write it."""
ANSWERS = 1200
"""Messages that may answer one request: a page of a direct get and its status."""

BATCHES_OPEN, BATCH_IDLE = 4, "50ms"
"""Atomic batches a stream takes at once, and how long one may wait for its next message. A batch of ours is sent in one go, so a
client has one open at a time; each that is opened costs the broker some fsyncs, and all of them stand in the way of others."""


class Grants(msgspec.Struct, frozen=True, kw_only=True):
    """What a user may do, as NATS subject filters; `answers`: how many to one request."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    deny_publish: tuple[str, ...] = ()
    answers: int = 1


class BrokerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What differs from mesh to mesh. `keys` are public nkeys by user name, and must have the three `ROLES`; `retiring` are those
    that are let in as well until a rotation ends. `serves`: the swarms of runners that serve some only, and reach no other.

    `sync_always` fsyncs before every acknowledgement; without it a power failure loses up to two minutes of acknowledged
    messages. Sizes are bytes. `members`: of a cluster on one machine, all its brokers; what differs among them goes before the rest.
    """

    keys: Mapping[str, str]
    retiring: Mapping[str, str] = {}
    serves: Mapping[str, tuple[str, ...]] = {}
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
    members: tuple[Member, ...] = ()


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


def emits(instance: str, serves: Sequence[str] = ()) -> tuple[str, ...]:
    """Subject filters of the classes the instance says: in its own slot where subjects have one, which for all but runners is CORE's."""
    row = SERVICES[service_of(instance)]
    slot = CORE if row.trusted else slot_of(instance)
    return tuple(class_filter(name, swarm, slot=slot) for swarm in serves or ("*",) for name in row.emits)


def _letters(service: str, serves: Sequence[str]) -> tuple[str, ...]:
    """Letters of what nobody can read are CORE's: one that was forged in advance would keep the true one out."""
    if not SERVICES[service].trusted:
        return tuple(f"dead.{service}.*.*.*.*.{swarm}.>" for swarm in serves) or (f"dead.{service}.>",)
    return f"dead.{service}.>", f"dead.{UNREADABLE}.>"


def scope_of(serves: Sequence[str]) -> str:
    """One token for the swarms a runner may read."""
    return "+".join(sorted(serves)) or EVERY_SWARM


def by_door(instance: str) -> dict[str, str]:
    """What a runner asks that serves some swarms only, by what it would ask the broker for."""
    infos = {f"$JS.API.STREAM.INFO.{stream}": f"{DOOR_INFO}{stream}.{instance}" for stream in STREAMS}
    return {f"$JS.API.DIRECT.GET.{LOG_STREAM}": f"{DOOR_GET}{instance}", **infos}


def grants(instance: str, others: Iterable[str] = (), serves: Sequence[str] = ()) -> Grants:
    """Least privilege of one service instance. `others`: the instances that are not trusted, whose consumers the governor makes.
    `serves`: the only swarms a runner reaches.
    """
    service = service_of(instance)
    row = SERVICES[service]
    trusted = row.trusted
    publish = [*emits(instance, serves), *_letters(service, serves)]
    probe = f"probe.{instance}"
    publish += [probe, f"$JS.API.DIRECT.GET.PROBE.{probe}"]
    if trusted:
        publish.append("$JS.API.DIRECT.GET.PROBE")
    publish += by_door(instance).values() if serves else [f"$JS.API.STREAM.INFO.{stream}" for stream in STREAMS]
    for stream, durable in SERVICES[service].durables:
        publish += [
            f"$JS.API.CONSUMER.CREATE.{stream}.{durable}",
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}",
            f"$JS.API.CONSUMER.INFO.{stream}.{durable}",
            *(f"{form}.{stream}.{durable}.>" for form in _ACKS),
        ]
    for stream, tail in tails(instance):
        publish += [
            f"{_CREATE}{stream}.{tail}",
            f"$JS.API.CONSUMER.DELETE.{stream}.{tail}",
            f"$JS.API.CONSUMER.INFO.{stream}.{tail}",
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{tail}",
        ]
    slot = f"$KV.leases.{SLOTS}{instance}"
    publish += [slot, f"$JS.API.DIRECT.GET.KV_leases.{slot}"]
    if trusted:
        publish.append(f"$KV.checkpoints.{service}.>")
    elif row.replicas == "sharded":
        publish.append(f"$KV.leases.{LEASES}{instance}")
    if service == "policy_gate":
        publish.append("$KV.policies.>")
    read = ["KV_policies"] if service in READ_POLICIES else ["KV_leases"] if service == "governor" else []
    log = () if serves else (LOG_STREAM,)
    for stream in (*log, *(["KV_checkpoints"] if trusted else []), *read):
        publish += [f"$JS.API.DIRECT.GET.{stream}", f"$JS.API.DIRECT.GET.{stream}.>"]
        if row.asks_leader:
            publish.append(f"$JS.API.STREAM.MSG.GET.{stream}")
    spoken = service.replace("_", "-")
    discovery = [f"$SRV.{verb}{whose}" for verb in _DISCOVERY for whose in ("", f".{spoken}", f".{spoken}.*")]
    opens = DOORS if service == "governor" else ()
    if opens:
        made = [pair for other in others for pair in (*SERVICES[service_of(other)].durables, *tails(other))]
        publish += _unique(f"{_CREATE}{stream}.{consumer}" for stream, consumer in made)
    return Grants(
        publish=tuple(publish),
        subscribe=(f"{inbox_prefix(instance)}.>", *discovery, *opens),
        answers=ANSWERS if opens else 1,
    )


def operator_grants(instances: Iterable[str] = ()) -> Grants:
    """People and the `nats` CLI: read everything, discover services, talk to themselves; no event class, and no hand on a
    service's own consumers, durable or of the tails of `instances`, nor on what was delivered to them.
    """
    api = (
        "INFO",
        "STREAM.NAMES",
        "STREAM.LIST",
        "STREAM.INFO.*",
        "STREAM.MSG.GET.*",
        "STREAM.SNAPSHOT.*",
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
    verbs = ("CREATE.{}", "CREATE.{}.>", "DELETE.{}", "MSG.NEXT.{}")
    inboxes = (
        "_INBOX.>",
        f"{inbox_prefix(OPERATOR)}.>",
    )  # the first is the CLI's without a context; nobody else has it
    forbidden = (*(f"$JS.API.CONSUMER.{verb}" for verb in verbs), *(f"{form}.{{}}.>" for form in _ACKS))
    return Grants(
        publish=(
            *(f"$JS.API.{verb}" for verb in api + consumer),
            "$JS.ACK.>",
            "$JS.SNAPSHOT.ACK.>",
            "$SRV.>",
            "$SYS.REQ.USER.INFO",
            *inboxes,
        ),
        subscribe=(">",),
        deny_publish=tuple(form.format(f"{stream}.{name}") for stream, name in own for form in forbidden),
    )


def render(config: BrokerConfig) -> str:
    """The nats-server configuration file. Each key on its own line: the parser refuses compact JetStream blocks.

    Raises `ValueError` when a role has no key or a key belongs to no service instance.
    """
    if missing := [role for role in ROLES if role not in config.keys]:
        raise ValueError(f"no nkey for {', '.join(missing)}; the broker needs one for each of {', '.join(ROLES)}")
    instances = [name for name in config.keys if name not in ROLES]
    core = [name for name in instances if SERVICES[service_of(name)].trusted]
    others = [name for name in instances if name not in core]
    runners = [name for name in others if SERVICES[service_of(name)].account == "RUN"]
    if unknown := [name for name in config.serves if name not in runners]:
        raise ValueError(
            f"{unknown[0]} has no key or is no runner, and is to serve {', '.join(config.serves[unknown[0]])}"
        )
    apart = [_Apart(account, config, others) for account in UNTRUSTED]
    served = _unique(to for account in apart for to in account.served.values())
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
            *(f"      {{ nkey: {key} }}" for key in _keys(config, BOOTSTRAP)),
            *(_user(key, operator_grants(instances), responds=False) for key in _keys(config, OPERATOR)),
            *(_user(key, grants(name, others)) for name in core for key in _keys(config, name)),
            "    ]",
            "    exports: [",
            *(_export(to, [account.name for account in apart if to in account.served.values()]) for to in served),
            "    ]",
            "    imports: [",
            *(f'      {{ service: {{ account: {account.name}, subject: "$SRV.>" }} }}' for account in apart),
            "    ]",
            "  }",
            *(line for account in apart for line in account.lines()),
            "  SYS {",
            "    users: [",
            *(f"      {{ nkey: {key} }}" for key in _keys(config, SYSTEM)),
            "    ]",
            "  }",
            "}",
            "system_account: SYS",
            "",
        ]
    )


def render_member(config: BrokerConfig, member: Member, password: str) -> str:
    """The file of one broker of a cluster. Raises as `render` does."""
    own = msgspec.structs.replace(
        config,
        server_name=member.name,
        port=member.port,
        monitor_port=member.monitor_port,
        store_dir=member.store_dir,
    )
    return render(own) + local_block(member, config.members, password)


def _keys(config: BrokerConfig, name: str) -> list[str]:
    """The public keys a user may log in with."""
    return [config.keys[name], *([config.retiring[name]] if name in config.retiring else [])]


def accounts(config: BrokerConfig) -> str:
    """Who may do what and nothing else of `render`, for a broker whose own configuration includes it. Raises as that does."""
    text = render(config)
    return text[text.index("accounts {") :]


def _user(key: str, granted: Grants, *, responds: bool = True) -> str:
    deny = f", deny: {json.dumps(granted.deny_publish)}" if granted.deny_publish else ""
    responses = f'        allow_responses: {{ max: {granted.answers}, expires: "5s" }}\n' if responds else ""
    return (
        f"      {{ nkey: {key}, permissions: {{\n"
        f"        publish: {{ allow: {json.dumps(granted.publish)}{deny} }}\n"
        f"        subscribe: {{ allow: {json.dumps(granted.subscribe)} }}\n"
        f"{responses}      }} }}"
    )


class _Apart:
    """An account of those who are not trusted."""

    def __init__(self, name: str, config: BrokerConfig, others: Sequence[str]) -> None:
        self.name, self._config = name, config
        mine = [instance for instance in others if SERVICES[service_of(instance)].account == name]
        self._granted = {instance: grants(instance, serves=config.serves.get(instance, ())) for instance in mine}
        self.served = {
            subject: _served(subject, scope_of(config.serves.get(instance, ())))
            for instance in mine
            for subject in self._granted[instance].publish
        }
        """What is answered in CORE, by what it is called there."""

    def lines(self) -> list[str]:
        users = ((key, granted) for name, granted in self._granted.items() for key in _keys(self._config, name))
        return [
            f"  {self.name} {{",
            "    users: [",
            *(_user(key, _seen_from_outside(granted)) for key, granted in users),
            "    ]",
            "    exports: [",
            '      { service: "$SRV.>", accounts: [CORE], response_type: stream }',
            "    ]",
            "    mappings: {",
            *(f"      {_quote(s)}: {_quote(_renamed(s))}" for s in self.served if s.startswith(_SYSTEM_API)),
            "    }",
            "    imports: [",
            *(_import(subject, to) for subject, to in self.served.items()),
            "    ]",
            "  }",
        ]


def _export(to: str, accounts: Sequence[str]) -> str:
    return f"      {{ service: {_quote(to)}, accounts: [{', '.join(accounts)}], response_type: {_responses(to)} }}"


def _import(subject: str, to: str) -> str:
    own = _renamed(subject) if subject.startswith(_SYSTEM_API) else subject
    return (
        f"      {{ service: {{ account: CORE, subject: {_quote(to)} }}{'' if own == to else f', to: {_quote(own)}'} }}"
    )


def _served(subject: str, scope: str) -> str:
    """Who answers a request in CORE: the broker, but for what makes a consumer or asks at a door."""
    if subject.startswith(_CREATE):
        made = subject.removeprefix(_CREATE)
        return f"{TAIL_OPEN}{scope}.{made}" if ".tail-" in made else f"{DURABLE_OPEN}{made}"
    if subject.startswith(DOOR_GET):
        return f"{DOOR_GET}{scope}.{subject.removeprefix(DOOR_GET)}"
    return subject


def _seen_from_outside(granted: Grants) -> Grants:
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
