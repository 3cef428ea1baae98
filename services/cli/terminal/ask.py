"""Asking the API from a command: one request, its answer, and the errors in the user's words."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import TypeVar

from services.cli.terminal.durations import seconds
from services.cli.terminal.target import USAGE, Stop, Target, call, rows

T = TypeVar("T")


def ask(target: Target, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, object]:
    result = wait(_once(target, method, path, json=body) if body is not None else _once(target, method, path))
    if not isinstance(result, dict):
        raise Stop(f"{path} answered something else than this version expects")
    return result


def ask_rows(target: Target, path: str, params: Mapping[str, str]) -> list[dict[str, object]]:
    return wait(_rows(target, path, params))


async def _rows(target: Target, path: str, params: Mapping[str, str]) -> list[dict[str, object]]:
    async with target.client() as client:
        return await rows(client, path, params)


async def _once(target: Target, method: str, path: str, **options: object) -> object:
    async with target.client() as client:
        return await call(client, method, path, **options)


def inner(value: Mapping[str, object], key: str) -> dict[str, object]:
    inner = value.get(key)
    return inner if isinstance(inner, dict) else {}


def span(text: str) -> float:
    try:
        return seconds(text)
    except ValueError as error:
        raise Stop(str(error), USAGE) from error


def wait(work: Coroutine[object, object, T]) -> T:
    return asyncio.run(work)
