"""Bodies are read strictly: a number is no text, "true" is no truth value, "null" is a word."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request
from litestar.datastructures import State

from services.gateway.wire.problems import Field, Problem


class StrictRequest(Request[None, None, State]):
    """The framework would take what can be made to fit."""

    async def json(self) -> Any:
        """The body as the route declares it. Raises `Problem` (422) that names the place where it does not match."""
        field = self.route_handler.parsed_data_field
        try:
            return msgspec.json.decode(await self.body() or b"null", type=Any if field is None else field.annotation)
        except msgspec.ValidationError as error:
            said, _, place = str(error).partition(" - at `$")
            where = place.rstrip("`").lstrip(".") or "body"
            raise Problem(422, f"{where}: {said}", errors=(Field(field=where, message=said),)) from error
        except msgspec.DecodeError as error:
            raise Problem(422, f"the body is no JSON: {error}") from error
