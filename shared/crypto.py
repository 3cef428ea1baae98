"""Verdicts are signed: Ed25519 by a service's NATS nkey, over every field of the verdict but the signature itself.

The signed bytes are RFC 8785 JSON of the whole event: its class name, swarm, persona, proposal id, digest, risk, policies,
conditions, approvals, expiry and the signer's public key. So a verdict moved to another proposal, stretched, or re-attributed
no longer verifies. Sources: RFC 8032; NATS ADR-14 (nkeys: Base32 of prefix, key, CRC-16).
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Collection
from functools import lru_cache

import msgspec
import nkeys
from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from shared.contracts.events import ProposalAuthorized

UNSIGNED = ""
"""What `key` and `signature` hold before signing."""

_PUBLIC_KEY_BYTES = 1 + 32 + 2  # prefix, key, CRC-16


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
    pair = _key_pair(seed)
    key = bytes(pair.public_key).decode()
    signature = pair.sign(_signed_bytes(msgspec.structs.replace(verdict, key=key)))
    return key, base64.b64encode(signature).decode()


def verify_verdict(verdict: ProposalAuthorized, trusted_public_keys: Collection[str]) -> bool:
    """Whether one of the trusted keys signed exactly this verdict. Never raises: whatever is unreadable is not signed."""
    if verdict.key not in trusted_public_keys:
        return False
    try:
        signature = base64.b64decode(verdict.signature, validate=True)
        _verify_key(verdict.key).verify(_signed_bytes(verdict), signature)
    except (CryptoError, ValueError, TypeError):  # binascii.Error is a ValueError
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


def _signed_bytes(verdict: ProposalAuthorized) -> bytes:
    """RFC 8785 JSON. For text, lists and ASCII keys msgspec's sorted order is just that, at a hundredth of the cost."""
    body = msgspec.to_builtins(verdict)
    del body["signature"]
    return msgspec.json.encode(body, order="sorted")
