"""Off only where nothing is."""

from __future__ import annotations

from pathlib import Path

from shared.killswitch import is_on, thrown


def test_a_kill_switch_nobody_can_look_at_is_on(tmp_path: Path) -> None:
    dangling, loop, file = tmp_path / "dangling", tmp_path / "loop", tmp_path / "file"
    dangling.symlink_to(tmp_path / "nothing")
    loop.symlink_to(loop)
    file.touch()
    for switch, on in (
        (None, False),
        (tmp_path / "nothing", False),
        (tmp_path / "no" / "folder", False),
        (file, True),
        (tmp_path, True),
        (dangling, True),
        (loop, True),
        (file / "below", True),
    ):
        assert on == is_on(switch) == (thrown(switch) is not None), switch
