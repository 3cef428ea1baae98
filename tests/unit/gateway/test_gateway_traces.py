"""What a caller's request says is in the caller's trace; a word on what others began is in theirs."""

from __future__ import annotations

from gateway_model import asked, created, mesh, verified

from shared.contracts.trace import trace_id
from shared.log.memory import MemoryLog

TRACE = "0af7651916cd43dd8448eb211c80319c"
THEIRS = f"00-{TRACE}-b7ad6b7169203331-01"


async def traces(log: MemoryLog, subject: str) -> list[tuple[str, str]]:
    """Id and trace of each."""
    return [(r.id, (r.envelope.traceparent or "--").split("-")[1]) for r in await log.read((subject,))]


async def test_an_observation_is_in_the_trace_of_the_request_that_brought_it() -> None:
    log = MemoryLog()
    async with mesh(log=log) as up, up.client() as client:
        for headers in ({"traceparent": THEIRS}, {"traceparent": "nonsense"}, {}):
            sent = await client.post("/v1/swarm/alpha/observations", json={"text": "t"}, headers=headers)
            assert sent.status_code == 200
    (_, first), *others = await traces(log, "observation.recorded.*.*")
    assert TRACE == first
    assert [trace_id(event_id) for event_id, _ in others] == [trace for _, trace in others]


async def test_a_vote_is_in_the_trace_of_the_request_for_it() -> None:
    log = MemoryLog()
    async with mesh(log=log) as up, up.client(traceparent=THEIRS) as client:
        proposal = created("p-1")
        await up.put(proposal)
        await up.put(verified(proposal), asked(proposal))
        assert (await client.post("/v1/cognition/proposals/p-1/approve")).status_code == 200
    (asking,) = await log.read(("approval.requested.>",))
    ((_, trace),) = await traces(log, "approval.granted.>")
    assert trace_id(asking.envelope.correlation) == trace
