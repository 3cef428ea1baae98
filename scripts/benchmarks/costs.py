"""What a proposal costs, whatever else the machine does: processor time by process, requests to the broker by service, and how often the
policies were asked what they had answered before.

A request is a message that is answered: what is counted are a service's messages to the broker but for its acknowledgements, one for each
proposal. The events of one atomic batch count one each, though they are answered once; so the true number is lower. What processes
say by the clock is within it.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import httpx

from scripts.benchmarks.measure import Figures
from scripts.benchmarks.pipeline import Worker

ON_THE_WAY = ("verifier", "policy_gate", "actuator")
"""Who is delivered each proposal once, in one of its events."""
_MEMO = re.compile(r'^swarm_policy_memo_total\{outcome="(hit|miss)"\} (\S+)$', re.MULTILINE)
_TICKS = os.sysconf("SC_CLK_TCK")


class Counts(NamedTuple):
    """Seconds by process, messages by service, answers of the policies by outcome; all since the beginning."""

    seconds: Counter[str]
    messages: Counter[str]
    memo: Counter[str]


class Counting:
    """`workers` with their process ids, and the broker's with the port of its monitoring pages."""

    def __init__(self, workers: Sequence[Worker], pids: Sequence[int], broker_pid: int, monitor: str) -> None:
        self._workers, self._monitor = workers, monitor
        self._pids = {"broker": broker_pid, **{worker.name: pid for worker, pid in zip(workers, pids, strict=True)}}

    async def now(self) -> Counts:
        """All counts as they are."""
        memo: Counter[str] = Counter()
        async with httpx.AsyncClient(trust_env=False) as http:
            connections = (await http.get(f"{self._monitor}/connz", params={"limit": 1000})).json()["connections"]
            for worker in self._workers:
                if worker.name == "policy_gate":
                    text = (await http.get(worker.ready_url.replace("/health/ready", "/metrics"))).text
                    memo.update({outcome: int(float(count)) for outcome, count in _MEMO.findall(text)})
        messages: Counter[str] = Counter()
        for one in connections:
            messages[one.get("name", "").rpartition("-")[0]] += one["in_msgs"]
        return Counts(Counter({name: _seconds(pid) for name, pid in self._pids.items()}), messages, memo)


def of_each(before: Counts, after: Counts, proposals: int, whose: Sequence[str]) -> Figures:
    """Of one proposal, between two counts; `whose` are the processes it went through, besides the broker."""
    names = ("broker", *whose)
    spent = {name: after.seconds[name] - before.seconds[name] for name in names}
    figures: Figures = {
        "cpu_us": round(sum(spent.values()) / proposals * 1e6),
        "cpu_us_by": {name: round(seconds / proposals * 1e6) for name, seconds in spent.items()},
    }
    if "verifier" in whose:
        sent = {name: after.messages[name] - before.messages[name] for name in whose}
        each = {name: round(count / proposals - (name in ON_THE_WAY), 2) for name, count in sent.items()}
        hits, misses = (after.memo[outcome] - before.memo[outcome] for outcome in ("hit", "miss"))
        figures |= {
            "requests": round(sum(each.values()), 2),
            "requests_by": each,
            "memo_hit_rate": round(hits / max(1, hits + misses), 3),
        }
    return figures


def _seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
