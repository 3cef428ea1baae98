"""The `swarm` command line: what can be said, and what it means. Each command's work is in a file of its own.

What takes long to import (broker, object store, numpy) is imported by the command that needs it: the others answer three times as soon.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from cyclopts import App, CycloptsError, Parameter
from cyclopts.types import ExistingDirectory, ExistingFile
from cyclopts.validators import Number

from services.cli.commands.asking.believed import beliefs
from services.cli.commands.asking.budgets import budget
from services.cli.commands.asking.conflicts import conflicts
from services.cli.commands.asking.halting import halt, resume, sentence
from services.cli.commands.asking.intents import intent
from services.cli.commands.asking.personas import persona
from services.cli.commands.asking.proposals import approve, deny, proposals
from services.cli.commands.asking.questions import actions, answer, propose
from services.cli.commands.asking.why import why
from services.cli.commands.looking.objectives import slo
from services.cli.commands.looking.quotas import Told, lines
from services.cli.commands.running.config import config as config_
from services.cli.observe.command import Wanted, send
from services.cli.observe.sending import MAX_BATCH
from services.cli.terminal.ask import ask, ask_rows, span, wait
from services.cli.terminal.bus import LOCAL, Bus
from services.cli.terminal.output import emit, say, table
from services.cli.terminal.target import FAILED, HERE, NEAR, OK, SWARM, USAGE, Place, Stop, Swarm, Target, Token
from shared.runtime.process.first import ENDED, obey
from shared.settings import listed

if TYPE_CHECKING:
    from services.supervisor.plan import Options

VERSION = "0.1.0"

app = App(
    name="swarm",
    version=VERSION,
    help_format="plaintext",
    help="""Always-on personas that think in bounded loops, and may only propose.

