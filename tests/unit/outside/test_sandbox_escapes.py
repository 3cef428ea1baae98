"""Ways out of the sandbox, each tried, and none leads out: forks, other processes and their memory, signals, the network and sockets of
this machine, files, devices, the kernel's switches, and rights.

Each script prints `OUT` where it got what it was after; what it did to what is outside is looked at from there.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from shared.outside.sandbox import AS_NOBODY, Confined, NoSandbox, available, run

SECRET = "swordfish-4711"


def _sandbox() -> str:
    try:
        asyncio.run(available())
    except NoSandbox as error:
        return str(error)
    return ""


NO_SANDBOX = _sandbox()
pytestmark = pytest.mark.skipif(bool(NO_SANDBOX), reason=NO_SANDBOX)
needs_perl = pytest.mark.skipif(shutil.which("perl", path="/usr/bin") is None, reason="no /usr/bin/perl")


class Outside(msgspec.Struct, frozen=True):
    """What is there to be got at: a process of the same user, sockets that somebody listens on, and a folder anybody may write to."""

    pid: int
    port: int
    folder: Path
    heard: list[str]

    def alive(self) -> bool:
        return Path(f"/proc/{self.pid}/cmdline").read_bytes().startswith(b"/usr/bin/sleep")


@pytest.fixture(scope="module")
def outside() -> Iterator[Outside]:
    heard: list[str] = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o777)
        (folder / "secret").write_text(SECRET)
        (folder / "secret").chmod(0o666)
        as_nobody = AS_NOBODY if os.geteuid() == 0 else ()
        process = subprocess.Popen(
            [*as_nobody, "/usr/bin/sleep", "600"], env={"SECRET": SECRET}, start_new_session=True
        )
        listeners = [socket.create_server(("127.0.0.1", 0))]
        for path in (str(folder / "socket"), f"\0swarm-{os.getpid()}"):
            listeners.append(socket.socket(socket.AF_UNIX))
            listeners[-1].bind(path)
            listeners[-1].listen()
        (folder / "socket").chmod(0o777)
        for one in listeners:
            threading.Thread(target=_listen, args=(one, heard), daemon=True).start()
        try:
            yield Outside(process.pid, listeners[0].getsockname()[1], folder, heard)
        finally:
            for one in listeners:
                one.close()
            process.kill()
            process.wait()


def _listen(one: socket.socket, heard: list[str]) -> None:
    while True:
        try:
            connection, _ = one.accept()
        except OSError:
            return
        heard.append(str(one.getsockname()))
        connection.close()


def tried(script: str, **changed: object) -> str:
    confined = Confined(
        argv=("/bin/sh", "-c", script), timeout_s=15.0, output_bytes=100_000, memory_bytes=2**28, file_bytes=2**20
    )
    return asyncio.run(run(msgspec.structs.replace(confined, **changed))).output.decode(errors="replace")


PROCESSES = {
    "kill one": "kill -9 {pid} && echo OUT",
    "kill all": "kill -9 -1; sleep 0.1",
    "stop one": "kill -STOP {pid} && echo OUT",
    "its environment": "cat /proc/{pid}/environ && echo OUT",
    "its memory": "cat /proc/{pid}/mem && echo OUT",
    "its root": "ls /proc/{pid}/root/ && echo OUT; ls -d /proc/1/root/work /proc/1/root/root && echo OUT",
    "its files": "cat /proc/{pid}/fd/0 && echo OUT; cat /proc/1/fd/* | grep -q {secret} && echo OUT",
    "every environment": "cat /proc/*/environ /proc/*/task/*/environ | grep -aq {secret} && echo OUT",
    "its namespaces": "nsenter -t {pid} -a true && echo OUT; nsenter -t 1 -n ip addr | grep -q eth && echo OUT",
    "its limits": "prlimit --pid {pid} --nofile=1 && echo OUT; renice 19 {pid} && echo OUT",
    "a trace of it": "strace -p {pid} 2>&1 | grep -q attached && echo OUT; gdb -p {pid} -batch >/dev/null && echo OUT",
}
FILES = {
    "a file anybody may read": "cat {folder}/secret && echo OUT",
    "a file anybody may write": "echo x > {folder}/secret && echo OUT",
    "by a link": "ln -s {folder}/secret /tmp/a && cat /tmp/a && echo OUT; ln {folder}/secret /tmp/b && echo OUT",
    "by the root's parent": "cat /../../../..{folder}/secret && echo OUT; cd /proc/self/root && cat .{folder}/secret && echo OUT",
    "what is mounted": "mount --bind / /tmp && echo OUT; mount -t proc none /tmp && echo OUT; umount /proc && echo OUT",
    "a new root": "pivot_root /tmp /tmp && echo OUT; chroot /tmp /bin/true && echo OUT",
    "users of this machine": "cat /etc/passwd /etc/shadow && echo OUT; ls /home /root /var /srv /mnt && echo OUT",
    "its own programs": "echo x > /usr/bin/env && echo OUT; rm -rf /usr/bin/env; test -e /usr/bin/env || echo OUT",
    "devices": "mknod /tmp/d b 8 0 && echo OUT; cat /dev/sda /dev/mem /dev/kmsg && echo OUT; ls /dev/disk /dev/vda && echo OUT",
}
KERNEL = {
    "switches": "echo 1 > /proc/sys/kernel/sysrq && echo OUT; echo c > /proc/sysrq-trigger && echo OUT",
    "the handler of crashes": "echo '|/tmp/x' > /proc/sys/kernel/core_pattern && echo OUT",
    "its own score": "echo -1000 > /proc/self/oom_score_adj && echo OUT",
    "memory and log": "cat /proc/kcore >/dev/null && echo OUT; dmesg && echo OUT",
    "modules": "modprobe loop && echo OUT; insmod /tmp/x && echo OUT",
    "cgroups": "mkdir /sys/fs/cgroup/x && echo OUT; ls /sys/fs/cgroup && echo OUT",
    "the clock": "date -s 2000-01-01 && echo OUT; hwclock -w && echo OUT",
    "its host": 'hostname out && test "$(hostname)" = out && echo OUT; reboot -f && echo OUT; sleep 0.1',
}
RIGHTS = {
    "another user": "su -c true && echo OUT; sudo -n true && echo OUT; setpriv --reuid=0 true && echo OUT",
    "namespaces of its own": "unshare -U true && echo OUT; unshare -n true && echo OUT; unshare -m true && echo OUT",
    "a program of root's": "cp /usr/bin/id /tmp/id && chmod 4755 /tmp/id && chown 0 /tmp/id && echo OUT",
    "capabilities": "grep -q 'Cap\\(Eff\\|Prm\\|Inh\\|Amb\\).*[1-9a-f]' /proc/self/status && echo OUT",
    "new rights": "grep -q 'NoNewPrivs:.*1' /proc/self/status || echo OUT",
    "our settings": "env | grep -q SWARM && echo OUT; set | grep -q {secret} && echo OUT",
}


@pytest.mark.parametrize("script", [*PROCESSES.values(), *FILES.values(), *KERNEL.values(), *RIGHTS.values()])
def test_nothing_outside_is_reached(outside: Outside, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setenv("SWARM_SECRET", SECRET)
    said = tried(
        script.replace("{pid}", str(outside.pid)).replace("{folder}", str(outside.folder)).replace("{secret}", SECRET)
    )
    assert "OUT" not in said and SECRET not in said, said
    assert outside.alive() and SECRET == (outside.folder / "secret").read_text()


@needs_perl
def test_no_socket_of_this_machine_is_reached_nor_any_other(outside: Outside) -> None:
    connect = (
        "use Socket; sub t { my ($d, $a) = @_; socket(my $s, $d, SOCK_STREAM, 0) and connect($s, $a) and print 'OUT'; }"
        f"for my $p ({outside.port}, 22, 53, 80, 4222) {{ for ('127.0.0.1', '127.0.0.2', '169.254.169.254', '1.1.1.1', '8.8.8.8') {{"
        "t(AF_INET, pack_sockaddr_in($p, inet_aton($_))); } }"
        f"t(AF_UNIX, pack_sockaddr_un('{outside.folder}/socket')); t(AF_UNIX, pack_sockaddr_un(chr(0).'swarm-{os.getpid()}'));"
        "t(AF_UNIX, pack_sockaddr_un($_)) for ('/run/docker.sock', '/run/systemd/private', '/run/dbus/system_bus_socket');"
        "socket(my $r, AF_INET, SOCK_RAW, 1) and print 'OUT'; gethostbyname('example.org') and print 'OUT';"
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        script = Path(folder) / "connect.pl"
        script.write_text(connect)
        script.chmod(0o644)
        said = tried(f"timeout 10 perl {script} 2>&1; echo over", read=(folder,))
    assert said.endswith("over\n") and "OUT" not in said, said
    assert [] == outside.heard


def test_the_sockets_can_be_heard(outside: Outside) -> None:
    """Else that would show nothing. It comes last, for it is heard."""
    for address in (("127.0.0.1", outside.port), str(outside.folder / "socket"), f"\0swarm-{os.getpid()}"):
        with socket.socket(socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX) as one:
            one.connect(address)
    for _ in range(1000):
        if len(outside.heard) == 3:
            return
        threading.Event().wait(0.005)
    raise AssertionError(outside.heard)


@pytest.mark.parametrize(
    "bomb",
    [
        "b() { b | b & }; b; sleep 2",
        "while :; do sleep 60.{mark} & done",
        "yes x | head -c 900000000 > /tmp/full; head -c 900000000 /dev/zero | tail",
        "i=0; while [ $i -lt 5000 ]; do : > /tmp/f$i || break; i=$((i+1)); done; exec 3</dev/zero; cat <&3",
        "(setsid sh -c 'trap \"\" TERM HUP INT; while :; do sleep 60.{mark}; done' &) ; sleep 60.{mark}",
    ],
)
def test_no_bomb_is_felt_outside_and_nothing_of_it_is_left(outside: Outside, bomb: str) -> None:
    mark = str(os.getpid())
    tried(f": {mark}; {bomb}".replace("{mark}", mark), timeout_s=3.0, output_bytes=1000)
    left = [one for one in _commands() if f": {mark};" in one or f"60.{mark}" in one]
    assert outside.alive() and [] == left
    assert subprocess.run(["/bin/true"], check=False).returncode == 0  # there is room for more


def _commands() -> list[str]:
    """The arguments of every process there is."""
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            with suppress(OSError):
                found.append((each / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


def test_what_is_given_can_be_got_at(outside: Outside) -> None:
    """Else all of this would show nothing."""
    script = FILES["a file anybody may read"].replace("{folder}", str(outside.folder))
    assert f"{SECRET}OUT\n" == tried(script, read=(str(outside.folder),))
