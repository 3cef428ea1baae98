"""`python -m services.supervisor.holders ROOT [UID]`: what each container of a mesh holds, in a folder of its own.

Below ROOT is one folder for each holder (`keyring.py`), each a volume that only this process sees beside its holder; here also the API's
tokens with the operator. A runner that serves some swarms only, by SWARM_PLACEMENT_GROUPS, is a holder by itself: the folder of its name
has the one seed that lets it, and the other runners' has not. What is there is kept, so running it again changes nothing. Run by root
all belongs to UID, with mode 0400 in folders of 0500; else to who runs it, and nobody else may read it.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from services.supervisor.secrets import keyring
from services.supervisor.secrets.keyring import BROKER, BUCKET, INDEX, STORE, VERDICT
from services.supervisor.secrets.keys import ensure_secret, private_folder, seed_file, write_private
from shared.broker import BOOTSTRAP, OPERATOR, ROLES, SYSTEM, BrokerConfig
from shared.cluster import block
from shared.configuration import load
from shared.contracts.services import SERVICES
from shared.placement import groups_of
from shared.settings import SettingsError

UID = 10001
DATA, RUNNER = "data", "persona_runner"
BROKERS, ROUTES = ("nats", "nats-2", "nats-3"), 6222
"""The brokers of compose.cluster.yaml, and the port they find each other on."""
PEOPLE = {"operator": ("read", "control"), "approver": ("read", "approve")}
"""Tokens of the API that are made, and what they may: who feeds a swarm is not who approves what it proposes."""
HOLDERS = (BROKER, BOOTSTRAP, OPERATOR, SYSTEM, STORE, BUCKET, INDEX, VERDICT, *SERVICES)


def deliver(root: Path) -> tuple[str, ...]:
    """Make what is missing, as the settings of this process say; who holds a folder of it. Raises `SettingsError`."""
    settings = load(process="keys")
    serves = _serves(settings.placement.groups)
    for runner in serves:
        _copy(_own_seed(root, runner), seed_file(root, runner))
    keys = keyring.make(root, (*ROLES, *keyring.slots()))
    keyring.configure(
        root,
        BrokerConfig(
            keys=keys,
            serves=serves,
            store_dir="/data",
            host="0.0.0.0",  # noqa: S104 - in a container of its own
            monitor_host="0.0.0.0",  # noqa: S104
            max_file=settings.store.bytes,
        ),
    )
    routes = [f"{name}:{ROUTES}" for name in BROKERS]
    cluster = block(f"0.0.0.0:{ROUTES}", routes, keyring.route_password(root))
    # Which of them it is says SERVER_NAME.
    write_private(root / BROKER / "cluster.conf", f"include nats.conf\nserver_name: $SERVER_NAME\n{cluster}")
    api_key = (root / INDEX / "qdrant-key").read_text()
    write_private(root / INDEX / "qdrant.yaml", f"service:\n  api_key: {api_key}\n")
    tokens = {name: ensure_secret(root / OPERATOR / f"{name}-token", length=24) for name in PEOPLE}
    known = "".join(_key(name, tokens[name], PEOPLE[name]) for name in PEOPLE)
    write_private(root / "gateway" / "http-keys.toml", known)
    for runner in serves:  # it is in both for a moment, for it must never be in neither
        _copy(seed_file(root, runner), _own_seed(root, runner))
        seed_file(root, runner).unlink()
    return (*HOLDERS, *serves)


def _serves(groups: str) -> dict[str, tuple[str, ...]]:
    """The swarms of each runner that serves some only."""
    try:
        known = groups_of(groups)
    except ValueError as error:
        raise SettingsError(f"SWARM_PLACEMENT_GROUPS: {error}") from error
    serves = {f"{RUNNER}-{slot[1:]}": swarms for swarms, slots in known.items() for slot in slots}
    if unknown := set(serves) - set(keyring.slots((RUNNER,))):
        raise SettingsError(
            f"SWARM_PLACEMENT_GROUPS: there is no {min(unknown)}; slots are 1 to {SERVICES[RUNNER].slots}"
        )
    return serves


def _own_seed(root: Path, runner: str) -> Path:
    return root / runner / f"{runner}.nk"


def _copy(seed: Path, to: Path) -> None:
    if seed.exists():
        private_folder(to.parent)
        write_private(to, seed.read_text())


def give(root: Path, holders: Iterable[str], uid: int) -> None:
    """Have every holder's folder belong to `uid`, who may only read it."""
    for holder in holders:
        for file in (root / holder).iterdir():
            os.chown(file, uid, uid)
            file.chmod(0o400)
        os.chown(root / holder, uid, uid)
        (root / holder).chmod(0o500)


def main() -> None:
    root, uid = Path(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else UID
    try:
        holders = deliver(root)
    except SettingsError as error:
        sys.exit(f"keys: {error}")
    if os.geteuid() == 0:
        give(root, holders, uid)
        for volume in sorted((root / DATA).iterdir()) if (root / DATA).exists() else []:
            os.chown(volume, uid, uid)
    print(f"keys of {len(holders)} holders are in {root}")


def _key(principal: str, token: str, scopes: tuple[str, ...]) -> str:
    digest = hashlib.sha256(token.encode()).hexdigest()
    return f'[[keys]]\nsha256 = "{digest}"\nprincipal = "{principal}"\nscopes = {list(scopes)!r}\n'


if __name__ == "__main__":
    main()
