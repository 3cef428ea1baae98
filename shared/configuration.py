"""From the environment and the file to `Settings`.

`SWARM_NATS_URL` goes before `url` of `[nats]` in the file `SWARM_CONFIG` names. Every value may instead be put in a file named by
`SWARM_<SECTION>_<NAME>_FILE`; secrets should be. What cannot be used stops the process with the name, the value (but no secret) and what
would do. A process decodes what it is told (`READS`) and leaves the rest at its default, but a name nobody knows is an error for all.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from shared.settings import HttpKey, Section, Settings, SettingsError, read_text, reads, variable

_ROOT = {"verdict.root": "by it it is known whose word counts on who signs verdicts"}

RENAMED: dict[str, str] = {
    "LIVENESS_S": "up.liveness_s",
    "OBSERVATIONS_PER_MINUTE": "http.observations_per_minute",
    "RECALLS_PER_MINUTE": "http.recalls_per_minute",
    "SPAWNS_PER_MINUTE": "swarm.spawns_per_minute",
    "SHARDS": "placement.shards",
    "LEASE_TTL_S": "placement.lease_ttl_s",
    "MAX_ROOTS": "governor.max_roots",
    "MAX_LIFETIME_CHILDREN": "governor.max_lifetime_children",
    "DRAIN_S": "governor.drain_s",
    "DRAIN_PATIENCE_S": "governor.drain_patience_s",
    "GRANT_TTL_S": "governor.grant_ttl_s",
    "RECONCILE_EVERY_S": "governor.reconcile_every_s",
    "ENVIRONMENT": "policy.environment",
    "FOUR_EYES": "approval.four_eyes",
    "HTTP_ALLOW": "outbound.allow",
    "HTTP_ALLOW_PRIVATE": "outbound.allow_private",
}
"""Names of the environment that are no more, and the settings they were. Whoever reads the setting refuses the old name."""


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One setting: where it is, its annotated type, its default, and whether it is never shown."""

    key: str
    type: Any
    default: object
    secret: bool

    @property
    def variable(self) -> str:
        return variable(self.key)

    @property
    def has_file(self) -> bool:
        """Whether the value may be in a file of its own, by `SWARM_…_FILE`."""
        return f"{self.key}_file" not in KEYS


def _keys(section: type[Section], prefix: str = "") -> Iterator[Key]:
    hints = get_type_hints(section, include_extras=True)
    for field in msgspec.structs.fields(section):
        kind, name = hints[field.name], prefix + field.encode_name
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from _keys(kind, f"{name}.")
        else:
            secret = "secret" in getattr(kind, "__metadata__", ()) or kind == tuple[HttpKey, ...]
            yield Key(key=name, type=kind, default=field.default, secret=secret)


KEYS: dict[str, Key] = {key.key: key for key in _keys(Settings)}
"""Every setting by its key."""
VARIABLES: dict[str, str] = {
    **{key.variable: name for name, key in KEYS.items()},
    **{f"{key.variable}_FILE": name for name, key in KEYS.items() if key.has_file},
}
"""The setting of every name it has in the environment."""


def load(environ: Mapping[str, str] | None = None, *, process: str | None = None, complete: bool = True) -> Settings:
    """What `process` is told (None: everything) from the environment and the file it names.

    Raises `SettingsError`; with `complete` also when something is not set that the process cannot do without.
    """
    env = os.environ if environ is None else environ
    told = {name: key for name, key in KEYS.items() if process is None or reads(process, name)}
    for old in outdated(env):
        if RENAMED[old] in told:
            raise SettingsError(no_more(old))
    values = from_file(env)
    root: dict[str, Any] = {}
    for name, key in told.items():
        if (value := given(key, env, values.get(name))) is None:
            continue
        *section, last = name.split(".")
        (root.setdefault(section[0], {}) if section else root)[last] = value
    settings = msgspec.convert(root, Settings, strict=False)
    if settings.http.keys_file:
        http = msgspec.structs.replace(settings.http, keys=_http_keys(settings.http.keys_file))
        settings = msgspec.structs.replace(settings, http=http)
    _validate(settings)
    if complete and process is not None and (lacking := missing(process, settings)):
        raise SettingsError(lacking[0])
    return settings


