"""What swarms have with each other, for a mesh that is being killed: work for somebody, two who want the same thing, limits that change."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from shared.contracts.action import Action
from tests.chaos.load import ROOT, SWARM, Load

RIVALS, RIVAL = "rivals", "rival"
"""A second swarm, of one root, which wants what the first wants."""
GOALS = (
    "how often did connection refused occur",
    "is anything out of the ordinary in chaos",
    "what do you know about db",
    "write a poem about the sea",
)
DUE_S = (5, 20, 45)
PAUSE_S = 0.3


class Contending:
    """Clients beside those of `Load`, until its `stop`. `wanted` are the proposals of each target that more than one is to change."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._serial = 0
        self.submitted: list[str] = []
        self.cancelled: set[str] = set()
        self.wanted: dict[str, dict[str, Action]] = {}
        self.limits_set = 0

    async def begin(self) -> None:
        """The second swarm's root."""
        await self._load.root_of(RIVALS, RIVAL)

    async def ask(self) -> None:
        """Intents for one or several, some made of others, some of which are cancelled; all are due before the storm has come to rest."""
        dice = self._load.dice
        while not self._load.stop.is_set():
            body: dict[str, object] = {
                "swarm_id": SWARM,
                "goal": dice.choice(GOALS),
                "tags": dice.choice(((), ("watcher",), ("helper",), ("nobody",))),
                "deadline_secs": dice.choice(DUE_S),
                "fan_out": dice.choice((1, 1, 2, 3)),
                "merge": dice.choice(("first", "best", "combine")),
                "max_routes": dice.choice((1, 3)),
                "budget": {"tokens": 4000, "compute_ms": 4000},
            }
            if self.submitted and dice.random() < 0.25:
                body |= {"parent_id": dice.choice(self.submitted[-5:]), "budget": {"tokens": 500, "compute_ms": 500}}
                del body["deadline_secs"]
            answer = await self._load.insist("POST", "/v1/intents", body)
            if answer.status_code == 200:  # else its parent has ended meanwhile, or has nothing left to give
                self.submitted.append(answer.json()["id"])
            if self.submitted and (dice.random() < 0.2 or not self.cancelled):  # until one is: a slow storm has few
                chosen = dice.choice(self.submitted[-5:]) if self.cancelled else self.submitted[-1]
                answer = await self._load.insist("POST", f"/v1/intents/{chosen}/cancel", {"reason": "chaos"})
                if answer.status_code == 200:
                    self.cancelled.add(chosen)
            await asyncio.sleep(PAUSE_S + dice.random())

    async def contend(self) -> None:
        """Files that the roots of both swarms want to write, with what differs or is the same, at once or one a little later."""
        dice = self._load.dice
        while not self._load.stop.is_set():
            self._serial += 1
            target = f"asked/both-{self._serial}.md"
            texts = dice.choice((("same", "same"), ("one", "other"), ("one", "other", "third")))
            for number, text in enumerate(texts):
                of = ((SWARM, ROOT), (RIVALS, RIVAL))[number % 2]
                proposal_id = f"w{self._serial}-{number}"
                params: dict[str, str | int | bool | None] = {
                    "content": f"{target} {text}",
                    "mode": "create_or_replace",
                }
                action = Action(kind="file.write", target=target, params=params)
                if await self._load.propose_action(proposal_id, action, of=of):
                    self.wanted.setdefault(target, {})[proposal_id] = action
                if dice.random() < 0.3:
                    await asyncio.sleep(dice.random())
            await asyncio.sleep(1.0 + dice.random())

    async def limit(self) -> None:
        """A person who changes what a swarm may have; both always have room to think."""
        dice = self._load.dice
        while not self._load.stop.is_set():
            body = {
                "ceiling": {"tokens": dice.choice((60_000, 120_000, 200_000))},
                "floor": {"tokens": dice.choice((0, 20_000)), "compute_ms": dice.choice((0, 10_000))},
                "weight": dice.choice((50, 100, 300)),
                "reason": "chaos",
            }
            answer = await self._load.insist("PUT", f"/v1/budgets/{dice.choice((SWARM, RIVALS))}", body)
            self.limits_set += answer.status_code == 200
            await asyncio.sleep(2.0 + 2.0 * dice.random())


def misdone(wanted: Mapping[str, Mapping[str, Action]], workspace: Path, outcomes: Mapping[str, str]) -> list[str]:
    """Targets that hold what nobody was to write there, or nothing though somebody did; as sentences."""
    found = []
    for target, proposals in wanted.items():
        told = Counter(outcomes.get(name, "none") for name in proposals)
        may = {
            action.params["content"]
            for name, action in proposals.items()
            if outcomes.get(name) in ("success", "unknown")
        }
        file = workspace / target
        text = file.read_text() if file.exists() else None
        if text is None and told["success"]:
            found.append(f"{target}: the log says it was written, and it is not there")
        if text is not None and text not in may:
            found.append(f"{target}: it has {text!r}, which by the log nobody wrote: {dict(told)}")
    return found
