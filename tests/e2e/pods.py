"""Pods of the rendered manifests as processes: the image's entry point, the container's arguments and environment, its mounts as folders.

What the kubelet and the charts would do and no more: variables filled in, mounts put in place, the addresses of the cluster's Services
made those of this machine. Where `SWARM_TEST_IMAGE` names an image and there is a Docker engine, each is a container of it instead: the
mounts where the manifest has them, its user, a root it cannot write, no capabilities, its memory.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from services.supervisor.mesh import find_binary
from services.supervisor.running.ports import free_port
from services.supervisor.running.processes import die_with_parent
from tests.unit.deploy.compose import ROOT, text
from tests.unit.deploy.manifests import (
    FOLDER,
    Object,
    container,
    environment,
    mounted,
    name,
    of_the_image,
    pod,
    pod_labels,
)

IMAGE = os.environ.get("SWARM_TEST_IMAGE", "")


def entry_point() -> list[str]:
    """The image's."""
    (found,) = re.findall(r"^ENTRYPOINT (\[.*\])$", text("Dockerfile"), re.MULTILINE)
    return [str(word) for word in json.loads(found)]


class Places:
    """Where on this machine is what pods find by the names of Services, and where the keys are that were made for each holder."""

    def __init__(self, folder: Path, keys: Path) -> None:
        self.folder, self.keys = folder, keys
        self.nats, self.monitor, self.nothing = free_port(), free_port(), free_port()
        self.monitor_url = f"http://127.0.0.1:{self.monitor}"
        self._nats = folder / "nats"
        self._process: subprocess.Popen[bytes] | None = None

    def addresses(self, http: int) -> dict[str, str]:
        """What takes the place of what in a settings file."""
        return {
            "nats://nats:4222": f"nats://127.0.0.1:{self.nats}",
            "http://nats:8222": self.monitor_url,
            "minio:9000": f"127.0.0.1:{self.nothing}",
            "http://qdrant:6333": f"http://127.0.0.1:{self.nothing}",
            'host = "0.0.0.0"': 'host = "127.0.0.1"',
            "port = 4096": f"port = {http}",
        }

    def broker(self, values: Object) -> subprocess.Popen[bytes]:
        """nats-server with the configuration the chart makes of its values, and the accounts file beside it."""
        self._nats.mkdir()
        self._take_accounts()
        config = values["config"]
        jetstream = config["jetstream"]
        said = {
            "server_name": "nats-0",
            "listen": f"127.0.0.1:{self.nats}",
            "http": f"127.0.0.1:{self.monitor}",
            "jetstream": {
                "store_dir": str(self._nats / "data"),
                "max_memory_store": 0,
                "max_file_store": int(jetstream["fileStore"]["maxSize"]),
                **jetstream["merge"],
            },
            **config["merge"],
        }
        (self._nats / "nats.conf").write_text(conf(said))
        self._process = subprocess.Popen(
            [find_binary("nats-server"), "-c", str(self._nats / "nats.conf")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent(os.getpid()),
        )
        return self._process

    def reload(self) -> None:
        """What the chart's reloader does when the accounts are others."""
        self._take_accounts()
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def _take_accounts(self) -> None:
        (self._nats / "accounts.conf").write_text((self.keys / "nats" / "accounts.conf").read_text())


class Pod:
    """One container, started; `slot` is its pod's number."""

    def __init__(self, workload: Object, places: Places, slot: int = 1) -> None:
        self.name = f"{name(workload)}-{slot}"
        self.health, http = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.health}"
        root = places.folder / self.name
        root.mkdir()
        holder = pod_labels(workload)["app.kubernetes.io/name"].replace("-", "_")
        sources: dict[str, Path] = {}
        for at, volume, part in mounted(workload, slot):
            sources[at] = root / at.strip("/")
            if "secret" in volume:
                sources[at] = places.keys / holder / part
                assert sources[at].is_file(), f"{self.name} is to see {part} of the keys of {holder}, which has none"
            else:
                sources[at].mkdir(parents=True)
        moved = {at: at if IMAGE else str(source) for at, source in sources.items()}
        settings = (FOLDER / "base" / "swarm.toml").read_text()
        for was, now in places.addresses(http).items():
            assert was in settings
            settings = settings.replace(was, now)
        for at, now in moved.items():
            settings = re.sub(rf'"{at}(?=["/])', f'"{now}', settings)
        (root / "config" / "swarm.toml").write_text(settings)
        env = {**({} if IMAGE else _process() | of_the_image()), **environment(workload, slot)}
        env |= {"SWARM_HEALTH_HOST": "127.0.0.1", "SWARM_HEALTH_PORT": str(self.health)}
        row = container(workload)
        argv = [*row.get("command", entry_point()), *row.get("args", ())]
        assert argv[0] == "python"
        env = {key: _moved(value, moved) for key, value in env.items()}
        self.said = (root / "said").open("w+")
        self.process = subprocess.Popen(
            contained(workload, sources, env) if IMAGE else [sys.executable, *argv[1:]],
            env=dict(os.environ) if IMAGE else env,
            cwd=root,
            stdout=self.said,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent(os.getpid()),
        )

    async def ended(self, within_s: float) -> int:
        """The exit code."""
        return await asyncio.to_thread(self.process.wait, within_s)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def output(self) -> str:
        self.said.seek(0)
        return self.said.read()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.said.close()


