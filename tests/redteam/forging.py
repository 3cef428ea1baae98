"""What is said in the name of a persona that another runner holds: it counts for nobody, and the victim goes its way."""

from __future__ import annotations

import asyncio

import msgspec

from shared.contracts.catalog import class_filter
from shared.contracts.events import BudgetRefused, Credits, GrantRequested, ThoughtGenerated, Usage
from shared.contracts.ids import fresh_id
from tests.redteam.lies import answer_to, open_grant, refused_spending, think
from tests.redteam.report import Row
from tests.redteam.siege import HOME, Siege

TOKENS = 777
WORDS = "zeppelins over the harbour"


async def forging(siege: Siege) -> list[Row]:
    """All of them, at once."""
    return list(await asyncio.gather(thinking(siege), spending(siege), closing(siege)))


async def thinking(siege: Siege) -> Row:
    """A last thought of the victim's, so that its runner thinks it has ended, with words for its memory."""
    victim = siege.victim
    own = class_filter("thought.generated", HOME, victim.id, slot="r1")
    before = await siege.end()
    await think(siege, victim, final=True, text=WORDS)
    first = await siege.thinks(victim, before)
    after = None if first is None else await siege.thinks(victim, first.seq)
    thoughts = [r.event for r in await siege.judge.read((own,)) if isinstance(r.event, ThoughtGenerated)]
    whole = [t.step for t in thoughts] == list(range(1, len(thoughts) + 1))
    answer = await siege.api.get(f"/v1/swarm/personas/{victim.id}/memory", params={"q": WORDS})
    assert answer.status_code == 200, answer.text
    remembered = any(WORDS in memory["text"] for memory in answer.json()["memories"])
    seen = ("goes on" if after else "stands", "whole" if whole else "torn", "" if remembered else "not ")
    return Row(
        name="think a last thought in another's name",
        refused=after is not None and whole and not remembered,
        by="runner and memory, by who holds the persona",
        seen="{}, its steps are {}, {}remembered".format(*seen),
    )


async def spending(siege: Siege) -> Row:
    """Spends in the victim's name, so that it is charged."""
    await think(siege, siege.victim, usage=Usage(tokens_in=TOKENS))
    await think(siege, siege.own, usage=Usage(tokens_in=TOKENS))
    told = await refused_spending(siege, siege.own, "no_grant", tokens=TOKENS)  # by then the victim's was looked at
    records = await siege.judge.read((f"budget.refused.{HOME}.{siege.victim.id}",))
    charged = [r for r in records if isinstance(r.event, BudgetRefused) and r.event.credits.tokens == TOKENS]
    seen = "charged to the victim" if charged else "nothing charged to the victim"
    return Row(
        name="spend in another's name", refused=told and not charged, by="governor, by who holds the persona", seen=seen
    )


async def closing(siege: Siege) -> Row:
    """Closes the victim's grant in its name, as if it had cost all of it."""
    grant = await open_grant(siege)
    event = GrantRequested(
        swarm=HOME, persona=siege.victim.id, need=Credits(), closing=grant.grant_id, used=grant.credits
    )
    forged = siege.message(event)
    await siege.attacker.commit(forged)
    own = siege.message(msgspec.structs.replace(event, persona=siege.own.id, closing=fresh_id()))
    await siege.attacker.commit(own)
    later = await answer_to(siege, own)  # by then the forged one was looked at
    records = await siege.judge.read((f"budget.*.{HOME}.>",))
    answered = [r.subject for r in records if r.envelope.causation == forged.envelope.id]
    return Row(
        name="close another's grant in its name",
        refused=later is not None and not answered,
        by="governor, by who holds the persona",
        seen=", ".join(answered) or "not answered",
    )
