"""What of an environment and its file a process lacks, cannot use, or never looks at. Reads what they name, asks nobody."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from shared.configuration import KEYS, RENAMED, VARIABLES, from_file, given, load, missing, no_more, outdated
from shared.settings import SettingsError, reads

OTHERS = ("SWARM_CONFIG", "SWARM_DATA", "SWARM_URL", "SWARM_TOKEN", "SWARM_NATS_CONTEXT")
"""Names that are no settings: where the file is, and what the commands take."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """`process` is a service, or what else has a row in `READS`; "" for what nobody reads. Only what is unused is no mistake for sure."""

    process: str
    kind: Literal["missing", "wrong", "unused"]
    said: str


def examine(env: Mapping[str, str], processes: tuple[str, ...]) -> list[Finding]:
    """What each would say of its own settings, and what none of them reads."""
    found = [finding for process in processes for finding in _of(process, env)]
    return found + [Finding(process="", kind="unused", said=said) for said in _unused(env, processes)]


def _of(process: str, env: Mapping[str, str]) -> Iterator[Finding]:
    wrong = [no_more(old) for old in outdated(env) if reads(process, RENAMED[old])]
    values: dict[str, object] = {}
    try:
        values = from_file(env)
    except SettingsError as error:
        wrong.append(str(error))
    for name, key in KEYS.items():
        try:
            if reads(process, name):
                given(key, env, values.get(name))
        except SettingsError as error:
            wrong.append(str(error))
    yield from (Finding(process=process, kind="wrong", said=said) for said in wrong)
    if not wrong:
        yield from _whole(process, env)


def _whole(process: str, env: Mapping[str, str]) -> Iterator[Finding]:
    """What is wrong with values that are good each by itself, and what is not there."""
    try:
        for said in missing(process, load(env, process=process, complete=False)):
            yield Finding(process=process, kind="missing", said=said)
    except SettingsError as error:
        yield Finding(process=process, kind="wrong", said=str(error))


def _unused(env: Mapping[str, str], processes: tuple[str, ...]) -> Iterator[str]:
    for name in sorted(env):
        if not name.startswith("SWARM_") or name in OTHERS or name.removesuffix("_FILE")[6:] in RENAMED:
            continue
        if (key := VARIABLES.get(name)) is None:
            near = difflib.get_close_matches(name, VARIABLES, n=1)
            yield f"{name} is no setting{f'; is it {near[0]}?' if near else ''}"
        elif name == f"{KEYS[key].variable}_FILE" and KEYS[key].variable in env:
            yield f"{name} is not read, for {KEYS[key].variable} is set too"
        elif not any(reads(process, key) for process in processes):
            yield f"{name} is not read by {', '.join(processes)}"
