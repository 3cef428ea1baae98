"""What is signed: verdicts, by nkeys of the gates' own, and the word on which keys those are, by one that no service has. Ed25519.

The signed bytes are a prefix and RFC 8785 JSON of the whole event but its signature. So a verdict moved to another proposal, stretched,
or re-attributed no longer verifies. The prefix is what nobody else signs, and another for each of the two: the nonce a broker has its
clients sign is neither, even if one logged in with such a key.

Which keys were good when a verdict was stored is told by the log (`shared/signers.py`).

Sources: RFC 8032; NATS ADR-14 (nkeys: Base32 of prefix, key, CRC-16).
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Collection
from datetime import datetime
from functools import lru_cache

import msgspec
import nkeys
from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from shared.contracts.events import ProposalAuthorized, Signer, SignersChanged

UNSIGNED = ""
"""What `signature`, and of a verdict `key`, hold before signing."""

_PUBLIC_KEY_BYTES = 1 + 32 + 2  # prefix, key, CRC-16
_VERDICT = b"perpetual-persona-swarms verdict 1\n"
_SIGNERS = b"perpetual-persona-swarms signers 1\n"


def public_keys(text: str) -> tuple[str, ...]:
    """Public nkeys as text has them, by lines or commas. Raises `ValueError`, which repeats what is none: nothing here is secret."""
    keys = tuple(item.strip() for item in text.replace("\n", ",").split(",") if item.strip())
    for key in keys:
        try:
            _verify_key(key)
        except (ValueError, IndexError) as error:
            raise ValueError(f"{key[:80]!r} is no public key: {error}") from error
    return keys


def new_seed() -> str:
    """A fresh user nkey seed (`SU…`): a secret, to be kept in a 0600 file."""
    return bytes(nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER)).decode()


def public_key(seed: str) -> str:
    """The public nkey (`U…`) of a seed. Raises `ValueError` for what is no seed, without repeating it."""
    return bytes(_key_pair(seed).public_key).decode()


def sign_verdict(seed: str, verdict: ProposalAuthorized) -> tuple[str, str]:
    """The signer's public key and the Base64 signature over `verdict` as issued by that key.

    `verdict.key` and `verdict.signature` may be `UNSIGNED`. Raises `ValueError` for a bad seed.
    """
    key = public_key(seed)
    return key, _signature(seed, _signed_bytes(msgspec.structs.replace(verdict, key=key)))


def verify_verdict(verdict: ProposalAuthorized, trusted: Collection[Signer], at: datetime) -> bool:
    """Whether one of these keys, good `at` the time the broker stored it, signed exactly this verdict.

    Never raises: whatever is unreadable is not signed.
    """
    if not any(signer.key == verdict.key and is_good(signer, at) for signer in trusted):
        return False
    return _is_signed(verdict.key, _signed_bytes(verdict), verdict.signature)


def sign_signers(seed: str, event: SignersChanged) -> SignersChanged:
    """The event as said by the root of this seed. Raises `ValueError` for a bad seed."""
    event = msgspec.structs.replace(event, root=public_key(seed))
    return msgspec.structs.replace(event, signature=_signature(seed, _signed_bytes(event)))


def verify_signers(event: SignersChanged, roots: Collection[str]) -> bool:
    """Whether one of these roots signed exactly this. Never raises."""
    return event.root in roots and _is_signed(event.root, _signed_bytes(event), event.signature)


def is_good(signer: Signer, at: datetime) -> bool:
    """Whether its time has not passed."""
    return signer.until is None or at < signer.until


def _signature(seed: str, signed: bytes) -> str:
    return base64.b64encode(_key_pair(seed).sign(signed)).decode()


def _is_signed(key: str, signed: bytes, signature: str) -> bool:
    try:
        _verify_key(key).verify(signed, base64.b64decode(signature, validate=True))
    except (CryptoError, ValueError, TypeError, IndexError):  # binascii.Error is a ValueError
        return False
    return True


@lru_cache(maxsize=8)  # decoding a seed costs more than signing with it
def _key_pair(seed: str) -> nkeys.KeyPair:
    try:
        return nkeys.from_seed(seed.strip().encode())
    except (nkeys.NkeysError, binascii.Error, ValueError, TypeError) as error:
        raise ValueError("not an nkey seed: expected Base32 text beginning with SU") from error


@lru_cache(maxsize=64)
def _verify_key(key: str) -> VerifyKey:
    """Raises `ValueError` for what is no public user nkey."""
    raw = base64.b32decode(key)
    checksum = nkeys.crc16(bytearray(raw[:-2])).to_bytes(2, "little")
    if len(raw) != _PUBLIC_KEY_BYTES or raw[0] != nkeys.PREFIX_BYTE_USER or raw[-2:] != checksum:
        raise ValueError("not a public user nkey")
    return VerifyKey(raw[1:-2])


def _signed_bytes(event: ProposalAuthorized | SignersChanged) -> bytes:
    """RFC 8785 JSON. For text, small integers, lists and ASCII keys msgspec's sorted order is just that, at a hundredth of the cost."""
    body = msgspec.to_builtins(event)
    del body["signature"]
    prefix = _VERDICT if isinstance(event, ProposalAuthorized) else _SIGNERS
    return prefix + msgspec.json.encode(body, order="sorted")