def missing(process: str, settings: Settings) -> list[str]:
    """What a process cannot do without and was not told, in sentences."""
    wanted = {
        "policy_gate": {
            **({} if settings.verdict.seed else {"verdict.seed_file": "the gate signs its verdicts with a seed in it"}),
            **_ROOT,
        },
        "actuator": _ROOT,
        "memory_compactor": {"s3.endpoint": "it is the host:port of an S3 store; snapshots need one"},
        "bucket": {
            "s3.endpoint": "it is where the MinIO is",
            "s3.access_key": "it is the store's root, who makes users",
            "s3.secret_key": "it is the root's",
        },
        "persona_runner": dict.fromkeys(
            ("model.url", "model.name") if settings.thinker == "model" else (), "SWARM_THINKER=model needs it"
        ),
    }
    return [
        f"{variable(key)}{'_FILE' if KEYS[key].secret else ''} is not set; {why}"
        for key, why in wanted.get(process, {}).items()
        if not attrgetter(key)(settings)
    ]


def from_file(env: Mapping[str, str]) -> dict[str, object]:
    """The values of the file `SWARM_CONFIG` names, by key. Raises `SettingsError`, also for a name that is no setting."""
    if not (config := env.get("SWARM_CONFIG")):
        return {}
    try:
        return dict(_flat(tomllib.loads(read_text("SWARM_CONFIG", config))))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"SWARM_CONFIG={config}: {error}") from error
    except SettingsError as error:
        raise error if str(error).startswith("SWARM_") else SettingsError(f"SWARM_CONFIG={config}: {error}") from None


def _flat(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        key = prefix + name
        if key in KEYS:
            yield key, value
        elif isinstance(value, dict) and any(known.startswith(f"{key}.") for known in KEYS):
            yield from _flat(value, f"{key}.")
        else:
            raise SettingsError(f"there is no setting {key!r}{_instead(key)}; docs/settings.md has all of them")


def _instead(key: str) -> str:
    """Where the setting is now that stood at the top once."""
    now = RENAMED.get(key.upper()) or next((known for known in KEYS if known.replace(".", "_") == key), None)
    if now is None:
        return ""
    section, _, name = now.rpartition(".")
    return f", it is {name!r} of [{section}]"


def outdated(env: Mapping[str, str]) -> list[str]:
    """Names of `RENAMED` that are in the environment."""
    return [name for name in RENAMED if f"SWARM_{name}" in env or f"SWARM_{name}_FILE" in env]


def no_more(old: str) -> str:
    """What is said of a name of `RENAMED`."""
    return f"SWARM_{old} is no more: it is {variable(RENAMED[old])} now"


def given(key: Key, env: Mapping[str, str], default: object) -> object:
    """The value as the environment has it, or `default`, which is the file's, or None. Raises `SettingsError` where it does not fit."""
    named, value = f"{key.variable}_FILE", default
    if key.variable in env:
        value = (
            env[key.variable].strip() if key.secret else env[key.variable]
        )  # as from a file, where it ends with a line
    elif named in env and key.has_file:
        value = read_text(named, env[named])
    if value is not None:
        _fits(key, value)
    return value


def _fits(key: Key, value: object) -> None:
    """Raises `SettingsError`, which shows no value where a secret may have been meant."""
    try:
        msgspec.convert(value, key.type, strict=False)
    except msgspec.ValidationError as error:
        shown = key.variable if key.secret or key.type is str else f"{key.variable}={value!r}"
        wanted = re.sub(r", got `\w+`", "", str(error))
        raise SettingsError(f"{shown}: {wanted}; see {key.key} in docs/settings.md") from error


def _http_keys(path: str) -> tuple[HttpKey, ...]:
    class File(msgspec.Struct):
        keys: tuple[HttpKey, ...] = ()

    try:
        return msgspec.convert(tomllib.loads(read_text("SWARM_HTTP_KEYS_FILE", path)), File).keys
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
    for what in ("tokens_per_minute", "compute_ms_per_minute", "actions_per_minute"):
        if getattr(settings.swarm, what) > getattr(settings.global_, what):
            raise SettingsError(
                f"{variable(f'swarm.{what}')} is above {variable(f'global.{what}')}; lower it or raise the global one"
            )
    if settings.kill_switch.file and not Path(settings.kill_switch.file).is_absolute():
        raise SettingsError(
            f"SWARM_KILL_SWITCH_FILE={settings.kill_switch.file!r}: each service would look in its own folder; write the whole path"
        )
    if settings.thinker not in ("rules", "model"):
        raise SettingsError(f"SWARM_THINKER={settings.thinker!r}: it is 'rules' or 'model'")
