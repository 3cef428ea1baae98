"""A mesh told to think with a model, the way the README says, against an endpoint that answers well."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from services.supervisor.mesh import Mesh
from services.supervisor.plan import Options
from tests.e2e.test_mesh import create, observe, until
from tests.unit.thinker.test_model import GOOD, KEY, Model, Reply, served


@pytest.mark.timeout(120)
async def test_a_mesh_thinks_with_the_model_its_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model(Reply(GOOD))
    (tmp_path / "key").write_text(KEY)
    monkeypatch.chdir(tmp_path)
    async with served(model):
        monkeypatch.setenv("SWARM_THINKER", "model")
        monkeypatch.setenv("SWARM_MODEL_URL", model.url)
        monkeypatch.setenv("SWARM_MODEL_NAME", "m1")
        monkeypatch.setenv("SWARM_MODEL_API_KEY_FILE", "key")
        async with Mesh(tmp_path / "data", Options(ready_timeout_s=90)) as mesh:
            await mesh.wait_ready()
            async with httpx.AsyncClient(base_url=mesh.api_url, timeout=20, trust_env=False) as api:
                await api.post("/v1/cognition/start", json={"loop_interval_ms": 200})
                await create(api, "watch1", "modelled")
                await observe(api, "modelled", [f"line {n}" for n in range(5)])
                raised = await until(api, "swarm=modelled&type=hypothesis_raised", "hypothesis_raised")
    assert isinstance(raised["payload"], dict) and "Someone guesses." == raised["payload"]["claim"]
    assert {f"Bearer {KEY}"} == set(model.keys)
    written = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    holders = await asyncio.to_thread(lambda: [path.name for path in written if KEY.encode() in path.read_bytes()])
    assert [] == holders
