"""Tools of MCP servers that the operator named, with arguments within their bounds; none other, and none that changed.

What can be told afterwards: a receipt is placed before the tool is called, so an inquiry fences off what was not. What was called and
gave no answer is unknown, whatever its row says of it; what the server itself says it did not do, or calls an error, is a failure.
"""

from __future__ import annotations

import hashlib

from services.actuator.hands.begun import begin, fenced
from services.actuator.hands.hand import Task, cannot_tell, failed
from services.actuator.hands.receipts import Receipts
from services.actuator.terms import Outcome
from shared.contracts.events import Receipt
from shared.contracts.kinds.arguments import trouble_of
from shared.contracts.kinds.tools import McpCall
from shared.outside.mcp.servers import Named, Server, named
from shared.outside.mcp.session import Answered, NoServer, Refused, Talk, talk
from shared.outside.sandbox import NoSandbox, available


class ToolHand:
    """Calls the tools that have rows. `trouble` says what it cannot do, if anything; `look` finds out whether there is a sandbox, where
    one is needed."""

    def __init__(self, servers: dict[str, Server], receipts: Receipts) -> None:
        self._servers, self.receipts = servers, receipts
        self._no_sandbox: str | None = None
        self._changed: dict[str, str] = {}

    @property
    def trouble(self) -> str | None:
        if self._no_sandbox is not None:
            return self._no_sandbox
        return "; ".join(self._changed.values()) or None

    async def look(self) -> None:
        try:
            if any(server.argv for server in self._servers.values()):
                await available()
            self._no_sandbox = None
        except (NoSandbox, OSError) as error:
            self._no_sandbox = f"no tool of a server that is a process is called: {error}"

    async def act(self, task: Task) -> Outcome:
        params, found = _of(task), named(self._servers, task.target)
        if found is None:
            return failed("not_named", f"the operator has named no tool {task.target}")
        if found.row.digest != task.job.row:
            return failed("row_changed", f"{task.target} was judged by another row than the one here")
        if trouble := trouble_of(found.tool.arguments, params.arguments):
            return failed("bad_params", f"{task.target}: {trouble}")
        if found.server.argv:
            await self.look()
            if self._no_sandbox is not None:
                return failed("no_sandbox", self._no_sandbox)
        call = _Call(self, found, task, params)
        try:
            await talk(found.server, min(found.tool.timeout_s, task.timeout_s), call.made)
        except Refused as error:
            call.outcome = failed("tool_refused", f"{task.target}: {error}")
        except NoServer as error:
            if call.outcome is None and call.begun:
                return cannot_tell(f"{task.target} was called and gave no answer: {error}", "no_answer")
            return call.outcome or failed("not_connected", f"{task.target}: {error}")
        return call.outcome or failed("not_begun", task.target)

    async def pinned(self, found: Named, talk: Talk) -> Outcome | None:
        """Why it may not be called, by what its server says of it now."""
        name = found.name.partition("/")[2]
        about = next((one for one in await talk.tools() if one.name == name), None)
        if about is None:
            said = f"{found.name} is not among the tools of its server"
        elif about.digest != found.tool.digest:
            said = f"{found.name} is no longer what its row pins: its digest is now {about.digest}"
        else:
            self._changed.pop(found.name, None)
            return None
        self._changed[found.name] = said
        return failed("tool_changed", said)

    async def inquire(self, task: Task) -> Outcome:
        told = await fenced(self.receipts, task)
        return told or cannot_tell(f"{task.target} was called, and nobody saw its answer")


class _Call:
    """One call in a conversation; `begun` once it may have had an effect."""

    def __init__(self, hand: ToolHand, found: Named, task: Task, params: McpCall) -> None:
        self._hand, self._found, self._task, self._params = hand, found, task, params
        self.begun = False
        self.outcome: Outcome | None = None

    async def made(self, talk: Talk) -> None:
        tool = self._found.tool
        self.outcome = await self._hand.pinned(self._found, talk) or await begin(self._hand.receipts, self._task)
        if self.outcome is not None:
            return
        self.begun = True
        arguments = {name: tool.arguments[name].outside(value) for name, value in self._params.arguments.items()}
        answered = await talk.call(self._found.name.partition("/")[2], arguments, tool.output_bytes)
        self.outcome = _outcome(self._found, answered)


def _outcome(found: Named, answered: Answered) -> Outcome:
    body = answered.text.encode(errors="replace")
    cut = len(body) > found.tool.output_bytes
    text = body[: found.tool.output_bytes].decode(errors="ignore")
    size = min(len(body), found.tool.output_bytes)
    receipt = Receipt(target=found.name, sha256=None if cut else hashlib.sha256(body).hexdigest(), size_bytes=size)
    said = f"{found.name} answered with {size} bytes" + (", cut off there" if cut else "")
    if answered.failed:
        return Outcome(
            outcome="failure",
            summary=f"{said}, and calls that an error",
            error="tool_error",
            receipt=receipt,
            output=text,
        )
    return Outcome(outcome="success", summary=said, receipt=receipt, output=text)


def _of(task: Task) -> McpCall:
    if not isinstance(task.params, McpCall):
        raise TypeError(f"{type(task.params).__name__} is no call of a tool")
    return task.params
