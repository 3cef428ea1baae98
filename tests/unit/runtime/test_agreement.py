"""Services that were told differently where one setting means one thing say so, on a real broker, and stay ready for it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from shared.configuration import KEYS
from shared.contracts.services import SERVICES
from shared.log.client.connection import Connection
from shared.runtime.service import Service
from shared.runtime.vitals.agreement import SHARED, Agreement, told
from shared.runtime.vitals.probe import Probe
from shared.settings import Outbound, Settings, Swarm


def probe(connection: Connection, instance: str, settings: Settings) -> Probe:
    return Probe(connection, instance, tolerance_s=5.0, told=told(instance.partition("-")[0], settings))


async def test_who_was_told_the_same_agrees_and_what_is_another_is_named_with_whose_it_is(
    connection: Connection,
) -> None:
    hosts = Settings(outbound=Outbound(allow="a:1"))
    for instance, settings in (
        ("policy_gate-1", hosts),
        ("policy_gate-2", Settings()),
        ("verifier-1", Settings(outbound=Outbound(allow="not read"))),
        ("governor-1", Settings(swarm=Swarm(tokens_per_minute=1))),
        ("gateway-1", Settings(swarm=Swarm(open_actions=7))),
    ):
        await probe(connection, instance, settings).write()
    actuator = probe(connection, "actuator-1", hosts)
    await actuator.write()
    agreement = Agreement(actuator)
    assert await agreement.look() is None
    assert agreement.said == (
        "SWARM_OUTBOUND_ALLOW is another at policy_gate-2; SWARM_SWARM_OPEN_ACTIONS is another at gateway-1; "
        "give all services the same"
    )
    await probe(connection, "policy_gate-2", hosts).write()
    await probe(connection, "gateway-1", Settings()).write()
    assert await agreement.look() is None and agreement.said is None


async def test_a_service_stays_ready_and_says_it_beside_that(connection: Connection, tmp_path: Path) -> None:
    await probe(connection, "policy_gate-1", Settings(outbound=Outbound(allow="a:1"))).write()
    service = Service("actuator", Settings(require_sync_always=False, data_dir=str(tmp_path)), connection)
    await service.probe.write()
    assert await service.health.problems() == {}
    assert "SWARM_OUTBOUND_ALLOW is another at policy_gate-1" in service.health.warnings()["settings"]


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_told_fits_a_test_write_and_has_no_secret_in_it(service: str) -> None:
    digests = told(service, Settings())
    assert len(msgspec.json.encode(digests)) < 3000
    assert not any(KEYS[key].secret for key in digests)
    assert all(len(digest) == 8 for digest in digests.values())
    assert all(any(key == row or key.startswith(f"{row}.") for key in KEYS) for row in SHARED)
