"""The live view of `swarm run`: panels on a terminal, one line an event elsewhere."""

from __future__ import annotations

import sys
from collections import deque

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from services.cli.terminal.output import safe
from services.cli.terminal.report import StreamEvent, Tally

_STYLES = {"hypothesis": "yellow", "check": "cyan", "proposal": "magenta", "approval": "magenta", "action": "green"}
_QUIET = ("observation", "grant", "budget", "cognition", "spawn", "reap", "attention", "workspace")


def describe(event: StreamEvent, tally: Tally) -> str | None:
    """An event in plain words, or None when it is not worth a line."""
    entity = event.event_type.partition("_")[0]
    if entity in _QUIET:
        return None
    who = f"{event.swarm_id}/{event.persona_id}"
    about = tally.title(event)
    words = {
        "thought_generated": f"{event.text('phase')}: {event.text('text')}",
        "hypothesis_raised": f"hypothesis: {event.text('claim')}",
        "check_requested": "asks for a check",
        "check_result": f"{'looked' if event.is_beside else 'check ' + event.text('outcome')}: {event.text('findings')}",
        "proposal_created": f"proposes: {event.text('title')}",
        "proposal_verified": f"verified ({event.text('risk')} risk): {about}",
        "proposal_rejected": f"rejected by {event.text('stage')}: {about} ({_reasons(event)})",
        "proposal_authorized": f"authorised: {about}",
        "approval_requested": f"waits for people: {about} (swarm approve {event.text('proposal_id')})",
        "approval_granted": f"granted by {event.text('principal')}: {about}",
        "approval_denied": f"denied by {event.text('principal')}: {about}",
        "action_executed": f"done ({event.text('outcome')}): {event.text('summary')}",
        "belief_extracted": f"believes: {event.text('claim')}",
        "belief_contested": f"contests: {event.text('claim')}",
        "persona_spawned": "is born",
        "persona_draining": "drains",
        "persona_reaped": "is reaped",
        "snapshot_delayed": f"final snapshot waits: {event.text('detail')}",
        "snapshot_compressed": f"snapshot: {event.text('summary')}",
    }.get(event.event_type)
    return None if words is None else safe(f"{who}  {words}", 400)


def _reasons(event: StreamEvent) -> str:
    reasons = event.payload.get("reasons")
    return ", ".join(str(r) for r in reasons) if isinstance(reasons, list | tuple) else ""


class PlainView:
    """One line an event, on stderr when stdout is for JSON."""

    def __init__(self, *, stderr: bool = False) -> None:
        self._out = sys.stderr if stderr else sys.stdout

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, event: StreamEvent, tally: Tally) -> None:
        if (words := describe(event, tally)) is not None:
            self._out.write(f"{event.timestamp.astimezone():%H:%M:%S} {words}\n")
            self._out.flush()

    def note(self, text: str) -> None:
        self._out.write(f"{safe(text)}\n")
        self._out.flush()


class LiveView:
    """Counts, the last thoughts, and what came of them."""

    def __init__(self) -> None:
        self._thoughts: deque[Text] = deque(maxlen=8)
        self._others: deque[Text] = deque(maxlen=14)
        self._note = ""
        self._tally = Tally()
        self._live = Live(console=Console(), refresh_per_second=4, get_renderable=self._render)

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, event: StreamEvent, tally: Tally) -> None:
        self._tally = tally
        if (words := describe(event, tally)) is None:
            return
        entity = event.event_type.partition("_")[0]
        line = Text(f"{event.timestamp.astimezone():%H:%M:%S} {words}", overflow="ellipsis", no_wrap=True)
        line.stylize(_STYLES.get(entity, ""))
        (self._thoughts if entity == "thought" else self._others).append(line)

    def note(self, text: str) -> None:
        self._note = safe(text)

    def _render(self) -> Group:
        counts = self._tally.counts
        head = "  ".join(
            f"{label} {counts[name]}"
            for label, name in (
                ("observations", "observation_recorded"),
                ("thoughts", "thought_generated"),
                ("hypotheses", "hypothesis_raised"),
                ("checks", "check_requested"),
                ("proposals", "proposal_created"),
                ("actions", "action_executed"),
                ("snapshots", "snapshot_compressed"),
            )
        )
        return Group(
            Text(head, style="bold"),
            Panel(Group(*self._thoughts), title="thinking", height=10),
            Panel(Group(*self._others), title="hypotheses, proposals, actions", height=16),
            Text(self._note, style="dim"),
        )
