"""`docs/settings.md`, made of `shared/settings.py`; `main` writes or compares it (`scripts/gen`)."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from shared import settings as source
from shared.configuration import KEYS, RENAMED, Key
from shared.contracts.services import SERVICES
from shared.settings import READS, Settings, reads, variable

PAGE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
HEAD = """# Settings

Written by `scripts/gen` from `shared/settings.py`: change it there.

A process reads a TOML file, which `SWARM_CONFIG` names (`--config` of `swarm up` and `swarm run`), and its environment, which goes before
the file. A setting `port` of the table `[http]` is `SWARM_HTTP_PORT` in the environment; its value may instead be in a file that
`SWARM_HTTP_PORT_FILE` names, as secrets should be. Lists are separated by commas. A service reads the settings that name it here and no
other, so one file serves all of them: a value that does not fit ends who reads it with exit code 2, and a name in the file that is no
setting ends everybody. Names of the environment that are no settings are passed over, and `swarm config check` tells them.

`swarm config check [--service NAME] [--config FILE]` says what is missing, wrong or read by nobody, before anything starts; it ends with
1 when anything is missing or wrong. `swarm up` sets addresses, keys and secrets of its own, which the check then misses.
"""
UNITS = (
    (r"_ms_per_minute$", "ms a minute"),
    (r"_per_minute$", "a minute"),
    (r"_per_s$", "a second"),
    (r"_s$", "seconds"),
    (r"(^|\.)bytes$", "bytes"),
    (r"_tokens$", "tokens"),
    (r"every_thoughts$", "thoughts"),
    (r"_file$|\.file$", "file"),
    (r"dir$|^workspace$", "folder"),
)


def page() -> str:
    """The whole page."""
    said = _docstrings()
    top = [key for key in KEYS.values() if "." not in key.key]
    parts = [HEAD, "## Every process, without a section\n", *_table(top, said["Settings"])]
    for field in msgspec.structs.fields(Settings):
        own = [key for key in KEYS.values() if key.key.startswith(f"{field.encode_name}.")]
        if own:
            name = type(field.default).__name__
            parts += [f"## `[{field.encode_name}]`\n\n{said[name]['']}\n", *_table(own, said[name])]
    renamed = "\n".join(f"| `SWARM_{old}` | `{variable(key)}` |" for old, key in sorted(RENAMED.items()))
    parts += [
        "## Names that are no more\n\nWho reads the setting refuses the old name.\n",
        f"| Was | Is |\n|---|---|\n{renamed}\n",
    ]
    return "\n".join(parts)


def _table(keys: Sequence[Key], said: Mapping[str, str]) -> list[str]:
    rows = [
        f"| `{name}`<br>`{key.variable}` | {_default(key)} | {_unit(key.key)} | {_readers(key.key)} | {said[name]} |"
        for key in keys
        for name in (key.key.rpartition(".")[2],)
    ]
    return ["| Setting | Default | Unit | Read by | Meaning |\n|---|---|---|---|---|", *rows, ""]


def _default(key: Key) -> str:
    if key.default in ("", ()):
        return "none (secret)" if key.secret else "none"
    text = f"{key.default:g}" if isinstance(key.default, float) else str(key.default)
    return f"`{text.lower() if isinstance(key.default, bool) else text}`"


def _unit(key: str) -> str:
    return next((unit for pattern, unit in UNITS if re.search(pattern, key)), "")


def _readers(key: str) -> str:
    """Who reads it, in few words: the rows of `READS`."""
    readers = [process for process in READS if reads(process, key)]
    if set(SERVICES) <= set(readers):
        return ", ".join(["every service", *(name for name in readers if name not in SERVICES)])
    if len(readers) > len(SERVICES) // 2:
        return f"every service but {', '.join(name for name in SERVICES if name not in readers)}"
    return ", ".join(f"`{name}`" for name in readers)


def _docstrings() -> dict[str, dict[str, str]]:
    """By class: what stands below each field, on one line, and below "" what the class says of itself."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(source)).body:
        if isinstance(node, ast.ClassDef):
            texts = found[node.name] = {"": " ".join((ast.get_docstring(node) or "").split())}
            for field, below in zip(node.body, node.body[1:], strict=False):
                match field, below:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                        texts[name] = " ".join(text.split())
    return found


def main(arguments: Sequence[str], path: Path = PAGE) -> int:
    """Write the page when it differs; with `--check` only say so and exit 1."""
    wanted = page()
    if path.is_file() and path.read_text(encoding="utf-8") == wanted:
        return 0
    if "--check" in arguments:
        sys.stderr.write("docs/settings.md differs from shared/settings.py; run scripts/gen\n")
        return 1
    path.write_text(wanted, encoding="utf-8")
    sys.stdout.write("docs/settings.md\n")
    return 0
