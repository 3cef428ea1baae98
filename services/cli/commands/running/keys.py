"""`swarm keys`: who may log in to the broker, and who holds which secret. Nothing is ever shown that is secret."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, TypeVar

from cyclopts import App, Parameter
from cyclopts.validators import Number

from services.cli.terminal import target
from services.cli.terminal.ask import span
from services.cli.terminal.output import emit, say, table
from services.cli.terminal.target import FAILED, OK, USAGE, Stop
from services.supervisor.declaring import said
from services.supervisor.plan import is_broker
from services.supervisor.running.state import identify, read_record
from services.supervisor.secrets import keyring
from services.supervisor.secrets.keyring import KeysError
from services.supervisor.secrets.keys import private_folder, seed_file
from shared.broker import BOOTSTRAP, ROLES, BrokerConfig, inbox_prefix
from shared.contracts.events import SignersChanged
from shared.contracts.ids import utc_now
from shared.crypto import public_key
from shared.log.client.connection import Connection
from shared.log.port import LogUnavailable
from shared.settings import LEAST_STORE_BYTES, STORE_BYTES
from shared.signers import Superseded

keys = App(name="keys", help="Make and change the keys of a mesh and the broker's configuration.")
T = TypeVar("T")
PATIENCE_S = 5.0
"""How long the broker of a mesh that runs is waited for."""
Port = Annotated[int, Parameter(validator=Number(gte=1, lte=65535))]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Place(target.Place):
    """Options every command of `swarm keys` has."""

    keys: Annotated[Path | None, Parameter(help="Folder of the keys; default: keys in the data folder.")] = None

    @property
    def root(self) -> Path:
        return (self.keys or self.data / "keys").resolve()


HERE = Place()
Reload = Annotated[bool, Parameter(negative="", help="Have the broker of the mesh in --data read it now.")]


@keys.command
def init(
    *,
    store_dir: Annotated[str, Parameter(help="Where the broker stores, as it sees it.")] = "/data",
    host: Annotated[str, Parameter(help="Address the broker listens on.")] = "0.0.0.0",  # noqa: S104 - as told
    port: Port = 4222,
    monitor_host: Annotated[str, Parameter(help="Address of its monitoring pages, which ask nobody for a key.")] = (
        "127.0.0.1"
    ),
    monitor_port: Port = 8222,
    store_bytes: Annotated[int, Parameter(validator=Number(gte=LEAST_STORE_BYTES))] = STORE_BYTES,
    sync_always: Annotated[bool, Parameter(help="Acknowledge only what is on disk.")] = True,
    place: Place = HERE,
) -> int:
    """Make what is missing: a folder for each holder, a key for every slot of every service, and the broker's configuration.

    What is there is kept, so it may be run again. Give each holder its own folder and no other.
    """
    if (record := read_record(place.data)) is not None and record.runs and place.keys is None:
        raise Stop(f"the mesh in {place.data} runs and has its keys; `swarm keys add` makes more")
    private_folder(place.root)
    made = keyring.make(place.root, (*ROLES, *keyring.slots()))
    config = keyring.configure(
        place.root,
        BrokerConfig(
            keys=made,
            store_dir=store_dir,
            host=host,
            port=port,
            monitor_host=monitor_host,
            monitor_port=monitor_port,
            max_file=store_bytes,
            sync_always=sync_always,
        ),
    )
    told = {"keys": str(place.root), "broker": str(config), "users": len(made)}
    if place.json:
        emit(told)
    else:
        print(f"keys of {told['users']} users are in {told['keys']}; start the broker with `nats-server -c {config}`")
    return OK


@keys.command
def show(*, place: Place = HERE) -> int:
    """Who holds which key: public keys only, and what is wrong with a file (1 when anything is)."""
    known = _done(lambda: keyring.configured(place.root))
    retiring, rows = known.retiring, []
    for name in known.keys:
        file = seed_file(place.root, name)
        said = f"rotating, {retiring[name]} is let in too" if name in retiring else ""
        rows.append({"name": name, "public": public_key(file.read_text()), "file": str(file), "note": said})
    word = _done(lambda: keyring.signers(place.root))
    for signer in word.signers:
        note = f"good until {signer.until:%Y-%m-%d %H:%M:%S} UTC" if signer.until else ""
        held = str(keyring.seeds_file(place.root))
        rows.append({"name": keyring.VERDICT, "public": signer.key, "file": held, "note": note})
    open_files = [file for file in place.root.glob("*/*") if file.stat().st_mode & 0o077]
    if place.json:
        emit({"keys": rows, "open": [str(file) for file in open_files]})
    else:
        table(rows, {"name": "", "public": "", "file": "", "note": ""}, nothing="there are none")
    for file in open_files:
        say(f"swarm: {file} may be read by others; chmod 600 it")
    return FAILED if open_files else OK


@keys.command
def add(instance: str, *, reload: Reload = False, place: Place = HERE) -> int:
    """Make the key of one more INSTANCE, such as verifier-17, and write the broker's configuration anew."""
    config = _done(lambda: keyring.add(place.root, instance))
    return _told(place, reload, config, f"{instance} has its key, {seed_file(place.root, instance)}")