Begin with `swarm run` (a mesh that watches this machine) or `swarm up` (a mesh that waits for you).
Every command takes --json. Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 no mesh can be reached.""",
)
app.command(persona)
app.command(intent)
app.command(conflicts)
app.command(budget)
app.command(config_)
for command in (beliefs, proposals, why, approve, deny, answer, actions, propose, halt, resume, slo):
    app.command(command)
for path in (
    "looking.top:top",
    "running.backup:backup",
    "running.backup:restore",
    "running.keys:keys",
    "running.policies:policy",
    "running.scale:scale",
    "running.tools:mcp",
):
    app.command(f"services.cli.commands.{path}")


def main() -> None:
    """Entry point. Ends the process with the exit code."""
    if sys.argv[1:2] == ["bootstrap"]:
        obey(ENDED)  # it may be the first process of a container, which hears no signal by itself
    if sys.argv[1:2] in ([], ["-h"], ["--help"]):
        for name in app:
            app[name]  # its line in the list of commands is beside it
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a letter the terminal has not is no reason to end
    try:
        code = app(sys.argv[1:], result_action="return_value", exit_on_error=False)
    except (KeyboardInterrupt, BrokenPipeError):
        code = FAILED
    except CycloptsError as error:  # which has told it already
        code = _failed(str(error), USAGE)
    except (Stop, OSError) as error:
        say(f"swarm: {error}")
        code = _failed(str(error), error.code if isinstance(error, Stop) else FAILED)
    sys.exit(code if isinstance(code, int) else OK)


def _failed(why: str, code: int) -> int:
    if "--json" in sys.argv[1:]:
        emit({"error": why, "code": code})
    return code


Port = Annotated[
    int | None,
    Parameter(validator=Number(gte=0, lte=65535), help="Default: the one of the last run, a well-known or a free one."),
]
Runners = Annotated[int, Parameter(validator=Number(gte=1), help="How many persona runners.")]
Serve = Annotated[
    tuple[str, ...],
    Parameter(
        negative="",
        help="One more runner, for these swarms only (alpha,beta); its key reaches no other. Again for each further one.",
    ),
]
Isolate = Annotated[bool, Parameter(negative="", help="No runner serves all swarms: only those of --serve are served.")]
Scale = Annotated[
    tuple[str, ...],
    Parameter(
        negative="", help="SERVICE=N: so many instances of it; again for each service. `swarm scale` changes it later."
    ),
]
Brokers = Annotated[
    Literal[1, 3],
    Parameter(
        help="How many brokers keep the log, each a copy; of three one may be lost. Of a data folder it is said at its first start."
    ),
]
PolicyDir = Annotated[
    ExistingDirectory | None, Parameter(help="Folder of Cedar policies, in place of the built-in ones.")
]
PolicyName = Annotated[
    str | None,
    Parameter(
        name="--policy",
        help="Which policies: observe-only, reports, operator, developer. Default: those of the last run, or reports.",
    ),
]
HttpAllow = Annotated[str, Parameter(help="host:port,… the actuator may ask over HTTP.")]
Config = Annotated[ExistingFile | None, Parameter(help="TOML file of settings for all services.")]
Wait = Annotated[
    float | None,
    Parameter(
        validator=Number(gt=0, lte=1e9),
        help="Give up when nothing has come nearer to being ready for so many seconds. Default: SWARM_UP_WAIT_S, else 60.",
    ),
]


def _options(
    *,
    host: str,
    api_port: int | None,
    nats_port: int | None,
    runners: int,
    sync_always: bool,
    policy: str | None,
    policy_dir: Path | None,
    http_allow: str,
    http_keys: Path | None,
    config: Path | None,
    wait_s: float | None,
    serve: tuple[str, ...] = (),
    isolate: bool = False,
    scale: tuple[str, ...] = (),
    brokers: int = 1,
) -> Options:
    from services.cli.commands.running.scale import counts
    from services.supervisor.plan import Options, scaled

    if isolate and not serve:
        raise Stop(
            "with --isolate every runner serves named swarms: name them, such as --serve alpha,beta --serve gamma"
        )
    if policy and policy_dir:
        raise Stop("--policy names built-in policies, --policy-dir a folder: say one of them", USAGE)
    ports = {name: port for name, port in (("api", api_port), ("nats", nats_port)) if port is not None}
    options = Options(
        host=host,
        ports=ports,
        well_known=True,
        runners=0 if isolate else runners,
        serve=tuple(listed(swarms) for swarms in serve),
        brokers=brokers,
        sync_always=sync_always,
        policy=policy,
        policy_dir=str(policy_dir.resolve()) if policy_dir else None,
        http_allow=http_allow,
        http_keys_file=str(http_keys.resolve()) if http_keys else None,
        config=str(config.resolve()) if config else None,
        ready_timeout_s=wait_s,
    )
    try:
        return scaled(options, counts(scale))
    except ValueError as error:
        raise Stop(str(error), USAGE) from error


@app.command
def up(
    *,
    host: Annotated[
        str, Parameter(help="Address the API listens on; any but loopback needs --http-keys.")
    ] = "127.0.0.1",
    api_port: Port = None,
    nats_port: Port = None,
    runners: Runners = 1,
    serve: Serve = (),
    isolate: Isolate = False,
    brokers: Brokers = 1,
    sync_always: Annotated[bool, Parameter(help="Acknowledge only what is on disk.")] = True,
    policy: PolicyName = None,
    policy_dir: PolicyDir = None,
    http_allow: HttpAllow = "",
    http_keys: Annotated[ExistingFile | None, Parameter(help="TOML file of API keys.")] = None,
    config: Config = None,
    wait_s: Annotated[Wait, Parameter(name="--wait")] = None,
    scale: Scale = (),
    quiet: Annotated[
        bool, Parameter(negative="", help="No process output; it is in <data>/logs all the same.")
    ] = False,
    place: Place = NEAR,
) -> int:
    """Start a whole mesh here and keep it running: broker, object store, all services. Ctrl-C stops it."""
    options = _options(
        host=host,
        api_port=api_port,
        nats_port=nats_port,
        runners=runners,
        serve=serve,
        isolate=isolate,
        sync_always=sync_always,
        policy=policy,
        policy_dir=policy_dir,
        http_allow=http_allow,
        http_keys=http_keys,
        config=config,
        wait_s=wait_s,
        scale=scale,
        brokers=brokers,
    )
    from services.cli.commands.running.up import up as keep

    return wait(keep(place.data, options, as_json=place.json, quiet=quiet))


@app.command
def run(
    *,
    observe: Annotated[
        tuple[Path, ...], Parameter(negative="", help="Watch these files instead of this machine.")
    ] = (),
    for_: Annotated[str | None, Parameter(name="--for", help="End after this long, such as 60s or 5m.")] = None,
    report: Annotated[bool, Parameter(negative="", help="At the end, say what it amounted to.")] = False,
    demo: Annotated[
        Literal["swarms"] | None,
        Parameter(
            help="Show two swarms on two logs (or on two of --observe): an intent over both, a conflict, one report."
        ),
    ] = None,
    swarm: Swarm = SWARM,
    interval: Annotated[str, Parameter(help="Time between two readings of this machine.")] = "2s",
    loop_interval: Annotated[str, Parameter(help="Least time between two thoughts of one persona.")] = "1s",
    runners: Runners = 1,
    api_port: Port = None,
    nats_port: Port = None,
    policy: PolicyName = None,
    policy_dir: PolicyDir = None,
    http_allow: HttpAllow = "",
    config: Config = None,
    wait_s: Annotated[Wait, Parameter(name="--wait")] = None,
    token: Token = None,
    place: Place = NEAR,
) -> int:
    """The whole thing at work: start a mesh, perceive this machine (or files), show what it thinks, proposes and does."""
    options = _options(
        host="127.0.0.1",
        api_port=api_port,
        nats_port=nats_port,
        runners=runners,
        sync_always=True,
        policy=policy,
        policy_dir=policy_dir,
        http_allow=http_allow,
        http_keys=None,
        config=config,
        wait_s=wait_s,
    )
    missing = [str(file) for file in observe if not file.is_file()]
    if missing:
        raise Stop(f"{missing[0]} is not a file", USAGE)
    loop_interval_ms = max(100, round(span(loop_interval) * 1000))
    target = Target(data=place.data, json=place.json, token=token)
    if demo is not None:
        from services.cli.commands.running import demo as demo_

        if len(observe) not in (0, 2):
            raise Stop("the demonstration of two swarms observes two logs: say --observe twice, or not at all", USAGE)
        return wait(demo_.swarms(demo_.fresh(target), options, observe, loop_interval_ms))
    from services.cli.commands.running import run as run_

    return wait(
        run_.run(
            target,
            options,
            files=observe,
            swarm=swarm,
            for_s=None if for_ is None else span(for_),
            interval_s=span(interval),
            loop_interval_ms=loop_interval_ms,
            report=report,
        )
    )


@app.command
def start(
    *,
    loop_interval: Annotated[str, Parameter(help="Least time between two thoughts of one persona.")] = "2s",
    target: Target = HERE,
) -> int:
    """Have the mesh think; where nobody lives yet, a first persona is made. Until stopped, also over restarts."""
    answer = ask(
        target, "POST", "/v1/cognition/start", {"loop_interval_ms": max(100, round(span(loop_interval) * 1000))}
    )
    return _told(target, answer, f"thinking, {answer.get('persona_count')} persona(s)")


@app.command
def stop(*, reason: Annotated[str, Parameter(help="Why, for the log.")] = "", target: Target = HERE) -> int:
    """Have the mesh stop thinking. What was proposed is still decided; nothing is lost."""
    answer = ask(target, "POST", "/v1/cognition/stop", {"reason": reason})
    return _told(target, answer, "not thinking; `swarm start` goes on")


def _told(target: Target, answer: dict[str, object], line: str) -> int:
    if target.json:
        emit(answer)
    else:
        print(line)
    return OK


@app.command
def status(*, target: Target = HERE) -> int:
    """Is the mesh up, does it think, and how many personas are there?"""
    state = ask(target, "GET", "/v1/cognition/status")
    refused = [row for row in ask_rows(target, "/v1/quotas", {}) if row.get("refused")]
    actions = ask(target, "GET", "/v1/halt")
    record = target.record if target.url is None else None
    if target.json:
        emit({"cognition": state, "api_url": target.api_url, "mesh": record, "refused": refused, "actions": actions})
        return OK
    rows = [{"what": key.replace("_", " "), "value": value} for key, value in state.items()]
    rows.append({"what": "actions", "value": sentence(actions) if actions["halted"] else "go on"})
    rows.append({"what": "api", "value": target.api_url})
    rows += [{"what": "refused", "value": line} for line in lines(msgspec.convert(refused, list[Told], strict=False))]
    if record is not None:
        restarts = sum(record.restarts.values())
        rows += [
            {"what": "nats", "value": record.nats_url},
            {"what": "data", "value": record.data},
            {"what": "processes", "value": f"{len(record.processes)}, {restarts} restarts"},
        ]
    table(rows, {"what": "", "value": ""}, nothing="")
    return OK


@app.command
def tap(
    subject: Annotated[str, Parameter(help="NATS subject filter, such as 'proposal.>' or '*.*.alpha.>'.")] = ">",
    *,
    since: Annotated[str | None, Parameter(help="Begin this long ago (5m) or at a time; default: now.")] = None,
    count: Annotated[int | None, Parameter(validator=Number(gte=1), help="End after so many events.")] = None,
    bus: Bus = LOCAL,
    target: Target = HERE,
) -> int:
    """Print the mesh's events from its log as they come."""
    from services.cli.commands.looking import tap as tap_

    wait(tap_.tap(target, bus, subject, since=since, count=count))
    return OK


