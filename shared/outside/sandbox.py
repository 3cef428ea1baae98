"""A process that sees no more than it is given: bubblewrap's namespaces, and limits of the kernel.

It has no network unless asked, no capabilities, no environment, a `/proc` of its own processes, and of files `/usr` to read, what it
is given, and a `/tmp` that is gone with it. A process that starts it as root starts it as nobody. When it ends, by itself or by the
clock, all that it began ends with it. Source: bwrap(1) 0.8, prlimit(1), setpriv(1), user_namespaces(7).
"""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import suppress
from pathlib import Path

import msgspec

BWRAP, PRLIMIT = "bwrap", "/usr/bin/prlimit"
AS_NOBODY = ("/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")
"""Not by arguments of the subprocess: uvloop has none for it."""
SCRATCH = "/tmp"  # noqa: S108 (its own, in the sandbox)
MAX_PROCESSES = 64
MAX_FILES = 256
TRY_S = 10.0


class Confined(msgspec.Struct, frozen=True, kw_only=True):
    """One process to be: `argv` whole; `read` and `write` are paths outside that it may; sizes in bytes, times in seconds. Where it talks,
    `output_bytes` is the most of one line."""

    argv: tuple[str, ...]
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    network: bool = False
    timeout_s: float
    output_bytes: int
    memory_bytes: int
    file_bytes: int


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. `status` None: the clock ended it. `cut`: it said more than is kept; `output` is its standard output and error."""

    status: int | None
    output: bytes
    cut: bool


class NoSandbox(Exception):
    """There is none here; the message says why, and what to do."""


async def available() -> None:
    """Whether a process can be confined here, by trying. Raises `NoSandbox`."""
    if shutil.which(BWRAP) is None or shutil.which(PRLIMIT) is None:
        raise NoSandbox("bwrap (bubblewrap) and prlimit (util-linux) are needed: apt-get install bubblewrap util-linux")
    trial = Confined(argv=("/usr/bin/true",), timeout_s=TRY_S, output_bytes=1000, memory_bytes=2**28, file_bytes=2**20)
    ended = await run(trial)
    if ended.status != 0:
        said = ended.output.decode(errors="replace").strip()[:300] or f"it ended with {ended.status}"
        raise NoSandbox(f"bwrap cannot make user namespaces here: {said}")


async def begin(what: Confined, *, talks: bool = False) -> asyncio.subprocess.Process:
    """Begin it; whoever does ends it. `talks`: it is talked to over its standard input and output, and its standard error is nobody's;
    else it is given nothing, and its standard error is part of its output. Raises `OSError`."""
    return await asyncio.create_subprocess_exec(
        *_argv(what),
        stdin=asyncio.subprocess.PIPE if talks else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL if talks else asyncio.subprocess.STDOUT,
        limit=max(2**16, what.output_bytes),
        cwd="/",
        env={},
        start_new_session=True,
    )


async def end(process: asyncio.subprocess.Process) -> None:
    """With all that it began."""
    with suppress(ProcessLookupError):
        process.kill()
    assert process.stdout is not None
    await asyncio.shield(_gone(process, process.stdout))


async def run(what: Confined) -> Ended:
    """Run it to its end, or to its time-out. Raises `OSError` when it could not be begun."""
    process = await begin(what)
    output, status = bytearray(), None
    assert process.stdout is not None
    said = 0
    try:
        async with asyncio.timeout(what.timeout_s):
            while chunk := await process.stdout.read(65536):
                said += len(chunk)
                output += chunk[: what.output_bytes - len(output)]
            status = await process.wait()
    except TimeoutError:
        pass
    finally:
        await end(process)
    return Ended(status=status, output=bytes(output), cut=said > len(output))


async def _gone(process: asyncio.subprocess.Process, output: asyncio.StreamReader) -> None:
    """It has ended, and so has all that it began: nobody writes any more."""
    while await output.read(65536):
        pass
    await process.wait()


def _argv(what: Confined) -> list[str]:
    argv = list(AS_NOBODY) if os.geteuid() == 0 else []
    argv += [shutil.which(BWRAP) or BWRAP, "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent"]
    argv += ["--share-net"] if what.network else []
    argv += ["--new-session", "--cap-drop", "ALL", "--clearenv", "--hostname", "sandbox"]
    argv += ["--setenv", "PATH", "/usr/bin:/bin", "--setenv", "LANG", "C.UTF-8", "--setenv", "HOME", SCRATCH]
    argv += ["--ro-bind", "/usr", "/usr"]
    for name in ("/bin", "/sbin", "/lib", "/lib64"):
        if os.path.islink(name):
            argv += ["--symlink", os.readlink(name), name]
        elif Path(name).is_dir():
            argv += ["--ro-bind", name, name]
    if what.network:
        for name in ("/etc/resolv.conf", "/etc/ssl"):
            argv += ["--ro-bind-try", os.path.realpath(name), name]
    argv += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", SCRATCH, "--chdir", SCRATCH]
    for flag, paths in (("--ro-bind", what.read), ("--bind", what.write)):
        for path in paths:
            argv += [flag, path, path]
    argv += ["--", PRLIMIT, f"--as={what.memory_bytes}", f"--fsize={what.file_bytes}", f"--nproc={MAX_PROCESSES}"]
    argv += [f"--nofile={MAX_FILES}", "--core=0", f"--cpu={max(1, round(what.timeout_s))}", "--", *what.argv]
    return argv
