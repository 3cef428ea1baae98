"""Verdicts are signed: Ed25519 by an nkey of the gates' own, over every field of the verdict but the signature itself.

The signed bytes are a prefix and RFC 8785 JSON of the whole event: its class name, swarm, persona, proposal id, digest, risk,
policies, conditions, approvals, expiry and the signer's public key. So a verdict moved to another proposal, stretched, or
re-attributed no longer verifies. The prefix is what nobody else signs: the nonce a broker has its clients sign cannot be a verdict,
even if a gate logged in with this key.

A key is good for what the broker stored in its time (`VerdictKey`), so that one can follow another.

Sources: RFC 8032; NATS ADR-14 (nkeys: Base32 of prefix, key, CRC-16).
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Collection
from datetime import datetime
from functools import lru_cache
from typing import Annotated

import msgspec
import nkeys
from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from shared.contracts.events import ProposalAuthorized

UNSIGNED = ""
"""What `key` and `signature` hold before signing."""

_PUBLIC_KEY_BYTES = 1 + 32 + 2  # prefix, key, CRC-16
_DOMAIN = b"perpetual-persona-swarms verdict 1\n"


class VerdictKey(msgspec.Struct, frozen=True, kw_only=True):
    """A public nkey that is believed for verdicts from `since` until just before `until`; None is without end."""

    key: str
    since: datetime | None = None
    until: datetime | None = None

    def __str__(self) -> str:
        if self.since is None and self.until is None:
            return self.key
        return f"{self.key} {'..'.join(time.isoformat() if time else '' for time in (self.since, self.until))}"

    def is_good(self, at: datetime) -> bool:
        return (self.since is None or self.since <= at) and (self.until is None or at < self.until)


def verdict_keys(text: str) -> tuple[VerdictKey, ...]:
    """Keys as text has them, by lines or commas: `U…`, or `U… FROM..UNTIL` with either time (RFC 3339) or none.

    Raises `ValueError`, which repeats what cannot be read: nothing here is secret.
    """
    return tuple(_verdict_key(item) for item in text.replace("\n", ",").split(",") if item.strip())


def _verdict_key(item: str) -> VerdictKey:
    key, _, times = item.strip().partition(" ")
    since, dots, until = times.strip().partition("..")
    try:
        _verify_key(key)
        if times and not dots:
            raise ValueError("its times are FROM..UNTIL")
        return VerdictKey(key=key, since=_time(since), until=_time(until))
    except (ValueError, IndexError) as error:
        raise ValueError(f"{item.strip()!r} is no verdict key: {error}") from error


def _time(text: str) -> datetime | None:
    return msgspec.convert(text, Annotated[datetime, msgspec.Meta(tz=True)]) if text else None


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


def verify_verdict(verdict: ProposalAuthorized, trusted: Collection[VerdictKey], at: datetime) -> bool:
    """Whether a key that was good `at` the time the broker stored it signed exactly this verdict.

    Never raises: whatever is unreadable is not signed.
    """
    if not any(key.key == verdict.key and key.is_good(at) for key in trusted):
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
    return _DOMAIN + msgspec.json.encode(body, order="sorted")
