"""Who is chosen: what counts, in which order, and that it is the same for whoever has folded the same."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from services.meta_orchestrator.routing.decider import Choose, Chosen
from services.meta_orchestrator.routing.roster import BATCH, MAX_UNREAD, Roster
from shared.contracts.envelope import Envelope, Recorded
from shared.contracts.events import (
    ActionExecuted,
    AnyEvent,
    BudgetExhausted,
    BudgetGranted,
    Credits,
    HypothesisRaised,
    PersonaDraining,
    PersonaReaped,
    PersonaSpawned,
    ThoughtGenerated,
    Usage,
)
from shared.contracts.persona import Identity, PersonaPolicy
from shared.memory.index.embeddings import WordLlamaEmbedder

NOW = datetime(2026, 11, 22, 13, 0, tzinfo=UTC)
DBA = "Follow database replication and slow queries of postgres"
WEB = "Watch the web tier; say what is out of the ordinary"
SLOW = Choose(home="alpha", goal="why is postgres slow")


@pytest.fixture(scope="module")
def embedder() -> WordLlamaEmbedder:
    return WordLlamaEmbedder()


class Told:
    """A roster, and the events it was told."""

    def __init__(self, embedder: WordLlamaEmbedder) -> None:
        self.roster = Roster(embedder)
        self.seq = 0

    def tell(self, *events: AnyEvent) -> None:
        for event in events:
            self.seq += 1
            envelope = Envelope(id=f"e-{self.seq}", source="test", time=NOW, correlation="c")
            self.roster.apply(Recorded(event=event, envelope=envelope, seq=self.seq, stored_at=NOW, subject="x"))

    def spawn(
        self,
        name: str,
        charter: str = WEB,
        *,
        swarm: str = "alpha",
        parent: str | None = None,
        tags: tuple[str, ...] = (),
    ) -> None:
        identity = Identity(
            id=name, name=name, role="r", charter=charter, swarm_id=swarm, parent_id=parent, depth=int(parent is not None),
            created_at=NOW, tags=tags,
        )  # fmt: skip
        self.tell(PersonaSpawned(swarm=swarm, persona=name, identity=identity, policy=PersonaPolicy()))

    async def choose(self, wish: Choose = SLOW, now: datetime = NOW) -> Chosen:
        return await self.roster.choose(wish, now, lease_s=60)

    async def names(self, wish: Choose = SLOW) -> list[str]:
        return [one.persona for one in (await self.choose(wish)).best]


def thought(persona: str, text: str, *, tokens: int = 0, progress: bool = True) -> ThoughtGenerated:
    return ThoughtGenerated(
        swarm="alpha", persona=persona, step=1, cycle=1, phase="compress", text=text, thinker="rules", digest="0" * 64,
        usage=Usage(tokens_in=tokens), progress=progress, useful_at=NOW,
    )  # fmt: skip


async def test_the_charter_that_is_nearest_is_first_and_who_is_far_from_it_is_not_considered(
    embedder: WordLlamaEmbedder,
) -> None:
    told = Told(embedder)
    told.spawn("web")
    told.spawn("dba", DBA)
    assert ["dba"] == await told.names()
    chosen = await told.choose()
    assert 0 < chosen.best[0].capability <= 1 and "best of 1" in chosen.reason


async def test_a_wanted_tag_makes_suitable_also_as_a_word_of_the_role(embedder: WordLlamaEmbedder) -> None:
    told = Told(embedder)
    told.spawn("one", "x", tags=("Kernel",))
    told.spawn("two", "y", tags=("kernel", "disk"))
    told.spawn("three", "z")
    assert ["two", "one"] == await told.names(Choose(home="alpha", goal="q", tags=("kernel", "disk")))
    assert ["one", "three", "two"] == sorted(await told.names(Choose(home="alpha", goal="q", tags=("r",))))


async def test_who_found_out_such_things_before_goes_first(embedder: WordLlamaEmbedder) -> None:
    told = Told(embedder)
    told.spawn("a")
    told.spawn("b")
    claim = HypothesisRaised(
        swarm="alpha",
        persona="b",
        hypothesis_id="h",
        topic="postgres",
        claim="postgres is slow at noon",
        confidence=0.5,
        evidence=(),
    )
    told.tell(claim)
    assert ["b"] == await told.names()
    told.tell(thought("a", "postgres is slow, postgres is slow", progress=False))  # what brought nothing is no work
    assert ["b"] == await told.names()


async def test_what_one_has_found_out_counts_as_much_when_many_came_after_it(embedder: WordLlamaEmbedder) -> None:
    told = Told(embedder)
    told.spawn("a", tags=("x",))
    told.tell(thought("a", "postgres is slow at noon"), thought("a", "the disk of postgres is full"))
    wish = Choose(home="alpha", goal="why is postgres slow", tags=("x",))
    (alone,) = (await told.choose(wish)).best
    for n in range(200):
        told.spawn(f"p{n}")
    among = next(one for one in (await told.choose(wish)).best if one.persona == "a")
    assert 0.15 < alone.memory == among.memory


@pytest.mark.parametrize(
    "event",
    [
        PersonaDraining(swarm="alpha", persona="a", reason="r", deadline=NOW),
        PersonaReaped(swarm="alpha", persona="a", reason="r"),
        BudgetExhausted(
            swarm="alpha", persona="a", scope="swarm", resource="tokens", retry_at=NOW + timedelta(seconds=9)
        ),
    ],
)
async def test_who_cannot_work_now_is_not_chosen(embedder: WordLlamaEmbedder, event: AnyEvent) -> None:
    told = Told(embedder)
    told.spawn("a", DBA)
    told.spawn("b", DBA)
    told.tell(event)
    assert ["b"] == await told.names()
    if isinstance(event, BudgetExhausted):
        assert "a" in [c.persona for c in (await told.choose(now=NOW + timedelta(seconds=9))).best]


async def test_among_equals_the_idle_the_rich_the_cheap_and_the_useful_go_first(embedder: WordLlamaEmbedder) -> None:
    window, credits = int(NOW.timestamp()) // 60, Credits(tokens=15_000)
    for event in (
        BudgetGranted(swarm="alpha", persona="a", grant_id="g", window=window, credits=credits, expires_at=NOW),
        thought("a", "", tokens=9000, progress=False),
        ActionExecuted(swarm="alpha", persona="b", proposal_id="p", digest="0" * 64, outcome="success", summary="s"),
    ):  # fmt: skip
        told = Told(embedder)
        told.spawn("a", DBA)
        told.spawn("b", DBA)
        assert ["a", "b"] == await told.names()  # by name
        told.tell(event)
        assert ["b", "a"] == await told.names()
    told = Told(embedder)
    told.spawn("a", DBA)
    told.spawn("b", DBA)
    told.roster.load(("alpha", "a"), 1)
    assert ["b", "a"] == await told.names()


async def test_nobody_has_it_twice_and_whoever_is_wanted_alone_is_chosen(embedder: WordLlamaEmbedder) -> None:
    told = Told(embedder)
    told.spawn("a", DBA)
    told.spawn("web", WEB)
    told.spawn("b", DBA, swarm="beta")
    assert [] == await told.names(
        Choose(home="alpha", goal=SLOW.goal, past=(("alpha", "a"), ("beta", "b"), ("alpha", "web")))
    )
    assert ["web"] == await told.names(Choose(home="alpha", goal=SLOW.goal, wanted_persona="web"))
    assert ["b"] == await told.names(Choose(home="alpha", goal=SLOW.goal, wanted_swarm="beta"))
    nobody = await told.choose(Choose(home="alpha", goal="q", wanted_persona="gone"))
    assert not nobody.best and "persona gone of alpha does not live" in nobody.nobody


async def test_where_nobody_suits_it_goes_to_a_root_of_its_home(embedder: WordLlamaEmbedder) -> None:
    told = Told(embedder)
    told.spawn("child", WEB, parent="root")
    told.spawn("elsewhere", WEB, swarm="beta")
    nobody = await told.choose(Choose(home="alpha", goal="write a poem about the sea"))
    assert not nobody.best and "no root" in nobody.nobody
    told.spawn("root", WEB)
    chosen = await told.choose(Choose(home="alpha", goal="write a poem about the sea"))
    assert ["root"] == [c.persona for c in chosen.best] and "nobody suits" in chosen.best[0].note


async def test_two_that_folded_the_same_say_the_same_and_the_best_of_many_are_the_best(
    embedder: WordLlamaEmbedder,
) -> None:
    dice = random.Random(5)
    one, other = Told(embedder), Told(embedder)
    names = [f"p{n:03}" for n in range(300)]
    dice.shuffle(names)
    for name in names:
        charter = dice.choice((DBA, WEB, "Keep an eye on slow disks", "Tune postgres"))
        cost = dice.randrange(5) * 1000
        for told in (one, other):
            told.spawn(name, charter)
            told.tell(thought(name, charter, tokens=cost))
        if dice.random() < 0.1:
            await one.choose()  # asked in between or not
    first, second = await one.choose(), await other.choose()
    assert first == second and 32 == len(first.best)
    ordered = [(-c.total, c.swarm, c.persona) for c in first.best]
    assert ordered == sorted(ordered)
    wide = await one.choose(Choose(home="alpha", goal=SLOW.goal, count=300))
    assert wide.best[:32] == first.best


async def test_a_mesh_that_lives_for_ever_takes_no_more_room_than_those_who_live(embedder: WordLlamaEmbedder) -> None:
    told, fresh = Told(embedder), Told(embedder)
    for n in range(300):
        name = f"p-{n}"
        told.spawn(name, DBA, swarm=f"s-{n}", tags=("postgres", f"tag-{n}"))
        told.tell(
            thought(name, "replication of postgres is slow", tokens=5),
            PersonaReaped(swarm=f"s-{n}", persona=name, reason="idle_ttl"),
        )
    for one in (told, fresh):
        one.spawn("web")
        one.spawn("dba", DBA)
        one.tell(thought("dba", "an index is missing", tokens=7))
    assert 2 == len(told.roster) and 64 == len(told.roster._exhausted)
    for wish in (SLOW, Choose(home="alpha", goal="q", tags=("postgres", "r"))):
        assert await fresh.choose(wish) == await told.choose(wish)
    assert not told.roster.lives(("s-1", "p-1")) and (2, {"alpha"}, {"r"}) == (
        len(told.roster._tags_of),
        set(told.roster._swarms),
        set(told.roster._tags),
    )


async def test_what_is_found_out_is_read_though_nobody_ever_chooses_and_what_waits_has_a_bound(
    embedder: WordLlamaEmbedder,
) -> None:
    told = Told(embedder)
    told.spawn("a")
    told.tell(*(thought("a", f"thought {n}") for n in range(BATCH - 2)))
    await told.roster.read_ahead()
    assert BATCH - 2 == len(told.roster._unread)
    told.tell(thought("a", "one more"))
    await told.roster.read_ahead()
    assert not told.roster._unread and not told.roster._unread_charters
    told.tell(*(thought("a", "again") for _ in range(MAX_UNREAD + 10)))
    assert MAX_UNREAD == len(told.roster._unread)


def of(*swarms: str, count: int = 1, past: tuple[tuple[str, str], ...] = ()) -> Choose:
    """A vote's wish: personas of these swarms."""
    return Choose(home="alpha", goal="why is postgres slow", among=swarms, count=count, past=past)


