"""Events at the edges of what decodes: for any class, JSON whose every field is as small, as large or as odd as its type allows.

Made from the types themselves, so that a new class or field is tried as soon as it is there. Ids are few, so that events of one
history meet in one persona, one proposal, one check.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import inspect

from shared.contracts.catalog import CLASSES, subject_of
from shared.contracts.envelope import MAX_BODY_BYTES, SCHEMA_PREFIX, Recorded, decode

STORED = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ODD = ("a", "0", " ", "\x00", "\n", "é", "‮", "😀", "<b>", "%", '"', "\\", "|")
TOKENS = ("a", "p01", "all", "0", "0" + "-" * 47, "z" * 48)
IDS = ("!", "~" * 64, "e1", "0199a7b2-0000-7000-8000-00000000000a")
INSTANTS = (
    "2000-01-01T00:00:00Z",
    "2000-01-01T23:59:00+23:59",
    "2199-12-31T23:59:59.999999Z",
    "2199-12-31T00:00:59.999999-23:59",
    "2026-11-22T12:00:00.000001+05:45",
)
PATTERNS: dict[str, tuple[str, ...]] = {
    "(?!(core|": TOKENS,
    "(core|[cr][0-9]{1,6})": ("core", "r1", "r999999", "c1"),
    "[a-z0-9][a-z0-9-]": TOKENS,
    "[!-~]{1,64}": IDS,
    "[!-~]{1,200}": ("!", "/" * 200),
    "[0-9a-f]{16}": ("0" * 16, "f" * 16, "0123456789abcdef"),
    "[0-9a-f]{64}": ("0" * 64, "f" * 64, "0123456789abcdef" * 4),
    "[a-z0-9_]{1,64}": ("a", "_" * 64),
    "[a-z]+": ("file.write", "z.z", "http.request", "a." + "_" * 40),
}
"""Samples by a part of the pattern; a pattern that none knows fails the test that meets it."""

FEW = 3
MANY_BYTES = 24_000
"""Of one list or text, so that a body with several large fields still fits."""


class Extremes:
    """Values of any type of the contracts, from a seeded `random`."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def event(self, name: str, seq: int) -> Recorded:
        """An event of the class, as the log holds it: what was made here has been decoded."""
        while True:
            body = json.dumps(self.of(inspect.type_info(CLASSES[name]))).encode()
            if len(body) <= MAX_BODY_BYTES:
                break
        event = msgspec.json.decode(body, type=CLASSES[name])
        subject = subject_of(event)
        return decode(subject, self._headers(name, seq), body, seq=seq, stored_at=STORED + timedelta(seconds=seq))

    def _headers(self, name: str, seq: int) -> dict[str, str]:
        pick = self._dice.choice
        headers = {
            "ce-specversion": "1.0",
            "ce-id": f"{seq}-".ljust(pick((8, 64)), "~"),
            "ce-type": name,
            "ce-source": pick(("!", "gateway/g-1", "/" * 200)),
            "ce-time": pick(INSTANTS),
            "ce-correlationid": pick(IDS),
            "ce-dataschema": SCHEMA_PREFIX + name,
        }
        optional = {"ce-causationid": pick(IDS), "ce-charter": "f" * 64, "ce-traceparent": "t" * 200}
        return headers | {k: v for k, v in optional.items() if pick((True, False))}

    def of(self, kind: inspect.Type) -> object:
        """A JSON value that the type takes."""
        pick = self._dice.choice
        match kind:
            case inspect.Metadata(type=inner):
                return self.of(inner)
            case inspect.NoneType():
                return None
            case inspect.BoolType():
                return pick((True, False))
            case inspect.IntType(ge=ge, le=le):
                low, high = -(2**53) if ge is None else ge, 2**53 if le is None else le
                return pick((low, high, min(high, low + 1), min(high, max(low, 20))))
            case inspect.FloatType(ge=ge, le=le):
                assert ge is not None and le is not None, "a float without bounds"
                return pick((ge, le, (ge + le) / 2, min(le, max(ge, 5e-324)), min(le, max(ge, -0.0))))
            case inspect.StrType(min_length=least, max_length=most, pattern=None):
                return self._text(least or 0, 2000 if most is None else most)
            case inspect.StrType(max_length=most, pattern=pattern):
                assert pattern is not None
                samples = next(found for part, found in PATTERNS.items() if part in pattern)
                return pick([s for s in samples if most is None or len(s) <= most])
            case inspect.DateTimeType():
                return pick(INSTANTS)
            case inspect.LiteralType(values=values):
                return pick(values)
            case inspect.VarTupleType(item_type=item, min_length=least, max_length=most):
                assert most is not None, "a list without a bound"
                return self._list(lambda: self.of(item), least or 0, most)
            case inspect.DictType(key_type=key, value_type=value, max_length=most):
                assert most is not None, "a map without a bound"
                return {str(self.of(key)): self.of(value) for _ in range(pick((0, 1, min(most, FEW))))}
            case inspect.UnionType(types=types):
                return self.of(pick(types))
            case inspect.StructType(cls=cls, fields=fields):
                tag = {cls.__struct_config__.tag_field: cls.__struct_config__.tag} if cls.__struct_config__.tag else {}
                named = {f.encode_name: f for f in fields if f.required or pick((True, True, False))}
                return tag | {name: self.of(f.type) for name, f in named.items()}
            case _:
                raise AssertionError(f"nobody knows how to make a {kind}")

    def _text(self, least: int, most: int) -> str:
        length = self._dice.choice((least, max(least, 1), most))
        letter = self._dice.choice(ODD)
        room = MANY_BYTES // len(json.dumps(letter))
        return (letter * most)[: max(least, min(length, room))]

    def _list(self, one: Callable[[], object], least: int, most: int) -> list[object]:
        first = one()
        size = len(json.dumps(first)) + 2
        count = self._dice.choice(
            (least, max(least, 1), max(least, min(FEW, most)), max(least, min(most, MANY_BYTES // size)))
        )
        if count <= FEW:
            return [first, *(one() for _ in range(count - 1))] if count else []
        return [first] * count