@keys.command
def rotate(
    name: Annotated[
        str, Parameter(help=f"A user such as verifier-1, '{keyring.VERDICT}', or '{keyring.CORE_SECRET}'.")
    ],
    *,
    end: Annotated[bool, Parameter(negative="", help="The old key of a user is let in no more.")] = False,
    overlap: Annotated[
        str, Parameter(help="How long the old key of verdicts is still good; 0s where it was stolen.")
    ] = "1h",
    reload: Reload = False,
    place: Place = HERE,
) -> int:
    """A new key in place of one: nobody is dropped, for the old one is good until --end, and a verdict's for --overlap.

    A user's: after the first call have the broker reload, then start whoever uses the key anew, then call it with --end and reload again.
    Of verdicts: the log is told, and all go by the log.
    """
    if name == keyring.VERDICT:
        word = _done(lambda: keyring.rotate_verdict(place.root, utc_now(), timedelta(seconds=span(overlap))))
        return _note(place, _heard(place, word, overlap))
    if name == keyring.CORE_SECRET:
        _done(lambda: keyring.rotate_core(place.root))
        return _note(
            place, "start every service anew that is not a runner; until all are, nothing is taken for repeated"
        )
    if end:
        config = _done(lambda: keyring.end(place.root, name))
        return _told(place, reload, config, f"the old key of {name} is good no more")
    config = _done(lambda: keyring.rotate(place.root, name))
    after = f"then start it anew, and `swarm keys rotate {name} --end`"
    return _told(
        place, reload, config, f"{name} has a new key, {seed_file(place.root, name)}; the old one is good too", after
    )


def _heard(place: Place, word: SignersChanged, overlap: str) -> str:
    """Have the mesh of this data folder hear who signs verdicts now; what is to be done, and by whom."""
    record = read_record(place.data)
    made = f"a new key of verdicts is made, number {word.number}; the old one is good for {overlap} from now"
    if place.keys is not None or record is None or not record.runs:
        return (
            f"{made}. Give the gates their folder, then run the bootstrap with its own: the log hears of it, and gates and actuators go by "
            "the log; none is to be started anew that sees its folder as it is"
        )
    try:
        asyncio.run(_say(place.root, record.nats_url, word))
    except (LogUnavailable, Superseded, OSError) as error:
        raise Stop(
            f"{made}. The log has not heard of it ({error}): `swarm bootstrap`, or the next `swarm up`, says it"
        ) from error
    return f"{made}. The log has it, and gates and actuators go by the log: nothing is to be started anew"


async def _say(root: Path, url: str, word: SignersChanged) -> None:
    connection = await Connection.open(
        url,
        name="swarm keys",
        seed_file=seed_file(root, BOOTSTRAP),
        inbox_prefix=inbox_prefix(BOOTSTRAP),
        wait_s=PATIENCE_S,
    )
    try:
        await said(connection, word, replicated="," in url)
    finally:
        await connection.close()


def _done(work: Callable[[], T]) -> T:
    try:
        return work()
    except ValueError as error:
        raise Stop(str(error), USAGE) from error
    except KeysError as error:
        raise Stop(str(error)) from error


def _told(place: Place, reload: bool, config: Path, done: str, after: str = "") -> int:
    """What was done, and how the broker comes to know."""
    record = read_record(place.data)
    ours = record.processes if record is not None and record.runs and place.keys is None else {}
    brokers = [process for name, process in ours.items() if is_broker(name)]
    if reload:
        # One of several that is away just now reads it when it starts again.
        there = [broker for broker in brokers if identify(broker.pid) == broker]
        if not there:
            raise Stop(f"{done}; but no mesh runs in {place.data}, so signal its broker yourself: SIGHUP")
        for broker in there:
            os.kill(broker.pid, signal.SIGHUP)
        then = "the broker reads it now"
    else:
        pids = [str(broker.pid) for broker in brokers] or ["PID"]
        signals = ", ".join(f"`nats-server --signal reload={pid}`" for pid in pids)
        then = f"have the broker read {config}: {signals}, or SIGHUP"
    return _note(place, f"{done}; {then}{f'; {after}' if after else ''}")


def _note(place: Place, said: str) -> int:
    if place.json:
        emit({"said": said})
    else:
        print(said)
    return OK
