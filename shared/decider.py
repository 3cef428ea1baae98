"""The shape of a decider: state, decide, evolve; pure, so it can be tested, replayed and simulated.

`decide` has no clock, no randomness and no IO: time comes in as `now`, ids derive from the cause. What must be done
outside (a model call, S3, a tool) is returned as an effect; the shell performs it and asks again with the result.

Invariants the shell relies on:
- deterministic: same state and message, same decision;
- total: any decodable message gives a decision, never an exception;
- idempotent: with the state that results from a decision, the same message decides nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol, TypeVar

import msgspec

from shared.contracts.envelope import Recorded
from shared.contracts.events import AnyEvent
from shared.contracts.ids import caused_id


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what a service asks its shell to do outside; each service defines its own in `decider.py`."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what comes back from an effect."""


class Delivered(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event from the log. `now` is the shell's wall clock when it is handled, `attempt` counts deliveries from 1.

    `crowd`: so many of its swarm are held already, more than its share, and this one is to be refused; else 0. Only classes in
    the service's `refused_when_crowded` come with it.
    """

    recorded: Recorded
    now: datetime
    attempt: int = 1
    crowd: int = 0


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """Time passed. `id` names the tick, so what it causes has stable ids; `swarm` is whose turn it is."""

    id: str
    now: datetime
    swarm: str
    facts: Result | None = None


class Performed(msgspec.Struct, frozen=True, kw_only=True):
    """An effect's result, with what asked for it."""

    cause: Delivered | Tick
    effect: Effect
    result: Result
    now: datetime


Input = Delivered | Tick | Performed


class Boundary(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a decision rests on and what guards it.

    `reads`: subject filters folded into the state, in stream order. `guards`: filters whose last sequence must not have
    moved when the decision is committed. `opens`: the message itself is the first event of the boundary that matters, so its own fold
    is the state until a refused commit says otherwise, and the first attempt needs no read; of what was said before it only what is
    newest on the subjects `begins` is taken in, and where anything was said on `unsaid`, all is read after all. `lags`: what decides
    nothing on an older state of the boundary decides nothing on any later one, so only what may decide something is worth a read.
    `keeps`: its state is kept for the next message; not where that is large and hardly ever comes.
    """

    reads: tuple[str, ...]
    guards: tuple[str, ...]
    opens: bool = False
    begins: tuple[str, ...] = ()
    unsaid: tuple[str, ...] = ()
    lags: bool = False
    keeps: bool = True


class Decision(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What follows: events to commit atomically, then perhaps an effect; or a verdict on the delivery.

    `guards` overrides the boundary's. `expects` are further guards, with the sequences an effect has read (filter, last sequence); when
    one of them has moved, the message is decided on anew, from its beginning. `retry_s` hands the message back for that long, once its
    events are stored. `reject` sends it to the dead letters. `charter` is put on the events' envelopes. `about` goes into the events'
    ids: what tells them from others of their subject that may follow from the same message at another time.
    """

    events: tuple[AnyEvent, ...] = ()
    effect: Effect | None = None
    guards: tuple[str, ...] | None = None
    expects: tuple[tuple[str, int], ...] = ()
    retry_s: float | None = None
    reject: str | None = None
    charter: str | None = None
    about: str = ""


NOTHING = Decision()


def id_of(cause_id: str, subject: str, about: str = "", index: int = 0) -> str:
    """The id of an event that follows from a message or tick of this id: the `index`th of its subject."""
    return caused_id(cause_id, f"{subject}/{about}" if about else subject, index)


S = TypeVar("S")


class Decider(Protocol[S]):
    """A module with these names is a decider."""

    def initial(self) -> S:
        """The state before any event."""

    def boundary(self, message: Delivered | Tick) -> Boundary | None:
        """What to load for this message; None when it concerns this service not at all."""

    def decide(self, state: S, message: Input) -> Decision:
        """What follows from the message in this state."""

    def evolve(self, state: S, recorded: Recorded) -> S:
        """The state after an event of the boundary. Unknown events change nothing.

        `evolve` owns the state it is given and may update it in place (lineages are large); `decide` never does.
        """
