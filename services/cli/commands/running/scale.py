"""`swarm scale`: another number of instances of a service, in the mesh of this machine, while it runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from services.cli.terminal.output import emit, say
from services.cli.terminal.target import FAILED, NEAR, OK, USAGE, Place, Stop
from services.supervisor.running import scaling
from services.supervisor.running.scaling import Wish
from services.supervisor.running.state import Answer

LOOK_S, TAKEN_WITHIN_S = 0.1, 15.0


def scale(
    counted: Annotated[tuple[str, ...], Parameter(name="SERVICE=N", help="Such as persona_runner=3 verifier=2.")],
    /,
    *,
    wait_s: Annotated[
        float | None,
        Parameter(
            name="--wait",
            validator=Number(gt=0, lte=1e9),
            help="Give up when no new one has come nearer to being ready for so many seconds. Default: the mesh's own.",
        ),
    ] = None,
    place: Place = NEAR,
) -> int:
    """Have so many of a service: returns when new ones are ready, and surplus ones have finished what they had and ended.

    Nobody is dropped for it. It holds until the mesh is stopped; `swarm up --scale SERVICE=N` starts one so.
    """
    wanted, record = counts(counted), place.mesh()
    if not wanted:
        raise Stop("say which service, such as persona_runner=3", USAGE)
    try:
        wish = scaling.say(place.data, wanted, wait_s)
    except FileExistsError:
        raise Stop("another `swarm scale` is under way; say it again when it is done") from None
    answer = _answered(place, wish, record.pid)
    if place.json:
        emit({"scale": wanted, "ok": answer.ok, "said": answer.said})
    else:
        say("\n".join(answer.said))
    return OK if answer.ok else FAILED


def counts(words: Sequence[str]) -> dict[str, int]:
    """`persona_runner=3` by service. Raises `Stop`."""
    found: dict[str, int] = {}
    for word in words:
        name, equals, number = word.partition("=")
        if not equals or not number.isdecimal():
            raise Stop(f"{word!r} is not SERVICE=N, such as persona_runner=3", USAGE)
        found[name.replace("-", "_")] = int(number)
    return found


def _answered(place: Place, wish: Wish, pid: int | None) -> Answer:
    """Waits for as long as the supervisor is at it. Raises `Stop`."""
    began = time.monotonic()
    while True:
        record = place.mesh()
        answer = record.scaling if record.scaling is not None and record.scaling.wish == wish.id else None
        if answer is not None and answer.ok is not None:
            return answer
        if record.pid != pid:
            raise Stop("the mesh was started anew meanwhile, with what it was told then; say it again")
        if answer is None and time.monotonic() - began > TAKEN_WITHIN_S:
            scaling.forget(place.data)
            raise Stop("the mesh does not take it up; it may be of an older version, or its disk full (see its output)")
        time.sleep(LOOK_S)
