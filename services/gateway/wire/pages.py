"""Pages of lists: `limit`, `after`, and a `Link` to the next one.

A list stays a plain array. A cursor is the place of a page's last item in the order of its list, so that what is new or gone in
the meantime shifts nothing: the next page has exactly what stands after that place now.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec
from litestar import Response

from services.gateway.wire.problems import AnyRequest, Problem

MAX = 1000
FEW = 100
"""Of a list that is ours."""
MANY = MAX
"""Of a list of the base contract, whose clients know of no further page."""
V = TypeVar("V")
K = TypeVar("K")


class Paging(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says of the page it wants."""

    limit: int | None
    after: str | None

    def place(self, name: str, kind: type[K]) -> K | None:
        """The place to go on after, in the list of that name; None is its beginning. Raises `Problem` (422)."""
        if self.after is None:
            return None
        try:
            raw = base64.urlsafe_b64decode(self.after + "=" * (-len(self.after) % 4))
            cursor = msgspec.json.decode(raw, type=tuple[str, kind])  # type: ignore[valid-type]
        except (ValueError, msgspec.MsgspecError):
            cursor = ("", None)
        if cursor[0] != name:
            detail = f"after: {self.after[:60]!r} is no cursor of this list; take it from the Link of the page before"
            raise Problem(422, detail, reason="bad_cursor")
        place: K = cursor[1]
        return place

    def of(
        self, request: AnyRequest, name: str, items: Iterable[tuple[object, V]], default: int = FEW
    ) -> Response[list[V]]:
        """The page of `items`, each with its place: those after the place asked for, in order. No more are made than needed."""
        limit = min(self.limit or default, MAX)
        page = list(islice(items, limit + 1))
        shown = page[:limit]
        headers = {}
        if len(page) > limit:
            raw = msgspec.json.encode((name, shown[-1][0]))
            after = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
            headers["Link"] = f'<{_next(request, limit, after)}>; rel="next"'
        return Response([view for _, view in shown], headers=headers)


def _next(request: AnyRequest, limit: int, after: str) -> str:
    """The same question for the next page. A token is never in it: a link ends up in logs."""
    kept: list[tuple[str, Any]] = [
        (k, v) for k, v in request.query_params.multi_items() if k not in ("limit", "after", "token")
    ]
    return f"{request.scope['path']}?{urlencode([*kept, ('limit', limit), ('after', after)])}"
