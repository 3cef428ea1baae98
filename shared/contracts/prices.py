"""What an action costs, by the operator's list."""

from __future__ import annotations

import re

import msgspec

from shared.contracts.action import Action
from shared.contracts.capabilities import Pattern, flaw_of, matches
from shared.contracts.targets import scoped_url

_ROW = re.compile(r"([a-z]+\.[a-z_]+) (\S+)=([0-9]{1,15})")


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """Of one kind at targets of one pattern, in millionths of a dollar."""

    kind: str
    target: Pattern
    microusd: int


def prices_of(rows: tuple[str, ...]) -> tuple[Price, ...]:
    """From rows as `http.request https://api.example.org/**=2000`. Raises `ValueError`, with the row."""
    return tuple(map(_price, rows))


def price_of(prices: tuple[Price, ...], action: Action) -> int:
    """The first that fits, else 0. A URL that has no one spelling costs what the dearest of its kind does."""
    mine = [price for price in prices if price.kind == action.kind]
    if not mine:
        return 0
    try:
        target = scoped_url(action.target) if action.kind == "http.request" else action.target
    except (ValueError, KeyError):
        target = None
    if target is None:
        return max(price.microusd for price in mine)
    return next((price.microusd for price in mine if matches(price.target, target)), 0)


def _price(row: str) -> Price:
    found = _ROW.fullmatch(row)
    if found is None:
        raise ValueError(
            f"{row[:100]!r} is no price: KIND TARGET=MICROUSD, as `http.request https://api.example.org/**=2000`"
        )
    if why := flaw_of(found[2]):
        raise ValueError(f"{row[:100]!r} {why}")
    return Price(kind=found[1], target=found[2], microusd=int(found[3]))
