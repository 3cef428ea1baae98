"""What each process is given, and what it is not."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from services.supervisor import plan
from services.supervisor.plan import Options, Places
from shared.broker import service_of
from shared.configuration import VARIABLES
from shared.contracts.services import SERVICES
from shared.settings import reads

ENVIRON = {
    "PATH": "/bin",
    "SECRET_OF_THE_SHELL": "x",
    "HTTPS_PROXY": "http://proxy",
    "SWARM_TOKEN": "t",
    "SWARM_MODEL_API_KEY": "k",
    "SWARM_EMBEDDINGS_API_KEY": "e",
    "SWARM_GOVERNOR_DRAIN_S": "5",
    "SWARM_S3_SECRET_KEY": "s",
    "SWARM_OUTBOUND_ALLOW": "example.org:443",
}
PLACES = Places(
    data=Path("/d"),
    python="python",
    nats_server="nats-server",
    weed="weed",
    root=Path("/r"),
    kill_switch=Path("/d/STOP"),
    environ=ENVIRON,
)


def environments(options: Options) -> dict[str, dict[str, str]]:
    ports = {name: 1000 + n for n, name in enumerate(plan.port_names(options))}
    return {spec.name: dict(spec.env) for spec in plan.services(options, PLACES, ports)}


def test_a_service_is_given_the_settings_of_the_command_that_it_reads_and_no_other() -> None:
    places = msgspec.structs.replace(PLACES, environ=dict.fromkeys([*VARIABLES, "SWARM_CONFIG", "SWARM_TEST"], "x"))
    ports = dict.fromkeys(plan.port_names(Options()), 1)
    for spec in plan.services(Options(), places, ports):
        of_command = {name for name, value in spec.env.items() if value == "x"} - {"SWARM_CONFIG"}
        assert spec.env["SWARM_CONFIG"] == "x" and len(of_command) > 5
        assert [] == [name for name in of_command if not reads(service_of(spec.name), VARIABLES[name])]
        assert [] == [
            name for name, key in VARIABLES.items() if reads(service_of(spec.name), key) and name not in spec.env
        ]


def test_there_is_one_of_each_service_and_as_many_runners_as_asked_for() -> None:
    assert plan.instances(Options(runners=2))[-2:] == ("persona_runner-1", "persona_runner-2")
    assert len(plan.instances(Options())) == len(SERVICES)
    assert plan.instances(Options(services=())) == ()
    with pytest.raises(ValueError, match="'gatevay' is no service"):
        plan.instances(Options(services=("gatevay",)))


def test_every_instance_has_its_own_key_inbox_folder_and_health_port() -> None:
    given = environments(Options(runners=2)).values()
    for name in ("SWARM_NATS_SEED_FILE", "SWARM_DATA_DIR", "SWARM_HEALTH_PORT", "SWARM_INSTANCE"):
        assert len({env[name] for env in given}) == len(SERVICES) + 1


def test_replicas_are_instances_of_their_own_and_every_gateway_has_its_port() -> None:
    given = environments(Options(replicas=2, runners=3))
    assert {"governor-1", "governor-2", "persona_runner-3"} < set(given) and len(given) == 2 * len(SERVICES)
    assert given["gateway-1"]["SWARM_HTTP_PORT"] != given["gateway-2"]["SWARM_HTTP_PORT"]
    assert "api" in plan.port_names(Options(replicas=2))


def test_a_secret_reaches_the_one_service_that_needs_it() -> None:
    given = environments(Options())

    def holders(name: str) -> set[str]:
        return {instance for instance, env in given.items() if name in env}

    assert holders("SWARM_MODEL_API_KEY") == {"persona_runner-1"}
    assert holders("HTTPS_PROXY") == {"persona_runner-1"}
    assert holders("SWARM_EMBEDDINGS_API_KEY") == {"memory_compactor-1"}
    assert holders("SWARM_S3_SECRET_KEY_FILE") == {"memory_compactor-1"}
    assert holders("SWARM_S3_SECRET_KEY") == {"memory_compactor-1"}
    assert holders("SWARM_CORE_SECRET_FILE") == {f"{row.name}-1" for row in SERVICES.values() if row.trusted}
    assert holders("SWARM_VERDICT_SEED_FILE") == {"policy_gate-1"}
    assert holders("SWARM_WORKSPACE") == {"actuator-1"}
    assert holders("SWARM_KILL_SWITCH_FILE") == {"actuator-1", "gateway-1", "policy_gate-1"}
    assert holders("SWARM_TOKEN") == holders("SECRET_OF_THE_SHELL") == set()
    assert holders("SWARM_GOVERNOR_DRAIN_S") == {"governor-1"}
    assert holders("SWARM_VERDICT_ROOT_FILE") == {"actuator-1", "gateway-1", "policy_gate-1"}


@pytest.mark.parametrize(
    ("asked", "expected"), [("", "example.org:443"), ("intranet.example.org:443", "intranet.example.org:443")]
)
def test_the_gate_permits_the_hosts_the_actuator_may_call(asked: str, expected: str) -> None:
    given = environments(Options(http_allow=asked))
    assert given["actuator-1"]["SWARM_OUTBOUND_ALLOW"] == given["policy_gate-1"]["SWARM_OUTBOUND_ALLOW"] == expected


def test_the_object_store_listens_on_loopback_and_on_given_ports_only() -> None:
    options = Options()
    ports = {name: 1000 + n for n, name in enumerate(plan.port_names(options))}
    argv = plan.s3(PLACES, ports).argv
    assert {"-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false", "-s3.port.iceberg=0"} <= set(argv)
    assert f"-s3.port={ports['s3_s3']}" in argv
    assert f"-filer.port.grpc={ports['s3_filer_grpc']}" in argv


def test_the_object_store_keeps_its_logs_in_its_folder_and_small() -> None:
    argv = plan.s3(PLACES, dict.fromkeys(plan.port_names(Options()), 1)).argv
    assert {"-logdir=/d/s3", "-log_max_size_mb=8", "-log_max_files=2"} <= set(argv[: argv.index("mini")])
