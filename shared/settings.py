"""Everything a process can be told: one frozen `Settings` in sections, read once in `__main__` (`shared/configuration.py`) and passed on.

A setting's key is its place: `port` of `[http]` in the TOML file is `http.port`, and `SWARM_HTTP_PORT` in the environment. What stands
below a field says what it means, with its unit; `docs/settings.md` is made of that. `READS` is the one table of who is told what: a
process decodes what its row names and nothing else, so another's section cannot end it, and the supervisor hands each service just that.
It is a long file because it is the only place.
"""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

STORE_BYTES, LEAST_STORE_BYTES = 10 * 2**30, 256 * 2**20
"""How large the broker's store may get, unless told otherwise, and the smallest in which every stream has room."""

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]
Credit = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Seconds = Annotated[float, msgspec.Meta(gt=0.0, le=1e9)]
Rate = Annotated[float, msgspec.Meta(gt=0.0, le=1e9)]
Secret = Annotated[str, "secret"]
"""Never shown, not even where it cannot be used."""


class SettingsError(Exception):
    """A setting cannot be used; the message says which and what would do."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings that belong together, and their table in the file."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"  # for there may be secrets in it


class HttpKey(Section, frozen=True, kw_only=True):
    """A key of the control API: SHA-256 of the token, whose it is, what it may do."""

    sha256: str
    principal: str
    scopes: tuple[str, ...]


class Nats(Section, frozen=True, kw_only=True):
    """The broker."""

    url: str = "nats://127.0.0.1:4222"
    """Where it is: one URL, or several of one cluster. With `tls://`, or a `ca_file`, nothing is said to a server without TLS."""
    monitor_url: str = ""
    """Base of its monitoring pages, such as `http://nats:8222`: what it says of itself, and whether it syncs before it acknowledges.
    Of several brokers of one cluster, those of all, by commas: one that is well is enough to be ready, and who is not is told.
    Empty is port 8222 of the broker's host, which is asked for the second only."""
    seed_file: str = ""
    """File with the seed (nkey) this process logs in with."""
    ca_file: str = ""
    """Certificates (PEM) of whom to believe that it is the broker; none is whom this machine believes."""
    cert_file: str = ""
    """Certificate (PEM) to show a broker that wants one."""
    key_file: str = ""
    """Private key (PEM) of it."""

    keys_dir: str = ""
    """Folder of this service's seeds, `<service>-<n>.nk`, instead of one file: the process is the first of these that nobody else is."""

    @property
    def monitor(self) -> str:
        """Where the broker is asked about itself."""
        first = self.url.split(",")[0].strip()
        host = urlsplit(first if "://" in first else f"nats://{first}").hostname or "127.0.0.1"
        return self.monitor_url or f"http://{f'[{host}]' if ':' in host else host}:8222"


class Health(Section, frozen=True, kw_only=True):
    """`/health/live`, `/health/ready` and `/metrics`."""

    host: str = "127.0.0.1"
    """Address they listen on."""
    port: Port = 0
    """0 answers nowhere."""


class Store(Section, frozen=True, kw_only=True):
    """The broker's store."""

    bytes: Annotated[int, msgspec.Meta(ge=LEAST_STORE_BYTES)] = STORE_BYTES
    """What the broker may store, at least 256 MiB. From 85 % of the log's share, or when the disk has less than 15 % of it (or of
    itself) left, observations are refused (507) and nobody thinks."""
    replicas: Annotated[int, msgspec.Meta(ge=1, le=5)] = 1
    """Brokers that keep each stream, 3 or 5 in a cluster. From 3 on a majority has what is acknowledged, and a broker that syncs later
    is not refused."""


class Core(Section, frozen=True, kw_only=True):
    """What all services share but those the broker does not trust."""

    secret: Secret = ""
    """Keys the dedup ids of all of them; without it each uses its own seed."""


class Up(Section, frozen=True, kw_only=True):
    """`swarm up`."""

    liveness_s: Seconds = 20.0
    """A process that gives no answer for so long is killed and started again."""
    wait_s: Seconds = 60.0
    """It gives up when nothing has come nearer to being ready for so long."""


