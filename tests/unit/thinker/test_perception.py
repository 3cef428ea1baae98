"""Perception finds what stands out by counting, says nothing about ordinary life, and is a bounded deterministic fold."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.contracts.envelope import Recorded
from shared.contracts.events import LogCount, LogResolve
from shared.thinker.perceiving.perception import Perception
from shared.thinker.port import Finding, Percept
from tests.logs.evaluate import FIRST_SEQ, observation, probe_result, recorded
from tests.logs.make import build

FACE = "\U0001f600"
START = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)


def at(minute: float, text: str) -> str:
    return f"{(START + timedelta(minutes=minute)).isoformat(timespec='seconds')} {text}"


def perceived(lines: list[str], source: str = "app") -> Perception:
    perception = Perception()
    for seq, text in enumerate(lines, 1):
        perception.add(observation(seq, text, source))
    return perception


def findings(lines: list[str]) -> tuple[Finding, ...]:
    return perceived(lines).percept(0).findings


def calm(minutes: int = 30, per_minute: int = 10) -> list[str]:
    return [
        at(m + i / per_minute, f"app web[{m}]: request {i} served in {m + i} ms")
        for m in range(minutes)
        for i in range(per_minute)
    ]


def test_the_usual_rate_after_a_long_silence_is_no_jump() -> None:
    assert (
        findings(
            [at(m + i / 30, f"app: request {i} served") for m in (*range(70), *range(190, 220)) for i in range(30)]
        )
        == ()
    )


def test_a_burst_of_failures_is_found_with_its_numbers_and_an_exact_probe() -> None:
    lines = calm() + [
        at(30 + i / 212, f"h sshd[{i}]: Failed password for root from 10.0.0.{i % 9} port {i}") for i in range(212)
    ]
    (finding,) = findings(lines)
    assert finding.claim == (
        "sshd: 'Failed password for root from <*> port <*>' occurred 212 times in 59 s; never in the 300 lines before"
    )
    assert finding.probe == LogCount(
        template="h sshd[<#>]: Failed password for root from <#> port <#>",
        source="app",
        first_seq=301,
        last_seq=512,
        at_least=212,
    )
    assert finding.evidence[0].seq == 301 and finding.evidence[-1].seq == 512 and len(finding.evidence) <= 16


def test_a_line_that_was_always_as_frequent_is_no_finding() -> None:
    lines = [
        line
        for m in range(60)
        for line in (at(m, "h sshd[1]: Failed password for root"), *(at(m, f"ok {i}") for i in range(9)))
    ]
    assert findings(lines) == ()


def test_without_times_a_share_far_above_its_own_is_found() -> None:
    lines = [f"job {i} done" for i in range(200)] + [f"ERROR relay refused job {i}" for i in range(40)]
    (finding,) = findings(lines)
    assert "occurred 40 times in 40 lines; never in the 200 lines before" in finding.claim


def test_a_failure_that_breaks_out_within_the_first_minute_is_found() -> None:
    lines = [at(i / 200, f"app web[1]: request {i} served in {i} ms") for i in range(90)]
    (finding,) = findings(lines + [at(0.5 + i / 200, f"app db[2]: error: connection {i} refused") for i in range(30)])
    assert finding.claim.startswith("db: 'error: connection <*> refused' occurred 30 times in ")
    assert finding.claim.endswith("; never in the 90 lines before")


def test_a_rate_that_jumps_and_stays_is_found() -> None:
    (finding,) = findings(
        calm() + [at(30 + i / 90, f"app web[{i}]: request {i} served in {i} ms") for i in range(90 * 5)]
    )
    assert finding.kind in ("rate_jump", "burst")
    assert "before that about 10 per minute" in finding.claim


def test_one_loud_minute_of_ordinary_lines_is_no_finding() -> None:
    lines = calm(20) + [at(20 + i / 60, f"app web[{i}]: request {i} served in {i} ms") for i in range(60)] + calm(5)
    assert findings(lines) == ()


def test_a_critical_message_never_seen_before_is_found_at_once() -> None:
    (finding,) = findings([*calm(), at(30, "app kernel: EXT4-fs error: data corruption on sda")])
    assert finding.kind == "new_message"
    assert finding.claim.endswith("(critical error) occurred once; never in the 300 lines before")


def test_a_new_informational_message_is_no_finding() -> None:
    assert findings([*calm(), at(30, "app web: configuration reloaded")]) == ()


def test_an_error_before_the_source_is_known_is_no_finding() -> None:
    assert findings([*calm(4), at(4, "app web: error: cannot open file")]) == ()


def test_a_new_error_that_turns_out_to_be_regular_is_withdrawn() -> None:
    lines = calm(31)
    for i in range(12):
        lines.append(at(31 + 15 * i, f"app db: error: vacuum of table {i} failed"))
        lines += [at(31 + 15 * i + n / 10, f"app web[1]: request {n} served in {n} ms") for n in range(150)]
    assert [f.kind for f in findings(lines[:320])] == ["new_message"]
    assert [f for f in findings(lines) if f.kind == "new_message"] == []


def test_a_host_metric_at_a_new_level_is_found_once_and_a_spike_is_not() -> None:
    rng = random.Random(1)

    def line(cpu: float) -> str:
        return f"host cpu={cpu:.1f}% mem=41.0% disk=71% load1=0.5 procs=312 top=python:{cpu:.0f}%"

    ordinary = [line(abs(rng.gauss(12, 4))) for _ in range(60)]
    assert findings([*ordinary, line(99), line(98), *ordinary]) == ()
    (finding,) = findings([*ordinary, *(line(95) for _ in range(10))])
    assert finding.claim.startswith("host: cpu rose from about 1") and "to about 95, 10 readings long" in finding.claim
    assert isinstance(finding.probe, LogResolve) and finding.evidence[0].seq == 61


def test_a_growing_anomaly_keeps_its_topic_and_is_raised_again_only_tenfold() -> None:
    perception, raised = perceived(calm()), []
    for i in range(900):
        perception.add(
            observation(1000 + i, at(30 + i / 500, f"h sshd[{i}]: Failed password for root from 10.0.0.{i % 9}"), "app")
        )
        raised += [(f.topic, f.seq) for f in perception.percept(999 + i).findings]
    assert len({topic for topic, _ in raised}) == 1
    assert [seq for _, seq in raised] == [1000, 1009, 1099]


def test_what_accompanies_a_burst_is_not_told_twice() -> None:
    loop = [
        at(30 + i / 6, f"h systemd[1]: pay.service: {said}")
        for i in range(30)
        for said in (
            "Main process exited, code=exited, status=1/FAILURE",
            "Failed with result 'exit-code'.",
            "Scheduled restart job",
        )
    ]
    assert len(findings(calm() + loop)) == 1


def test_a_file_older_than_the_last_starts_the_clock_anew() -> None:
    yesterday = [line.replace("2026-11-22", "2026-11-21") for line in calm(40)]
    assert findings(calm(40) + yesterday) == ()


def test_a_time_in_the_far_future_is_not_believed() -> None:
    assert findings([*calm(), "2093-01-01T00:00:00Z app web[1]: request 1 served in 1 ms", *calm(40)[300:]]) == ()


def test_the_percept_counts_what_is_new_and_shows_the_last_lines() -> None:
    perception = perceived([f"line {i}" for i in range(5000)])
    percept = perception.percept(4900, sample=3)
    assert (percept.first_seq, percept.last_seq, percept.new, percept.total) == (4901, 5000, 100, 5000)
    assert [text for _, text in percept.samples] == ["line 4997", "line 4998", "line 4999"]
    assert perception.percept(5000) == Percept(last_seq=5000, total=5000, templates=percept.templates, first_seq=0)
    assert perception.percept(0).new == 5000 - 255
    assert perception.percept(5000 - 1500).new in range(1500 - 256, 1501)


def test_redelivered_and_foreign_events_change_nothing() -> None:
    perception = perceived(calm())
    before = perception.state()
    perception.add(observation(5, "again"))
    assert perception.state() == before


ANY_LINE = (
    st.text(min_size=1, max_size=200)
    | st.sampled_from(
        ["ERROR boom", "FATAL x y z", "host cpu=99% mem=1%", "host cpu=1% mem=1%", "a b c", "<*> <**> <#>"]
    )
    | st.builds(
        lambda n, w: f"2026-11-22T{n % 24:02d}:{n % 60:02d}:00Z {w} failed {n}",
        st.integers(0, 9999),
        st.sampled_from("abcdefg"),
    )
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ANY_LINE, max_size=150), st.integers(0, 150), st.integers(1, 3))
def test_the_fold_is_total_deterministic_and_continues_from_its_state(lines: list[str], cut: int, sources: int) -> None:
    events = [observation(2 * i + 1, text, f"s{i % sources}") for i, text in enumerate(lines)]
    whole, first, second = Perception(), Perception(), Perception()
    for event in events:
        whole.add(event)
    for event in events[:cut]:
        first.add(event)
    second.restore(first.state())
    for event in events[cut:]:
        second.add(event)
    assert second.state() == whole.state()
    assert second.percept(0) == whole.percept(0)


@pytest.mark.parametrize(
    "name", ["sshd-bruteforce.log", "unit-restart-loop.log", "worker-untimed.log", "host-cpu.log", "nginx-flood.log"]
)
def test_a_checkpoint_at_any_moment_changes_no_finding(name: str) -> None:
    events = recorded(name, build(3)[name])
    whole, resumed = Perception(), Perception()
    for i, event in enumerate(events):
        whole.add(event)
        resumed.add(event)
        if i % 97 == 0:
            fresh = Perception()
            fresh.restore(resumed.state())
            resumed = fresh
    assert resumed.percept(0) == whole.percept(0)
    assert len(whole.percept(0).findings) > 0


@pytest.mark.parametrize("seed", range(6))
def test_a_finding_counts_exactly_what_its_probe_counts(seed: int) -> None:
    for name, log in build(100 + seed).items():
        events = recorded(name, log)
        perception = Perception()
        for i, event in enumerate(events):
            perception.add(event)
            if i % 150 == 149 or i == len(events) - 1:
                for finding in perception.percept(0).findings:
                    result = probe_result("h", finding.probe, events[: i + 1])
                    wanted = finding.probe.at_least if isinstance(finding.probe, LogCount) else len(finding.evidence)
                    assert (result.outcome, result.measured) == ("confirmed", wanted), (name, finding)


def hostile(seed: int, count: int) -> list[Recorded]:
    rng = random.Random(seed)

    def word() -> str:
        return "".join(
            chr(rng.choice((97 + rng.randrange(26), 0x1F600 + rng.randrange(60)))) for _ in range(rng.randint(3, 40))
        )

    return [
        observation(
            FIRST_SEQ + i,
            " ".join([rng.choice(("ERROR", "failed", "")), *(word() for _ in range(rng.randint(1, 30)))]),
            f"s{i % 60}",
        )
        for i in range(count)
    ]


def test_the_state_stays_below_256_kib_whatever_comes() -> None:
    perception = Perception()
    for event in hostile(1, 2500):
        perception.add(event)
    bursts = [
        observation(
            100_000 + i,
            f"{FACE}{chr(97 + i // 100 % 26) * 200} failed {FACE * 60} of {chr(97 + i // 100 % 26)}",
            f"s{i // 2000}",
        )
        for i in range(6000)
    ]
    for event in bursts:
        perception.add(event)
    size = len(perception.state())
    print(f"state: {size} bytes")
    assert size <= 256 * 1024
    assert len(perception.percept(0).findings) <= 32
