"""One certificate that both ends of a connection show and trust: whoever holds its key belongs to the mesh, all others do not.

Self-signed Ed25519, in the DER of RFC 5280 (X.509) and RFC 8410 (Ed25519), written by hand because it is the only one we make and
has no choices in it. It has no date of expiry (RFC 5280 §4.1.2.5): it lives as long as the data folder whose key it is.
"""

from __future__ import annotations

import base64
import hashlib
import textwrap
from ipaddress import IPv4Address

from nacl.signing import SigningKey

_INTEGER, _BITS, _OCTETS, _OID, _UTF8, _UTC, _TIME, _SEQUENCE, _SET = 2, 3, 4, 6, 12, 23, 24, 48, 49
_EXPLICIT_0, _EXPLICIT_3, _IP_ADDRESS = 0xA0, 0xA3, 0x87

_ED25519, _COMMON_NAME = bytes.fromhex("2b6570"), bytes.fromhex("550403")
_ALTERNATIVE_NAME, _EXTENDED_USAGE = bytes.fromhex("551d11"), bytes.fromhex("551d25")
_SERVER, _CLIENT = bytes.fromhex("2b06010505070301"), bytes.fromhex("2b06010505070302")


def certificate(seed: bytes, *, name: str, address: IPv4Address) -> str:
    """PEM of the certificate of the key with this `seed` (32 bytes), for both ends of connections to `address`."""
    key = SigningKey(seed)
    algorithm = _der(_SEQUENCE, _der(_OID, _ED25519))
    subject = _der(_SEQUENCE, _der(_SET, _der(_SEQUENCE, _der(_OID, _COMMON_NAME), _der(_UTF8, name.encode()))))
    for_ever = _der(_SEQUENCE, _der(_UTC, b"200101000000Z"), _der(_TIME, b"99991231235959Z"))
    usage = _der(_SEQUENCE, _der(_OID, _SERVER), _der(_OID, _CLIENT))
    extensions = _der(
        _SEQUENCE,
        _extension(_ALTERNATIVE_NAME, _der(_SEQUENCE, _der(_IP_ADDRESS, address.packed))),
        _extension(_EXTENDED_USAGE, usage),
    )
    to_sign = _der(
        _SEQUENCE,
        _der(_EXPLICIT_0, _der(_INTEGER, b"\x02")),  # version 3
        _der(_INTEGER, b"\x01" + hashlib.sha256(key.verify_key.encode()).digest()[:15]),
        algorithm,
        subject,
        for_ever,
        subject,
        _der(_SEQUENCE, algorithm, _der(_BITS, b"\x00", key.verify_key.encode())),
        _der(_EXPLICIT_3, extensions),
    )
    signed = _der(_SEQUENCE, to_sign, algorithm, _der(_BITS, b"\x00", key.sign(to_sign).signature))
    return _pem("CERTIFICATE", signed)


def private_key(seed: bytes) -> str:
    """PEM (PKCS #8) of the key with this seed: a secret."""
    algorithm = _der(_SEQUENCE, _der(_OID, _ED25519))
    return _pem("PRIVATE KEY", _der(_SEQUENCE, _der(_INTEGER, b"\x00"), algorithm, _der(_OCTETS, _der(_OCTETS, seed))))


def _extension(identifier: bytes, value: bytes) -> bytes:
    return _der(_SEQUENCE, _der(_OID, identifier), _der(_OCTETS, value))


def _der(tag: int, *parts: bytes) -> bytes:
    """Tag, length, content."""
    content = b"".join(parts)
    size = len(content)
    if size < 128:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _pem(label: str, der: bytes) -> str:
    body = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"