@app.command
def observe(
    what: Annotated[
        str,
        Parameter(
            allow_leading_hyphen=True,
            help="A file (plain or .gz), a pipe such as <(command), '-' for stdin, or 'host' for this machine.",
        ),
    ],
    *,
    follow: Annotated[
        bool,
        Parameter(negative="", help="Go on as the file grows, over rotation too; started again, where it was."),
    ] = False,
    new_only: Annotated[
        bool, Parameter(negative="", help="With --follow, the first time: only what is added from now on.")
    ] = False,
    again: Annotated[bool, Parameter(negative="", help="With --follow: forget where it was, and begin anew.")] = False,
    source: Annotated[
        str | None, Parameter(help="What the observations say they are from; default: the file's name.")
    ] = None,
    encoding: Annotated[
        str | None, Parameter(help="Such as latin-1 or utf-16; default: by byte order mark, else UTF-8.")
    ] = None,
    swarm: Swarm = SWARM,
    batch: Annotated[int, Parameter(help=f"Most observations in one request, up to {MAX_BATCH}.")] = MAX_BATCH,
    interval: Annotated[str, Parameter(help="With host: time between two readings.")] = "5s",
    tag: Annotated[tuple[str, ...], Parameter(negative="", help="Put on every observation; may be repeated.")] = (),
    target: Target = HERE,
) -> int:
    """Give a swarm something to think about: a log file line by line, or this machine's vital signs."""
    wanted = Wanted(what, swarm, source, encoding, follow, new_only, again, batch, tag, span(interval))
    sent = wait(send(target, wanted))
    if target.json:
        emit({"sent": sent, "source": wanted.source, "swarm": swarm})
    else:
        say(f"{sent} observations from {wanted.source} are in {swarm}")
    return OK