async def test_among_swarms_the_best_of_each_come_before_the_second_of_any(embedder: WordLlamaEmbedder) -> None:
    told = Told(embedder)
    for name in ("d1", "d2", "d3"):
        told.spawn(name, DBA, swarm="beta")
    for name, charter in (("a1", DBA), ("a2", WEB)):
        told.spawn(name, charter)
    chosen = await told.choose(of("alpha", "beta"))
    assert ["a1", "d1", "a2", "d2", "d3"] == [one.persona for one in chosen.best]
    assert "it was wanted" == chosen.reason


async def test_among_swarms_nobody_else_is_chosen_though_they_suit_better_and_who_suits_badly_votes_too(
    embedder: WordLlamaEmbedder,
) -> None:
    told = Told(embedder)
    told.spawn("dba", DBA, swarm="gamma")
    told.spawn("web", WEB, swarm="beta")
    assert ["web"] == await told.names(of("alpha", "beta"))


async def test_among_swarms_who_had_it_drains_or_has_no_credits_is_left_out(embedder: WordLlamaEmbedder) -> None:
    told = Told(embedder)
    for name in ("had", "drains", "poor", "fit"):
        told.spawn(name, DBA)
    told.tell(
        PersonaDraining(swarm="alpha", persona="drains", reason="asked", deadline=NOW),
        BudgetExhausted(
            swarm="alpha", persona="poor", resource="tokens", scope="persona", retry_at=NOW + timedelta(seconds=9)
        ),
    )
    assert ["fit"] == await told.names(of("alpha", past=(("alpha", "had"),)))


async def test_among_swarms_in_which_nobody_lives_there_is_nobody(embedder: WordLlamaEmbedder) -> None:
    told = Told(embedder)
    told.spawn("dba", DBA)
    chosen = await told.choose(of("beta"))
    assert () == chosen.best and "no persona could have it" in chosen.nobody


async def test_among_many_as_many_of_each_swarm_are_chosen_as_were_asked_for(embedder: WordLlamaEmbedder) -> None:
    told = Told(embedder)
    for n in range(60):
        told.spawn(f"a{n:02}", DBA)
    told.spawn("only", WEB, swarm="beta")
    best = (await told.choose(of("alpha", "beta", count=8))).best[:8]
    assert 1 == sum(one.swarm == "beta" for one in best) and "only" == best[1].persona
