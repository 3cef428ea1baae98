"""Notices to people outside, by templates that the operator named; none other, and to nobody but whom the row names.

What can be told afterwards: a receipt is placed right before the first target is told, so an inquiry fences off what was not. What began
and was not seen to end is unknown, and so is a target that gave no answer. Where only some were told it is a failure that says how many.
No word of a target is told on, for it may have its URL, which is a secret.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Mapping

from services.actuator.hands.begun import begin, fenced
from services.actuator.hands.hand import Task, cannot_tell, failed
from services.actuator.hands.receipts import Receipts
from services.actuator.terms import Outcome
from shared.contracts.events import Receipt
from shared.contracts.kinds.notices import NoticeSend
from shared.outside.apprising import Sent, send
from shared.outside.notices import Notice

AT_ONCE = 8
"""Threads. One that hangs past its time-out keeps its own until it ends, and no other hand's."""


class NoticeHand:
    """Sends what has rows."""

    def __init__(self, rows: Mapping[str, Notice], receipts: Receipts) -> None:
        self._rows, self._receipts = rows, receipts
        self._free = asyncio.Semaphore(AT_ONCE)

    async def act(self, task: Task) -> Outcome:
        params, row = _of(task), self._rows.get(task.target)
        if row is None:
            return failed("not_named", f"the operator has named no notice {task.target}")
        if trouble := row.trouble(params.arguments):
            return failed("bad_params", f"{task.target}: {trouble}")
        title, body = row.filled(params.arguments)
        said: list[Sent] = []
        over, begun = threading.Event(), False
        try:
            async with asyncio.timeout(min(row.timeout_s, task.timeout_s)):
                await self._free.acquire()
                try:
                    refused = await begin(self._receipts, task)
                except BaseException:
                    self._free.release()
                    raise
                if refused is not None:
                    self._free.release()
                    return refused
                begun = True
                await self._send(row, title, body, said, over)
        except TimeoutError:
            if not begun:
                return failed("not_begun", f"{task.target}: there was no time to begin")
        finally:
            over.set()
        return _outcome(task.target, row, title, body, tuple(said))

    async def _send(self, row: Notice, title: str, body: str, said: list[Sent], over: threading.Event) -> None:
        """Until the thread has ended. It is no thread of the pool, which waits for all of its own when the process stops."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def ended() -> None:
            self._free.release()
            done.set()

        def work() -> None:
            try:
                send(row.targets, title, body, said.append, over)
            finally:
                try:
                    loop.call_soon_threadsafe(ended)
                except RuntimeError:  # the process is stopping
                    return

        threading.Thread(target=work, name="notice", daemon=True).start()
        await done.wait()

    async def inquire(self, task: Task) -> Outcome:
        if (told := await fenced(self._receipts, task)) is not None:
            return told
        return cannot_tell(f"{task.target} was begun, and nobody saw its end")


def _outcome(target: str, row: Notice, title: str, body: str, said: tuple[Sent, ...]) -> Outcome:
    content = f"{title}\n{body}".encode()
    receipt = Receipt(target=target, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
    sent, refused, of = said.count("sent"), said.count("refused"), len(row.targets)
    summary = f"{sent} of {of} targets got {target}"
    if sent == of:
        return Outcome(outcome="success", summary=summary, receipt=receipt)
    if lost := of - sent - refused:
        summary += f"; of {lost} nobody can tell"
        return Outcome(outcome="unknown", summary=summary, error="no_answer", receipt=receipt)
    code = "partly_sent" if sent else "not_sent"
    return Outcome(outcome="failure", summary=summary, error=code, receipt=receipt)


def _of(task: Task) -> NoticeSend:
    if not isinstance(task.params, NoticeSend):
        raise TypeError(f"{type(task.params).__name__} is no notice")
    return task.params
