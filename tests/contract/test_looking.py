"""What holds for all of the mesh costs a broker one request, however many boundaries it is of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.contracts.events import MeshHalted, MeshResumed
from shared.contracts.ids import EVERYONE
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.streams import ensure
from shared.looking import look
from shared.policy.activations import Followed
from shared.runtime.halting import Halting
from shared.signers import Followed as Signers
from shared.signers import announce
from tests.broker import Broker
from tests.unit.gate.given import KEY, ROOT, VERSION, activated, appointed, message_of

ALL: dict[str, Any] = {"swarm": EVERYONE, "persona": EVERYONE}


async def test_one_request_brings_all_of_it_up_to_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    await ensure(broker.url, None)
    connection = await Connection.open(broker.url, name="test")
    log = JetStreamLog(connection, service="test", instance="test-1")
    try:
        halting, signers, policies = Halting(log), Signers(log, (ROOT,)), Followed(log)
        await look(halting, signers, policies)
        await log.commit([message_of(MeshHalted(**ALL, cause="person", principal="ann"), id="h1")])
        await log.commit([message_of(MeshResumed(**ALL, principal="ann"), id="r1")])
        await announce(log, appointed(KEY))
        await log.commit([message_of(activated(), id="b1")])
        await look(halting, signers, policies)
        assert (None, 1, VERSION) == (halting.why, signers.known.number, policies.known.active)

        real, asked = connection.ask, []

        async def ask(subject: str, *args: Any, **kwargs: Any) -> Any:
            asked.append(subject)
            return await real(subject, *args, **kwargs)

        monkeypatch.setattr(connection, "ask", ask)
        await look(halting, signers, policies)
        assert ["$JS.API.DIRECT.GET.SWARM"] == asked
        await log.commit([message_of(MeshHalted(**ALL, cause="person", principal="bob"), id="h2")])
        await look(halting, signers, policies)
        assert "halted by bob" in (halting.why or "")
    finally:
        await connection.close()
        broker.kill()
