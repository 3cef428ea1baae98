"""Tokens, event ids and instants.

A *token* is one word of a subject: swarm, persona and proposal ids are tokens. Ids of caused events derive from their
cause, so deciding twice gives the same id; all others are UUIDv7 and are made at the edge of the mesh, never in a decider.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from datetime import UTC, datetime
from typing import Annotated

import msgspec

TOKEN_PATTERN = r"^[a-z0-9][a-z0-9-]{0,47}$(?!\n)"  # Python's `$` alone would let a newline through
_TOKEN = re.compile(TOKEN_PATTERN)
CORE = "core"
"""The slot of what a service that decides says."""
SLOT_PATTERN = r"^(core|[cr][0-9]{1,6})$(?!\n)"
LIFE_PATTERN = r"^(?!(core|r[0-9]{1,6})$)[a-z0-9][a-z0-9-]{0,47}$(?!\n)"
_LIFE = re.compile(LIFE_PATTERN)
_CAUSED = uuid.UUID("6f1a4f5e-6f0c-5c7e-9a64-2f0a4d6b9b01")
_CAUSED_SHA1 = hashlib.sha1(_CAUSED.bytes, usedforsecurity=False)
_VARIANT = {digit: f"{int(digit, 16) & 0x3 | 0x8:x}" for digit in "0123456789abcdef"}

Token = Annotated[str, msgspec.Meta(pattern=TOKEN_PATTERN, description="one word of a subject")]
Slot = Annotated[
    str,
    msgspec.Meta(
        pattern=SLOT_PATTERN, description="who spoke: `r1`, `r2`, … for a runner, `c1`, … for a checker, else `core`"
    ),
]
LifeId = Annotated[str, msgspec.Meta(pattern=LIFE_PATTERN, description="one word of a subject, and no slot")]
"""The id of a proposal or a check. Were it a runner's slot, `*.*.<swarm>.<persona>.<id>` would be that runner's thoughts as well; what
checkers say in the log has one token more."""
EventId = Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,64}$(?!\n)", description="1 to 64 visible ASCII characters")]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$", description="SHA-256, lower-case hex")]
Instant = Annotated[datetime, msgspec.Meta(tz=True, description="RFC 3339, UTC, in the years 2000 to 2199")]

EVERYONE = "all"
"""The persona token of what concerns a whole swarm (an observation for all), and the swarm token of the whole mesh."""


def hash64(text: str) -> int:
    """Eight bytes of its SHA-256, for what is only to be known again."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def is_token(word: str) -> bool:
    """Whether `word` may stand in a subject as a swarm, persona or proposal id."""
    return _TOKEN.match(word) is not None


def is_life(word: str) -> bool:
    """Whether `word` may stand in a subject as the id of a proposal or a check."""
    return _LIFE.match(word) is not None


def slot_of(instance: str) -> str:
    """The slot of who is not trusted: `r2` of `persona_runner-2`, `c2` of `checker-2`. Raises `ValueError` where there is no number."""
    service, _, number = instance.rpartition("-")
    if not number.isascii() or not number.isdigit() or len(number) > 6:
        raise ValueError(f"{instance!r} has no number to be told apart by; write persona_runner-1, persona_runner-2, …")
    return f"{'c' if service == 'checker' else 'r'}{number}"


def is_runners(slot: str) -> bool:
    """Whether it is a runner's slot."""
    return slot.startswith("r")


def caused_id(cause_id: str, event_class: str, index: int = 0) -> str:
    """The id of the `index`-th event of a class that follows from `cause_id` (UUIDv5, RFC 9562 section 5.5)."""
    name = f"{cause_id}/{event_class}/{index}".encode()
    digest = _CAUSED_SHA1.copy()  # `str(uuid.uuid5(...))` by hand: on the path of every commit, a fifth of the time
    digest.update(name)
    hexed = digest.hexdigest()
    return f"{hexed[:8]}-{hexed[8:12]}-5{hexed[13:16]}-{_VARIANT[hexed[16]]}{hexed[17:20]}-{hexed[20:32]}"


def caused_token(cause_id: str, kind: str, index: int = 0) -> str:
    """A subject token that derives from its cause, such as a proposal id: `p-` and 24 hex digits for kind `p`."""
    return f"{kind}-{uuid.uuid5(_CAUSED, f'{cause_id}#{kind}#{index}').hex[:24]}"


def fresh_id() -> str:
    """A new UUIDv7 (RFC 9562 section 5.7): sortable by millisecond. For edges of the mesh only."""
    import secrets
    import time

    stamp = time.time_ns() // 1_000_000
    value = (stamp << 80) | secrets.randbits(80)
    value = (value & ~(0xF000 << 64)) | (0x7000 << 64)
    value = (value & ~(0xC000 << 48)) | (0x8000 << 48)
    return str(uuid.UUID(int=value))


def utc_now() -> datetime:
    """The wall clock, in UTC. For shells and edges only."""
    return datetime.now(UTC)