def contained(workload: Object, sources: Mapping[str, Path], env: Mapping[str, str]) -> list[str]:
    """The command that runs the container as the manifest has it, of `IMAGE`, on this machine's network."""
    row, spec = container(workload), pod(workload)
    uid, secured = spec["securityContext"]["runAsUser"], row["securityContext"]
    written = {mount["mountPath"] for mount in row["volumeMounts"] if not mount.get("readOnly")}
    command = ["docker", "run", "--rm", "--network=host", f"--user={uid}:{uid}", f"--memory={_bytes(row)}"]
    command += [f"--cap-drop={capability}" for capability in secured["capabilities"]["drop"]]
    command += ["--read-only"] if secured["readOnlyRootFilesystem"] else []
    command += [] if secured["allowPrivilegeEscalation"] else ["--security-opt=no-new-privileges"]
    for at, source in sources.items():
        for found in (source, *(source.rglob("*") if source.is_dir() else ())):
            os.chown(found, uid, uid)
        command.append(f"--volume={source}:{at}{'' if at in written else ':ro'}")
    command += [f"--env={key}={value}" for key, value in env.items()]
    command += [f"--entrypoint={row['command'][0]}"] if "command" in row else []
    return [*command, IMAGE, *row.get("command", ())[1:], *row.get("args", ())]


def _bytes(row: Object) -> int:
    limit = str(row["resources"]["limits"]["memory"])
    assert limit.endswith("Mi")
    return int(limit[:-2]) * 2**20


def conf(values: Mapping[str, object]) -> str:
    """JSON, but that a key ending in `$include` becomes that directive, where its name sorts."""
    lines = []
    for key, value in sorted(values.items()):
        lines.append(f"include {value};" if key.endswith("$include") else f"{json.dumps(key)}: {_nested(value)}")
    return "\n".join(lines) + "\n"


def _nested(value: object) -> str:
    if isinstance(value, dict):
        return "{\n" + "".join(f"{json.dumps(k)}: {_nested(v)}\n" for k, v in value.items()) + "}"
    return json.dumps(value)


def _moved(value: str, moved: Mapping[str, str]) -> str:
    """A path below a mount is below its folder."""
    for at, now in moved.items():
        if value == at or value.startswith(f"{at}/"):
            return now + value[len(at) :]
    return value


def _process() -> dict[str, str]:
    """How Python finds the project here, as the image has it there."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}
