"""`swarm config check`: what this environment and file would do to each service, before any of them starts."""

from __future__ import annotations

import os
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.types import ExistingFile
from msgspec import to_builtins

from services.cli.terminal.output import emit, table
from services.cli.terminal.target import FAILED, OK, USAGE, Stop
from shared.config_check import examine
from shared.contracts.services import SERVICES
from shared.settings import READS

config = App(name="config", help="Look at settings.")


@config.command
def check(
    *,
    service: Annotated[
        tuple[str, ...], Parameter(negative="", help="Only this one; may be repeated. Default: every service.")
    ] = (),
    file: Annotated[
        ExistingFile | None, Parameter(name="--config", help="TOML file of settings; default: SWARM_CONFIG.")
    ] = None,
    json: Annotated[bool, Parameter(negative="", help="Print JSON instead of text.")] = False,
) -> int:
    """Say what is missing, wrong or unused in this environment and its file; 1 when anything is missing or wrong.

    Each service is looked at as if it were started from here by itself: `swarm up` sets addresses, keys and secrets of its own.
    """
    if unknown := [name for name in service if name not in READS]:
        raise Stop(f"there is no service {unknown[0]!r}; there are {', '.join(READS)}", USAGE)
    env = {**os.environ, **({"SWARM_CONFIG": str(file)} if file else {})}
    found = examine(env, service or tuple(SERVICES))
    if json:
        emit(found)
    else:
        rows = [to_builtins(finding) for finding in found]
        table(rows, {"kind": "", "process": "", "said": ""}, nothing="nothing is missing, wrong or unused")
    return FAILED if any(finding.kind != "unused" for finding in found) else OK
