"""How many instances there are to be, and how a mesh that runs is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from services.supervisor import plan
from services.supervisor.plan import Options
from services.supervisor.running import scaling
from services.supervisor.running.scaling import Wish
from services.supervisor.running.state import Answer


def runners(options: Options) -> list[int]:
    return [int(name.rpartition("-")[2]) for name in plan.instances(options) if name.startswith(plan.RUNNER)]


@pytest.mark.parametrize(
    ("began", "count", "numbers"), [(1, 3, [1, 2, 3]), (3, 1, [1]), (3, 2, [1, 2]), (2, 5, [1, 2, 3, 4, 5])]
)
def test_a_mesh_of_so_many_runners_is_the_same_however_it_came_to_it(
    began: int, count: int, numbers: list[int]
) -> None:
    assert numbers == runners(plan.scaled(Options(runners=began), {plan.RUNNER: count}))


@pytest.mark.parametrize(("count", "numbers"), [(1, [1, 3, 4]), (2, [1, 2, 3, 4]), (3, [1, 2, 3, 4, 5])])
def test_runners_of_some_swarms_keep_their_numbers_and_swarms(count: int, numbers: list[int]) -> None:
    before = Options(runners=2, serve=(("alpha",), ("beta", "gamma")))
    after = plan.scaled(before, {plan.RUNNER: count})
    assert numbers == runners(after)
    assert (
        plan.serves(before)
        == plan.serves(after)
        == {f"{plan.RUNNER}-3": ("alpha",), f"{plan.RUNNER}-4": ("beta", "gamma")}
    )


def test_one_scale_is_forgotten_by_the_next_of_the_same_service_alone() -> None:
    options = plan.scaled(plan.scaled(Options(), {"verifier": 3, "policy_gate": 2}), {"verifier": 1})
    assert {"policy_gate-2"} == set(plan.instances(options)) - set(plan.instances(Options()))


@pytest.mark.parametrize(
    ("options", "wanted", "why"),
    [
        (Options(), {"memory_compactor": 2}, "of memory_compactor there is one: its index folds the log in order"),
        (Options(), {"runner": 2}, "'runner' is no service of this mesh; there are governor, .*"),
        (Options(services=("governor",)), {"verifier": 1}, "'verifier' is no service of this mesh; there are governor"),
        (Options(), {"verifier": 0}, "of verifier there may be 1 to 16, not 0"),
        (Options(), {"verifier": 17}, "of verifier there may be 1 to 16, not 17"),
        (Options(serve=(("alpha",),)), {plan.RUNNER: 16}, "of persona_runner there may be 1 to 15, not 16"),
        (
            Options(runners=0, serve=(("alpha",),)),
            {plan.RUNNER: 1},
            "no persona_runner of this mesh serves all swarms.*",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(options: Options, wanted: dict[str, int], why: str) -> None:
    with pytest.raises(ValueError, match=f"^{why}$"):
        plan.scaled(options, wanted)


async def test_a_wish_is_whole_its_owners_alone_and_the_only_one_until_it_is_forgotten(tmp_path: Path) -> None:
    wish = scaling.say(tmp_path, {"verifier": 2}, 5.0)
    assert 0o600 == scaling.file(tmp_path).stat().st_mode & 0o777
    with pytest.raises(FileExistsError):
        scaling.say(tmp_path, {"verifier": 3}, None)
    assert [scaling.file(tmp_path)] == list(tmp_path.iterdir())
    assert wish == await scaling.wished(tmp_path)
    scaling.forget(tmp_path)
    waiting = asyncio.create_task(scaling.wished(tmp_path))
    assert scaling.say(tmp_path, {"verifier": 3}, None) == await waiting
    scaling.file(tmp_path).write_text("{")
    assert Wish(id="", replicas={}) == await scaling.wished(tmp_path)


def test_an_instance_that_had_to_be_killed_is_gone_and_no_success() -> None:
    wish = Wish(id="w", replicas={"verifier": 2, "governor": 2})
    there = plan.instances(plan.scaled(Options(), wish.replicas))
    said = scaling.answer(wish, ["governor-2"], {"verifier-3": 0, "verifier-4": -9}, there)
    assert (
        Answer(
            wish="w",
            ok=False,
            said=(
                "verifier: 2 run",
                "governor: 2 run, governor-2 new",
                "verifier-3 has drained and ended",
                "verifier-4 did not drain in time and was killed (-9)",
            ),
        )
        == said
    )
    assert said == msgspec.json.decode(msgspec.json.encode(said), type=Answer)
