"""What the operator's row says of an action, where its kind has rows: as the verifier read it, and all after it go by."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from shared.contracts.events.common import Risk


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`digest` is the row's, so that whoever acts on another finds out. `reads`: it changes nothing. `outward`: what it is told leaves the
    machine, or reaches others than the operator's own. `exclusive`: no two of it at once. `reversible`: it can be undone.
    `cost_microusd`: what it costs each time."""

    digest: Annotated[str, Meta(max_length=64)] = ""
    risk: Risk = "high"
    reads: bool = False
    outward: bool = True
    exclusive: bool = True
    reversible: bool = False
    cost_microusd: Annotated[int, Meta(ge=0, le=2**53)] = 0
