"""How many actions who may do this minute: the fold of `lot.granted` over the lineage, and the answers that rest on it.

An actuator asks ahead, for one swarm, and is given a lot: so many actions of these personas until the minute ends. Each is
debited at once from the persona, from all its ancestors and from the swarm (whose limit is its share), and stays debited whether it is
done or not. So the
limit holds however many actuators there are and whoever of them dies, and a claim costs no look at all the others: the
actuator spends its lots by itself and names them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from services.governor.ledger import KEPT_WINDOWS, SWARM, WINDOW_S
from services.governor.limits import Limits
from services.governor.lineage import Lineage
from shared.contracts.envelope import Recorded
from shared.contracts.events import BudgetLimited, LotGranted, LotRequested, LotShare
from shared.contracts.ids import EVERYONE, caused_id
from shared.decider import NOTHING, Decision, Delivered

ANSWERED_FOR_S = 30
"""A request older than this is not answered: its actuator has asked again, or is gone."""


class Lots(msgspec.Struct, kw_only=True):
    """One swarm's actions: how many are debited in each of the last minutes, by account; and the requests answered lately.

    `share`: how many the swarm may do a minute, from the minute `share_window` on.
    """

    debited: dict[int, dict[str, int]] = {}
    answered: dict[str, datetime] = {}
    share: int = 0
    share_window: int = 0


def evolve(lots: Lots, lineage: Lineage, recorded: Recorded) -> None:
    """Takes one event in, in place. The lineage must be folded up to it."""
    event = recorded.event
    if isinstance(event, BudgetLimited) and event.persona == EVERYONE:
        lots.share, lots.share_window = event.credits.actions, max(event.window, lots.share_window)
    if not isinstance(event, LotGranted) or (cause := recorded.envelope.causation) is None or cause in lots.answered:
        return
    lots.answered[cause] = recorded.envelope.time
    horizon = recorded.envelope.time - timedelta(seconds=2 * ANSWERED_FOR_S)
    while lots.answered[first := next(iter(lots.answered))] < horizon:
        del lots.answered[first]
    oldest = max((event.window, *lots.debited)) - KEPT_WINDOWS + 1
    if event.window >= oldest:
        accounts = lots.debited.setdefault(event.window, {})
        for share in event.shares:
            for name in _accounts(lineage, share.persona):
                accounts[name] = accounts.get(name, 0) + share.actions
    for old in [window for window in lots.debited if window < oldest]:
        del lots.debited[old]


def answer(lots: Lots, lineage: Lineage, delivered: Delivered, request: LotRequested, limits: Limits) -> Decision:
    """One lot, with as much of each wish as there is; the rest is held until the next minute, and by whose limit."""
    age = delivered.now - delivered.recorded.envelope.time
    if delivered.recorded.id in lots.answered or age > timedelta(seconds=ANSWERED_FOR_S):
        return NOTHING
    window = max(int(delivered.now.timestamp()) // WINDOW_S, max(lots.debited, default=0), lots.share_window)
    debited = dict(lots.debited.get(window, {}))
    shares: list[LotShare] = []
    held: list[LotShare] = []
    for wish in request.wants:
        left = {
            name: (lots.share if name == SWARM else limits.actions_per_minute) - debited.get(name, 0)
            for name in _accounts(lineage, wish.persona)
        }
        account = min(left, key=lambda name: left[name])
        actions = max(0, min(wish.actions, left[account]))
        if actions:
            shares.append(LotShare(persona=wish.persona, actions=actions))
            for name in left:
                debited[name] = debited.get(name, 0) + actions
        if actions < wish.actions:
            scope = _scope(account, wish.persona)
            held.append(LotShare(persona=wish.persona, actions=wish.actions - actions, scope=scope))
    granted = LotGranted(
        swarm=request.swarm,
        persona=request.persona,
        lot_id=caused_id(delivered.recorded.id, "lot.granted"),
        window=window,
        shares=tuple(shares),
        held=tuple(held),
        expires_at=datetime.fromtimestamp((window + 1) * WINDOW_S, UTC),
    )
    return Decision(events=(granted,))


def _accounts(lineage: Lineage, persona: str) -> tuple[str, ...]:
    """The persona's own, those above it and the swarm's; an action may outlive its persona."""
    above = tuple(name for name, _ in lineage.ancestors(persona)) or (persona,)
    return (*above, SWARM)


def _scope(account: str, persona: str) -> str:
    return {persona: "persona", SWARM: "swarm"}.get(account, account)
