"""What a persona may do, and to what: scopes in one small pattern language, and never more in a child than in its parent.

Theory of operation. A scope names kinds of action, patterns of targets, methods and ranges of parameters; an action is within it when
all of them hold. `per_day` and `microusd_per_day` are how many actions one UTC day may have and what they may cost, together with those
of everybody below the persona; each limited scope that an action is within counts it. What no scope is about is beyond a persona that has
capabilities; one of which none are stated is narrowed by nothing, and is let do nothing by them either: then the policies and people alone
decide. `ask` marks what it may do when people said yes each time.

A pattern is literal text but for `*`, which is one or more characters of one segment (none of `/ ? & # %`), and a final `/**`, which
is anything below, without a query. So whatever path and query a request is to be free in is written in its pattern, and a scope that
is to let a tainted persona send something out names each parameter that it may send it in (`params`), as narrow as it likes. There is
one `*` a segment at most, so matching takes time linear in segments. A pattern is within another when the other matches it with each
wildcard read as a character that only an equal or wider wildcard matches: that may refuse what is narrower, and never passes what is wider.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared.contracts.ids import Token

MAX_SCOPES = 64
_ONE, _BELOW = "\x01", "\x02"
_STAR = r"[^/?&#%\x02]+"
_DECIMAL = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,6})?", re.ASCII)
_NEVER = re.compile(r"(?!)")
_ORIGIN = re.compile(r"(http://(?![^/]*:80/)|https://(?![^/]*:443/))[a-z0-9.\[\]:-]+/")
_TWO_STARS = re.compile(r"\*[^/?&]*\*")

Reach = Literal["own", "free", "ask", "unstated", "beyond"]
"""Where an action stands to its persona's scopes: its own folder; within one; within one, with people; it has none stated; in none."""
Pattern = Annotated[
    str, Meta(min_length=1, max_length=512, description="literal, `*` within a segment, `/**` at the end")
]
Kind = Annotated[str, Meta(pattern=r"^[a-z]+\.[a-z_]+$", max_length=48)]
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
Daily = Annotated[int, Meta(ge=0, le=2**53)]
Number = Annotated[int, Meta(ge=-(2**53), le=2**53)]
Given = str | int | bool | None