class Http(Section, frozen=True, kw_only=True):
    """The control API."""

    host: str = "127.0.0.1"
    """Address it listens on; any but loopback needs keys."""
    port: Port = 4096
    """Port it listens on."""
    keys: tuple[HttpKey, ...] = ()
    """Who may do what, as `[[http.keys]]` of `sha256` (of the token), `principal`, `scopes` (`read`, `control`, `approve`, `admin`).
    Without keys it listens on loopback only."""
    keys_file: str = ""
    """A TOML file with `[[keys]]` like `keys`, which it replaces."""
    rate_per_s: Rate = 200.0
    """Requests of one key."""
    burst: Positive = 400
    """Requests of one key at once."""
    streams: Positive = 256
    """Event streams one principal may have open; four times that of all."""
    allowed_origins: str = ""
    """`https://dash.example,http://localhost:5173`: pages of other origins that may use the API from a browser, also without keys."""
    observations_per_minute: Annotated[int, msgspec.Meta(ge=1000)] = 120_000
    """Of one key in one swarm; more are 429."""
    recalls_per_minute: Positive = 600
    """Of one key in one swarm; more are 429."""


class Traces(Section, frozen=True, kw_only=True):
    """Traces for a collector, made from the log by a gateway; one is enough."""

    url: str = ""
    """Base of a collector's OTLP/HTTP endpoint, such as `http://127.0.0.1:4318`; empty: nothing is sent, or made."""


class Cognition(Section, frozen=True, kw_only=True):
    """The loop."""

    enabled: bool = True
    """Whether it may be started over the API."""


class Swarm(Section, frozen=True, kw_only=True):
    """Limits of each swarm."""

    open_requests: Positive = 16
    """Requests of one kind that may wait for their answer at a gateway; more are 429."""
    open_actions: Positive = 1000
    """Actions that may wait or be done at an actuator; more fail with `too_many_actions`."""
    open_intents: Positive = 256
    """Intents that may be open at once; more are 429."""
    spawns_per_minute: Positive = 600
    """More are `spawn.refused`, and 429."""
    tokens_per_minute: Credit = 200_000
    """What it may spend at most, unless a person set another ceiling for it; within what all swarms may."""
    compute_ms_per_minute: Credit = 600_000
    """What it may spend at most, likewise."""
    actions_per_minute: Credit = 120
    """What it may do at most, likewise."""
    cost_microusd_per_minute: Credit = 10**11
    """What its thinking may cost at most, in millionths of a dollar, likewise; 0 lets it use no model that costs something."""


class Persona(Section, frozen=True, kw_only=True):
    """Limits of each persona."""

    open_proposals: Positive = 64
    """Proposals that may be neither decided nor done; more are rejected with `too_many_open`."""
    actions_per_minute: NotNegative = 30
    """Of it and all below it."""


class Global(Section, frozen=True, kw_only=True):
    """Limits of the whole mesh: its swarms share them by need and weight, and each has the share that is written for it."""

    tokens_per_minute: Credit = 2_000_000
    """What all swarms may spend."""
    compute_ms_per_minute: Credit = 6_000_000
    """What all swarms may spend."""
    actions_per_minute: Credit = 1_200
    """What all swarms may do."""
    cost_microusd_per_minute: Credit = 10**12
    """What all thinking may cost, in millionths of a dollar; 0 lets nobody use a model that costs something."""
    swarms: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 200
    """Swarms that may have a share of it at once; a persona of another is refused with `too_many_swarms`."""


class S3(Section, frozen=True, kw_only=True):
    """Cold memory: snapshots."""

    endpoint: str = ""
    """An S3 store: `http://host:port`, `https://host`, or `host:port`, which `secure` tells apart."""
    access_key: Secret = ""
    """Who asks."""
    secret_key: Secret = ""
    """Its secret."""
    bucket: str = "swarm"
    """Made when it is not there, by whoever may make it."""
    secure: bool = False
    """Whether an `endpoint` without `http://` or `https://` is asked over TLS."""
    ca_file: str = ""
    """Certificates (PEM) of whom to believe that it is the store; none is whom this machine believes."""
    region: str = "us-east-1"
    """Where the bucket is, or is made."""
    path_style: bool = True
    """Whether the bucket is in the path (MinIO, SeaweedFS) or else in the host's name (AWS)."""
    versioning: bool = True
    """Whether the bucket is to keep what is overwritten or deleted: switched on at the first use, and readiness says where it cannot be."""


