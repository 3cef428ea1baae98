"""Sending to Apprise targets, whose URLs are secrets: nothing that is said here has one, and what Apprise logs is read here and dropped.

Apprise says of a target that it was sent or that it was not, and why in its log alone. What it did not send because nobody could be
connected to, or because the other side said no, was not sent; when the answer did not come, or is a 5xx, nobody can tell.
Blocking: call in threads. The extra `notify` is imported on first use.
"""

from __future__ import annotations

import importlib
import logging
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

Sent = Literal["sent", "refused", "no_answer"]
_LOGGER = logging.getLogger("apprise")
_NAME = "perpetual-persona-swarms"
_LOST = re.compile(r"onnection error|Unhandled Notification Exception|\berror=5\d\d\b")
"""Apprise's words for an exchange that broke off, and for an answer that may have had its effect."""
_NOT_CONNECTED = re.compile(r"NewConnectionError|ConnectTimeoutError|NameResolutionError")
"""urllib3's words for one that did not begin."""


class NotInstalled(Exception):
    """The extra is not there."""


def flaw_of_target(url: str) -> str:
    """Why it is no target, without it; empty when it is one. Raises `NotInstalled`."""
    return "" if _opened(_library(), url) is not None else "is no Apprise URL"


def send(urls: Sequence[str], title: str, body: str, told: Callable[[Sent], None], over: threading.Event) -> None:
    """To one after the other, each once, `told` of each; until it is `over`. Raises nothing of its own."""
    for url in urls:
        if over.is_set():
            return
        told(_sent(url, title, body))


def _sent(url: str, title: str, body: str) -> Sent:
    with _heard() as heard:
        try:
            apprise = _library()
            service = _opened(apprise, url)
            if service is None:
                return "refused"
            one = apprise.Apprise(asset=service.asset)
            one.add(service)
            if one.notify(body=body, title=title, body_format=apprise.NotifyFormat.TEXT):
                return "sent"
        except Exception:  # a plugin's own; its words may have the URL
            return "no_answer"
    return "no_answer" if heard.lost > heard.not_begun else "refused"


def _opened(apprise: Any, url: str) -> Any:
    """The service, once, without tries again and without taking a failure for none; None: the URL is none."""
    asset = apprise.AppriseAsset(
        app_id=_NAME, app_desc=_NAME, async_mode=False, http_redirects=False, storage_mode="memory"
    )
    service = apprise.Apprise.instantiate(url, asset=asset)
    if service is not None:
        service.retry, service.optional = 0, False
    return service


def _library() -> Any:
    """Apprise, with a log that goes nowhere."""
    _LOGGER.propagate = False
    if not _LOGGER.handlers:
        _LOGGER.addHandler(logging.NullHandler())
    try:
        return importlib.import_module("apprise")
    except ImportError as error:
        raise NotInstalled(
            "the extra `notify` is not installed: pip install 'perpetual-persona-swarms[notify]'"
        ) from error


class _Heard(logging.Handler):
    """How many exchanges of the thread that made it were lost, and how many of those did not begin."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = self.not_begun = 0
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            said = record.getMessage()
            self.lost += bool(_LOST.search(said))
            self.not_begun += bool(_NOT_CONNECTED.search(said))


@contextmanager
def _heard() -> Iterator[_Heard]:
    handler = _Heard()
    _LOGGER.setLevel(logging.DEBUG)
    _LOGGER.addHandler(handler)
    try:
        yield handler
    finally:
        _LOGGER.removeHandler(handler)