class Values(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one parameter may be; all that is said must hold, and one that is said nothing of may be anything, but must be there.

    `one_of` are texts as JSON writes them without quotes (`3`, `true`). `least` and `most` are for numbers, `like` for text. Of text of
    several lines, as lists are, each line is looked at.
    """

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    one_of: Annotated[tuple[Annotated[str, Meta(max_length=200)], ...], Meta(max_length=64)] = ()
    least: Number | None = None
    most: Number | None = None
    like: Pattern | None = None

    def admits(self, value: Given) -> bool:
        if isinstance(value, str) and "\n" in value:
            return all(self.admits(line) for line in value.split("\n"))
        if self.one_of and text_of(value) not in self.one_of:
            return False
        if self.least is not None or self.most is not None:
            number = _number(value)
            if number is None:
                return False
            if (self.least is not None and number < self.least) or (self.most is not None and number > self.most):
                return False
        return self.like is None or (isinstance(value, str) and matches(self.like, value))

    def within(self, other: Values) -> bool:
        """Whether the other admits all that this admits."""
        if other.one_of and not (self.one_of and set(self.one_of) <= set(other.one_of)):
            return False
        if other.least is not None and (self.least is None or self.least < other.least):
            return False
        if other.most is not None and (self.most is None or self.most > other.most):
            return False
        return other.like is None or (self.like is not None and narrower(self.like, other.like))


class Scope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Actions of these kinds at these targets: paths, URLs, names of commands, tools or recipients.

    `methods` are of `http.request` alone. Of parameters only those that `params` names are narrowed. `per_day` limits how many of them
    a UTC day may have, `microusd_per_day` what they may cost in all; without the latter what costs anything is asked about.
    """

    kinds: Annotated[tuple[Kind, ...], Meta(min_length=1, max_length=32)]
    targets: Annotated[tuple[Pattern, ...], Meta(min_length=1, max_length=64)]
    methods: Annotated[tuple[Method, ...], Meta(min_length=1, max_length=6)] = ("GET", "HEAD")
    params: Annotated[tuple[Values, ...], Meta(max_length=32)] = ()
    ask: bool = False
    per_day: Daily | None = None
    microusd_per_day: Daily | None = None

    def covers(self, kind: str, target: str, params: dict[str, Given]) -> bool:
        """Whether the action is within it; `target` as `scoped_name` spells it, `params` with their defaults."""
        return (
            kind in self.kinds
            and (kind != "http.request" or params.get("method") in self.methods)
            and all(limit.name in params and limit.admits(params[limit.name]) for limit in self.params)
            and any(matches(pattern, target) for pattern in self.targets)
        )

    def within(self, other: Scope, kind: str, target: Pattern) -> bool:
        """Whether the other covers all that this covers of one kind at one target."""
        named = {limit.name: limit for limit in self.params}
        return (
            kind in other.kinds
            and (self.ask or not other.ask)
            and (kind != "http.request" or set(self.methods) <= set(other.methods))
            and all(limit.name in named and named[limit.name].within(limit) for limit in other.params)
            and any(narrower(target, pattern) for pattern in other.targets)
            and _no_more(self.per_day, other.per_day)
            and _no_more(self.microusd_per_day or 0, other.microusd_per_day or 0)
        )


class Capabilities(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of one persona, for its whole life; without scopes it may do nothing but what is anybody's."""

    scopes: Annotated[tuple[Scope, ...], Meta(max_length=MAX_SCOPES)] = ()

    def covering(self, kind: str, target: str | None, params: dict[str, Given]) -> tuple[tuple[int, Scope], ...]:
        """The scopes it is within, each with its number; `target` None has no one spelling, and is in no scope."""
        if target is None:
            return ()
        return tuple((n, scope) for n, scope in enumerate(self.scopes) if scope.covers(kind, target, params))

    def reach(
        self,
        kind: str,
        target: str | None,
        params: dict[str, Given],
        *,
        carried: frozenset[str] = frozenset(),
        costs: bool = False,
    ) -> Reach:
        """Where an action stands that is not one's own. Free is one that carries something out only where the scope names all that it is
        `carried` in, and one that costs something only where it says what may be spent."""
        asks = {
            scope.ask
            or not carried <= {limit.name for limit in scope.params}
            or (costs and scope.microusd_per_day is None)
            for _, scope in self.covering(kind, target, params)
        }
        return "beyond" if not asks else "ask" if False not in asks else "free"


class DailyLimit(msgspec.Struct, frozen=True, kw_only=True):
    """A limit that an action counts against: of the scope of that number (from 0) of that persona, the proposer or one above it."""

    swarm: Token
    persona: Token
    scope: Daily
    per_day: Daily | None = None
    microusd_per_day: Daily | None = None


def excess(child: Capabilities | None, parent: Capabilities | None) -> tuple[str, ...]:
    """What of the child's is beyond its parent's, a few words each; empty: nothing. None: a child has its parent's, and a parent of
    which nothing is said has nothing to give that people are not asked about."""
    beyond: list[str] = []
    for scope in () if child is None else child.scopes:
        for kind in scope.kinds:
            for target in scope.targets:
                above = () if parent is None else parent.scopes
                if not (scope.ask if parent is None else any(scope.within(other, kind, target) for other in above)):
                    much = any(scope.within(_unlimited(other), kind, target) for other in above)
                    beyond.append(
                        f"{kind} at {target}"
                        + ("" if scope.ask else " without people")
                        + (_a_day(scope) if much else "")
                    )
    return tuple(beyond)


def _no_more(limit: int | None, other: int | None) -> bool:
    return other is None or (limit is not None and limit <= other)


def _unlimited(scope: Scope) -> Scope:
    return msgspec.structs.replace(scope, per_day=None, microusd_per_day=2**53)


def _a_day(scope: Scope) -> str:
    often = "as often as it likes" if scope.per_day is None else f"{scope.per_day} times a day"
    return f", {often} and for {scope.microusd_per_day or 0} microusd a day"


def matches(pattern: Pattern, text: str) -> bool:
    """Whether all of the text is as the pattern says."""
    return _compiled(pattern).fullmatch(text) is not None


def narrower(pattern: Pattern, other: Pattern) -> bool:
    """Whether the other pattern matches whatever this one matches; with neither is one that is no pattern compared."""
    if flaw_of(pattern):
        return False
    stem = pattern.removesuffix("**")
    return matches(other, stem.replace("*", _ONE) + (_BELOW if stem != pattern else ""))


def flaws(capabilities: Capabilities | None) -> tuple[str, ...]:
    """What in it is no pattern, and so matches nothing: a sentence each."""
    scopes = () if capabilities is None else capabilities.scopes
    patterns = [pattern for scope in scopes for pattern in scope.targets]
    patterns += [limit.like for scope in scopes for limit in scope.params if limit.like is not None]
    return tuple(f"{pattern[:60]!r} {why}" for pattern in patterns if (why := flaw_of(pattern)))


def flaw_of(pattern: str) -> str:
    """Why it is no pattern; empty when it is one."""
    stem = pattern.removesuffix("**")
    if not pattern.isprintable():
        return "holds characters that cannot be printed"
    if stem != pattern and stem and not stem.endswith("/"):
        return "has a `**` that neither stands alone nor after a /"
    if _TWO_STARS.search(stem):
        return "has more than one `*` between two of / ? &"
    if "://" in stem and not _ORIGIN.match(stem):
        return "does not write out scheme and host, in lower case, without a usual port"
    return ""


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    if flaw_of(pattern):
        return _NEVER
    stem = pattern.removesuffix("**")
    parts = _STAR.join(re.escape(part) for part in stem.split("*"))
    return re.compile(parts + (r"[^?#]+" if stem != pattern else ""))


def _number(value: Given) -> Decimal | None:
    """A decimal is text in an action."""
    if isinstance(value, str):
        return Decimal(value) if _DECIMAL.fullmatch(value) else None
    return None if value is None or isinstance(value, bool) else Decimal(value)


def text_of(value: Given) -> str:
    """As JSON writes it, without quotes."""
    return (
        {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else str(value)
    )
