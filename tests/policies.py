"""Policies in force on a log: as a gate would have stored and activated them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping

from shared.contracts.envelope import Message, enveloped
from shared.contracts.events import PolicyActivated
from shared.contracts.ids import EVERYONE, fresh_id, utc_now
from shared.log.memory import MemoryKeyValue
from shared.log.port import Log
from shared.policy.bundle import DEFAULT_BUNDLE, Contents, packed, read_folder, version_of
from shared.policy.reading import Readings

GOLDEN = json.dumps(
    [
        {
            "name": "the kill switch holds",
            "request": {
                "swarm": "a", "persona": "p", "digest": "0" * 64, "tainted": False, "environment": "local",
                "action": "file.write", "target": "x", "risk": "low", "kill_switch": True,
            },
            "allow": False,
        }
    ]
)  # fmt: skip
"""One that every bundle decides so, for bundles that change what the default one's are about."""


def edited(changed: Mapping[str, str]) -> Contents:
    """The default bundle with some of its files in other words. With golden decisions of its own it has no others: they would be about what
    is in other words."""
    kept = read_folder(DEFAULT_BUNDLE)
    if "golden.json" in changed:
        kept = {name: text for name, text in kept.items() if not name.startswith("golden")}
    return {**kept, **{name: text.encode() for name, text in changed.items()}}


class InForce:
    """`readings` of a log whose policies are what was last `put`, by a clock of their own; as a rule the log is always asked."""

    def __init__(self, log: Log, *, good_for_s: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._store = MemoryKeyValue()
        self.readings = Readings(log, self._store, good_for_s=good_for_s, clock=clock)

    async def put(self, changed: Mapping[str, str] | None = None) -> str:
        """The default bundle with some of its files in other words; its version."""
        contents = edited(changed or {})
        version = version_of(contents)
        await self._store.put(version, packed(contents))
        event = PolicyActivated(swarm=EVERYONE, persona=EVERYONE, digest=version, gate="policy_gate-1")
        envelope = enveloped(fresh_id(), source="policy_gate", time=utc_now())
        await self._log.commit([Message(event=event, envelope=envelope)])
        return version