@app.command
def bootstrap(
    *,
    nats_url: Annotated[str | None, Parameter(help="Default: SWARM_NATS_URL, or the file's.")] = None,
    nats_seed: Annotated[Path | None, Parameter(help="Key file of the user bootstrap; default: as set.")] = None,
    config: Config = None,
    wait_s: Annotated[
        float | None,
        Parameter(name="--wait", validator=Number(gt=0), help="Patience for the broker, in s. Default: 60."),
    ] = None,
) -> int:
    """Declare the streams on a broker, and say in the log who signs verdicts, as often as one likes.

    Exit codes: 1 refused, 2 settings, 3 no broker that knows the key in time, 143 ended by a signal.
    """
    from services.supervisor import declaring

    told = {
        **({"SWARM_NATS_URL": nats_url} if nats_url else {}),
        **({"SWARM_NATS_SEED_FILE": str(nats_seed)} if nats_seed else {}),
        **({"SWARM_CONFIG": str(config)} if config else {}),
    }
    return declaring.main({**os.environ, **told}, wait_s=declaring.WAIT_S if wait_s is None else wait_s)


@app.command
def doctor(*, bus: Bus = LOCAL, target: Target = HERE) -> int:
    """Look for what is missing or wrong: binaries, ports, disk, processes, durability, streams, clock.

    With --url, --nats-url or --nats-context: of a mesh elsewhere, as far as its API and its broker tell.
    """
    from services.cli.commands.looking import doctor as doctor_
    from services.cli.commands.looking import far as far_

    far = target.url is not None or bus.named
    checks = wait(far_.examine(target, bus) if far else doctor_.examine(target))
    if target.json:
        emit(checks)
    else:
        word = {True: "ok", False: "FAIL", None: "-"}
        rows = [{"state": word[c.ok], "name": c.name, "detail": c.detail} for c in checks]
        table(rows, {"state": "", "name": "", "detail": ""}, nothing="")
    return FAILED if any(c.ok is False for c in checks) else OK


if __name__ == "__main__":
    main()
