"""All hands, by the name in a kind's row."""

from __future__ import annotations

from services.actuator.hands.bridge import BridgeHand
from services.actuator.hands.commands import CommandHand
from services.actuator.hands.hand import Hand
from services.actuator.hands.nothing import NothingHand
from services.actuator.hands.notices import NoticeHand
from services.actuator.hands.outbound import Outbound, OutboundHand
from services.actuator.hands.tools import ToolHand
from services.actuator.hands.workspace import Workspace, WorkspaceHand


def hands(
    workspace: Workspace,
    outbound: Outbound,
    commands: CommandHand | None = None,
    tools: ToolHand | None = None,
    bridge: BridgeHand | None = None,
    notices: NoticeHand | None = None,
) -> dict[str, Hand]:
    """Every name that a row of `shared.contracts.action_kinds` has, but for what the actuator says itself; without rows by none."""
    return {
        "bridge": bridge or BridgeHand({}, workspace.receipts),
        "commands": commands or CommandHand({}, workspace.receipts),
        "notices": notices or NoticeHand({}, workspace.receipts),
        "nothing": NothingHand(),
        "outbound": OutboundHand(outbound),
        "tools": tools or ToolHand({}, workspace.receipts),
        "workspace": WorkspaceHand(workspace),
    }
