"""What to run: from options, ports and keys to process specifications. Pure: it reads no clock, no file, no environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from services.supervisor.running.ports import S3_GRPC, S3_PORTS
from services.supervisor.running.processes import Spec
from services.supervisor.secrets.keyring import ACTUATOR, BROKER, CORE_SECRET, GATE, STORE, VERDICT_ROOT
from services.supervisor.secrets.keys import seed_file
from services.supervisor.stores import object_store
from shared.broker import BOOTSTRAP, OPERATOR, ROLES, service_of
from shared.cluster import SIZES, Member
from shared.configuration import VARIABLES
from shared.contracts.services import REPLICAS, SERVICES, ServiceRow
from shared.settings import reads

NATS, S3, BOOTSTRAP_NAME = "nats", "s3", "bootstrap"
RUNNER, GATEWAY = "persona_runner", "gateway"
BUCKET = "swarm"

_INHERITED = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "PYTHONWARNINGS",
    "PYTHONFAULTHANDLER",
    "OMP_NUM_THREADS",
)
_OUTWARD = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
"""Only the runner's model endpoint may go through a proxy; an actuator that did would evade its allow-list."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked of a mesh. Ports by name (`nats`, `api`) are fixed; all others are those of the last run or free ones,
    and with `well_known` those a person would try first, where they are free.

    `services` None is all of them, `runners` how many persona runners serve every swarm that has none of its own, `serve` the
    swarms of each further one, `replicas` how many of each other of which there may be more than one; `scale` says it for one
    service and goes before both. An empty tuple and `s3` false leave the broker alone, and with `declares` false it has no streams.
    `brokers` keep the log, three of them a copy each; `doors` are ports at which others are told to find a broker, by its name, instead
    of its own. `env` is added to every process and wins. `ready_timeout_s` is how long one may come no nearer to being ready; None: as the
    settings say.
    """

    host: str = "127.0.0.1"
    ports: Mapping[str, int] = {}
    well_known: bool = False
    runners: int = 1
    serve: tuple[tuple[str, ...], ...] = ()
    replicas: int = 1
    scale: Mapping[str, int] = {}
    services: tuple[str, ...] | None = None
    s3: bool = True
    declares: bool = True
    brokers: int = 1
    doors: Mapping[str, int] = {}
    sync_always: bool = True
    workspace: str | None = None
    http_allow: str = ""
    http_keys_file: str | None = None
    policy: str | None = None
    policy_dir: str | None = None
    policy_shadow: str | None = None
    qdrant_url: str = ""
    config: str | None = None
    log_format: str = "json"
    ready_timeout_s: float | None = None
    env: Mapping[str, str] = {}


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """Where things are on this machine. `environ` is the environment of the command; `root` where the packages are.

    Nothing is permitted and nothing done while something is at `kill_switch`.
    """

    data: Path
    python: str
    nats_server: str
    weed: str
    root: Path
    kill_switch: Path
    environ: Mapping[str, str]

    @property
    def keys(self) -> Path:
        return self.data / "keys"

    @property
    def workspace(self) -> Path:
        return self.data / "workspace"


def instances(options: Options) -> tuple[str, ...]:
    """Every service instance, such as `verifier-1`. Raises `ValueError` for a service that does not exist."""
    wanted = tuple(SERVICES) if options.services is None else options.services
    if unknown := [name for name in wanted if name not in SERVICES]:
        raise ValueError(f"{unknown[0]!r} is no service; there are {', '.join(SERVICES)}")
    return tuple(f"{name}-{n}" for name in SERVICES if name in wanted for n in _numbers(SERVICES[name], options))


def _numbers(row: ServiceRow, options: Options) -> list[int]:
    match row.replicas:
        case "one":
            return [1]
        case "sharded":
            # Those of --serve keep their numbers, and so their swarms: who came later is numbered after them.
            count, last = options.scale.get(row.name, options.runners), options.runners + len(options.serve)
            more = range(last + 1, last + 1 + count - options.runners)
            return [*range(1, min(count, options.runners) + 1), *range(options.runners + 1, last + 1), *more]
        case "shared" | "each":
            return [*range(1, options.scale.get(row.name, options.replicas) + 1)]


def scaled(options: Options, wanted: Mapping[str, int]) -> Options:
    """A mesh with so many of these services; of runners, those that serve every swarm. Raises `ValueError` with the reason why not."""
    for name, count in wanted.items():
        if name not in SERVICES or (options.services is not None and name not in options.services):
            raise ValueError(
                f"{name!r} is no service of this mesh; there are {', '.join(options.services or SERVICES)}"
            )
        kind = SERVICES[name].replicas
        if kind == "one" and count != 1:
            raise ValueError(f"of {name} there is {REPLICAS[kind]}")
        if name == RUNNER and options.serve and not options.runners:
            raise ValueError(f"no {name} of this mesh serves all swarms (--isolate): start it with one more --serve")
        most = SERVICES[name].slots - (len(options.serve) if name == RUNNER else 0)
        if not 1 <= count <= most:
            raise ValueError(f"of {name} there may be 1 to {most}, not {count}")
    return msgspec.structs.replace(options, scale={**options.scale, **wanted})


def serves(options: Options) -> dict[str, tuple[str, ...]]:
    """The swarms of each runner that serves some only."""
    return {f"{RUNNER}-{n}": swarms for n, swarms in enumerate(options.serve, start=options.runners + 1)}


def runner_groups(options: Options) -> str:
    """The same, as the governor is told."""
    return ",".join(f"{instance}={'+'.join(swarms)}" for instance, swarms in serves(options).items())


def brokers(options: Options) -> tuple[str, ...]:
    """The brokers' names. Raises `ValueError` for a number there cannot be."""
    if options.brokers not in SIZES:
        raise ValueError(f"of brokers there may be {' or '.join(map(str, SIZES))}, not {options.brokers}")
    return (NATS, *(f"{NATS}-{n}" for n in range(2, options.brokers + 1)))


