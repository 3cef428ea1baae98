"""Waiting that an end cuts short."""

from __future__ import annotations

import asyncio


async def ended(ending: asyncio.Event, within_s: float) -> bool:
    """Whether it ends within so many seconds; returns as soon as it does."""
    try:
        async with asyncio.timeout(within_s):
            return await ending.wait()
    except TimeoutError:
        return ending.is_set()
