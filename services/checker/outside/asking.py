"""`outside.look`: a row of the operator's is asked, if by all that the log says it may be.

Theory of operation. Who asks, the subject of the check says, which the broker let pass; a runner may put into a check what it likes. So
what is asked is looked up here: the row in the operator's file, the persona's capabilities in its birth, the policies in force and the
halts in the log. A row never takes free text; whoever asks is taken for tainted, so a row that is outward is asked only within a scope
that names each of its arguments. The request is in the log as the check before anything is sent, and the answer as its result.

Of a persona so many bytes may come in within an hour, by the results in the log; a check that crashed is asked again, and counts once.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from services.checker.decider import Measured, RunProbe
from services.checker.desk import Desk
from services.checker.inside.spans import newest
from services.checker.outside.looking import Looked, Unanswered, looked
from shared.contracts.capabilities import Given
from shared.contracts.envelope import Recorded
from shared.contracts.events import Answer, CheckResult, OutsideLook
from shared.contracts.events.probes import MAX_REPORT
from shared.contracts.row import Row as Facts
from shared.contracts.text import lines, plain
from shared.killswitch import is_on
from shared.outside.probes import Asked
from shared.policy.asking import arguments
from shared.policy.types import PolicyRequest

HOUR = timedelta(hours=1)
MOST_AN_HOUR = 120
"""Looks of one persona."""


async def ask(desk: Desk, asked: RunProbe, probe: OutsideLook) -> Measured:
    """What the row answers, or why it is not asked."""
    row = desk.outside.rows.get(probe.row)
    if row is None:
        return Measured(value=0, complete=False, detail=f"the operator has named no probe {probe.row}")
    why = row.trouble(probe.arguments) or await _refusal(desk, asked, probe, row) or await _spent(desk, asked)
    if why:
        return Measured(value=0, complete=False, detail=plain(f"{probe.row} is not asked: {why}", 600))
    try:
        async with asyncio.timeout(row.timeout_s):
            found = await looked(desk.outside, row, probe.arguments)
    except TimeoutError:
        found = Looked(where=row.kind, body=b"", cut=f"no whole answer within {row.timeout_s:g} s")
    except (Unanswered, OSError) as error:
        return Measured(value=0, complete=False, detail=plain(f"{probe.row}: {error}", 600))
    return _measured(probe, row, found)


async def _refusal(desk: Desk, asked: RunProbe, probe: OutsideLook, row: Asked) -> str:
    """By capabilities, policies, halts and the kill switch; empty: it may."""
    if is_on(desk.outside.kill_switch):
        return "the kill switch is on"
    halting = desk.outside.halting
    if halting is not None:
        await halting.look()
        if halting.why is not None:
            return halting.why
    birth = await desk.library.birth(f"{asked.swarm}.{asked.persona}")
    if birth is None:
        return f"nobody of the name {asked.persona} was ever born in {asked.swarm}"
    can, given = birth.policy.capabilities, dict[str, Given](probe.arguments)
    carried = frozenset(given) if row.outward else frozenset()
    scope = "unstated" if can is None else can.reach(row.kind, probe.row, given, carried=carried)
    covering = () if can is None else can.covering(row.kind, probe.row, given)
    if any(limit is not None for _, one in covering for limit in (one.per_day, one.microusd_per_day)):
        return "its scope has a limit of a day, which no look is counted against"
    bundle = await desk.library.bundle()
    if bundle is None:
        return "no policies are in force"
    request = PolicyRequest(
        swarm=asked.swarm,
        persona=asked.persona,
        action=row.kind,
        target=probe.row,
        digest="",
        risk="low",
        tainted=True,
        environment=desk.outside.environment,
        scope=scope,
        row=Facts(risk="low", reads=True, outward=row.outward),
        params={"arguments": arguments(given)},
    )
    decision = bundle.decide(request)
    return "" if decision.allow else f"{decision.reason} by {', '.join(decision.policy_ids) or 'no policy'}"


async def _spent(desk: Desk, asked: RunProbe) -> str:
    """Why no more may come in, by what the log says that came within the hour; empty: it may."""
    since = asked.asked_at - HOUR

    def keeps(recorded: Recorded) -> bool:
        event = recorded.event
        return isinstance(event, CheckResult) and isinstance(event.found, Answer) and recorded.stored_at > since

    results = (f"check.result.{asked.swarm}.{asked.persona}.>",)
    found, _ = await newest(desk, results, asked.seq, MOST_AN_HOUR, keeps, 2_000)
    sizes = [
        r.event.found.size for r in found if isinstance(r.event, CheckResult) and isinstance(r.event.found, Answer)
    ]
    if len(sizes) >= MOST_AN_HOUR:
        return f"{asked.persona} has looked outside {MOST_AN_HOUR} times within the hour"
    if sum(sizes) >= desk.outside.bytes_per_hour:
        return f"{asked.persona} has had {sum(sizes)} bytes from outside within the hour, the limit is {desk.outside.bytes_per_hour}"
    return ""


def _measured(probe: OutsideLook, row: Asked, found: Looked) -> Measured:
    text = "" if b"\0" in found.body else found.body.decode(errors="replace")
    cut = found.cut
    if not text and found.body:
        cut = "; ".join(filter(None, (cut, "it is no text")))
    shown = lines(text, MAX_REPORT)
    if len(text) > MAX_REPORT:
        cut = "; ".join(filter(None, (cut, f"of {len(text)} characters the first {MAX_REPORT}")))
    answer = Answer(
        row=probe.row,
        kind=row.kind,
        where=plain(found.where, 300),
        status=found.status,
        size=len(found.body),
        text=shown,
        cut=plain(cut, 300),
    )
    return Measured(value=len(found.body), complete=not cut, detail=answer.cut, found=answer, tainted=True)
