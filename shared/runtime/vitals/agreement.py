"""Whether the services of a mesh were told the same, where one setting means one thing to several of them.

Each writes with its test write (`probe.py`) what it was told, as a digest by setting; each looks at the others' and says what differs
in readiness. It stays ready: while a changed setting is rolled out some have the old value, and a rollout that waited for everybody to
agree would never get on. What must not differ even then is refused by who is asked: an actuator asks no host its own list has not.
"""

from __future__ import annotations

import hashlib
from operator import attrgetter

import msgspec

from shared.configuration import KEYS
from shared.log.port import LogUnavailable
from shared.runtime.vitals.probe import Probe
from shared.settings import Settings, reads, variable

SHARED = (
    *("approval", "authorization", "global", "governor", "kill_switch", "outbound.allow", "persona"),
    *("placement.shards", "placement.lease_ttl_s", "policy.environment", "swarm", "verdict.root"),
)
"""Settings that mean one thing to the whole mesh. No secret is among them."""
NAMED = 3


def told(process: str, settings: Settings) -> dict[str, str]:
    """What a process was told of `SHARED`: digests by setting."""
    keys = [key for key in KEYS if any(key == row or key.startswith(f"{row}.") for row in SHARED)]
    values = {key: attrgetter(key.replace("global.", "global_."))(settings) for key in keys if reads(process, key)}
    return {key: hashlib.sha256(msgspec.json.encode(value)).hexdigest()[:8] for key, value in values.items()}


class Agreement:
    """What others were told differently, as of the last look."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self.said: str | None = None

    async def look(self) -> str | None:
        """Compare anew; that they cannot be looked at now is no problem of its own."""
        try:
            others = await self._probe.others()
        except LogUnavailable:
            return None
        differing: dict[str, list[str]] = {}
        for instance, theirs in sorted(others.items()):
            for key in sorted(set(self._probe.told) & set(theirs)):
                if theirs[key] != self._probe.told[key]:
                    differing.setdefault(key, []).append(instance)
        lines = [f"{variable(key)} is another at {_some(instances)}" for key, instances in sorted(differing.items())]
        self.said = f"{_some(lines, '; ')}; give all services the same" if lines else None
        return None


def _some(items: list[str], between: str = ", ") -> str:
    more = [f"{len(items) - NAMED} more"] if len(items) > NAMED else []
    return between.join([*items[:NAMED], *more])
