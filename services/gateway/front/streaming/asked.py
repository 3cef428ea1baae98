"""What a client of the event stream asks for: which events, and from where on."""

from __future__ import annotations

import re

import msgspec

from services.gateway.front.streaming.frames import NAMES
from services.gateway.wire.ids import token
from services.gateway.wire.problems import Problem
from shared.contracts.catalog import LOG_CLASSES, about, class_filter, class_of
from shared.contracts.envelope import Recorded

ANYTHING = "*.*.*.>"
ATTENTION = "attention_created"
OPENING = ("action.executed", "belief.contested", "belief.revised", "check.result", "proposal.rejected")
"""What may open an attention item, told beside the event itself."""
WORKSPACE, WORKSPACE_S = "workspace_updated", 5.0
"""At most once in so many seconds."""
SHOWN = ("action", "belief", "check", "hypothesis", "persona", "proposal")
"""What changes the workspace."""
ID = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?", re.ASCII)


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What a client wants to see; None is no limit."""

    swarm: str | None = None
    persona: str | None = None
    types: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    """Of what is told beside events; without `types` all of it is."""

    def shows(self, recorded: Recorded) -> bool:
        """Whether the event itself is told."""
        return not (self.types or self.also) or class_of(recorded.event) in self.types

    def tells(self, name: str) -> bool:
        """Whether this is told beside events."""
        return not (self.types or self.also) or name in self.also

    def wants(self, recorded: Recorded) -> bool:
        event = recorded.event
        return (
            self.swarm in (None, event.swarm)
            and self.persona in (None, event.persona)
            and (self.shows(recorded) or self._also(class_of(event)))
        )

    def _also(self, event_class: str) -> bool:
        if ATTENTION in self.also and event_class in OPENING:
            return True
        return WORKSPACE in self.also and event_class.partition(".")[0] in SHOWN

    def subjects(self) -> tuple[str, ...]:
        swarm, persona = self.swarm or "*", self.persona or "*"
        if self.types and not self.also:
            return tuple(class_filter(t, swarm, persona) for t in self.types)
        return about(swarm, persona) if self.swarm or self.persona else (ANYTHING,)


def parse_filter(swarm: str | None, persona: str | None, types: str | None) -> Filter:
    """`types` is a comma-separated list of event classes, with `.` or `_`. Raises `Problem` (422)."""
    swarm = None if swarm is None else token("swarm", swarm)
    persona = None if persona is None else token("persona", persona)
    by_name: dict[str, tuple[str, ...]] = {name.replace(".", "_"): (name,) for name in LOG_CLASSES}
    for called in dict.fromkeys(NAMES.values()):
        by_name.setdefault(called, tuple(name for name, other in NAMES.items() if other == called))
    beside = (ATTENTION, WORKSPACE)
    wanted = [t.strip().replace(".", "_") for t in (types or "").split(",") if t.strip()]
    unknown = [t for t in wanted if t not in by_name and t not in beside]
    if unknown:
        known = ", ".join((*by_name, *beside))
        raise Problem(422, f"type: {unknown[0][:60]!r} is none of {known}", reason="unknown_type")
    classes = dict.fromkeys(name for t in wanted if t in by_name for name in by_name[t])
    return Filter(swarm=swarm, persona=persona, types=tuple(classes), also=tuple(t for t in beside if t in wanted))


class Place(msgspec.Struct, frozen=True):
    """The sequence to go on after, and the epoch its id was of; None of one that is in every epoch, the beginning."""

    seq: int
    epoch: int | None = None


def parse_position(last_event_id: str | None, start: str | None) -> Place | None:
    """The place to go on after; None is only what comes from now on. `Last-Event-ID` wins over `from`. Raises `Problem` (422)."""
    if last_event_id:
        if not ID.fullmatch(last_event_id):
            raise Problem(
                422, "Last-Event-ID: it is the id of an event of this stream, a number", reason="bad_event_id"
            )
        seq, _, epoch = last_event_id.partition(".")
        return Place(int(seq), int(epoch or 0) if int(seq) else None)
    if start not in (None, "beginning", "now"):
        raise Problem(422, f"from: {str(start)[:60]!r} is neither 'beginning' nor 'now'", reason="bad_from")
    return Place(0) if start == "beginning" else None
