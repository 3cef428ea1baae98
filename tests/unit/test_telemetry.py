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
