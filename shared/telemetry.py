"""Logging, set up once."""

from __future__ import annotations

import logging
import sys

import structlog
import structlog.tracebacks

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
