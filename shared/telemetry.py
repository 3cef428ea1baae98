"""Metric names, all of them, and logging set up once. Labels are bounded: verdicts, reasons, classes; never ids."""

from __future__ import annotations

import logging
import sys
from bisect import bisect_left
from collections import Counter as Numbers
from collections.abc import Iterable
from itertools import accumulate
from math import inf

import structlog
import structlog.tracebacks
from prometheus_client import REGISTRY, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Tally(Collector):
    """A counter with one label for the hot path of a single event loop: a plain number, told when Prometheus asks.

    The client's own takes a lock each time, and so a tenth of what handling a message costs.
    """

    def __init__(self, name: str, documentation: str, label: str) -> None:
        self._about = name, documentation, label
        self.by: Numbers[str] = Numbers()
        REGISTRY.register(self)

    def collect(self) -> Iterable[Metric]:
        name, documentation, label = self._about
        family = CounterMetricFamily(name, documentation, labels=[label])
        for value, count in self.by.items():
            family.add_metric([value], count)
        return (family,)


class Spread(Collector):
    """A histogram for the hot path; see `Tally`. `bounds` are the upper bounds of its buckets, in ascending order."""

    def __init__(self, name: str, documentation: str, bounds: tuple[float, ...]) -> None:
        self._about = name, documentation
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        REGISTRY.register(self)

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def collect(self) -> Iterable[Metric]:
        up_to = zip(map(floatToGoString, (*self._bounds, inf)), accumulate(self._counts), strict=True)
        family = HistogramMetricFamily(*self._about)
        family.add_metric([], buckets=list(up_to), sum_value=self._sum)
        return (family,)


DELIVERIES = Tally("swarm_deliveries", "deliveries by verdict", "verdict")
DEAD_LETTERS = Counter("swarm_dead_letters", "messages buried, by reason", ["reason"])
COMMITS = Tally("swarm_commits", "commits by outcome", "outcome")
IN_FLIGHT = Gauge("swarm_in_flight", "deliveries and ticks being handled now")
WAITING = Gauge("swarm_waiting", "deliveries read ahead that wait for their swarm's turn")
REFUSALS = Tally("swarm_refusals", "what was refused because a quota was reached, by quota", "quota")
HANDLE_SECONDS = Spread(
    "swarm_handle_seconds",
    "from delivery to verdict",
    bounds=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30),
)
THOUGHTS = Counter("swarm_thoughts", "thoughts committed, by status", ["status"])
PERSONAS = Gauge("swarm_personas_hosted", "personas this runner hosts")
HTTP_REQUESTS = Counter("swarm_http_requests", "requests by route and status class", ["route", "status"])
STREAM_CLIENTS = Gauge("swarm_stream_clients", "open event streams")
STORE_USED = Gauge("swarm_store_used_ratio", "the log's bytes by the most it may have, 0 to 1")
HELD_BACK = Gauge("swarm_held_back", "1 while the store is so full that nothing new is taken in")
CLOCK_OFF = Gauge("swarm_clock_off_seconds", "this clock minus the broker's; positive: it is ahead")
MEMORY_BEHIND = Gauge("swarm_memory_behind_events", "events in the log that memory has not taken in yet")
MEMORY_BEHIND_S = Gauge("swarm_memory_behind_seconds", "how long the oldest of them has waited")
LOOP_LAG = Gauge("swarm_loop_lag_seconds", "how late the event loop was at its last beat")

_TRACEBACKS = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
"""The library's own defaults write every local variable of every frame into the log: tokens, seeds, whole settings."""


def configure_logging(*, service: str, instance: str, form: str) -> None:
    """structlog to standard error as JSON lines, or readable with `form="console"`."""
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if form == "console"
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _TRACEBACKS if form != "console" else structlog.processors.StackInfoRenderer(),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service, instance=instance)
    for library in ("nats", "urllib3"):  # they warn of each try again; what came of it is said by who asked
        logging.getLogger(library).setLevel(logging.ERROR)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
