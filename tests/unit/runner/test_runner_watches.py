"""A persona is woken by its own rules: by so many lines, and by silence, once each; also after a move, or in hibernation."""

from __future__ import annotations

from datetime import timedelta

import msgspec
from test_runner_host import SHARDS, Site

from services.persona_runner.hosting.host import Host, Hosted
from services.persona_runner.mind.watches import PARTS, Watches
from shared.contracts.events import ObservationRecorded, PersonaReaped, WatchAdded
from shared.contracts.kinds.perceiving import MAX_WATCHES
from shared.thinker.perceiving.templates import matches
from tests.unit.runner.runner_model import SWARM

KEY = (SWARM, "a")
BEAT = "backup of <*> finished"


def watch(site: Site, name: str = "w", *, persona: str = "a", for_s: float = 3600, **given: object) -> None:
    said = {"pattern": BEAT, **given}
    until = site.now + timedelta(seconds=for_s)
    site.put(
        WatchAdded(swarm=SWARM, persona=persona, proposal_id=f"p-{name}", name=name, until=until, **said)  # type: ignore[arg-type]
    )


def line(site: Site, text: str = "backup of db1 finished", *, persona: str = "all", source: str = "cron") -> int:
    return site.put(ObservationRecorded(swarm=SWARM, persona=persona, text=text, source=source))


def begun() -> Site:
    """One persona that has looked at all there is, and rests."""
    site = Site()
    site.spawn("a")
    site.start()
    line(site)
    site.feed()
    for _ in range(4):
        site.now += timedelta(seconds=10)
        if site.due():
            site.think(KEY, f"nothing at {site.now}")
    site.feed()
    return site


def told(site: Site) -> list[str]:
    return [f.claim for f in site.host.percepts(KEY, site.now).percept.findings if f.kind == "watch"]


def woken(site: Site, seconds: float) -> list[str]:
    """What its rules tell when it is next due within so many seconds, each of which is looked at; it then thinks a whole cycle."""
    for _ in range(int(seconds)):
        site.now += timedelta(seconds=1)
        if not site.due():
            continue
        found = told(site)
        for _ in range(3 if found else 1):
            site.think(KEY, f"a thought at {site.now}")
            site.now += timedelta(seconds=2 if found else 0)
            if found:
                site.due()
        if found:
            site.host.settle(KEY, site.now)
            return found
    return []


def test_silence_wakes_it_once_at_its_time_and_again_after_the_next_line() -> None:
    site = begun()
    watch(site, silence_s=60)
    site.feed()
    assert [] == woken(site, 55)
    (claim,) = woken(site, 10)
    assert f"no line {BEAT!r} for 60 s" in claim
    assert [] == told(site) == woken(site, 120), "it was told"
    line(site)
    site.feed()
    assert [] == woken(site, 50) and 1 == len(woken(site, 20))


def test_a_line_in_time_keeps_it_quiet() -> None:
    site = begun()
    watch(site, silence_s=60)
    site.feed()
    for _ in range(5):
        assert [] == woken(site, 40)
        line(site)
        site.feed()


def test_the_finding_of_silence_is_seen_by_the_reflection_and_its_probe_confirms_it() -> None:
    site = begun()
    last = line(site)
    watch(site, silence_s=30)
    site.feed()
    assert [] == woken(site, 25)
    site.now += timedelta(seconds=10)
    assert [KEY] == site.due() and 1 == len(told(site))
    site.think(KEY, "observed")
    site.now += timedelta(seconds=5)
    assert 1 == len(told(site)), "the step after still has it"
    (finding,) = (f for f in site.host.percepts(KEY, site.now).percept.findings if f.kind == "watch")
    probe = finding.probe
    between = [r for r in site.store.records if probe.first_seq <= r.seq <= probe.last_seq]
    counted = [r for r in between if isinstance(r.event, ObservationRecorded) and matches(probe.template, r.event.text)]
    assert (last + 1 <= probe.first_seq, 0, []) == (True, probe.at_most, counted)