class Qdrant(Section, frozen=True, kw_only=True):
    """Warm memory: a Qdrant server instead of the embedded engine."""

    url: str = ""
    """Such as `http://qdrant:6333`; empty is the embedded engine."""
    api_key: Secret = ""
    """Where it wants one."""
    ca_file: str = ""
    """Certificates (PEM) of whom to believe that it is the server; none is whom this machine believes."""


class Embeddings(Section, frozen=True, kw_only=True):
    """An OpenAI-compatible embeddings endpoint instead of the built-in embedder."""

    url: str = ""
    """Such as `https://host/v1`; empty is the built-in one."""
    model: str = ""
    """The name the endpoint knows."""
    api_key: Secret = ""
    """Where it wants one."""


class Snapshot(Section, frozen=True, kw_only=True):
    """Snapshots of a persona's mind."""

    every_thoughts: Positive = 20
    """How often one is made."""


class Belief(Section, frozen=True, kw_only=True):
    """What swarms believe."""

    review_s: Seconds = 86_400.0
    """So long a belief stands without anything new being brought for it; then it is stale."""
    archive_s: Seconds = 604_800.0
    """So long a stale one is kept; then it is archived."""


class Model(Section, frozen=True, kw_only=True):
    """An OpenAI-compatible chat endpoint, for `thinker = "model"`."""

    url: str = ""
    """Such as `http://127.0.0.1:8080/v1`."""
    fallback_url: str = ""
    """Asked while the first does not answer."""
    name: str = ""
    """The name the endpoint knows."""
    api_key: Secret = ""
    """Where it wants one."""
    timeout_s: Seconds = 60.0
    """Of one call as a whole."""
    max_output_tokens: Positive = 600
    """Of one answer. A call is made only if its worst case fits a persona's `token_budget_per_minute` (20 000), so raise that for
    long answers."""


class Placement(Section, frozen=True, kw_only=True):
    """Which runner has which persona."""

    shards: Positive = 64
    """Parts the personas are shared out in; never to be changed on a log that has some."""
    serves: str = ""
    """The only swarms a runner serves, comma-separated; empty is all that no other is named for. Its key must be one for these."""
    groups: str = ""
    """For the governor, and what makes keys, which runners serve some swarms only: `persona_runner-2=alpha+beta,persona_runner-3=gamma`."""
    lease_ttl_s: Positive = 3
    """A runner that says nothing for so long has lost its share."""


class Governor(Section, frozen=True, kw_only=True):
    """Lives and ledger."""

    max_roots: Positive = 10_000
    """Personas without a parent, of a swarm."""
    max_lifetime_children: Positive = 64
    """Children a persona may ever have."""
    drain_s: Seconds = 20.0
    """Time to finish for who is to end."""
    drain_patience_s: Seconds = 3600.0
    """So long nobody may have left a final snapshot before a draining persona is given up without one."""
    grant_ttl_s: Seconds = 90.0
    """Life of a grant."""
    reconcile_every_s: Seconds = 5.0
    """How often orphans, zombies, stuck drains and expired grants are looked for."""


class Intents(Section, frozen=True, kw_only=True):
    """Work for swarms."""

    lease_s: Seconds = 300.0
    """How long whoever gets an intent may take before somebody else does."""


class Policy(Section, frozen=True, kw_only=True):
    """What is permitted."""

    bundle: str = "reports"
    """Which of the built-in policies: `observe-only`, `reports`, `operator` or `developer`."""
    dir: str = ""
    """Folder of Cedar policies, in place of `bundle`. Looked at every 5 s."""
    shadow: str = ""
    """Name or folder of policies that are asked beside those in force, and whose differences are counted; never in force. A folder that is
    not there is none."""
    environment: str = "local"
    """What policies see as `context.environment`."""


class Arbitration(Section, frozen=True, kw_only=True):
    """Proposals that cannot all be done."""

    strategy: str = "order"
    """What rules where effects differ: `order` at once, by lower risk, authority, evidence and age; `vote` of personas of the
    swarms concerned, or `person`, which are waited for."""
    person_s: Seconds = 600.0
    """So long a person or a vote is waited for; then, or shortly before the first of the proposals is over, the order rules."""
    losses_per_hour: Positive = 10
    """A persona that has lost more conflicts than this within an hour loses at once."""


