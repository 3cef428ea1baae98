"""Who gets credits: a root with 340 descendants (four below each, four levels deep) and 1 000 roots, all on the default limits.

Real governor, runner and rules on the in-memory log, on a simulated clock (`tests/simulation/family.py`): who may think when
does not depend on how busy this machine is, and ten minutes pass in less. A thought costs what it really takes of the processor.
One line comes for everybody every `LINE_EVERY_S`; shares are counted by windows of two minutes.
"""

from __future__ import annotations

import msgspec

from scripts.benchmarks.measure import Figures, run_async, say
from tests.simulation.family import Family, tree

KEYS = ("ledger_events_per_thought", "min_over_median", "fewest_cycles_in_two_minutes")
LINE_EVERY_S = 10.0
WINDOW_S = 120.0


def run(*, quick: bool) -> Figures:
    """Ten simulated minutes of each, four with `quick`."""
    return run_async(_run(240.0 if quick else 600.0))


async def _run(seconds: float) -> Figures:
    shapes = {"tree_341": tree(4, 4), "flat_1000": [(f"p{n}", None) for n in range(1000)]}
    figures: Figures = {"clock": "simulated", "seconds": seconds, "line_every_s": LINE_EVERY_S}
    for name, personas in shapes.items():
        say(f"grants: {name}")
        family = Family(list(personas))
        await family.live(seconds, line_every_s=LINE_EVERY_S)
        figures[name] = msgspec.to_builtins(family.measure(window_s=WINDOW_S))
    shares = [figures[name] for name in shapes]
    figures["ledger_events_per_thought"] = max(s["ledger_events_per_thought"] for s in shares)
    figures["min_over_median"] = min(s["min_over_median"] for s in shares)
    figures["fewest_cycles_in_two_minutes"] = min(s["fewest_cycles_in_a_window"] for s in shares)
    return figures
