"""The attacks without the floods; `scripts/redteam` runs all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.redteam.forging import forging
from tests.redteam.gatekey import gatekey
from tests.redteam.lies import lies
from tests.redteam.report import table
from tests.redteam.siege import siege
from tests.redteam.walls import walls


@pytest.mark.timeout(240)
async def test_a_stolen_runner_key_forges_reads_and_stops_nothing_of_others(tmp_path: Path) -> None:
    async with siege(tmp_path / "data") as under:
        rows = [*await walls(under), *await lies(under), *await forging(under), *await gatekey(under)]
    assert [] == [row.name for row in rows if not row.refused], table(rows)