def is_broker(name: str) -> bool:
    """Whether a process of the mesh is one of its brokers."""
    return name.partition("-")[0] == NATS


def members(options: Options, places: Places, ports: Mapping[str, int]) -> tuple[Member, ...]:
    """The brokers of a cluster; none when there is one broker."""
    if options.brokers == 1:
        return ()
    return tuple(
        Member(
            name=name,
            port=ports[name],
            monitor_port=ports[_monitor(name)],
            route_port=ports[f"route_{name}"],
            door=options.doors.get(name, ports[f"route_{name}"]),
            store_dir=str(places.data / name),
        )
        for name in brokers(options)
    )


def nats_url(options: Options, ports: Mapping[str, int]) -> str:
    """Where the brokers are, by commas."""
    return ",".join(f"nats://127.0.0.1:{ports[name]}" for name in brokers(options))


def monitor_url(options: Options, ports: Mapping[str, int]) -> str:
    """Where they tell of themselves, by commas, in the same order."""
    return ",".join(f"http://127.0.0.1:{ports[_monitor(name)]}" for name in brokers(options))


def _monitor(broker: str) -> str:
    return "monitor" if broker == NATS else f"monitor_{broker}"


def users(options: Options) -> tuple[str, ...]:
    """Everyone with a key."""
    return (*ROLES, *instances(options))


def port_names(options: Options) -> tuple[str, ...]:
    """Every port the mesh needs."""
    s3 = (*S3_PORTS, *S3_GRPC) if options.s3 else ()
    names = brokers(options)
    nats = [port for name in names for port in (name, _monitor(name), *([f"route_{name}"] if len(names) > 1 else []))]
    return (*nats, *s3, *(port for name in instances(options) for port in ports_of(name)))


def ports_of(instance: str) -> tuple[str, ...]:
    """The names of one instance's ports."""
    api = (_api(instance),) if service_of(instance) == GATEWAY else ()
    return (*api, f"health_{instance}")


def nats(options: Options, places: Places, ports: Mapping[str, int]) -> list[Spec]:
    """The brokers. One of several is asked about itself alone: without a majority each would be unwell, and no restart would mend that."""
    of_itself = "?js-server-only=true" if options.brokers > 1 else ""
    pages = {name: f"http://127.0.0.1:{ports[_monitor(name)]}/healthz{of_itself}" for name in brokers(options)}
    return [
        Spec(
            name=name,
            argv=(places.nats_server, "-c", str(places.keys / BROKER / f"{name}.conf")),
            env=_base(places),
            cwd=str(places.data),
            ready_url=page,
            live_url=page,
            may_be_unwell=True,
        )
        for name, page in pages.items()
    ]


def s3(places: Places, ports: Mapping[str, int]) -> Spec:
    folder = places.data / "s3"
    return Spec(
        name=S3,
        argv=object_store.command(places.weed, folder, places.keys / STORE / "s3.json", ports, bucket=BUCKET),
        env=_base(places),
        cwd=str(folder),
        ready_url=f"http://127.0.0.1:{ports['s3_s3']}/",
        live_url=f"http://127.0.0.1:{ports['s3_s3']}/",
        any_answer=True,
    )


def bootstrap(options: Options, places: Places, ports: Mapping[str, int], *, store_bytes: int) -> Spec:
    """The one-shot process that declares streams and buckets."""
    return Spec(
        name=BOOTSTRAP_NAME,
        argv=(places.python, "-P", "-m", "services.supervisor.bootstrap"),
        env={
            **_python(places),
            "SWARM_NATS_URL": nats_url(options, ports),
            "SWARM_NATS_SEED_FILE": str(seed_file(places.keys, BOOTSTRAP)),
            "SWARM_STORE_BYTES": str(store_bytes),
            "SWARM_STORE_REPLICAS": str(options.brokers),
        },
        cwd=str(places.data),
    )


def services(options: Options, places: Places, ports: Mapping[str, int]) -> list[Spec]:
    """One specification for each instance."""
    return [_service(instance, options, places, ports) for instance in instances(options)]


