"""`swarm run --demo swarms` on real processes; and that what it is judged by finds what is missing."""

from __future__ import annotations

from pathlib import Path

from services.cli.commands.running.demo import SWARMS
from tests.e2e.command import swarm

COMMAND = ("run", "--demo", "swarms")


async def test_two_swarms_answer_one_intent_and_of_their_two_reports_one_is_written(tmp_path: Path) -> None:
    code, told, err = await swarm(*COMMAND, "--data", str(tmp_path), cwd=tmp_path)
    assert (0, True, []) == (code, told["ok"], told["problems"]), err
    assert 1 == told["conflicts_ruled"] == len(told["lost"])
    text = Path(told["report"]).read_text()
    for swarm_id in SWARMS:
        assert told["cited"][swarm_id] and all(f"`{id}`" in text for id in told["cited"][swarm_id])
    assert told["intent_id"] in Path(told["written"]).read_text()
    assert set(SWARMS) > {name for name in SWARMS if f"swarm `{name}`" in Path(told["written"]).read_text()} != set()
