"""The rows of the operator's files, for all kinds of action that have some."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from shared.contracts.action import Action
from shared.contracts.action_kinds import KINDS
from shared.contracts.row import Row
from shared.outside import subjects
from shared.outside.mcp import servers
from shared.outside.mcp.servers import Server
from shared.outside.subjects import Subject
from shared.settings import Settings


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator named."""

    servers: Mapping[str, Server] = {}
    subjects: Mapping[str, Subject] = {}

    def row(self, action: Action) -> Row | str | None:
        """What the action is judged by, or in a sentence why it may not be; None where its kind has no rows."""
        if action.kind not in KINDS or not KINDS[action.kind].rows:
            return None
        if action.kind == "nats.publish":
            return subjects.row_of(self.subjects, action)
        return servers.row_of(self.servers, action)


def rows_of(settings: Settings) -> Rows:
    """As the files stand. Raises `SettingsError`."""
    named = subjects.subjects_of(settings.bridge.file, settings.nats.url)
    return Rows(servers=servers.servers_of(settings.mcp.file), subjects=named)
