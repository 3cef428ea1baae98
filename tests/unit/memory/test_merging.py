"""What several swarms believe together: only those that policy permits, by the rules of one swarm, and as long as one of them does."""

from __future__ import annotations

from believing_model import ARCHIVE_S, REVIEW_S, Swarm, kinds

from services.memory_compactor.believing.effects import MergingEffects
from services.memory_compactor.believing.merging import Merger, Topic
from shared.contracts.envelope import Recorded
from shared.contracts.events import AnyEvent, BeliefAsserted, BeliefContested
from shared.contracts.ids import EVERYONE
from shared.decider import Delivered
from shared.runtime.driving import drive
from shared.runtime.handling import Fold, handle
from tests.policies import GOLDEN, InForce

FULL, NOT_FULL = "the disk of db is full", "the disk of db is not full"
MERGE = '@id("merge-{}") permit (principal in Swarm::"{}", action == Action::"memory.merge", resource);'


def together(*swarms: str) -> str:
    return "\n".join(MERGE.format(name, name) for name in swarms)


class Mesh:
    """Swarms on one log, and who merges what they believe."""

    def __init__(self) -> None:
        self.alpha = Swarm("ada", "bob", swarm="alpha")
        self.beta, self.gamma = Swarm("eve", swarm="beta"), Swarm("joe", swarm="gamma")
        for other in (self.beta, self.gamma):
            other.log, other.effects = self.alpha.log, self.alpha.effects
        self.policies = InForce(self.alpha.log)
        self.effects = MergingEffects(readings=self.policies.readings)

    async def begin(self, *permitted: str) -> Mesh:
        for swarm in (self.alpha, self.beta, self.gamma):
            await swarm.born()
        text = together(*permitted)
        await self.policies.put({"merge.cedar": text, "golden.json": GOLDEN} if text else None)
        return self

    async def of_swarms(self) -> list[Recorded]:
        return [r for r in await self.alpha.log.read(("belief.>",)) if r.event.swarm != EVERYONE]

    async def merge(self) -> list[AnyEvent]:
        """What follows from all there is, looked at again from the beginning: what was looked at already says nothing."""
        merger, before = Merger(), await self.alpha.log.read((f"belief.*.{EVERYONE}.>",))
        for recorded in await self.of_swarms():
            message = Delivered(recorded=recorded, now=self.alpha.now)
            boundary = merger.boundary(message)
            assert boundary is not None
            fold: Fold[Topic] = Fold(merger, boundary)
            await drive(self.alpha.log, handle(fold, message, source="memory_compactor"), self.effects.perform)
        found = await self.alpha.log.read((f"belief.*.{EVERYONE}.>",))
        return [r.event for r in found[len(before) :]]


async def test_by_default_nothing_is_merged() -> None:
    mesh = await Mesh().begin()
    await mesh.alpha.claims("ada", FULL, await mesh.alpha.observe("no space left on device"))
    await mesh.beta.claims("eve", FULL, await mesh.beta.observe("ENOSPC"))
    assert await mesh.merge() == []


async def test_swarms_that_may_confirm_and_contradict_each_other_and_are_cited() -> None:
    mesh = await Mesh().begin("alpha", "beta")
    await mesh.alpha.claims("ada", FULL, await mesh.alpha.observe("no space left on device"))
    await mesh.beta.claims("eve", FULL, await mesh.beta.observe("ENOSPC"))
    await mesh.gamma.claims("joe", NOT_FULL, await mesh.gamma.observe("df: 40 % used"))
    merged = await mesh.merge()
    assert kinds(merged) == ["asserted", "confirmed"]
    assert [(e.swarm, e.persona, e.by) for e in merged] == [("all", "all", "alpha"), ("all", "all", "beta")]
    first, second = await mesh.of_swarms(), merged
    assert {ref.id for e in second for ref in e.sources} == {r.id for r in first if r.event.swarm != "gamma"}
    assert await mesh.merge() == []
    await mesh.policies.put({"merge.cedar": together("beta", "gamma"), "golden.json": GOLDEN})
    opposite, contested = await mesh.merge()
    assert isinstance(opposite, BeliefAsserted) and isinstance(contested, BeliefContested)
    asserted = merged[0]
    assert isinstance(asserted, BeliefAsserted)
    assert (opposite.contradicts, contested.contradicts) == ((asserted.belief_id,), (opposite.belief_id,))


async def test_an_echo_of_another_swarm_confirms_nothing() -> None:
    mesh = await Mesh().begin("alpha", "beta")
    await mesh.alpha.claims("ada", FULL, await mesh.alpha.observe("no space left on device"))
    await mesh.beta.claims("eve", FULL, await mesh.beta.observe("no space left on device"))
    assert kinds(await mesh.merge()) == ["asserted"]


async def test_it_ends_when_no_swarm_holds_it_any_more() -> None:
    mesh = await Mesh().begin("alpha", "beta")
    await mesh.alpha.claims("ada", FULL, await mesh.alpha.observe("no space left on device"))
    await mesh.beta.claims("eve", FULL, await mesh.beta.observe("ENOSPC"))
    assert kinds(await mesh.merge()) == ["asserted", "confirmed"]
    await mesh.alpha.claims("ada", FULL, await mesh.alpha.observe("df: 40 % used"), outcome="refuted")
    assert kinds(await mesh.merge()) == []  # one still holds it
    await mesh.beta.later(REVIEW_S)
    assert [e.status for e in await mesh.merge()] == ["stale"]  # type: ignore[union-attr]
    await mesh.beta.later(ARCHIVE_S)
    (end,) = await mesh.merge()
    assert (end.status, end.valid_to is not None) == ("archived", True)  # type: ignore[union-attr]


async def test_taint_comes_along() -> None:
    mesh = await Mesh().begin("alpha")
    await mesh.alpha.claims("ada", FULL, await mesh.alpha.observe("no space left on device", tainted=True))
    (merged,) = await mesh.merge()
    assert isinstance(merged, BeliefAsserted) and merged.tainted
