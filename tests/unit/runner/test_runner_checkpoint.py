"""A host restored from what it captured, and fed what came since, is the host that read the whole log."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from services.persona_runner.decider import decide
from services.persona_runner.hosting.host import Host, Hosted, Key
from services.persona_runner.hosting.messages import guards, messages
from services.persona_runner.mind.steps import Think
from shared.contracts.catalog import about
from shared.contracts.events import CognitionStopped, ObservationRecorded, PersonaDraining, PersonaReaped
from shared.decider import Performed, Tick
from shared.placement import shard_of
from tests.unit.runner.runner_model import START, SWARM, RulesOfThumb
from tests.unit.runner.test_runner_host import SHARDS, Site

NAMES = ("a", "b", "c", "d", "e", "f")
LINES = ("disk ok on sda", "disk failed on sdb", "connection refused by 10.0.0.1", "job 7 done in 3 s")


def copy_of(host: Host) -> Hosted:
    """What comes back from the file."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(host.capture()), type=Hosted)


def successor(host: Host, shards: set[int]) -> Host:
    """Another process's host, from this one's checkpoint."""
    new = Host(shards=SHARDS, thinker="t", runner="runner-1")
    new.restore(copy_of(host), shards)
    return new


def own(site: Site, host: Host, shards: set[int]) -> None:
    """What `Loop.own` does: lose what is not wanted, load what is missing, up to the host's position."""
    host.lose(host.shards - shards)
    for shard in shards - host.shards:
        upto = host.begin(shard)
        for name in NAMES:
            records = [r for r in site.store.read(about(SWARM, name)) if r.seq <= upto]
            if shard_of(SWARM, name, SHARDS) == shard and records:
                host.install(records)
        host.end(shard)


def full(site: Site, shards: set[int]) -> Host:
    """A host that read the whole log."""
    host = Host(shards=SHARDS, thinker="t", runner="runner-1")
    own(site, host, shards)
    for recorded in site.store.records:
        host.feed(recorded)
    return host


def schedule(host: Host) -> list[tuple[float, Key]]:
    """Who is due when; the host is of no use afterwards."""
    found: list[tuple[float, Key]] = []
    while (at := host.next_due()) is not None:
        found += [(at, key) for key in host.due(datetime.fromtimestamp(at, UTC) + timedelta(microseconds=1), 1)]
    return sorted(found)


def assert_same(one: Host, other: Host) -> None:
    assert (one.position, one.shards, len(one)) == (other.position, other.shards, len(other))
    assert one.loop_interval_ms(SWARM) == other.loop_interval_ms(SWARM)
    for name in NAMES:
        key = (SWARM, name)
        state = one.state(key)
        assert state == other.state(key)
        if state is not None:
            assert one.percepts(key, START) == other.percepts(key, START)
    assert schedule(one) == schedule(other)


def happen(site: Site, rng: random.Random, events: int) -> None:
    """Random events of others, thoughts of our own, and a tail that sometimes brings what there is."""
    for _ in range(events):
        site.now += timedelta(milliseconds=rng.randint(1, 2500))
        name = rng.choice(NAMES)
        match rng.randrange(14):
            case 0 | 1:
                if not site.store.read([f"persona.spawned.{SWARM}.{name}"]):
                    site.spawn(name)
            case 2 | 3:
                site.grant(name)
                site.feed()  # a grant older than an own request would count as its answer until the next one
            case 4 | 5:
                whom = "all" if rng.random() < 0.7 else name
                site.put(ObservationRecorded(swarm=SWARM, persona=whom, text=rng.choice(LINES)))
            case 6:
                site.start()
            case 7 if rng.random() < 0.2:
                site.put(CognitionStopped(swarm="all", persona="all"))
            case 8 if rng.random() < 0.2:
                site.put(PersonaReaped(swarm=SWARM, persona=name, reason="test"))
            case 9 if rng.random() < 0.2:
                site.put(PersonaDraining(swarm=SWARM, persona=name, reason="test", deadline=site.now))
            case 10:
                site.assign(name, f"i-{rng.randrange(3)}", rng.randrange(1, 4))
            case 11 if rng.random() < 0.3:
                site.release(name, f"i-{rng.randrange(3)}", rng.randrange(1, 4))
            case _:
                ponder(site)
        if rng.random() < 0.6:
            site.feed()


