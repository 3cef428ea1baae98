"""A persona that several sources keep busy has a specialist for each, which perceives its source alone and ends itself when it is quiet."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from test_runner_host import SHARDS, Site

from services.persona_runner.effects import think
from services.persona_runner.hosting.host import Host, Hosted
from services.persona_runner.hosting.stepping import stepping
from services.persona_runner.mind.specialists import AGAIN_S, BUSY_LINES, IN_A_ROW, MAX_SPECIALISTS, Specialists
from services.persona_runner.mind.state import State
from services.persona_runner.mind.steps import Think
from shared.contracts.action import Action
from shared.contracts.action_kinds import read
from shared.contracts.envelope import Recorded, enveloped
from shared.contracts.events import (
    ActionExecuted,
    BudgetGranted,
    CheckRequested,
    CheckResult,
    Credits,
    GrantRequested,
    ObservationRecorded,
    PersonaReaped,
    PersonaSpawned,
    ProposalCreated,
    ProposalKey,
    ProposalRejected,
    ThoughtGenerated,
)
from shared.contracts.kinds.kind import Problem
from shared.contracts.kinds.mesh import PersonaSpawn, words
from shared.contracts.persona import Identity, PersonaPolicy
from shared.runtime.handling import Answer, Commit, Perform
from shared.thinker.perceiving.perception import MAX_SOURCES
from shared.thinker.port import Finding
from shared.thinker.rules import RuleThinker
from shared.thinker.specialists import BUSY, QUIET_S, child_id, source_of, tag_of
from tests.unit.runner.runner_model import IDENTITY, START, SWARM

KEY = (SWARM, "a")


class Mesh(Site):
    """A site whose governor grants all, whose checker confirms all, and whose gate lets `lets` of the proposals of families through."""

    def __init__(self, lets: bool = True) -> None:
        super().__init__()
        self.lets, self.heard = lets, 0
        self.children: dict[str, str] = {}
        self.proposed: list[ProposalCreated] = []
        self.thinker = RuleThinker()
        self.spawn("a")
        self.start()
        self.settle()

    def settle(self) -> None:
        """Everybody takes in what is new."""
        while self.heard < len(self.store.records):
            recorded = self.store.records[self.heard]
            self.heard += 1
            event = recorded.event
            match event:
                case GrantRequested(persona=persona):
                    self.put(
                        BudgetGranted(
                            swarm=SWARM,
                            persona=persona,
                            grant_id=f"g-{recorded.seq}",
                            window=1,
                            credits=Credits(tokens=10**6, compute_ms=10**6),
                            expires_at=self.now + timedelta(days=2),
                        )
                    )
                case CheckRequested():
                    self.put(
                        CheckResult(
                            swarm=SWARM,
                            persona=event.persona,
                            check_id=event.check_id,
                            hypothesis_id=event.hypothesis_id,
                            outcome="confirmed",
                            findings="counted",
                            beside=event.beside,
                        )
                    )
                case ProposalCreated() if event.action.kind.startswith("persona."):
                    self.proposed.append(event)
                    self.decide(event)
                case _:
                    pass
            self.host.feed(recorded)

    def decide(self, event: ProposalCreated) -> None:
        which = {"swarm": SWARM, "persona": event.persona, "proposal_id": event.proposal_id, "digest": event.digest}
        params = read(event.action)
        assert not isinstance(params, Problem), params
        if not self.lets:
            self.put(ProposalRejected(stage="policy", reasons=("no_permit",), **which))  # type: ignore[arg-type]
            return
        if isinstance(params, PersonaSpawn):
            self.bear(event.action.target, words(params.tags), event.persona, event.proposal_id)
        else:
            self.reap(event.action.target)
        self.put(ActionExecuted(outcome="success", summary="done", **which))  # type: ignore[arg-type]

    def bear(self, name: str, tags: tuple[str, ...], parent: str, proposal_id: str) -> None:
        assert name not in self.children, "an id is given once"
        identity = Identity(
            id=name,
            name=name,
            role="specialist",
            charter="c",
            swarm_id=SWARM,
            parent_id=parent,
            depth=1,
            created_at=self.now,
            tags=tags,
        )
        self.children[name] = source_of(tags) or ""
        key = ProposalKey(swarm=SWARM, persona=parent, proposal_id=proposal_id)
        self.put(PersonaSpawned(swarm=SWARM, persona=name, identity=identity, policy=PersonaPolicy(), proposal=key))

    def reap(self, name: str) -> None:
        self.put(PersonaReaped(swarm=SWARM, persona=name, reason="done"))

    def line(self, source: str, text: str = "GET / took 5 ms") -> None:
        self.put(ObservationRecorded(swarm=SWARM, persona="all", text=text, source=source))

    async def minutes(self, count: int, **rates: int) -> None:
        """So many minutes with so many lines a minute of each source; everybody thinks every ten seconds."""
        for _ in range(count):
            for part in range(6):
                for source, rate in rates.items():
                    for _ in range(rate // 6 + (part < rate % 6)):
                        self.line(source)
                self.now += timedelta(seconds=10)
                self.settle()
                for key in self.due():
                    await self.step(key)
                    self.settle()

    async def step(self, key: tuple[str, str]) -> None:
        steps = stepping(self.host, key, lambda: self.now, "persona_runner")
        answer: Answer = None
        while True:
            try:
                operation = steps.send(answer)
            except StopIteration:
                return
            if isinstance(operation, Perform):
                assert isinstance(operation.effect, Think)
                answer = (await think(self.thinker, operation.effect), self.now)
            else:
                assert isinstance(operation, Commit)
                answer = self.store.append(operation.messages, operation.expect)

    def looked(self, persona: str) -> int:
        """How often it has observed."""
        thoughts = (r.event for r in self.store.records if isinstance(r.event, ThoughtGenerated))
        return sum(t.persona == persona and t.phase == "observe" for t in thoughts)

    def live(self) -> dict[str, str]:
        return {name: self.children[name] for name in self.children if self.host.state((SWARM, name)) is not None}


def busy(host: Host, site: Site, after: tuple[str, str] = KEY) -> list[Finding]:
    return [f for f in host.percepts(after, site.now).percept.findings if f.kind == "busy"]


async def test_each_of_the_sources_that_keep_it_busy_gets_a_specialist_once_and_the_others_none() -> None:
    mesh = Mesh()
    await mesh.minutes(8, web=BUSY_LINES, db=BUSY_LINES + 30, cron=2)
    assert ["db", "web"] == sorted(mesh.live().values())
    assert 2 == len(mesh.proposed)
    assert {"max_children": 0, "tools": "file.write,persona.reap"}.items() <= mesh.proposed[0].action.params.items()


async def test_one_source_alone_however_busy_is_its_own_work() -> None:
    mesh = Mesh()
    await mesh.minutes(8, web=3 * BUSY_LINES)
    assert [] == mesh.proposed


async def test_a_source_that_is_busy_now_and_then_has_no_specialist() -> None:
    mesh = Mesh()
    for _ in range(4):
        await mesh.minutes(IN_A_ROW - 1, web=BUSY_LINES, cron=2)
        await mesh.minutes(1, web=1, cron=2)
    assert [] == mesh.proposed


async def test_the_specialist_perceives_its_source_alone_and_the_parent_all_but_that() -> None:
    mesh = Mesh()
    await mesh.minutes(8, web=BUSY_LINES, cron=2)
    ((child, source),) = mesh.live().items()
    assert "web" == source
    await mesh.minutes(1, cron=1)  # all that was left has been looked at
    for name in ("web", "web", "cron"):
        mesh.line(name, f"{name} said it")
    mesh.settle()
    own, parents = mesh.host.percepts((SWARM, child), mesh.now).percept, mesh.host.percepts(KEY, mesh.now).percept
    assert (2, ["web said it"] * 2) == (own.new, [text for _, text in own.samples])
    assert (1, ["cron said it"]) == (parents.new, [text for _, text in parents.samples])


async def test_lines_of_other_sources_wake_no_specialist() -> None:
    mesh = Mesh()
    await mesh.minutes(8, web=BUSY_LINES, cron=2)
    ((child, _),) = mesh.live().items()
    await mesh.minutes(1, cron=1)
    before = mesh.looked(child), mesh.looked("a")
    await mesh.minutes(3, cron=6)
    assert before[0] == mesh.looked(child) and before[1] + 3 < mesh.looked("a")
    await mesh.minutes(1, web=1)
    assert before[0] + 1 == mesh.looked(child)


async def test_it_ends_itself_when_its_source_is_quiet_and_its_parent_perceives_the_source_again() -> None:
    mesh = Mesh()
    await mesh.minutes(8, web=BUSY_LINES, cron=2)
    ((child, _),) = mesh.live().items()
    await mesh.minutes(QUIET_S // 60 + 10, cron=2)
    assert {} == mesh.live()
    (end,) = [p for p in mesh.proposed if p.action.kind == "persona.reap"]
    assert (child, child) == (end.persona, end.action.target)
    assert "web was quiet for 600 s" in str(end.action.params["summary"])
    mesh.line("web", "back again")
    mesh.settle()
    assert "back again" in [text for _, text in mesh.host.percepts(KEY, mesh.now).percept.samples]


async def test_what_was_refused_is_not_asked_again_before_the_cool_down_is_over() -> None:
    mesh = Mesh(lets=False)
    for _ in range(3):
        await mesh.minutes(5, web=BUSY_LINES, cron=2)
        await mesh.minutes(2, cron=2)
    assert 1 == len(mesh.proposed)
    mesh.now += timedelta(seconds=AGAIN_S)
    await mesh.minutes(8, web=BUSY_LINES, cron=2)
    assert 2 == len(mesh.proposed) == len({p.action.target for p in mesh.proposed})


async def test_who_may_have_no_child_hears_of_no_busy_source() -> None:
    for policy in (
        PersonaPolicy(max_branching_factor=0),
        PersonaPolicy(max_spawn_depth=0),
        PersonaPolicy(allowed_tools=("file.write",)),
    ):
        site = Site()
        identity = Identity(id="a", name="a", role="r", charter="c", swarm_id=SWARM, created_at=site.now)
        site.put(PersonaSpawned(swarm=SWARM, persona="a", identity=identity, policy=policy))
        crowd(site, ["web"])
        assert [] == busy(site.host, site)
    site = Site()
    site.spawn("a")
    crowd(site, ["web"])
    assert [BUSY + "web"] == [f.topic for f in busy(site.host, site)]


def crowd(site: Site, sources: list[str]) -> None:
    """All of them busy for as long as it takes, beside a quiet one."""
    for _ in range(IN_A_ROW):
        for source in ("quiet", *(source for source in sources for _ in range(BUSY_LINES))):
            site.put(ObservationRecorded(swarm=SWARM, persona="all", text="GET /", source=source))
        site.now += timedelta(seconds=60)
    site.feed()


async def test_a_checkpoint_keeps_what_is_busy_and_who_perceives_what() -> None:
    mesh = Mesh()
    await mesh.minutes(8, web=BUSY_LINES, cron=2)
    crowd(mesh, ["db"])
    kept = msgspec.msgpack.decode(msgspec.msgpack.encode(mesh.host.capture()), type=Hosted)
    other = Host(shards=SHARDS, thinker="t", runner="runner-1")
    other.restore(kept, range(SHARDS))
    for key in (KEY, *((SWARM, child) for child in mesh.live())):
        assert mesh.host.percepts(key, mesh.now) == other.percepts(key, mesh.now)
    assert [BUSY + "db"] == [f.topic for f in busy(other, mesh)]


def test_a_source_whose_name_no_tag_can_carry_has_no_specialist() -> None:
    assert [None] * 4 == [tag_of(source) for source in ("", "a,b", "x" * 60, "a\nb")]
    assert "source:/var/log/auth.log" == tag_of("/var/log/auth.log")
    params: dict[str, str | int | bool | None] = {
        "name": "n",
        "role": "r",
        "charter": "c",
        "tags": "source:/var/log/auth.log",
    }
    target = child_id("/var/log/auth.log " * 9, 2**60)
    assert not isinstance(read(Action(kind="persona.spawn", target=target, params=params)), Problem)


def heard(at: datetime, seq: int, source: str) -> Recorded:
    event = ObservationRecorded(swarm=SWARM, persona="all", text="GET /", source=source)
    envelope = enveloped(f"o-{seq}", source="test", time=at)
    return Recorded(event=event, envelope=envelope, seq=seq, stored_at=at, subject="observation.recorded.alpha.all")


MOVES = st.lists(st.tuples(st.sets(st.integers(0, 30), max_size=6), st.integers(0, 420), st.integers(0, 9)), max_size=8)


@settings(max_examples=40, deadline=None)
@given(moves=MOVES, children=st.integers(0, 9))
def test_no_sequence_of_lines_births_and_ends_makes_more_than_the_most(
    moves: list[tuple[set[int], int, int]], children: int
) -> None:
    """Whatever is told is proposed at once; births and ends, as `fates` has it, come at any time."""
    most = min(MAX_SPECIALISTS, children)
    at, seq, swarm = START, 0, Specialists()
    state = State(swarm=SWARM, persona="a", identity=IDENTITY, policy=PersonaPolicy(max_branching_factor=children))
    for sources, pause_min, fates in moves:
        for _ in range(IN_A_ROW):
            for source in ("quiet", *(f"s{n}" for n in sorted(sources) for _ in range(BUSY_LINES))):
                swarm.see(heard(at, seq := seq + 1, source))
            at += timedelta(minutes=1)
        told = [(f"p-{found.seq}", found.source) for found in swarm.findings(state, 0)]
        state = msgspec.structs.replace(state, births=(*state.births, *told))
        assert len(swarm.live) + len(state.births) <= most
        assert len({source for _, source in (*swarm.live.values(), *state.births)}) == len(swarm.live) + len(
            state.births
        )
        for proposal, source in state.births[:fates]:
            swarm.live[proposal] = ("a", source)
        state = msgspec.structs.replace(state, births=state.births[fates:])
        for name in list(swarm.live)[: fates // 2]:
            swarm.gone(PersonaReaped(swarm=SWARM, persona=name, reason="x"))
        at += timedelta(minutes=pause_min)
    assert len(swarm.loads) <= MAX_SOURCES
