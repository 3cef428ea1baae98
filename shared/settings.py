"""Configuration: one frozen `Settings`, from a TOML file and `SWARM_*` variables, read once in `__main__`.

`SWARM_NATS_URL` overrides `nats_url` of the file named by `SWARM_CONFIG`. Every value may instead be put in a file named by
`SWARM_<NAME>_FILE`; secrets should be. What cannot be used stops the process with the name, the value (but no secret) and what would do.
"""

from __future__ import annotations

import hmac
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec

STORE_BYTES, LEAST_STORE_BYTES = 10 * 2**30, 256 * 2**20
"""How large the broker's store may get, unless told otherwise, and the smallest in which every stream has room."""

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=1e9)]


class SettingsError(Exception):
    """A setting cannot be used; the message says which and what would do."""


class HttpKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key of the control API: SHA-256 of the token, whose it is, what it may do."""

    sha256: str
    principal: str
    scopes: tuple[str, ...]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a service process can be told. Times in seconds unless the name says otherwise."""

    # the mesh
    nats_url: str = "nats://127.0.0.1:4222"
    nats_monitor_url: str = ""
    nats_seed_file: str = ""
    core_secret: str = ""
    inbox_prefix: str = "_INBOX"
    instance: str = ""
    data_dir: str = "data"
    require_sync_always: bool = True
    log_format: str = "json"
    health_host: str = "127.0.0.1"
    health_port: Port = 0
    grace_s: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 4.0
    clock_tolerance_s: Seconds = 5.0
    store_bytes: Annotated[int, msgspec.Meta(ge=LEAST_STORE_BYTES)] = STORE_BYTES

    # `swarm up`
    liveness_s: Seconds = 20.0
    up_wait_s: Seconds = 60.0

    # gateway
    http_host: str = "127.0.0.1"
    http_port: Port = 4096
    http_keys: tuple[HttpKey, ...] = ()
    http_keys_file: str = ""
    http_rate_per_s: float = 200.0
    http_burst: int = 400
    http_streams: Positive = 256
    http_allowed_origins: str = ""
    cognition_enabled: bool = True

    # quotas, see shared/quotas.py for all of them
    swarm_open_requests: Positive = 16
    observations_per_minute: Annotated[int, msgspec.Meta(ge=1000)] = 120_000
    recalls_per_minute: Positive = 600
    persona_open_proposals: Positive = 64
    swarm_open_actions: Positive = 1000

    # cold and warm memory
    s3_endpoint: str = ""
    s3_access_key: str = ""
    s3_secret_key: str = ""
    s3_bucket: str = "swarm"
    s3_secure: bool = False
    qdrant_url: str = ""
    qdrant_api_key: str = ""
    embeddings_url: str = ""
    embeddings_model: str = ""
    embeddings_api_key: str = ""
    snapshot_every_thoughts: Positive = 20

    # thinking
    thinker: str = "rules"
    model_url: str = ""
    model_fallback_url: str = ""
    model_name: str = ""
    model_api_key: str = ""
    model_timeout_s: Seconds = 60.0
    model_max_output_tokens: Positive = 600
    shards: Positive = 64
    lease_ttl_s: Positive = 3

    # governor
    swarm_tokens_per_minute: int = 200_000
    swarm_compute_ms_per_minute: int = 600_000
    swarm_actions_per_minute: int = 120
    global_tokens_per_minute: int = 2_000_000
    global_compute_ms_per_minute: int = 6_000_000
    global_actions_per_minute: int = 1_200
    persona_actions_per_minute: int = 30
    max_roots: int = 10_000
    max_lifetime_children: int = 64
    spawns_per_minute: int = 600
    drain_s: Seconds = 20.0
    drain_patience_s: Seconds = 3600.0
    grant_ttl_s: Seconds = 90.0
    reconcile_every_s: Seconds = 5.0

    # gate
    policy_dir: str = ""
    verdict_seed: str = ""
    verdict_keys: str = ""
    workspace: str = "data/workspace"
    http_allow: str = ""
    http_allow_private: str = ""
    kill_switch_file: str = ""
    environment: str = "local"
    four_eyes: bool = True
    approval_ttl_s: Seconds = 3600.0
    authorization_ttl_s: Seconds = 300.0

    def instance_of(self, service: str) -> str:
        """This process's name in the mesh, such as `verifier-1`."""
        return self.instance or f"{service}-1"

    def dedup_key(self) -> bytes:
        """What this process's dedup ids are keyed with: the secret all of CORE share, else its own seed, else nothing.

        Raises `SettingsError` when the seed cannot be read.
        """
        secret = self.core_secret or (_read("SWARM_NATS_SEED_FILE", self.nats_seed_file) if self.nats_seed_file else "")
        return hmac.digest(secret.encode(), b"dedup", "sha256") if secret else b""


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment and the file it names. Raises `SettingsError`."""
    env = os.environ if environ is None else environ
    values: dict[str, object] = {}
    if config := env.get("SWARM_CONFIG"):
        try:
            values = tomllib.loads(_read("SWARM_CONFIG", config))
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"SWARM_CONFIG={config}: {error}") from error
        if unknown := sorted(set(values) - set(Settings.__struct_fields__)):
            raise SettingsError(f"SWARM_CONFIG={config}: there is no setting {unknown[0]!r}; see shared/settings.py")
    for field in msgspec.structs.fields(Settings):
        name = f"SWARM_{field.name.upper()}"
        if name in env:
            values[field.name] = env[name]
        elif f"{name}_FILE" in env and field.name + "_file" not in Settings.__struct_fields__:
            values[field.name] = _read(f"{name}_FILE", env[f"{name}_FILE"])
        if field.name in values:
            _fits(field.name, values[field.name], field.type)
    settings = msgspec.convert(values, Settings, strict=False)
    if settings.http_keys_file:
        settings = msgspec.structs.replace(settings, http_keys=_keys(settings.http_keys_file))
    _validate(settings)
    return settings


def listed(value: str) -> tuple[str, ...]:
    """The items of a comma-separated setting."""
    return tuple(item.strip() for item in value.split(",") if item.strip())


def _fits(setting: str, value: object, kind: object) -> None:
    """Raises `SettingsError`, which shows no value where a secret may have been meant."""
    try:
        msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        name = f"SWARM_{setting.upper()}"
        shown = name if kind in (str, tuple[HttpKey, ...]) else f"{name}={value!r}"
        wanted = re.sub(r", got `\w+`", "", str(error))
        raise SettingsError(f"{shown}: {wanted}; see {setting} in shared/settings.py") from error


def _read(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{name}={path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{name}={path}: it is no UTF-8 text, from byte {error.start} on") from error


def _keys(path: str) -> tuple[HttpKey, ...]:
    class File(msgspec.Struct):
        keys: tuple[HttpKey, ...] = ()

    try:
        return msgspec.convert(tomllib.loads(_read("SWARM_HTTP_KEYS_FILE", path)), File).keys
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise SettingsError(
            f"SWARM_HTTP_KEYS_FILE={path}: {error}; want [[keys]] with sha256, principal, scopes"
        ) from error


def _validate(settings: Settings) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]{0,64}", settings.instance):
        raise SettingsError(
            f"SWARM_INSTANCE={settings.instance!r}: letters, digits, - and _, at most 64 (it names a consumer)"
        )
    if settings.log_format not in ("json", "console"):
        raise SettingsError(f"SWARM_LOG_FORMAT={settings.log_format!r}: it is 'json' or 'console'")
    if settings.swarm_tokens_per_minute > settings.global_tokens_per_minute:
        raise SettingsError(
            "SWARM_SWARM_TOKENS_PER_MINUTE is above SWARM_GLOBAL_TOKENS_PER_MINUTE; lower it or raise the global one"
        )
    if settings.swarm_compute_ms_per_minute > settings.global_compute_ms_per_minute:
        raise SettingsError(
            "SWARM_SWARM_COMPUTE_MS_PER_MINUTE is above the global one; lower it or raise the global one"
        )
    if settings.kill_switch_file and not Path(settings.kill_switch_file).is_absolute():
        raise SettingsError(
            f"SWARM_KILL_SWITCH_FILE={settings.kill_switch_file!r}: each service would look in its own folder; write the whole path"
        )
    if settings.thinker not in ("rules", "model"):
        raise SettingsError(f"SWARM_THINKER={settings.thinker!r}: it is 'rules' or 'model'")
