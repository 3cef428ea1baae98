"""What the Kubernetes manifests say runs, runs: each pod's command, environment and mounts, as a process, on a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.supervisor import holders
from services.supervisor.secrets import keyring
from shared.contracts.services import SERVICES
from tests.e2e.pods import Places, Pod
from tests.unit.deploy import manifests
from tests.unit.deploy.manifests import FOLDER, of_kind

READY_S, GRACE_S = 90.0, 30.0
MEMORY = "memory-compactor-1"


async def answer(url: str, alive: Pod | None = None) -> httpx.Response:
    """The first one there is."""
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        while True:
            try:
                return await client.get(url)
            except httpx.TransportError:
                assert alive is None or alive.process.poll() is None, f"{alive.name} ended: {alive.output()}"
                await asyncio.sleep(0.1)


async def ready(pod: Pod) -> dict[str, Any]:
    """What it says once it is ready; or, of the one whose stores are not here, once it says so."""
    told: dict[str, Any] = {}
    try:
        async with asyncio.timeout(READY_S):
            while True:
                said = await answer(f"{pod.url}/health/ready", pod)
                what = said.headers.get("content-type", "")
                assert what.startswith("application/json"), (
                    pod.url,
                    said.status_code,
                    said.text[:300],
                    pod.output()[-2000:],
                )
                told = said.json()
                if said.status_code == 200 or (pod.name == MEMORY and names_what_is_away(told["problems"])):
                    return told
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise AssertionError(f"{pod.name} was not ready in {READY_S:g} s: {told}\n{pod.output()[-4000:]}") from None


def names_what_is_away(problems: dict[str, str]) -> bool:
    """Qdrant and S3 and nothing else: no server of theirs runs here."""
    return (
        {"memory", "cold"} == set(problems)
        and "the Qdrant server failed" in problems["memory"]
        and "S3 bucket swarm" in problems["cold"]
    )


@pytest.fixture
async def places(tmp_path: Path) -> AsyncIterator[Places]:
    """Keys for every holder, and the broker as its chart would start it."""
    holders.deliver(tmp_path / "keys")
    found = Places(tmp_path, tmp_path / "keys")
    (values,) = manifests.documents(FOLDER / "charts" / "nats.yaml")
    process = found.broker(values)
    try:
        async with asyncio.timeout(30):
            while (await answer(f"{found.monitor_url}/healthz")).status_code != 200:
                await asyncio.sleep(0.1)
        yield found
    finally:
        process.kill()
        process.wait()


async def test_each_pod_of_the_manifests_runs_is_ready_and_ends_when_told(places: Places) -> None:
    objects = manifests.render(FOLDER / "base")
    (job,) = of_kind(objects, "Job").values()
    for again in range(2):
        declares = Pod(job, places, slot=again)
        assert await declares.ended(READY_S) == 0, declares.output()
        assert again == ("streams are as declared" in declares.output())
        declares.close()
    sets = of_kind(objects, "StatefulSet")
    pods: list[Pod] = []
    try:
        for workload in sets.values():
            pods.append(Pod(workload, places))
        told = await asyncio.gather(*map(ready, pods))
        assert [MEMORY] == [pod.name for pod, said in zip(pods, told, strict=True) if not said["ready"]]
        live = await asyncio.gather(*(answer(f"{pod.url}/health/live", pod) for pod in pods))
        assert {200} == {said.status_code for said in live}
        waiting = await what_keda_sees(places.monitor_url)
        for found in of_kind(manifests.render(FOLDER / "autoscaled"), "ScaledObject").values():
            (trigger,) = found["spec"]["triggers"]
            seen = trigger["metadata"]
            assert trigger["type"] == "prometheus" or (seen["account"], seen["stream"], seen["consumer"]) in waiting
        one_more = SERVICES["verifier"].slots + 1
        keyring.add(places.keys, f"verifier-{one_more}")
        places.reload()
        pods.append(Pod(sets["verifier"], places, slot=one_more))
        await ready(pods[-1])
        assert {None} == {pod.process.poll() for pod in pods}
        for pod in pods:
            pod.terminate()
        codes = await asyncio.gather(*(pod.ended(GRACE_S) for pod in pods))
        assert {pod.name: 0 for pod in pods} == {p.name: code for p, code in zip(pods, codes, strict=True)}
    finally:
        for pod in pods:
            pod.close()


async def what_keda_sees(monitor_url: str) -> set[tuple[str, str, str]]:
    """(account, stream, consumer), as its scaler asks; one it does not find is an error, or to older ones as if the whole stream waited."""
    found = set()
    for account in ("CORE", "RUN", "CHECK"):
        said = (await answer(f"{monitor_url}/jsz?acc={account}&consumers=true&config=true")).json()
        for holder in said.get("account_details", ()):
            for stream in holder.get("stream_detail", ()):
                for consumer in stream.get("consumer_detail", ()):
                    assert {"num_pending", "num_ack_pending"} <= set(consumer)
                    found.add((holder["name"], stream["name"], consumer["name"]))
    return found