class Verdict(Section, frozen=True, kw_only=True):
    """The gate's signature."""

    seed: Secret = ""
    """The nkey seeds all gates have to sign with, by lines: the newest of which the log has the key is used. No seed of a login."""
    seed_file: str = ""
    """File of them, instead; read again when the log has a key that is none of theirs."""
    root: str = ""
    """Public nkeys, by lines or commas, one of which must have signed what the log says of verdict keys: `verdict-root` of `swarm keys`."""
    signers: str = ""
    """What `swarm keys` wrote in `signers.json`, for the log. Without it that file is looked for beside `nats.seed_file`."""


class Approval(Section, frozen=True, kw_only=True):
    """People's decisions."""

    ttl_s: Seconds = 3600.0
    """How long a request waits for them."""
    four_eyes: bool = True
    """Whoever spawned a persona or one above it, or recorded observations any of them was given, cannot approve for it; so give what
    feeds a swarm a key of its own. Without keys whoever is at the machine is one person, `local`, who may approve what they asked for
    (what takes two people, critical risk, needs keys)."""


class Authorization(Section, frozen=True, kw_only=True):
    """The gate's permission."""

    ttl_s: Seconds = 300.0
    """How long one is good."""


class Outbound(Section, frozen=True, kw_only=True):
    """HTTP requests to the outside."""

    allow: str = ""
    """`host:port,…` that the gate permits and the actuator asks."""
    allow_private: str = ""
    """Those among them that may have private addresses."""


class Commands(Section, frozen=True, kw_only=True):
    """Commands that personas may ask to run, in a sandbox."""

    file: str = ""
    """TOML with a row for each, which nobody else may write to; none: there are none."""


class Mcp(Section, frozen=True, kw_only=True):
    """MCP servers whose tools personas may ask to call."""

    file: str = ""
    """TOML with each server and a row for each tool, which nobody else may write to; none: there are none."""


class Bridge(Section, frozen=True, kw_only=True):
    """Messages to other NATS accounts."""

    file: str = ""
    """TOML with a row for each subject, which nobody else may write to; none: there are none."""


class Notices(Section, frozen=True, kw_only=True):
    """Notices to people outside."""

    file: str = ""
    """TOML with a row for each, which nobody else may read or write to; none: there are none."""


class Probes(Section, frozen=True, kw_only=True):
    """What personas may have looked at outside."""

    file: str = ""
    """TOML with a row for each, which nobody else may write to; none: there are none."""

    bytes_per_hour: int = 4 * 1024 * 1024
    """Of a persona, so much may come in."""


class Actions(Section, frozen=True, kw_only=True):
    """What personas do."""

    prices: str = ""
    """What an action costs, `KIND TARGET=MICROUSD,…`, the target a pattern as in scopes: `http.request https://api.example.org/**=2000`.
    The first that fits counts; what none fits costs nothing. What costs something a persona does within a scope with `microusd_per_day`, or
    once people said yes."""


class KillSwitch(Section, frozen=True, kw_only=True):
    """Stops everything acting."""

    file: str = ""
    """A whole path: while something is there, nothing is permitted and nothing is done. `swarm up` takes `STOP` in its data folder."""


class Settings(Section, frozen=True, kw_only=True):
    """What stands at the top needs no section."""

    instance: str = ""
    """This process's name in the mesh, such as `verifier-1`, which is the default for a verifier without `nats.keys_dir`."""
    data_dir: str = "data"
    """Folder of this process's caches: checkpoints, its index, what it knows of the log."""
    log_format: str = "json"
    """`json` or `console`."""
    grace_s: Annotated[float, msgspec.Meta(ge=0.0, le=1e9)] = 4.0
    """Time to finish what is in hand when it is to end."""
    clock_tolerance_s: Seconds = 5.0
    """A service whose clock is further off the broker's takes no work."""
    require_sync_always: bool = True
    """Not to be ready on a broker that acknowledges before it syncs, unless three or more have a copy each of what is acknowledged."""
    thinker: str = "rules"
    """How personas think: `rules`, or `model`, an endpoint of `[model]`."""
    workspace: str = "data/workspace"
    """Folder the actuator may write in."""
    nats: Nats = Nats()
    health: Health = Health()
    store: Store = Store()
    core: Core = Core()
    up: Up = Up()
    http: Http = Http()
    traces: Traces = Traces()
    cognition: Cognition = Cognition()
    swarm: Swarm = Swarm()
    persona: Persona = Persona()
    global_: Global = msgspec.field(default=Global(), name="global")
    s3: S3 = S3()
    qdrant: Qdrant = Qdrant()
    embeddings: Embeddings = Embeddings()
    snapshot: Snapshot = Snapshot()
    belief: Belief = Belief()
    model: Model = Model()
    placement: Placement = Placement()
    governor: Governor = Governor()
    intents: Intents = Intents()
    policy: Policy = Policy()
    arbitration: Arbitration = Arbitration()
    verdict: Verdict = Verdict()
    approval: Approval = Approval()
    authorization: Authorization = Authorization()
    outbound: Outbound = Outbound()
    commands: Commands = Commands()
    mcp: Mcp = Mcp()
    probes: Probes = Probes()
    bridge: Bridge = Bridge()
    notices: Notices = Notices()
    actions: Actions = Actions()
    kill_switch: KillSwitch = KillSwitch()

    def instance_of(self, service: str) -> str:
        """This process's name in the mesh, such as `verifier-1`."""
        return self.instance or f"{service}-1"

    def dedup_key(self) -> bytes:
        """What this process's dedup ids are keyed with: the secret all of CORE share, else its own seed, else nothing.

        Raises `SettingsError` when the seed cannot be read.
        """
        secret = self.core.secret or (
            read_text("SWARM_NATS_SEED_FILE", self.nats.seed_file) if self.nats.seed_file else ""
        )
        return hmac.digest(secret.encode(), b"dedup", "sha256") if secret else b""


