"""One process of a four-hop pipeline: `python -m scripts.benchmarks.hop_worker kernel|bare <stage> <url> <prefix> <batch>`.

`kernel`: the mesh's shell around a decider that does nothing but pass on, guarded as the real services are. Each message opens its
boundary, so nothing is read; the real policy gate and actuator do read.
`bare`: what one would write with nats-py alone: durable pull `fetch`, publish with ack, ack; `batch` messages side by side.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import nats
import uvloop
from nats.aio.msg import Msg

from shared.contracts.boundaries import life, said
from shared.contracts.catalog import class_filter
from shared.contracts.envelope import Recorded
from shared.contracts.events import ActionExecuted, ProposalAuthorized, ProposalCreated, ProposalVerified
from shared.decider import NOTHING, Boundary, Decision, Delivered, Input, Tick
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.port import ConsumerSpec
from shared.runtime.process.running import collect_less_often
from shared.runtime.shell import Shell
from shared.telemetry import configure_logging

FOREVER = datetime(2100, 1, 1, tzinfo=UTC)
STAGES = ("verify", "policy", "act")
_IN = ("proposal.created", "proposal.verified", "proposal.authorized", "action.executed")


def filter_of(hop: int, prefix: str = "") -> str:
    """The subject filter of what stage `hop` takes in; hop 3 is what comes out at the end."""
    return prefix + class_filter(_IN[hop])


Said = ProposalVerified | ProposalAuthorized | ActionExecuted
Heard = ProposalCreated | ProposalVerified | ProposalAuthorized


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Whether this stage has spoken on the proposal."""

    settled: bool = False


class PassOn:
    """A decider that says the next word of a proposal's life, once."""

    def __init__(self, stage: str) -> None:
        self._ends = (ProposalVerified, ProposalAuthorized, ActionExecuted)[STAGES.index(stage)]
        says: dict[str, Callable[[Heard], Said]] = {"verify": _verified, "policy": _authorized, "act": _executed}
        self._says = says[stage]

    def initial(self) -> State:
        return State()

    def boundary(self, message: Delivered | Tick) -> Boundary | None:
        assert isinstance(message, Delivered)
        event = message.recorded.event
        assert isinstance(event, Heard)
        guard = life(event.swarm, event.persona, event.proposal_id)
        asked = said("proposal.created", event.swarm, event.persona, event.proposal_id)
        return Boundary(reads=(guard, asked), guards=(guard,), opens=True)

    def decide(self, state: State, message: Input) -> Decision:
        if state.settled or not isinstance(message, Delivered):
            return NOTHING
        event = message.recorded.event
        assert isinstance(event, Heard)
        return Decision(events=(self._says(event),))

    def evolve(self, state: State, recorded: Recorded) -> State:
        return state if state.settled else State(settled=isinstance(recorded.event, self._ends))


def _verified(event: Heard) -> ProposalVerified:
    return ProposalVerified(
        swarm=event.swarm,
        persona=event.persona,
        proposal_id=event.proposal_id,
        digest=event.digest,
        risk="low",
        findings=("nothing to object",),
        tainted=False,
    )


def _authorized(event: Heard) -> ProposalAuthorized:
    return ProposalAuthorized(
        swarm=event.swarm,
        persona=event.persona,
        proposal_id=event.proposal_id,
        digest=event.digest,
        risk="low",
        policy_ids=("noop",),
        policy_version="1",
        expires_at=FOREVER,
        key="K" * 56,
        signature="S" * 88,
    )


def _executed(event: Heard) -> ActionExecuted:
    return ActionExecuted(
        swarm=event.swarm,
        persona=event.persona,
        proposal_id=event.proposal_id,
        digest=event.digest,
        outcome="success",
        summary="nothing was to be done",
    )


async def kernel(stage: str, url: str) -> None:
    """Until SIGTERM, with the shell the services run in."""
    collect_less_often()
    connection = await Connection.open(url, name=f"bench-{stage}")
    log = JetStreamLog(connection, service=stage, instance=f"{stage}-1")
    spec = ConsumerSpec(name=stage, filters=(filter_of(STAGES.index(stage)),), ack_wait_s=30)
    puller = log.pull(spec)
    stopping = _on_sigterm()
    shell: Shell[State] = Shell(log, PassOn(stage), service=stage)
    consuming = asyncio.create_task(shell.consume(puller, spec))
    print("ready", flush=True)
    await stopping.wait()
    await puller.stop()
    await consuming
    await connection.close()


async def bare(stage: str, url: str, prefix: str, batch: int) -> None:
    """Until SIGTERM, with nats-py as it comes."""
    connection = await nats.connect(url.split(","), name=f"{prefix}{stage}")
    js = connection.jetstream()
    hop = STAGES.index(stage)
    subscription = await js.pull_subscribe(filter_of(hop, prefix), durable=stage, stream=prefix[:-1].upper())
    stopping = _on_sigterm()

    async def pass_on(message: Msg) -> None:
        life = ".".join(message.subject.split(".")[3:6])
        await js.publish(f"{prefix}{_IN[hop + 1]}.{life}", message.data)
        await message.ack()

    print("ready", flush=True)
    while not stopping.is_set():
        try:
            messages = await subscription.fetch(batch, timeout=1)
        except TimeoutError:
            continue
        await asyncio.gather(*(pass_on(m) for m in messages))
    await connection.close()


def _on_sigterm() -> asyncio.Event:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    return stopping


if __name__ == "__main__":
    side, stage_, url_, prefix_, batch_ = sys.argv[1:]
    configure_logging(service="bench", instance=stage_, form="console")
    uvloop.run(kernel(stage_, url_) if side == "kernel" else bare(stage_, url_, prefix_, int(batch_)))
