"""Identities of one data folder: nkey seeds and the S3 secret, made once, readable by their owner only."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

import nkeys


def ensure_keys(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Public nkeys by user name; a missing seed is made at `<folder>/<name>.nk`."""
    private_folder(folder)
    return {name: _public_key(seed_file(folder, name)) for name in names}


def seed_file(folder: Path, name: str) -> Path:
    """Where a user's seed is."""
    return folder / f"{name}.nk"


def ensure_secret(file: Path, *, length: int) -> str:
    """A random text of `length` bytes in hex, made once and kept in `file`."""
    if not file.exists():
        write_private(file, secrets.token_hex(length))
    return file.read_text()


def _public_key(file: Path) -> str:
    if not file.exists():
        write_private(file, nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER).decode())
    pair = nkeys.from_seed(bytearray(file.read_bytes().strip()))
    try:
        return str(pair.public_key.decode())
    finally:
        pair.wipe()


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
