"""Compose files as the tests read them: variables at their defaults, merge keys resolved, an override laid over the first file."""

from __future__ import annotations

import re
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
_VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_]+)(?::-([^}]*))?\}")


class _Loader(yaml.SafeLoader):
    """`!reset` takes away what the first file has, `!override` takes the place of it, as every list but mounts does here."""


_Loader.add_constructor("!reset", lambda loader, node: None)
_Loader.add_constructor("!override", lambda loader, node: loader.construct_sequence(node))


def text(name: str) -> str:
    return (ROOT / name).read_text()


def variables(name: str) -> set[str]:
    """The variables a file asks the environment for."""
    return {found[0] for found in _VARIABLE.findall(text(name))}


def load(name: str) -> dict[str, Any]:
    """One file with the defaults of its variables; the caller's own."""
    return deepcopy(_loaded(name))


@cache
def _loaded(name: str) -> dict[str, Any]:
    filled = _VARIABLE.sub(lambda m: m[2] or "", text(name)).replace("$$", "$")
    loaded = yaml.load(filled, _Loader)
    assert isinstance(loaded, dict)
    return loaded


def over(first: Any, second: Any, key: str = "") -> Any:
    """Compose's merge, as far as these files use it: mappings by key, mounts by target, all else replaced."""
    if key == "volumes" and isinstance(first, list) and isinstance(second, list):
        return list({mount.split(":")[1]: mount for mount in (*first, *second)}.values())
    if not isinstance(first, dict) or not isinstance(second, dict):
        return second
    merged = {**first, **{name: over(first.get(name), value, name) for name, value in second.items()}}
    return {name: value for name, value in merged.items() if value is not None}


def services(*names: str) -> dict[str, dict[str, Any]]:
    """The services of the files, one laid over the other."""
    merged: dict[str, Any] = {}
    for name in names:
        found = load(name).get("services", {})
        for service, row in found.items():
            if row and (base := row.pop("extends", None)):
                found[service] = over(services(base["file"])[base["service"]], row)
        merged = over(merged, found)
    return merged


def command_of(service: dict[str, Any]) -> list[str]:
    """What it is told to run."""
    return [*service.get("entrypoint", []), *service.get("command", [])]


def mounts(service: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    """By target: the source, and whether it is read-only."""
    found = {}
    for mount in service.get("volumes", []):
        source, target, *mode = mount.split(":")
        found[target] = (source, mode == ["ro"])
    return found
