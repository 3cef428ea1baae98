"""What an argument may be, as the operator's rows say: of commands, tools, subjects, templates and probes alike.

An argument is a scalar of an action's parameters, so a decimal is text, and a list is text of a line each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared.contracts.action import Scalar
from shared.contracts.text import MAX_TITLE, title_trouble

MAX_ARGUMENTS = 32
MAX_CHARS = 20_000
_DECIMAL = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,6})?")

Value = str | int | float | bool | list["Value"] | None
"""What an argument is outside, as JSON has it."""


class Argument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one argument may be, one of: one of some texts; a whole number in a range, or with `places` a decimal of so many; text that
    all of a pattern matches (`re`); any text of at most `chars`; a `title` (up to 120 printable characters without links and markup); a
    `time` (RFC 3339); a `flag` (true or false).

    `many`: up to so many of those, a line each. `optional`: it may be left out.
    """

    about: Annotated[str, Meta(max_length=300)] = ""
    one_of: Annotated[tuple[str, ...], Meta(max_length=256)] = ()
    least: int | None = None
    most: int | None = None
    places: Annotated[int, Meta(ge=0, le=6)] = 0
    like: str | None = None
    chars: Annotated[int, Meta(ge=0, le=MAX_CHARS)] = 0
    title: bool = False
    time: bool = False
    flag: bool = False
    many: Annotated[int, Meta(ge=0, le=64)] = 0
    optional: bool = False

    def trouble(self, value: Scalar) -> str:
        """Why the value is none of them; empty when it is one."""
        if not self.many:
            return self._trouble(value)
        if not isinstance(value, str):
            return "is no text of a line each"
        each = value.split("\n")
        if len(each) > self.many:
            return f"has {len(each)} lines, the limit is {self.many}"
        return next((why for one in each if (why := self._trouble(one))), "")

    def _trouble(self, value: Scalar) -> str:
        if self.flag:
            return "" if isinstance(value, bool) else "is neither true nor false"
        if self.least is not None and self.most is not None:
            number = self._number(value)
            if number is not None and self.least <= number <= self.most:
                return ""
            return f"is no number of {self.least} to {self.most}" + f", with {self.places} places" * bool(self.places)
        if not isinstance(value, str):
            return "is no text"
        if self.time:
            return "" if _is_time(value) else "is no time, as 2026-01-31T12:00:00Z"
        if self.title:
            return title_trouble(value)
        if self.one_of:
            return "" if value in self.one_of else f"is none of {', '.join(self.one_of[:8])}"
        if self.chars:
            return "" if len(value) <= self.chars else f"has {len(value)} characters, the limit is {self.chars}"
        return "" if self.like and re.fullmatch(self.like, value, re.ASCII) else "is not as its pattern says"

    def outside(self, value: Scalar) -> Value:
        """As it is told outside; without trouble."""
        if self.many and isinstance(value, str):
            return [self._outside(one) for one in value.split("\n")]
        return self._outside(value)

    def _outside(self, value: Scalar) -> Value:
        number = None if self.least is None else self._number(value)
        return value if number is None else float(number) if self.places else int(number)

    def _number(self, value: Scalar) -> Decimal | None:
        """A whole one as such; one with places, or of a list, is text."""
        if isinstance(value, int) and not isinstance(value, bool):
            return Decimal(value)
        if not isinstance(value, str) or not (self.places or self.many) or not _DECIMAL.fullmatch(value):
            return None
        return Decimal(value) if len(value.partition(".")[2]) <= self.places else None

    def flaw(self) -> str:
        """What is wrong with the row; empty: nothing."""
        number = self.least is not None
        said = (bool(self.one_of), number, self.like is not None, self.chars > 0, self.title, self.time, self.flag)
        if sum(said) != 1 or number != (self.most is not None) or (self.places and not number):
            return "has one of one_of, least with most (and places), like, chars, title, time, flag"
        if self.many and (self.flag or self.chars):
            return "has many of what a line cannot hold"
        try:
            re.compile(self.like or "")
        except re.error as error:
            return f"like is no pattern: {error}"
        return ""

    @property
    def type(self) -> Literal["string", "integer", "boolean"]:
        """The JSON type of it as a parameter of an action."""
        if self.flag:
            return "boolean"
        return "integer" if self.least is not None and not self.places and not self.many else "string"

    @property
    def said(self) -> str:
        """What it may be, in words."""
        if self.one_of:
            what = "one of " + ", ".join(self.one_of)
        elif self.least is not None:
            what = f"a number of {self.least} to {self.most}" + f", {self.places} places" * bool(self.places)
        elif self.like is not None:
            what = f"text like {self.like}"
        elif self.title:
            what = f"one line of up to {MAX_TITLE} printable characters, without links, markup, underscores and @"
        else:
            what = "a time" if self.time else "true or false" if self.flag else f"text of up to {self.chars} characters"
        what = f"up to {self.many}, a line each: {what}" if self.many else what
        return f"{self.about}: {what}" if self.about else what


def trouble_of(row: Mapping[str, Argument], given: Mapping[str, Scalar]) -> str:
    """In a sentence what is wrong with the arguments of a row; empty: nothing."""
    needed = {name for name, argument in row.items() if not argument.optional}
    if odd := sorted((needed - given.keys()) | (given.keys() - row.keys())):
        return f"its arguments are {', '.join(sorted(row)) or 'none'}; missing or too many: {odd[0]}"
    return next((f"{name} {why}" for name, value in given.items() if (why := row[name].trouble(value))), "")


def flaw_of(row: Mapping[str, Argument]) -> str:
    """What is wrong with the arguments of a row; empty: nothing."""
    return next((f"{name}: {why}" for name, argument in row.items() if (why := argument.flaw())), "")


def _is_time(value: str) -> bool:
    try:
        return len(value) <= 40 and value.isascii() and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False
