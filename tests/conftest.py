"""For all tests: a property that takes long on a busy machine is no failure of the property."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop
from hypothesis import settings

settings.register_profile("busy", deadline=None)
settings.load_profile("busy")


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the loop that the services run on."""
    return {"loop": asyncio.new_event_loop if "plain_loop" in item.keywords else uvloop.new_event_loop}
