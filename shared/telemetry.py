"""Metric names, all of them, and logging set up once. Labels are bounded: verdicts, reasons, classes; never ids."""

from __future__ import annotations

import logging
import sys

import structlog
import structlog.tracebacks
from prometheus_client import Counter, Gauge, Histogram

DELIVERIES = Counter("swarm_deliveries", "deliveries by verdict", ["verdict"])
DEAD_LETTERS = Counter("swarm_dead_letters", "messages buried, by reason", ["reason"])
COMMITS = Counter("swarm_commits", "commits by outcome", ["outcome"])
IN_FLIGHT = Gauge("swarm_in_flight", "deliveries being handled now")
HANDLE_SECONDS = Histogram(
    "swarm_handle_seconds",
    "from delivery to verdict",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30),
)
THOUGHTS = Counter("swarm_thoughts", "thoughts committed, by status", ["status"])
PERSONAS = Gauge("swarm_personas_hosted", "personas this runner hosts")
HTTP_REQUESTS = Counter("swarm_http_requests", "requests by route and status class", ["route", "status"])
STREAM_CLIENTS = Gauge("swarm_stream_clients", "open event streams")

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
    logging.getLogger("nats").setLevel(logging.ERROR)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
