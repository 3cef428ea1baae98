"""Secrets as files: nkey seeds and random texts, made once, readable by their owner only."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from shared.broker import ROLES, service_of
from shared.crypto import new_seed, public_key


def holder_of(name: str) -> str:
    """Whose folder a user's seed is in: a role's own, else its service's. Raises `ValueError` for what is neither."""
    return name if name in ROLES else service_of(name)


def seed_file(root: Path, name: str) -> Path:
    """Where a user's seed is."""
    return root / holder_of(name) / f"{name}.nk"


def ensure_keys(root: Path, names: Iterable[str]) -> dict[str, str]:
    """Public nkeys by user name; a missing seed is made. One that is in `root` itself, where all once were, is moved."""
    for name in names:
        file, before = seed_file(root, name), root / f"{name}.nk"
        private_folder(file.parent)
        if not file.exists() and before.exists():
            before.rename(file)
        if not file.exists():
            write_private(file, new_seed())
    return {name: public_key(seed_file(root, name).read_text()) for name in names}


def ensure_secret(file: Path, *, length: int) -> str:
    """A random text of `length` bytes in hex, made once and kept in `file`."""
    if not file.exists():
        write_private(file, secrets.token_hex(length))
    return file.read_text()


def ensure_shared(root: Path, name: str, holders: Iterable[str], *, length: int) -> str:
    """A random text of which each holder has a copy; the first holder's is the true one, should a crash have left two."""
    first, *others = (root / holder / name for holder in holders)
    found = next((file.read_text() for file in (first, root / name, *others) if file.exists()), None)
    text = found or secrets.token_hex(length)
    for file in (first, *others):
        private_folder(file.parent)
        if not file.exists() or file.read_text() != text:
            write_private(file, text)
    if (root / name).exists():  # asked first, for the folder above the holders' may be read-only
        (root / name).unlink()
    return text


def private_folder(folder: Path) -> None:
    """A folder nobody else may enter, made so when it is there already. What personas perceive is nobody else's to read."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)


def write_private(file: Path, text: str) -> None:
    """For its owner only; whole or not at all, so that a crash in between leaves no half key behind."""
    part = file.with_name(f".{file.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    part.rename(file)
