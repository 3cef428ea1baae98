"""A certificate for 127.0.0.1 that is its own authority, for tests of TLS with real servers."""

from __future__ import annotations

import secrets
from ipaddress import IPv4Address
from pathlib import Path

from services.supervisor.secrets.certificate import certificate, private_key


def pair(folder: Path, name: str) -> tuple[Path, Path]:
    """Certificate and key, as files; whoever believes the one believes who has the other."""
    seed = secrets.token_bytes(32)
    shown, key = folder / f"{name}.crt", folder / f"{name}.key"
    shown.write_text(certificate(seed, name=name, address=IPv4Address("127.0.0.1")))
    key.write_text(private_key(seed))
    return shown, key
