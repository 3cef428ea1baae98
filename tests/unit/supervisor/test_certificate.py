"""The mesh's own certificate, judged by OpenSSL: two ends that hold it speak, and an end without it, or with another, does not."""

from __future__ import annotations

import secrets
import ssl
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from services.supervisor.secrets.certificate import certificate, private_key

HERE = IPv4Address("127.0.0.1")


def held(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate and its key in files."""
    seed = secrets.token_bytes(32)
    files = folder / f"{name}.crt", folder / f"{name}.key"
    files[0].write_text(certificate(seed, name=name, address=HERE))
    files[1].write_text(private_key(seed))
    return files


def shaken(server: ssl.SSLContext, client: ssl.SSLContext, *, address: str = "127.0.0.1") -> bytes:
    """What the server reads from a client that says hello, once both are content. Raises `ssl.SSLError`."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=address),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    waiting = list(ends)
    while waiting:
        for end in tuple(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                continue
    ends[0].write(b"hello")
    return ends[1].read()


def contexts(shown: tuple[Path, Path], trusted: Path, by: tuple[Path, Path] | None) -> tuple[ssl.SSLContext, ...]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*shown)
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(shown[0])
    client = ssl.create_default_context(cafile=str(trusted))
    if by is not None:
        client.load_cert_chain(*by)
    return server, client


def test_two_ends_that_hold_it_speak(tmp_path: Path) -> None:
    own = held(tmp_path, "own")
    assert shaken(*contexts(own, own[0], own)) == b"hello"


def test_whoever_has_none_or_another_is_refused(tmp_path: Path) -> None:
    own, other = held(tmp_path, "own"), held(tmp_path, "other")
    for by in (None, other):
        with pytest.raises(ssl.SSLError):
            shaken(*contexts(own, own[0], by))
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        shaken(*contexts(own, other[0], own))


def test_it_is_good_for_its_address_alone(tmp_path: Path) -> None:
    own = held(tmp_path, "own")
    with pytest.raises(ssl.SSLError, match=r"127\.0\.0\.2"):
        shaken(*contexts(own, own[0], own), address="127.0.0.2")


def test_the_same_seed_makes_the_same_certificate() -> None:
    seed = secrets.token_bytes(32)
    assert certificate(seed, name="n", address=HERE) == certificate(seed, name="n", address=HERE)