def test_so_many_lines_within_the_while_are_told_once_and_their_probe_counts_as_many() -> None:
    site = begun()
    watch(site, pattern="login of <*> failed", at_least=5, within_s=40, source="auth")
    for n in range(4):
        line(site, f"login of u{n} failed", source="auth")
        line(site, f"login of u{n} failed", source="other")
    site.feed()
    assert [] == told(site)
    site.now += timedelta(seconds=1)
    line(site, "login of u9 failed", source="auth")
    site.feed()
    (claim,) = told(site)
    assert "5 lines" in claim and "of auth" in claim
    (finding,) = (f for f in site.host.percepts(KEY, site.now).percept.findings if f.kind == "watch")
    probe = finding.probe
    hits = [
        r for r in site.store.records
        if probe.first_seq <= r.seq <= probe.last_seq and isinstance(r.event, ObservationRecorded)
        and r.event.source == "auth" and matches(probe.template, r.event.text)
    ]  # fmt: skip
    assert len(hits) >= probe.at_least == 5
    assert 1 == len(woken(site, 5))
    line(site, "login of u10 failed", source="auth")
    site.feed()
    assert [] == told(site), "it goes on holding, which is no news"


def test_lines_that_are_spread_out_do_not_add_up() -> None:
    site = begun()
    watch(site, at_least=3, within_s=PARTS)
    for _ in range(9):
        site.now += timedelta(seconds=PARTS // 2 + 1)
        line(site)
    site.feed()
    assert [] == told(site)


def test_who_hibernates_is_woken_by_silence() -> None:
    site = Site()
    site.spawn("a")
    site.start()
    site.feed()
    state = site.host.state(KEY)
    assert state is not None
    site.host._swarms[SWARM].members["a"].state = msgspec.structs.replace(state, hibernates=True)
    for _ in range(6):
        if site.due():
            site.think(KEY, f"nothing at {site.now}")
        site.now += timedelta(hours=2)
    assert [] == site.due()
    watch(site, silence_s=60)
    site.feed()
    assert 1 == len(woken(site, 90))


def test_a_rule_ends_by_its_time_by_another_of_its_name_and_with_its_persona() -> None:
    site = begun()
    watch(site, silence_s=60, for_s=50)
    site.feed()
    assert [] == woken(site, 70)
    watch(site, silence_s=60)
    watch(site, silence_s=60, for_s=0)
    site.feed()
    assert [] == woken(site, 70)
    watch(site, silence_s=60)
    site.put(PersonaReaped(swarm=SWARM, persona="a", reason="test"))
    site.feed()
    assert {} == site.host._swarms[SWARM].watches.rules


def test_rules_outlive_a_move_and_a_restart() -> None:
    site = begun()
    watch(site, silence_s=60)
    line(site)
    site.feed()
    before = site.host._swarms[SWARM].watches.copied()
    other = Host(shards=SHARDS, thinker="t", runner="runner-2")
    for recorded in site.store.records:
        other.feed(recorded)
    assert before == other._swarms[SWARM].watches.copied(), "who does not host it keeps its rules too"
    kept = msgspec.msgpack.decode(msgspec.msgpack.encode(site.host.capture()), type=Hosted)
    heir = Host(shards=SHARDS, thinker="t", runner="runner-1")
    heir.restore(kept, range(SHARDS))
    site.host = heir
    assert before == heir._swarms[SWARM].watches.copied() and [] == woken(site, 55)
    assert 1 == len(woken(site, 10))


def test_a_persona_has_so_many_rules_whatever_is_stored() -> None:
    site = begun()
    for n in range(MAX_WATCHES + 3):
        watch(site, f"w{n}", silence_s=60)
    site.feed()
    watches: Watches = site.host._swarms[SWARM].watches
    assert [f"w{n}" for n in range(3, MAX_WATCHES + 3)] == list(watches.rules["a"])


def test_a_line_for_another_persona_alone_is_not_perceived() -> None:
    site = begun()
    watch(site, pattern="note <*>", at_least=1)
    line(site, "note x", persona="b")
    site.feed()
    assert [] == told(site)
    line(site, "note x", persona="a")
    site.feed()
    assert 1 == len(told(site))