_EVERY = (
    *("instance", "data_dir", "log_format", "grace_s", "clock_tolerance_s", "require_sync_always"),
    *("nats", "health", "store"),
)
_CORE = (*_EVERY, "core")
_SWARM_BUDGET = (
    *("swarm.tokens_per_minute", "swarm.compute_ms_per_minute"),
    *("swarm.actions_per_minute", "swarm.cost_microusd_per_minute"),
)
_PLACEMENT = ("placement.shards", "placement.lease_ttl_s")
_SIGNS = ("verdict.seed", "verdict.seed_file", "verdict.root")
READS: dict[str, tuple[str, ...]] = {
    "gateway": (
        *_CORE,
        "http",
        "kill_switch",
        "traces",
        "cognition",
        "approval",
        "verdict.root",
        "persona",
        "swarm",
        "global",
    ),
    "checker": (*_EVERY, "probes", "mcp", "policy.environment", "kill_switch"),
    "persona_runner": (*_EVERY, "thinker", "model", *_PLACEMENT, "placement.serves"),
    "governor": (*_CORE, "governor", *_PLACEMENT, "placement.groups", "swarm", "global", "persona.actions_per_minute"),
    "verifier": (*_CORE, "persona.open_proposals", "approval.ttl_s", "authorization.ttl_s", "mcp", "bridge", "actions"),
    "policy_gate": (*_CORE, "policy", *_SIGNS, "approval", "authorization", "outbound.allow", "kill_switch"),
    "actuator": (
        *_CORE,
        "workspace",
        "verdict.root",
        "outbound",
        "commands",
        "mcp",
        "bridge",
        "notices",
        "kill_switch",
        "swarm.open_actions",
    ),
    "meta_orchestrator": (*_CORE, "arbitration", "global", "intents", *_SWARM_BUDGET),
    "memory_compactor": (*_CORE, "s3", "qdrant", "embeddings", "snapshot", "belief"),
    "bootstrap": ("nats", "store", "verdict.signers"),
    "bucket": ("s3",),
    "keys": ("store.bytes", "placement.groups"),
    "supervisor": ("up", "store", "kill_switch", "policy", "http.keys", "http.keys_file"),
}
"""What each process is told: settings and whole sections. All the services of the catalog, what declares the streams, what makes
memory's bucket and everybody's keys in containers, and `swarm up`."""


def reads(process: str, key: str) -> bool:
    """Whether a process is told the setting `key`."""
    return any(key == row or key.startswith(f"{row}.") for row in READS[process])


def variable(key: str) -> str:
    """The name of a setting in the environment: `SWARM_HTTP_PORT` of `http.port`."""
    return f"SWARM_{key.replace('.', '_').upper()}"


def listed(value: str) -> tuple[str, ...]:
    """The items of a comma-separated setting."""
    return tuple(item.strip() for item in value.split(",") if item.strip())


def read_text(name: str, path: str) -> str:
    """What is in the file the setting `name` names. Raises `SettingsError`."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{name}={path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{name}={path}: it is no UTF-8 text, from byte {error.start} on") from error
