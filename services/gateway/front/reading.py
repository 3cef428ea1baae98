"""What one caller may read of what personas keep to themselves: the policies in force, asked with its key's principal and scopes."""

from __future__ import annotations

import msgspec

from services.gateway.front.access import Caller
from services.gateway.wire.ids import as_token
from services.gateway.wire.views import AuditEntry
from shared.contracts.envelope import Recorded
from shared.contracts.events import BeliefEvent, SnapshotCompressed
from shared.contracts.ids import EVERYONE
from shared.policy.reading import Verdicts
from shared.policy.types import Namespace, ReadRequest


class Reader(msgspec.Struct, frozen=True):
    """Of blackboards, of memories written down, and of the events that tell of them."""

    caller: Caller
    verdicts: Verdicts

    def board(self, swarm: str) -> bool:
        """Whether it may see what the swarm believes."""
        return self._may("mesh" if swarm == EVERYONE else "blackboard", swarm, "")

    def memory(self, swarm: str, persona: str) -> bool:
        """Whether it may see what the persona remembers."""
        return self._may("own", swarm, persona)

    def sees(self, recorded: Recorded) -> bool:
        """Whether it may be told of the event."""
        match recorded.event:
            case BeliefEvent() as event:
                return self.board(event.swarm)
            case SnapshotCompressed() as event:
                return self.memory(event.swarm, event.persona)
            case _:
                return True

    def reads(self, entry: AuditEntry) -> bool:
        """Whether it may see the line of the journal: one of a snapshot has its summary."""
        match entry.category, entry.action:
            case "belief", _:
                return self.board(as_token(entry.swarm_id))
            case _, "snapshot.compressed":
                return self.memory(as_token(entry.swarm_id), as_token(entry.persona_id))
            case _:
                return True

    def _may(self, namespace: Namespace, swarm: str, persona: str) -> bool:
        scopes = {*self.caller.scopes, *(("read",) if self.caller.may("read") else ())}
        asked = ReadRequest(
            person=self.caller.principal,
            scopes=tuple(sorted(scopes)),
            namespace=namespace,
            owner_swarm=swarm,
            owner_persona=persona,
        )
        return self.verdicts.may(asked)
