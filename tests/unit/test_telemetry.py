"""What a log line holds, and what it must not."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULT = """
import structlog
from shared.telemetry import configure_logging

configure_logging(service="gateway", instance="gateway-1", form="FORM")

def ask(token):
    raise ValueError("the answer is wrong")

try:
    ask("a-bearer-token")
except ValueError:
    structlog.get_logger().exception("request_failed")
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_logged_exception_has_its_frames_and_none_of_their_values(form: str) -> None:
    fault = FAULT.replace("FORM", form)
    told = subprocess.run([sys.executable, "-c", fault], capture_output=True, text=True, timeout=60, check=True).stderr
    assert "ValueError" in told
    assert "ask" in told
    assert "a-bearer-token" not in told


def test_a_store_that_is_asked_again_is_not_warned_of_at_each_try() -> None:
    script = (
        "import asyncio; from shared.telemetry import configure_logging; from shared.memory.cold import S3Cold\n"
        "configure_logging(service='s', instance='s-1', form='json')\n"
        "store = S3Cold('127.0.0.1:9', 'bucket', access_key='k', secret_key='s')\n"
        "print(asyncio.run(store.problem()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "127.0.0.1" in done.stdout
    assert done.stderr == ""
