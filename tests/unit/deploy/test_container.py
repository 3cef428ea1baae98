"""What runs in containers beside the services: their entry point, their health check, who is given which keys."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import msgspec
import pytest

from services.supervisor import holders
from shared.broker import ROLES, BrokerConfig
from shared.contracts.services import SERVICES
from shared.crypto import public_key
from tests.unit.deploy.compose import ROOT, services

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def script(name: str) -> ModuleType:
    module = ModuleType(name)
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    SourceFileLoader(name, str(ROOT / "scripts" / name)).exec_module(module)
    sys.dont_write_bytecode = before
    return module


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The health check, with its memory in a folder of the test, and whoever it would end in `ended`."""
    module = script("healthcheck")
    module.COUNT = str(tmp_path / "count")  # type: ignore[attr-defined]
    module.ended = []  # type: ignore[attr-defined]
    monkeypatch.setattr(os, "kill", lambda pid, number: module.ended.append((pid, number)))
    module.has_init = lambda: True  # type: ignore[attr-defined]
    return module


class Answers(BaseHTTPRequestHandler):
    statuses: ClassVar[dict[str, int]]

    def do_GET(self) -> None:
        self.send_response(self.statuses[self.path])
        self.end_headers()
        self.wfile.write(b'{"ready":false}')

    def log_message(self, *_: object) -> None:
        return


def ask(check: ModuleType, monkeypatch: pytest.MonkeyPatch, *, live: int, ready: int = 200) -> int:
    """One look at a server that answers so."""
    handler = type("Handler", (Answers,), {"statuses": {"/health/live": live, "/health/ready": ready}})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("SWARM_HEALTH_PORT", str(server.server_port))
        monkeypatch.setattr(sys, "argv", ["healthcheck"])
        try:
            return int(check.main())
        finally:
            server.shutdown()
            thread.join()


