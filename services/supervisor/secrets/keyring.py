"""Who holds which secret: below one root a folder for each holder, none of which anybody else need see.

    <root>/<service>/<service>-<n>.nk     seeds of the service's instances, and what its row says it holds:
                     core-secret          CORE; keys dedup ids
                     verdict-seed         the gate's replicas; sign verdicts, and nothing else: the broker's login is another key's
                     verdict-root         public: whose word counts on who signs verdicts
    <root>/verdict/root-seed              signs that word; nobody who runs holds it
    <root>/bootstrap/signers.json         that word, signed: all keys of verdicts, which the bootstrap says in the log
    <root>/s3, qdrant                     the stores' side of the secrets of memory; in s3 also its root's, root-access and root-secret
    <root>/bucket                         root's and memory's, for what makes memory a user of the store
    <root>/bootstrap, operator, sys       seeds of the roles
    <root>/nats/nats.conf, broker.json    the broker's configuration and what it is made of: public keys only
               accounts.conf              who may do what, of that; for a broker whose configuration is somebody else's
               nats-2.conf …, route-password   of a cluster: one file for each broker, and what lets them in to each other

Everything here is made once, kept, and may be run again after a crash between any two files. A rotation overlaps: for a while the
broker lets in old and new seed, and verdicts of both keys are good.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from services.supervisor.secrets.keys import (
    ensure_keys,
    ensure_secret,
    ensure_shared,
    private_folder,
    seed_file,
    write_private,
)
from shared.broker import BOOTSTRAP, BrokerConfig, accounts, render, render_member, service_of
from shared.contracts.events import Signer, SignersChanged
from shared.contracts.ids import EVERYONE
from shared.contracts.services import SERVICES
from shared.crypto import UNSIGNED, is_good, new_seed, public_key, sign_signers
from shared.settings import reads

BROKER, STORE, INDEX, BUCKET = "nats", "s3", "qdrant", "bucket"
VERDICT, CORE_SECRET = "verdict", "core-secret"
VERDICT_ROOT = "verdict-root"
ROOTED = tuple(name for name in SERVICES if reads(name, "verdict.root"))
"""Services that check who signs verdicts."""
MOST_SIGNERS = 16
GATE, ACTUATOR = "policy_gate", "actuator"
SHARED: dict[str, tuple[int, str, tuple[str, ...]]] = {
    CORE_SECRET: (32, "core.secret", ()),
    "s3-access": (10, "s3.access_key", (STORE, BUCKET)),
    "s3-secret": (24, "s3.secret_key", (STORE, BUCKET)),
    "root-access": (10, "", (STORE, BUCKET)),
    "root-secret": (24, "", (STORE, BUCKET)),
    "qdrant-key": (24, "qdrant.api_key", (INDEX,)),
}
"""Random texts by their file: how many bytes, which setting of services they are, and who holds them beside those that are told it."""
LOCAL = (CORE_SECRET, "s3-access", "s3-secret")
"""Those of a mesh with the embedded stores, which have one user: memory."""


class KeysError(Exception):
    """It cannot be done with these keys; the message says why and what to do."""


def holders_of(name: str) -> tuple[str, ...]:
    """Who holds a shared secret."""
    _, setting, beside = SHARED[name]
    return (*beside, *(row.name for row in SERVICES.values() if setting in row.holds))


def slots(services: Iterable[str] = SERVICES) -> tuple[str, ...]:
    """Every instance there may be of these services."""
    return tuple(f"{name}-{n}" for name in services for n in range(1, SERVICES[name].slots + 1))


def make(root: Path, names: Iterable[str], shared: Iterable[str] = SHARED) -> dict[str, str]:
    """Make what is missing for these users and secrets; public nkeys by user."""
    keys = ensure_keys(root, names)
    for name in shared:
        ensure_shared(root, name, holders_of(name), length=SHARED[name][0])
    _ensure_verdict(root)
    return keys


def configure(root: Path, config: BrokerConfig) -> Path:
    """Write the broker's configuration, for the users it names and with the keys they have now; the file."""
    known, keys = _read(root), ensure_keys(root, config.keys)
    retiring = {
        name: key for name, key in (known.retiring if known else {}).items() if keys.get(name) not in (None, key)
    }
    config = msgspec.structs.replace(config, keys=keys, retiring=retiring)
    private_folder(root / BROKER)
    _write(root, config)
    if not config.members:
        write_private(root / BROKER / "nats.conf", render(config))
    for member in config.members:
        write_private(root / BROKER / f"{member.name}.conf", render_member(config, member, route_password(root)))
    write_private(root / BROKER / "accounts.conf", accounts(config))
    return root / BROKER / "nats.conf"


def route_password(root: Path) -> str:
    """What the brokers of a cluster know each other by; it is theirs alone."""
    return ensure_secret(root / BROKER / "route-password", length=24)


def configured(root: Path) -> BrokerConfig:
    """What the broker's configuration is made of. Raises `KeysError` when there is none."""
    config = _read(root)
    if config is None:
        raise KeysError(f"there are no keys of a mesh in {root}; make them with `swarm keys init`, or say --keys")
    return config


def add(root: Path, name: str) -> Path:
    """Make the key of one more instance, and write the broker's configuration anew. Raises `KeysError`, `ValueError`."""
    config = configured(root)
    keys = make(root, [name], _held_by(name))
    return configure(root, msgspec.structs.replace(config, keys={**config.keys, **keys}))