def _service(instance: str, options: Options, places: Places, ports: Mapping[str, int]) -> Spec:
    service = service_of(instance)
    health = ports[f"health_{instance}"]
    env = {
        **_python(places),
        **{name: places.environ[name] for name in _OUTWARD if service == RUNNER and name in places.environ},
        **_settings_for(service, places.environ),
        "SWARM_NATS_URL": nats_url(options, ports),
        "SWARM_NATS_MONITOR_URL": monitor_url(options, ports),
        "SWARM_STORE_REPLICAS": str(options.brokers),
        "SWARM_NATS_SEED_FILE": str(seed_file(places.keys, instance)),
        "SWARM_INSTANCE": instance,
        "SWARM_DATA_DIR": str(places.data / "services" / instance),
        "SWARM_HEALTH_PORT": str(health),
        "SWARM_REQUIRE_SYNC_ALWAYS": "true" if options.sync_always else "false",
        "SWARM_LOG_FORMAT": options.log_format,
        **({"SWARM_CONFIG": options.config} if options.config else {}),
        **(
            {"SWARM_CORE_SECRET_FILE": str(places.keys / service / CORE_SECRET)}
            if "core.secret" in SERVICES[service].holds
            else {}
        ),
        **_special(instance, options, places, ports),
        **options.env,
    }
    return Spec(
        name=instance,
        argv=(places.python, "-P", "-m", SERVICES[service].module),
        env=env,
        cwd=str(places.data / "services" / instance),
        ready_url=f"http://127.0.0.1:{health}/health/ready",
        live_url=f"http://127.0.0.1:{health}/health/live",
    )


def _api(instance: str) -> str:
    """The name of a gateway's port: `api` is the first one's."""
    return "api" if instance == f"{GATEWAY}-1" else f"api_{instance}"


def _special(instance: str, options: Options, places: Places, ports: Mapping[str, int]) -> dict[str, str]:
    """What one service holds and no other."""
    service = service_of(instance)
    if service == GATEWAY:
        file = {"SWARM_HTTP_KEYS_FILE": options.http_keys_file} if options.http_keys_file else {}
        return {
            "SWARM_HTTP_HOST": options.host,
            "SWARM_HTTP_PORT": str(ports[_api(instance)]),
            "SWARM_KILL_SWITCH_FILE": str(places.kill_switch),
            **_root(service, places),
            **file,
        }
    if service == "memory_compactor":
        if not options.s3:
            return {"SWARM_QDRANT_URL": options.qdrant_url}
        return {
            "SWARM_QDRANT_URL": options.qdrant_url,
            "SWARM_S3_ENDPOINT": f"127.0.0.1:{ports['s3_s3']}",
            "SWARM_S3_ACCESS_KEY_FILE": str(places.keys / service / "s3-access"),
            "SWARM_S3_SECRET_KEY_FILE": str(places.keys / service / "s3-secret"),
            "SWARM_S3_BUCKET": BUCKET,
        }
    if service == GATE:
        policy = {"SWARM_POLICY_DIR": options.policy_dir, "SWARM_POLICY_SHADOW": options.policy_shadow}
        return {
            "SWARM_VERDICT_SEED_FILE": str(places.keys / GATE / "verdict-seed"),
            **_root(service, places),
            "SWARM_KILL_SWITCH_FILE": str(places.kill_switch),
            **{name: folder for name, folder in policy.items() if folder},
            **_hosts(options),
        }
    if service == ACTUATOR:
        return {
            "SWARM_WORKSPACE": options.workspace or str(places.workspace),
            **_root(service, places),
            "SWARM_KILL_SWITCH_FILE": str(places.kill_switch),
            **_hosts(options),
        }
    if service == "governor" and options.serve:
        return {"SWARM_PLACEMENT_GROUPS": runner_groups(options)}
    if service == RUNNER and (swarms := serves(options).get(instance)):
        return {"SWARM_PLACEMENT_SERVES": ",".join(swarms)}
    return {}


def _root(service: str, places: Places) -> dict[str, str]:
    """Whose word counts on who signs verdicts."""
    return {"SWARM_VERDICT_ROOT_FILE": str(places.keys / service / VERDICT_ROOT)}


def _hosts(options: Options) -> dict[str, str]:
    """The gate permits and the actuator calls the same hosts: those of the option, else of the environment or the file."""
    return {"SWARM_OUTBOUND_ALLOW": options.http_allow} if options.http_allow else {}


def _settings_for(service: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The `SWARM_*` variables of the command that this service reads."""
    return {
        name: value
        for name, value in environ.items()
        if name == "SWARM_CONFIG" or (name in VARIABLES and reads(service, VARIABLES[name]))
    }


def _base(places: Places) -> dict[str, str]:
    return {name: places.environ[name] for name in _INHERITED if name in places.environ}


def _python(places: Places) -> dict[str, str]:
    return {**_base(places), "PYTHONPATH": str(places.root), "PYTHONUNBUFFERED": "1"}


def operator_seed_file(places: Places) -> Path:
    return seed_file(places.keys, OPERATOR)