def test_a_process_is_ended_at_the_third_look_in_vain_in_a_row(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = [200, 503, 503, 200, 503, 503]
    assert [0, 1, 1, 0, 1, 1] == [ask(check, monkeypatch, live=status) for status in looks]
    assert [] == check.ended
    assert ask(check, monkeypatch, live=503) == 1
    assert [(-1, 9)] == check.ended


def test_who_is_not_ready_is_unwell_and_not_ended(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {1} == {ask(check, monkeypatch, live=200, ready=503) for _ in range(5)}
    assert [] == check.ended
    assert '503 {"ready":false}' in capsys.readouterr().out, "docker inspect shows why"


def test_nobody_is_ended_before_the_first_answer_for_a_long_time(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [False] * (check.FIRST_LIMIT - 1) + [True] == [check.look(False) for _ in range(check.FIRST_LIMIT)]


def test_who_cannot_work_because_the_disk_is_full_is_ended_when_there_is_room(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEALTH_ROOM", str(tmp_path))
    ask(check, monkeypatch, live=200)
    check.ROOM_SHARE, check.ROOM_BYTES = 1, 2**80  # type: ignore[attr-defined]
    assert [1] * 5 == [ask(check, monkeypatch, live=503) for _ in range(5)]
    assert [] == check.ended
    check.ROOM_BYTES = 1  # type: ignore[attr-defined]
    assert [1] * 3 == [ask(check, monkeypatch, live=503) for _ in range(3)]
    assert [(-1, 9)] == check.ended


def test_without_an_init_process_nobody_is_ended(check: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    check.has_init = lambda: False  # type: ignore[attr-defined]
    for status in (200, 503, 503, 503, 503):
        ask(check, monkeypatch, live=status)
    assert [] == check.ended


def test_who_takes_connections_and_says_nothing_does_not_live(check: ModuleType) -> None:
    check.TIMEOUT_S = 0.05  # type: ignore[attr-defined]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert check.get(f"http://127.0.0.1:{silent.getsockname()[1]}/health/live") == (0, "")


def test_the_check_of_images_without_python_sees_who_is_well_and_ends_who_was_not_three_times(tmp_path: Path) -> None:
    (*_, text) = services("compose.yaml")["minio"]["healthcheck"]["test"]
    text, ends = text.replace("/tmp/", f"{tmp_path}/"), text.count("kill -9 -1")
    text = text.replace("kill -9 -1", "echo ended")
    assert ends == 1

    class Host(Answers):
        statuses: ClassVar[dict[str, int]] = {"/minio/health/live": 200}

        def do_GET(self) -> None:
            if self.headers["Host"]:  # as MinIO wants it
                super().do_GET()

    def look(port: int) -> tuple[int, str]:
        ended = subprocess.run(
            ["bash", "-c", text],
            env={"HEALTH": f"{port}/minio/health/live"},
            capture_output=True,
            text=True,
            check=False,
        )
        return ended.returncode, ended.stdout.strip()

    with HTTPServer(("127.0.0.1", 0), Host) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            assert look(server.server_port) == (0, "")
        finally:
            server.shutdown()
            thread.join()
    gone = server.server_port
    assert [(1, ""), (1, ""), (1, "ended")] == [look(gone) for _ in range(3)]


def test_the_entry_point_names_the_services_there_are() -> None:
    ended = subprocess.run([sys.executable, "-P", "-m", "services", "nobody"], capture_output=True, text=True, cwd=ROOT,
                           env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)  # fmt: skip
    assert ended.returncode == 2
    assert all(name in ended.stderr for name in SERVICES)


def test_every_holder_has_what_is_its_own_and_nobody_elses(tmp_path: Path) -> None:
    holders.deliver(tmp_path)
    seeds = {h: re.findall(r"SU[A-Z2-7]{56}", "".join(f.read_text() for f in (tmp_path / h).iterdir()))
             for h in holders.HOLDERS}  # fmt: skip
    wanted = {name: row.slots + (name == "policy_gate") for name, row in SERVICES.items()} | dict.fromkeys(ROLES, 1)
    wanted["verdict"] = 1
    assert wanted == {h: len(s) for h, s in seeds.items() if s}, (
        "of each slot one, the gates' for verdicts, and its root"
    )
    assert len({seed for found in seeds.values() for seed in found}) == sum(wanted.values())
    before = {file: file.read_text() for file in tmp_path.rglob("*") if file.is_file()}
    holders.deliver(tmp_path)
    assert before == {file: file.read_text() for file in tmp_path.rglob("*") if file.is_file()}


def test_a_runner_of_some_swarms_has_a_seed_that_no_other_runner_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holders.deliver(tmp_path)
    before = (tmp_path / "persona_runner" / "persona_runner-16.nk").read_text()
    monkeypatch.setenv("SWARM_PLACEMENT_GROUPS", "persona_runner-16=beta+alpha")
    for _ in range(2):
        assert "persona_runner-16" in holders.deliver(tmp_path)
        (own,) = (tmp_path / "persona_runner-16").iterdir()
        assert before == own.read_text(), "who is served changes, not who it is"
        rest = {file.name for file in (tmp_path / "persona_runner").iterdir()}
        assert {f"persona_runner-{n}.nk" for n in range(1, 16)} == rest
    config = msgspec.json.decode((tmp_path / "nats" / "broker.json").read_bytes(), type=BrokerConfig)
    assert config.serves == {"persona_runner-16": ("alpha", "beta")}
    assert config.keys["persona_runner-16"] == public_key(before)


@pytest.mark.parametrize(
    "groups", ["persona_runner-17=alpha", "persona_runner-1", "persona_runner-1=a,persona_runner-2=a+b"]
)
def test_runners_that_cannot_be_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str) -> None:
    monkeypatch.setenv("SWARM_PLACEMENT_GROUPS", groups)
    monkeypatch.setattr(sys, "argv", ["holders", str(tmp_path)])
    with pytest.raises(SystemExit, match="keys: SWARM_PLACEMENT_GROUPS: "):
        holders.main()
    assert [] == [*tmp_path.iterdir()], "nothing is made"


def test_the_object_stores_root_keys_are_nobodys_but_its_own_and_what_makes_its_user(tmp_path: Path) -> None:
    holders.deliver(tmp_path)
    for root, memory in (("root-access", "s3-access"), ("root-secret", "s3-secret")):
        key = (tmp_path / "s3" / root).read_text()
        assert {"s3", "bucket"} == {
            file.parent.name for file in tmp_path.rglob("*") if file.is_file() and key in file.read_text()
        }
        assert key != (tmp_path / "memory_compactor" / memory).read_text() == (tmp_path / "bucket" / memory).read_text()
    told = services("compose.yaml")
    assert {"minio", "bucket"} == {
        name for name, row in told.items() if "/keys/root-secret" in row.get("environment", {}).values()
    }
    assert told["bucket"]["restart"] == "on-failure:10", "it ends"


def test_a_stranger_on_their_network_is_no_broker(tmp_path: Path) -> None:
    holders.deliver(tmp_path)
    told = (tmp_path / "nats" / "cluster.conf").read_text()
    assert subprocess.run(
        [Path(sys.executable).with_name("nats-server"), "-t", "-c", tmp_path / "nats" / "cluster.conf"],
        env={"SERVER_NAME": "nats-2"}, check=False, capture_output=True,
    ).returncode == 0  # fmt: skip
    (password,) = re.findall(r'password: "([0-9a-f]{48})"', told)
    assert len(holders.BROKERS) == told.count(f"broker:{password}@")
    assert set(holders.BROKERS) == {
        n for n in services("compose.yaml", "compose.cluster.yaml") if n.startswith("nats") and n != "nats-box"
    }


def test_keys_are_made_where_only_the_holders_folders_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for holder in holders.HOLDERS:
        (tmp_path / holder).mkdir()

    def read_only(call: Callable[..., None]) -> Callable[..., None]:
        def refuse(path: Path, *rest: object, **named: object) -> None:
            if Path(path).parent == tmp_path:
                raise OSError(errno.EROFS, "Read-only file system", str(path))
            call(path, *rest, **named)

        return refuse

    for name in ("unlink", "rename"):
        monkeypatch.setattr(os, name, read_only(getattr(os, name)))
    holders.deliver(tmp_path)
    holders.deliver(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_holder_may_read_its_folder_and_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "data" / "nats").mkdir(parents=True)
    holders.give(tmp_path, holders.deliver(tmp_path), 10001)
    seed = (tmp_path / "verifier" / "verifier-1.nk").stat()
    assert (10001, 0o400) == (seed.st_uid, stat.S_IMODE(seed.st_mode))
    assert stat.S_IMODE((tmp_path / "verifier").stat().st_mode) == 0o500


def test_who_is_not_root_keeps_the_keys_and_may_run_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["holders", str(tmp_path)])
    given: list[object] = []
    monkeypatch.setattr(os, "chown", lambda *what: given.append(what))
    holders.main()
    seed = (tmp_path / "verifier" / "verifier-16.nk").read_text()
    holders.main()
    assert ([], seed) == (given, (tmp_path / "verifier" / "verifier-16.nk").read_text())
    assert {0o600} == {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.rglob("*") if file.is_file()}


def test_the_bill_of_materials_names_what_is_installed() -> None:
    said = json.loads(
        subprocess.run([sys.executable, str(ROOT / "scripts" / "sbom")], capture_output=True, check=True).stdout
    )
    assert (said["bomFormat"], said["specVersion"]) == ("CycloneDX", "1.6")
    found = {c["name"]: c for c in said["components"]}
    assert found["nats-py"]["purl"] == f"pkg:pypi/nats-py@{found['nats-py']['version']}"
    assert len({c["bom-ref"] for c in said["components"]}) == len(said["components"])
