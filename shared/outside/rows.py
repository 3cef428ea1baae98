"""The rows of the operator's files, for all kinds of action that have some."""

from __future__ import annotations

import msgspec

from shared.contracts.action import Action
from shared.contracts.action_kinds import KINDS
from shared.contracts.row import Row
from shared.outside.mcp.servers import Server, row_of, servers_of
from shared.settings import Settings


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator named."""

    servers: dict[str, Server] = {}

    def row(self, action: Action) -> Row | str | None:
        """What the action is judged by, or in a sentence why it may not be; None where its kind has no rows."""
        if action.kind not in KINDS or not KINDS[action.kind].rows:
            return None
        return row_of(self.servers, action)


def rows_of(settings: Settings) -> Rows:
    """As the files stand. Raises `SettingsError`."""
    return Rows(servers=servers_of(settings.mcp.file))
