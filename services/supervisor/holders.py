"""`python -m services.supervisor.holders ROOT [UID]`: what each container of a mesh holds, in a folder of its own.

Below ROOT is one folder for each holder, each a volume that only this process sees beside its holder: a service's seed and secrets,
the broker's configuration (public keys only), the API's tokens with the operator. What is there is kept, so running it again
changes nothing; all belongs to UID, with mode 0400 in folders of 0500.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from services.supervisor.keys import ensure_keys, ensure_secret, seed_file, write_private
from shared.broker import BOOTSTRAP, OPERATOR, ROLES, BrokerConfig, render
from shared.configuration import load
from shared.contracts.services import SERVICES

UID = 10001
BROKER, STORE, INDEX, DATA = "nats", "s3", "qdrant", "data"
PEOPLE = {"operator": ("read", "control"), "approver": ("read", "approve")}
"""Tokens of the API that are made, and what they may: who feeds a swarm is not who approves what it proposes."""
HOLDERS = (BROKER, BOOTSTRAP, OPERATOR, STORE, INDEX, *SERVICES)


def deliver(root: Path) -> None:
    """Make what is missing."""
    master = root / "all"
    users = (*ROLES, *(f"{service}-1" for service in SERVICES))
    keys = ensure_keys(master, users)
    core, qdrant = ensure_secret(master / "core-secret", length=32), ensure_secret(master / "qdrant-key", length=24)
    access, secret = ensure_secret(master / "s3-access", length=10), ensure_secret(master / "s3-secret", length=24)
    tokens = {name: ensure_secret(master / f"{name}-token", length=24) for name in PEOPLE}
    broker = BrokerConfig(
        keys=keys,
        store_dir="/data",
        host="0.0.0.0",  # noqa: S104 - in a container of its own
        monitor_host="0.0.0.0",  # noqa: S104
        max_file=load(process="bootstrap").store.bytes,
    )
    held: dict[str, dict[str, str]] = {
        BROKER: {"nats.conf": render(broker)},
        BOOTSTRAP: {"bootstrap.nk": _seed(master, BOOTSTRAP)},
        OPERATOR: {"operator.nk": _seed(master, OPERATOR), **{f"{n}-token": t for n, t in tokens.items()}},
        STORE: {"s3-access": access, "s3-secret": secret},
        INDEX: {"qdrant.yaml": f"service:\n  api_key: {qdrant}\n"},
    }
    for service in SERVICES:
        held[service] = {f"{service}-1.nk": _seed(master, f"{service}-1")}
        if SERVICES[service].trusted:
            held[service]["core-secret"] = core
    held["gateway"]["http-keys.toml"] = "".join(_key(name, tokens[name], PEOPLE[name]) for name in PEOPLE)
    held["memory_compactor"] |= {"s3-access": access, "s3-secret": secret, "qdrant-key": qdrant}
    held["actuator"]["verdict-keys"] = keys["policy_gate-1"]
    for holder, files in held.items():
        (root / holder).mkdir(mode=0o700, exist_ok=True)
        for name, text in files.items():
            write_private(root / holder / name, text)


def give(root: Path, uid: int) -> None:
    """Have every holder's folder belong to `uid`, who may only read it."""
    for holder in HOLDERS:
        for file in (root / holder).iterdir():
            os.chown(file, uid, uid)
            file.chmod(0o400)
        os.chown(root / holder, uid, uid)
        (root / holder).chmod(0o500)


def main() -> None:
    root, uid = Path(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else UID
    deliver(root)
    give(root, uid)
    for volume in sorted((root / DATA).iterdir()) if (root / DATA).exists() else []:
        os.chown(volume, uid, uid)
    print(f"keys of {len(HOLDERS)} holders are in {root}")


def _seed(master: Path, name: str) -> str:
    return seed_file(master, name).read_text()


def _key(principal: str, token: str, scopes: tuple[str, ...]) -> str:
    digest = hashlib.sha256(token.encode()).hexdigest()
    return f'[[keys]]\nsha256 = "{digest}"\nprincipal = "{principal}"\nscopes = {list(scopes)!r}\n'


if __name__ == "__main__":
    main()
