"""When newcomers are held back: by the log's share of the store, by the disk, and told with what to do."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import msgspec
import pytest

from shared.log.client.connection import Connection
from shared.metrics.table import HELD_BACK, STORE_USED
from shared.runtime.vitals.pressure import Pressure, disk_held, store_held

MIB = 2**20
Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(
    ("used", "limit", "held"), [(84, 100, False), (85, 100, True), (120, 100, True), (10**9, -1, False), (0, 0, False)]
)
def test_a_log_is_held_from_85_percent_of_its_bound_and_one_without_never(used: int, limit: int, held: bool) -> None:
    assert held == (store_held(used * MIB, limit * MIB if limit > 0 else limit) is not None)


def test_what_is_held_says_how_full_it_is_and_which_setting_helps() -> None:
    said = store_held(90 * MIB, 100 * MIB) or ""
    assert said.startswith("the log has 90.0 MiB of 100.0 MiB (90%, held back from 85%)")
    assert said.endswith("verdicts and outcomes go on; raise SWARM_STORE_BYTES")


@pytest.mark.parametrize(
    ("total", "free", "store", "held"),
    [
        (1000, 16, 100, False),
        (1000, 14, 100, True),  # 15 % of a small store on a large disk
        (100, 16, 1000, False),
        (100, 14, 1000, True),  # 15 % of a disk that is smaller than the store
    ],
)
def test_a_disk_is_held_when_less_is_left_than_the_store_or_the_disk_keeps(
    total: int, free: int, store: int, held: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(total * MIB, (total - free) * MIB, free * MIB))
    said = disk_held(tmp_path / "not" / "there", store * MIB)
    assert held == (said is not None)
    assert said is None or said.startswith(f"the disk of {tmp_path} has {free}.0 MiB left (held back below 15.0 MiB)")


def test_a_disk_that_cannot_be_looked_at_holds_nobody_and_ends_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> Usage:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shutil, "disk_usage", refuse)
    assert disk_held(tmp_path, MIB) is None


async def bound(connection: Connection, max_bytes: int) -> None:
    """Give the log so much room."""
    answer = await connection.request("$JS.API.STREAM.INFO.SWARM")
    config = msgspec.json.decode(answer.data)["config"]
    answer = await connection.request(
        "$JS.API.STREAM.UPDATE.SWARM", msgspec.json.encode({**config, "max_bytes": max_bytes})
    )
    assert "error" not in msgspec.json.decode(answer.data)


def told() -> tuple[float | None, float | None]:
    return HELD_BACK.at[""], STORE_USED.at[""]


async def test_a_log_that_fills_holds_back_by_the_brokers_word_and_lets_go_when_it_has_room(
    connection: Connection, tmp_path: Path
) -> None:
    one = Pressure(connection, tmp_path, store_bytes=MIB)
    await connection.request("observation.recorded.alpha.all", b"x" * 9000)
    await bound(connection, MIB)
    await one.measure()
    assert (None, 0.0) == (one.held, told()[0])
    await bound(connection, 10_000)
    await one.measure()
    assert "raise SWARM_STORE_BYTES" in (one.held or "")
    held, ratio = told()
    assert held == 1.0 and ratio is not None and 0.9 < ratio < 1.0
    await bound(connection, MIB)
    await one.measure()
    assert (None, 0.0) == (one.held, told()[0])


async def test_while_the_broker_does_not_tell_what_it_last_said_holds(connection: Connection, tmp_path: Path) -> None:
    one = Pressure(connection, tmp_path, store_bytes=MIB)
    await connection.request("observation.recorded.alpha.all", b"x" * 9000)
    await bound(connection, 10_000)
    await one.measure()
    held = one.held
    await connection.close()
    await one.measure()
    assert held is not None and held == one.held
