"""`swarm policy`: which policies there are, whether one is good, what it says, and which a mesh of this machine goes by."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from services.cli.terminal.ask import ask
from services.cli.terminal.output import emit, safe, say, table
from services.cli.terminal.target import FAILED, HERE, NEAR, OK, USAGE, Place, Stop, Target
from services.supervisor.policies import ACTIVE, SHADOW, point
from shared.policy.bundle import DEFAULT, BadBundle, Bundle, about, found, names, read_folder, version_of
from shared.policy.types import PolicyRequest

policy = App(name="policy", help="List, show, check, try and pick the policies that decide what personas may do.")
Reason = Annotated[str, Parameter(help="Why, for the log; over --url.")]
Which = Annotated[str, Parameter(help="Name of built-in policies (`swarm policy list`), or a folder.")]


@policy.command(name="list")
def list_(*, place: Place = NEAR) -> int:
    """The built-in policies, and which of them the mesh of --data goes by."""
    picked = {name: (place.data / link).resolve() for name, link in (("active", ACTIVE), ("shadow", SHADOW))}
    rows = [
        {
            "name": name,
            "version": version_of(read_folder(found(name))),
            "about": about(found(name)),
            "is": ", ".join(is_ for is_, folder in picked.items() if folder == found(name).resolve()),
        }
        for name in names()
    ]
    if place.json:
        emit(rows)
    else:
        shown = [{**row, "version": row["version"][:12]} for row in rows]
        table(shown, {"name": "NAME", "is": "HERE", "version": "VERSION", "about": "WHAT"}, nothing="")
    return OK


@policy.command
def show(
    which: Which = DEFAULT,
    *,
    to: Annotated[Path | None, Parameter(help="Copy it there instead, to be changed; the folder must be new.")] = None,
    place: Place = NEAR,
) -> int:
    """Print the policies as they are written, or copy them."""
    contents = read_folder(_found(which))
    if to is not None:
        try:
            to.mkdir(parents=True)
        except FileExistsError:
            raise Stop(f"{to} is there already", USAGE) from None
        for name, content in contents.items():
            (to / name).write_bytes(content)
        say(
            f"{to} has {', '.join(sorted(contents))}; add a golden decision for what you change, and `swarm policy check`"
        )
        return OK
    texts = {name: content.decode() for name, content in sorted(contents.items()) if not name.endswith(".json")}
    if place.json:
        emit(texts)
    else:
        for name, text in texts.items():
            say(f"// == {name}\n{text}")
    return OK


@policy.command
def check(which: Which, *, place: Place = NEAR) -> int:
    """Validate policies and prove them by their golden decisions, as the gate does before it goes by them."""
    bundle = _loaded(which)
    if place.json:
        emit({"version": bundle.version, "golden": bundle.golden, "revokes": bundle.revokes})
    else:
        say(f"good: version {bundle.version[:12]}, {bundle.golden} golden decisions")
    return OK


@policy.command(name="test")
def try_(
    which: Which,
    request: Annotated[str, Parameter(help="File of the request, as `request` in golden.json; - for stdin.")],
    *,
    place: Place = NEAR,
) -> int:
    """What the policies say of one request. Exit code 1: no."""
    text = sys.stdin.read() if request == "-" else Path(request).read_text()
    try:
        asked = msgspec.json.decode(text, type=PolicyRequest)
    except msgspec.MsgspecError as error:
        raise Stop(f"{request}: {error}", USAGE) from error
    decision = _loaded(which).decide(asked)
    if place.json:
        emit(msgspec.to_builtins(decision))
    else:
        by = f" by {', '.join(decision.policy_ids)}" if decision.policy_ids else ""
        say(f"{decision.reason}{by}" + "".join(f"\n{error}" for error in decision.errors))
    return OK if decision.allow else FAILED


@policy.command
def activate(which: Which, *, reason: Reason = "", target: Target = HERE) -> int:
    """The mesh of --data, or at --url, goes by these policies from now on, within 5 s, also after a restart. Over --url these are built-in
    policies, or the version of some that were in force, and the key must be one that may do everything."""
    return _say(target, "activate", which, reason) if target.url else _pick(target, ACTIVE, which)


@policy.command
def shadow(
    which: Annotated[str | None, Parameter(help="Name or folder of policies; none: no longer.")] = None,
    *,
    reason: Reason = "",
    target: Target = HERE,
) -> int:
    """These policies are asked beside those in force: the gate's log and `swarm_policy_shadow_total` tell how they differ."""
    return _say(target, "shadow", which, reason) if target.url else _pick(target, SHADOW, which)


def _say(target: Target, what: str, which: str | None, reason: str) -> int:
    """Over HTTP, to whichever mesh that is."""
    state = ask(target, "POST", f"/v1/policies/{what}", {"policy": which, "reason": reason})
    if target.json:
        emit(state)
    elif what == "activate":
        say(f"{safe(which or '')} is picked; the gates go by it within 5 s, once they have proved it")
    else:
        say(f"the shadow is {safe(which or 'gone')}; the gates follow within 5 s")
    return OK


def _pick(place: Place, link: str, which: str | None) -> int:
    if which is not None:
        _loaded(which)
    if not (place.data / ACTIVE).is_symlink():
        raise Stop(
            f"{place.data} goes by no policies that can be picked here: a mesh that was started with --policy-dir or settings has its own"
        )
    point(place.data / link, None if which is None else _found(which))
    say(f"{place.data / link} is {which or 'gone'}; the gate follows within 5 s")
    return OK


def _found(which: str) -> Path:
    try:
        return found(which)
    except BadBundle as error:
        raise Stop(str(error), USAGE) from error


def _loaded(which: str) -> Bundle:
    try:
        return Bundle.load(_found(which))
    except BadBundle as error:
        raise Stop(str(error)) from error
