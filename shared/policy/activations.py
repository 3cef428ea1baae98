"""Which policies are in force, and which were: the fold of `policy.activated`, and how to be up to date with it.

A verdict stays good to its expiry under any bundle that was ever in force, unless a later one revokes what came before it.
Nobody reads another's folder of policies: whoever needs the version asks the log, each time it matters, for what came since.
"""

from __future__ import annotations

import msgspec

from shared.contracts.envelope import Recorded, Stored
from shared.contracts.events import PolicyActivated
from shared.contracts.ids import EVERYONE
from shared.log.port import Log
from shared.looking import look

BOUNDARY = f"policy.activated.{EVERYONE}.{EVERYONE}"
KEPT = 64
"""Of the bundles that were in force, so many are remembered, and kept in the store."""


class Activations(msgspec.Struct, kw_only=True):
    """`active` is the digest of the bundle in force, "" before the first; `gate` who activated it, by the
    word of `principal` where somebody picked it; `last` has for each bundle the
    sequence of its last activation, the newest last; `revoking` is the sequence of the last one that revoked."""

    position: int = 0
    active: str = ""
    gate: str = ""
    principal: str = ""
    last: dict[str, int] = {}
    revoking: int = 0

    @property
    def since(self) -> int:
        """Where what is in force was activated; 0 before the first."""
        return self.last.get(self.active, 0)

    def apply(self, message: Stored) -> None:
        """Take a message of `BOUNDARY`; one that cannot be read moves the boundary all the same."""
        self.position = message.seq
        if not isinstance(message, Recorded) or not isinstance(event := message.event, PolicyActivated):
            return
        if event.mode != "active":
            return
        self.active, self.gate, self.principal = event.digest, event.gate, event.principal
        self.last.pop(event.digest, None)
        self.last[event.digest] = message.seq
        if event.revokes:
            self.revoking = message.seq
        while len(self.last) > KEPT:
            del self.last[next(iter(self.last))]

    def trouble(self, version: str) -> tuple[str, str] | None:
        """Why a verdict under this version is not good (any more), as a reason code and a sentence."""
        activated = self.last.get(version)
        if activated is None:
            return "policy_version_unknown", f"policy version {version[:12]} was never in force"
        if activated < self.revoking:
            return "policy_version_revoked", f"policy version {version[:12]} was revoked at {self.revoking}"
        return None


class Followed:
    """The activations of a log; `known` as of the last look."""

    boundary = BOUNDARY

    def __init__(self, log: Log) -> None:
        self.log = log
        self.known = Activations()
        self.upto = -1

    async def look(self) -> Activations:
        """All up to now. Raises `LogUnavailable`."""
        await look(self)
        return self.known

    def take(self, message: Stored) -> None:
        """Take a message of the boundary."""
        if message.seq > self.known.position:
            self.known.apply(message)