def rotate(root: Path, name: str) -> Path:
    """A new seed for a user; the broker lets in the old one too, until `end`. Raises `KeysError`."""
    config = configured(root)
    if name not in config.keys:
        raise KeysError(f"{name} is no user of this broker; there are {', '.join(config.keys)}")
    now = public_key(seed_file(root, name).read_text())
    if config.retiring.get(name, now) != now:
        configure(root, config)
        raise KeysError(f"{name} is being rotated: once it uses its new seed, `swarm keys rotate {name} --end`")
    # First what is to be remembered: were the seed replaced before, a crash would lock its holder out.
    _write(root, msgspec.structs.replace(config, retiring={**config.retiring, name: now}))
    write_private(seed_file(root, name), new_seed())
    return configure(root, config)


def end(root: Path, name: str) -> Path:
    """The old seed of a user is let in no more. Raises `KeysError`."""
    config = configured(root)
    if name not in config.retiring:
        raise KeysError(f"{name} is not being rotated")
    retiring = {user: key for user, key in config.retiring.items() if user != name}
    _write(root, msgspec.structs.replace(config, retiring=retiring))
    return configure(root, config)


def rotate_verdict(root: Path, now: datetime, overlap: timedelta) -> SignersChanged:
    """A new key for verdicts; what the old ones sign is good for `overlap` more. What is to be said of it; raises `KeysError`.

    The gates have old and new seed, and go by the log: they sign with the new one when that has its key.
    """
    if not (seeds := seeds_file(root)).exists():
        raise KeysError(f"there is no key of verdicts in {root}; make it with `swarm keys init`")
    with _alone(seeds.parent):
        before, fresh, ends = signers(root), new_seed(), now + overlap
        kept = tuple(
            msgspec.structs.replace(signer, until=min(signer.until or ends, ends))
            for signer in before.signers
            if is_good(signer, now) and overlap
        )
        if len(kept) >= MOST_SIGNERS:
            raise KeysError(f"{len(kept)} keys are still good; wait for the first to end, or say --overlap 0s")
        good = {signer.key for signer in kept}
        write_private(seeds, _lines([*(s for s in _listed(seeds) if public_key(s) in good), fresh]))
        return _sign(root, before.number + 1, (*kept, Signer(key=public_key(fresh))))


def signers(root: Path) -> SignersChanged:
    """Who signs verdicts, by these keys. Raises `KeysError`."""
    try:
        return msgspec.json.decode((root / BOOTSTRAP / "signers.json").read_bytes(), type=SignersChanged)
    except (OSError, msgspec.MsgspecError) as error:
        raise KeysError(f"there is no key of verdicts in {root} ({error}); make it with `swarm keys init`") from error


def seeds_file(root: Path) -> Path:
    """The gates' seeds, one a line, the newest last."""
    return root / GATE / "verdict-seed"


def rotate_core(root: Path) -> None:
    """A new secret of all CORE: the first holder's is the true one, and everybody else's follows it."""
    length, first = SHARED[CORE_SECRET][0], holders_of(CORE_SECRET)[0]
    write_private(root / first / CORE_SECRET, secrets.token_hex(length))
    ensure_shared(root, CORE_SECRET, holders_of(CORE_SECRET), length=length)


def _held_by(name: str) -> tuple[str, ...]:
    return tuple(secret for secret in SHARED if service_of(name) in holders_of(secret))


def _ensure_verdict(root: Path) -> None:
    seeds, first = seeds_file(root), root / VERDICT / "root-seed"
    for folder in (GATE, BOOTSTRAP, VERDICT, *ROOTED):
        private_folder(root / folder)
    for file in (seeds, first):
        if not file.exists():
            write_private(file, _lines([new_seed()]))
    public = public_key(first.read_text())
    for holder in ROOTED:
        if not (file := root / holder / VERDICT_ROOT).exists() or file.read_text() != public:
            write_private(file, public)
    try:
        known = signers(root)
    except KeysError:
        _sign(root, 1, (*_of_before(root), Signer(key=public_key(_listed(seeds)[-1]))))
    else:
        if known.root != public:
            _sign(root, known.number, known.signers)
    for before in (root / ACTUATOR / "verdict-keys", root / GATE / "verdict-seed.next"):
        before.unlink(missing_ok=True)


def _sign(root: Path, number: int, keys: tuple[Signer, ...]) -> SignersChanged:
    draft = SignersChanged(swarm=EVERYONE, persona=EVERYONE, number=number, signers=keys, root="", signature=UNSIGNED)
    event = sign_signers((root / VERDICT / "root-seed").read_text(), draft)
    write_private(root / BOOTSTRAP / "signers.json", msgspec.json.encode(event).decode())
    return event


def _of_before(root: Path) -> tuple[Signer, ...]:
    """Keys of a rotation under way that verifiers were told by a file once: `U…`, or `U… FROM..UNTIL`, a line."""
    file, own = root / ACTUATOR / "verdict-keys", {public_key(seed) for seed in _listed(seeds_file(root))}
    found = (line.partition(" ") for line in (file.read_text() if file.exists() else "").splitlines())
    ends = {key: times.partition("..")[2] for key, _, times in found if key and key not in own}
    return tuple(Signer(key=key, until=datetime.fromisoformat(until)) for key, until in ends.items() if until)


def _listed(file: Path) -> list[str]:
    return file.read_text().split()


def _lines(seeds: list[str]) -> str:
    return "".join(f"{seed}\n" for seed in seeds)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One rotation after the other."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read(root: Path) -> BrokerConfig | None:
    try:
        return msgspec.json.decode((root / BROKER / "broker.json").read_bytes(), type=BrokerConfig)
    except FileNotFoundError:
        return None


def _write(root: Path, config: BrokerConfig) -> None:
    write_private(root / BROKER / "broker.json", msgspec.json.format(msgspec.json.encode(config)).decode())
