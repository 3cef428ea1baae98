"""What schemathesis is not held to, and why: loaded by it as its hooks."""

import uuid
from typing import Any

import schemathesis
from schemathesis import Case, HookContext


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: object) -> None:
    """A key stands for one request, and a second body under it is refused, as promised; it would use one for all.

    `5.0` is an integer to JSON Schema; the API wants those without a point.
    """
    if case.headers and case.headers.get("Idempotency-Key"):
        case.headers["Idempotency-Key"] = str(uuid.uuid4())
    if isinstance(case.body, dict | list):
        case.body = _without_points(case.body)


def _without_points(value: Any) -> Any:
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {name: _without_points(one) for name, one in value.items()}
        case list():
            return [_without_points(one) for one in value]
    return value
