"""How far consumers are behind is the broker's word, and what it last said holds while it says nothing."""

from __future__ import annotations

from types import SimpleNamespace

from shared.log.port import ConsumerSpec, LogUnavailable
from shared.metrics.table import LAG, UNACKED
from shared.runtime.lag import Lag

SPEC = ConsumerSpec(name="verifier-test", stream="SWARM", filters=("proposal.created.>",))


class Broker:
    """Answers with what it is given; None: it is away."""

    def __init__(self) -> None:
        self.answer: bytes | None = b"{}"
        self.asked: list[str] = []

    async def request(self, subject: str) -> SimpleNamespace:
        self.asked.append(subject)
        if self.answer is None:
            raise LogUnavailable("away")
        return SimpleNamespace(data=self.answer)


def seen() -> tuple[float, float]:
    return LAG.at[SPEC.name], UNACKED.at[SPEC.name]


async def test_the_lag_of_a_consumer_is_what_the_broker_says() -> None:
    broker = Broker()
    lag = Lag(broker)  # type: ignore[arg-type]
    lag.watch(SPEC)
    assert (0, 0) == seen()
    broker.answer = b'{"num_pending":7,"num_ack_pending":3}'
    await lag.measure()
    assert (7, 3) == seen()
    assert ["$JS.API.CONSUMER.INFO.SWARM.verifier-test"] == broker.asked
    for silence in (None, b'{"error":{"code":404}}'):
        broker.answer = silence
        await lag.measure()
        assert (7, 3) == seen()