def ponder(site: Site) -> None:
    """Whoever is due has a thought or asks for credits; the tail has yet to bring it."""
    for key in site.due():
        state = site.host.state(key)
        assert state is not None
        tick = Tick(id=key[1], now=site.now, swarm=key[0], facts=site.host.percepts(key, site.now))
        effect = decide(state, tick).effect
        if isinstance(effect, Think):
            result = RulesOfThumb().result(effect)
            decision = decide(state, Performed(cause=tick, effect=effect, result=result, now=site.now))
            if decision.events:
                batch = messages(state, decision, site.now, "persona_runner", "r1", {})
                site.host.committed(key, batch, site.store.append(batch, guards(state, decision)), site.now)
        site.host.settle(key, site.now)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 40), min_size=1, max_size=4))
def test_restored_and_fed_on_it_is_what_reads_the_whole_log(seed: int, stretches: list[int]) -> None:
    rng = random.Random(seed)
    site = Site()
    everything = set(range(SHARDS))
    for events in stretches:
        happen(site, rng, events)
        site.host = successor(site.host, everything)
    happen(site, rng, 5)
    site.feed()
    assert_same(successor(site.host, everything), full(site, everything))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 60), st.data())
def test_other_shards_than_before_are_loaded_without_gap_or_duplicate(seed: int, cut: int, data: st.DataObject) -> None:
    before, after = (data.draw(st.sets(st.integers(0, SHARDS - 1))) for _ in range(2))
    rng = random.Random(seed)
    site = Site(shards=0)
    own(site, site.host, before)
    happen(site, rng, cut)
    heir = successor(site.host, after)
    assert heir.shards == before & after
    own(site, heir, after)
    happen(site, rng, 20)
    for recorded in site.store.records:
        heir.feed(recorded)
    assert_same(heir, full(site, after))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.integers(5, 60))
def test_a_stale_checkpoint_is_just_an_earlier_position(seed: int, events: int) -> None:
    rng = random.Random(seed)
    site = Site()
    happen(site, rng, events)
    stale = copy_of(site.host)
    happen(site, rng, events)
    heir = Host(shards=SHARDS, thinker="t", runner="runner-1")
    heir.restore(stale, range(SHARDS))
    for recorded in site.store.records:
        heir.feed(recorded)
    assert_same(heir, full(site, set(range(SHARDS))))


def test_what_is_being_loaded_is_not_in_a_checkpoint() -> None:
    site = Site(shards=0)
    site.spawn(*NAMES)
    site.feed()
    mine, loading, unsure, *_ = {shard_of(SWARM, name, SHARDS): name for name in NAMES}.items()
    own(site, site.host, {mine[0], unsure[0]})
    site.host.begin(loading[0])
    site.host.begin((SWARM, unsure[1]))
    assert copy_of(site.host).shards == [mine[0]]
    heir = successor(site.host, set(range(SHARDS)))
    assert heir.state((SWARM, mine[1])) is not None
    assert heir.state((SWARM, loading[1])) is heir.state((SWARM, unsure[1])) is None


def test_another_number_of_shards_keeps_what_was_perceived_and_loads_the_personas() -> None:
    site = Site()
    site.spawn("a")
    site.put(ObservationRecorded(swarm=SWARM, persona="all", text="line"))
    site.feed()
    heir = Host(shards=SHARDS + 1, thinker="t", runner="runner-1")
    heir.restore(copy_of(site.host), range(SHARDS + 1))
    assert (heir.position, heir.shards, len(heir)) == (2, set(), 0)
    heir.begin(shard_of(SWARM, "a", SHARDS + 1))
    heir.install(site.store.read(about(SWARM, "a")))
    assert heir.percepts((SWARM, "a"), START).percept.last_seq == 2


def test_a_captured_host_is_not_changed_by_what_comes_after() -> None:
    site = Site()
    happen(site, random.Random(7), 60)
    captured = site.host.capture()
    before = msgspec.msgpack.encode(captured)
    happen(site, random.Random(8), 60)
    site.feed()
    assert msgspec.msgpack.encode(captured) == before
