"""Which ports the mesh uses: the ones it had, or the well-known ones, or any that are free."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable, Mapping

WELL_KNOWN = {"nats": 4222, "api": 4096}
"""What a person would try first."""
S3_PORTS = tuple(f"s3_{part}" for part in ("s3", "master", "filer", "volume", "admin"))
S3_GRPC = tuple(f"{name}_grpc" for name in S3_PORTS)

FREE = range(20_000, 32_768)
"""Where free ones are taken from: below what kernels give to outgoing connections (Linux from 32768 on, IANA from 49152).
While a server is down, a client's connection could take its port there, or even end up connected to itself."""
_TRIES = 100


class PortTaken(Exception):
    """A port that was asked for is in use."""


def choose(
    names: Iterable[str], *, host: str, asked: Mapping[str, int] | None = None, before: Mapping[str, int] | None = None
) -> dict[str, int]:
    """A port for each name. All are held until all are chosen, so no two are the same.

    Raises `PortTaken` when one that was `asked` for is in use; the ones of `before` are only preferred.
    """
    asked, before = asked or {}, before or {}
    held: list[socket.socket] = []
    chosen: dict[str, int] = {}
    try:
        # What is certain goes first, so that no free choice takes it away.
        for name in sorted(names, key=lambda n: (n not in asked, n not in before)):
            known = [before[name]] if name in before else []
            for port in [asked[name]] if name in asked else [*known, *random.sample(FREE, _TRIES), 0]:
                if (taken := _hold(host, port)) is not None:
                    held.append(taken)
                    chosen[name] = int(taken.getsockname()[1])
                    break
            else:
                raise PortTaken(
                    f"port {asked[name]} ({name}) is in use; choose another, or leave it out to get a free one"
                )
        return chosen
    finally:
        for one in held:
            one.close()


def free_port() -> int:
    """A port of the loopback nobody listens on now."""
    return choose(("port",), host="127.0.0.1")["port"]


def is_free(host: str, port: int) -> bool:
    """Whether one could listen there now."""
    if (taken := _hold(host, port)) is None:
        return False
    taken.close()
    return True


def _hold(host: str, port: int) -> socket.socket | None:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(1)  # with SO_REUSEADDR only listening tells that nobody else listens
    except OSError:
        sock.close()
        return None
    return sock
