"""What a bundle has decided already, by all that its policies read; so the same question about another target is not evaluated again.

Theory of operation. Cedar's policies are read once as JSON for which attributes of principal, resource and context they name. Whatever
else of a request differs cannot change the decision, as long as it has the same shape, which the schema judges. Whoever is named as a
whole (compared, looked for in a group, asked for its type) counts as a whole; so does everything where the policies say something that
is not understood here.

Invariant: two requests with one key get the same answer from the bundle.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from shared.metrics.table import POLICY_MEMO
from shared.policy.types import PolicyDecision

KEPT, ACTIONS = 4096, 256
_VARIABLES = ("principal", "action", "resource", "context")
_WHOLE = "*"
_LIMIT = 2**63


class Reads:
    """Attributes that policies name, by variable; `*` for all of it. Of what type somebody is counts always, and is not among them."""

    def __init__(self, policies: Iterable[dict[str, Any]]) -> None:
        """`policies`: in Cedar's JSON."""
        self.of: dict[str, set[str]] = {name: set() for name in _VARIABLES}
        for policy in policies:
            for name in ("principal", "resource"):
                scope = policy[name]
                if scope["op"] != "All" and (scope["op"] != "is" or "in" in scope):
                    self.of[name].add(_WHOLE)
            for condition in policy["conditions"]:
                self._look(condition["body"])

    def all_of(self, variable: str) -> bool:
        return _WHOLE in self.of[variable]

    def _look(self, node: object) -> None:
        if isinstance(node, list):
            for inner in node:
                self._look(inner)
        elif isinstance(node, dict):
            named = _attribute(node)
            if named is not None:
                self.of[named[0]].add(named[1])
            elif (variable := node.get("Var")) in _VARIABLES:
                self.of[variable].add(_WHOLE)
            else:
                for inner in node.values():
                    self._look(inner)


def _attribute(node: Mapping[str, object]) -> tuple[str, str] | None:
    """The variable and attribute of `variable.attribute`, or of `variable has attribute`."""
    access = node.get(".", node.get("has"))
    if len(node) != 1 or not isinstance(access, dict) or not isinstance(access.get("attr"), str):
        return None
    left = access.get("left")
    if not isinstance(left, dict) or left.keys() != {"Var"} or left["Var"] not in _VARIABLES:
        return None
    return left["Var"], access["attr"]


class Memo:
    """Decisions of one bundle. Those with errors are not kept; the one not asked for longest goes when there are too many."""

    def __init__(self, policies_json: str) -> None:
        self._policies = list(json.loads(policies_json)["staticPolicies"].values())
        self._reads: dict[object, Reads] = {}
        """By the action that is asked about."""
        self._known: OrderedDict[bytes, PolicyDecision] = OrderedDict()

    def key(self, query: Mapping[str, object], entities: list[dict[str, object]]) -> bytes:
        """All that a decision rests on."""
        reads = self._reads_of(query["action"])
        parts: list[object] = [query["action"]]
        context = query["context"]
        parts.append(context if reads.all_of("context") else _narrowed(context, reads.of["context"]))  # type: ignore[arg-type]
        by_uid = {name: query[name] for name in ("principal", "resource")}
        for entity in entities:
            variable = next((name for name, uid in by_uid.items() if entity["uid"] == uid), None)
            if variable is None or reads.all_of(variable):
                parts.append(entity)
            else:
                uid, attributes = entity["uid"], entity["attrs"]
                attributes = _narrowed(attributes, reads.of[variable])  # type: ignore[arg-type]
                parts.append([variable, uid["type"], attributes, entity["parents"]])  # type: ignore[index]
        parts += [uid if reads.all_of(name) else uid["type"] for name, uid in by_uid.items()]  # type: ignore[index]
        return msgspec.json.encode(parts)

    def _reads_of(self, action: object) -> Reads:
        """What those policies read that are not of another action alone."""
        name = msgspec.json.encode(action)
        if (known := self._reads.get(name)) is None:
            if len(self._reads) >= ACTIONS:
                self._reads.clear()
            scopes = ((policy, policy["action"]) for policy in self._policies)
            concerned = (policy for policy, scope in scopes if scope["op"] != "==" or scope.get("entity") == action)
            known = self._reads[name] = Reads(concerned)
        return known

    def get(self, key: bytes) -> PolicyDecision | None:
        known = self._known.get(key)
        POLICY_MEMO.by["miss" if known is None else "hit"] += 1
        if known is not None:
            self._known.move_to_end(key)
        return known

    def put(self, key: bytes, decision: PolicyDecision) -> None:
        if decision.errors:
            return
        self._known[key] = decision
        if len(self._known) > KEPT:
            self._known.popitem(last=False)


def _narrowed(attributes: Mapping[str, object], read: set[str]) -> dict[str, object]:
    """What is read as it is, and of the rest its shape."""
    return {name: value if name in read else _shape(value) for name, value in attributes.items()}


def _shape(value: object) -> object:
    """What a schema can tell of a value, and no more; of what Cedar parses again everything."""
    match value:
        case bool():
            return "b"
        case str():
            return "s"
        case int():
            return "i" if -_LIMIT <= value < _LIMIT else value
        case list():
            return list({msgspec.json.encode(_shape(one)): _shape(one) for one in value}.values())
        case dict() if not any(name.startswith("__") for name in value):
            return {name: _shape(inner) for name, inner in value.items()}
        case _:
            return value
