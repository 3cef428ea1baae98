"""What a taken-over runner has: the broker's address and one runner's seed. It says what it likes, by no library of ours."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client

from shared.broker import inbox_prefix
from shared.contracts.envelope import Message, encode

STOLEN = "persona_runner-2"
"""Whose key it is."""
_NAMED = re.compile(r'"([^"]+)"')
ANSWER_S = 2.0


class Attacker:
    """One connection with the stolen key, and the subjects the broker has refused it, in small letters as the client tells them."""

    def __init__(self) -> None:
        self.client = Client()
        self._refused: set[str] = set()

    @classmethod
    async def open(cls, url: str, seed_file: Path, name: str = STOLEN) -> Attacker:
        self = cls()

        async def told(error: Exception) -> None:
            self._refused.update(_NAMED.findall(str(error).casefold()))

        self.client = await nats.connect(
            url, nkeys_seed=str(seed_file), inbox_prefix=inbox_prefix(name).encode(), error_cb=told
        )
        return self

    async def close(self) -> None:
        await self.client.close()

    async def settled(self) -> None:
        """Returns when the broker has handled all that was sent before."""
        for _ in range(2):  # nats-py's first ping may overtake what is still in its buffer
            await self.client.flush(timeout=30)

    async def refused(self, subjects: Sequence[str], *, reply: str = "") -> set[str]:
        """Publishes on each; those the broker refused."""
        self._refused.clear()
        for subject in subjects:
            await self.client.publish(subject, b"{}", reply=reply)
        await self.settled()
        return {subject for subject in subjects if self._refused & {subject.casefold(), _renamed(subject)}}

    async def deaf(self, filters: Sequence[str]) -> set[str]:
        """Subscribes to each; those the broker refused."""
        self._refused.clear()
        for subject_filter in filters:
            await self.client.subscribe(subject_filter)
        await self.settled()
        return {each for each in filters if each.casefold() in self._refused}

    async def say(self, subject: str, body: bytes = b"{}", *, reply: str = "", **headers: str) -> None:
        """Publishes without waiting."""
        await self.client.publish(subject, body, reply=reply, headers=_spelt(headers) or None)

    async def ask(self, subject: str, body: bytes = b"{}", **headers: str) -> dict[str, object]:
        """The answer, as JSON; `{"error": ...}` also where there is none."""
        try:
            answer = await self.client.request(subject, body, timeout=ANSWER_S, headers=_spelt(headers) or None)
        except nats.errors.NoRespondersError:
            return {"error": {"description": "nobody answers there"}}
        except nats.errors.TimeoutError:
            return {"error": {"description": "no answer"}}
        try:
            decoded = json.loads(answer.data or b"{}")
        except ValueError:
            return {"data": answer.data.decode(errors="replace")}
        return decoded if isinstance(decoded, dict) else {"data": decoded}

    async def commit(self, message: Message, **headers: str) -> dict[str, object]:
        """An event as the project writes it, with headers of its own choice; what the broker answers."""
        subject, lines, body = encode(message)
        own = dict(line.split(": ", 1) for line in lines.strip().split("\r\n"))
        answer = await self.client.request(subject, body, timeout=ANSWER_S, headers={**own, **_spelt(headers)})
        return dict(json.loads(answer.data))


def _renamed(subject: str) -> str:
    """What the account calls requests that the system account would answer otherwise; refusals name that."""
    return subject.replace("$JS.API.", "$JS.CORE.API.", 1).casefold()


def _spelt(headers: Mapping[str, str]) -> dict[str, str]:
    """`Nats_Msg_Id` is `Nats-Msg-Id`."""
    return {name.replace("_", "-"): value for name, value in headers.items()}
