"""A mesh whose log three brokers keep: what each is told, who is let in among them, and on whose store which may be started."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from services.supervisor import plan
from services.supervisor.mesh import find_binary
from services.supervisor.plan import Options
from services.supervisor.secrets import keyring
from services.supervisor.stores.copies import kept_otherwise
from shared.broker import ROLES, BrokerConfig
from tests.unit.supervisor.test_supervisor_plan import PLACES

THREE = Options(brokers=3, doors={"nats-2": 9})
PORTS = {name: 1000 + n for n, name in enumerate(plan.port_names(THREE))}


def test_every_service_knows_all_brokers_and_how_many_keep_the_log() -> None:
    urls = ",".join(f"nats://127.0.0.1:{PORTS[name]}" for name in ("nats", "nats-2", "nats-3"))
    pages = ",".join(f"http://127.0.0.1:{PORTS[name]}" for name in ("monitor", "monitor_nats-2", "monitor_nats-3"))
    specs = plan.services(THREE, PLACES, PORTS)
    told = {(s.env["SWARM_NATS_URL"], s.env["SWARM_NATS_MONITOR_URL"], s.env["SWARM_STORE_REPLICAS"]) for s in specs}
    assert {(urls, pages, "3")} == told
    declares = plan.bootstrap(THREE, PLACES, PORTS, store_bytes=1).env
    assert (urls, "3") == (declares["SWARM_NATS_URL"], declares["SWARM_STORE_REPLICAS"])
    assert len(set(PORTS.values())) == len(PORTS)


def test_one_broker_is_asked_whether_all_is_well_and_one_of_several_about_itself() -> None:
    one = dict.fromkeys(plan.port_names(Options()), 7)
    assert ["http://127.0.0.1:7/healthz"] == [s.ready_url for s in plan.nats(Options(), PLACES, one)]
    pages = [spec.ready_url for spec in plan.nats(THREE, PLACES, PORTS)]
    assert 3 == len(pages) and all((page or "").endswith("/healthz?js-server-only=true") for page in pages)


@pytest.mark.parametrize("count", [0, 2, 4])
def test_there_are_as_many_brokers_as_can_lose_one_or_a_single_one(count: int) -> None:
    with pytest.raises(ValueError, match=f"1 or 3, not {count}"):
        plan.brokers(Options(brokers=count))


def test_brokers_take_each_others_word_by_a_password_that_is_theirs_alone(tmp_path: Path) -> None:
    keys = keyring.make(tmp_path, (*ROLES, "verifier-1"))
    config = BrokerConfig(keys=keys, store_dir="/d/nats", members=plan.members(THREE, PLACES, PORTS))
    keyring.configure(tmp_path, config)
    keyring.add(tmp_path, "verifier-2")  # which writes all of them anew
    password = keyring.route_password(tmp_path)
    for name in ("nats", "nats-2", "nats-3"):
        file = tmp_path / "nats" / f"{name}.conf"
        told = file.read_text()
        assert re.search(rf'^server_name: "{name}"$', told, re.M) and f'"127.0.0.1:{PORTS[name]}"' in told
        assert f'"/d/{name}"' in told and f'listen: "127.0.0.1:{PORTS[f"route_{name}"]}"' in told
        assert 3 == told.count(f"broker:{password}@") and f"broker:{password}@127.0.0.1:9" in told
        assert keyring.configured(tmp_path).keys["verifier-2"] in told
        subprocess.run([find_binary("nats-server"), "-t", "-c", str(file)], check=True, capture_output=True)
    holders = {path.parent.name for path in tmp_path.rglob("*") if path.is_file() and password in path.read_text()}
    assert {"nats"} == holders and password not in (tmp_path / "nats" / "broker.json").read_text()


@pytest.mark.parametrize(
    ("there", "brokers", "why"),
    [
        ((), 1, None),
        ((), 3, None),
        (("nats/jetstream",), 3, None),
        (("nats/jetstream/CORE/streams/SWARM",), 1, None),
        (("nats/jetstream/CORE/streams/SWARM",), 3, "kept by one broker"),
        (("nats/jetstream/SYS/_js_/_meta_", "nats/jetstream/CORE/streams/SWARM"), 3, None),
        (("nats/jetstream/SYS/_js_/_meta_", "nats/jetstream/CORE/streams/SWARM"), 1, "say --brokers 3"),
        (("nats", "nats-2/jetstream/SYS/_js_/_meta_"), 1, "say --brokers 3"),
        (("nats", "nats-2/jetstream/SYS/_js_/_meta_"), 3, None),
    ],
)
def test_a_store_is_opened_by_as_many_brokers_as_made_it(
    tmp_path: Path, there: tuple[str, ...], brokers: int, why: str | None
) -> None:
    for folder in there:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    said = kept_otherwise(tmp_path, brokers)
    assert (why is None, why or "") == (said is None, why if why and why in (said or "") else "")
