"""Files of the workspace, written whole or not at all, in steps that can be told apart after a crash.

Theory of operation. Every step goes through directory descriptors and follows no symbolic link, so no path leads out, even if the
tree changes underneath. A write is: temporary file beside the target, synced; a *receipt* in `.receipts`, synced; then the
rename (or, for `create`, the link), synced. The receipt appears whole, once (a hard link), and says who was there first:

- `executing <claim>`: the writer passed; the rename may have happened.
- `fenced <claim>`: an inquiry was first; the writer finds it and stops. So "it did not happen" stays true.

After `executing`, an inquiry looks at the target; if that is not what was to be written, it moves the temporary file in with the
receipts: when there was one, the rename has not happened and now cannot. Only if it is gone and the target differs can nobody tell.

Invariants: nothing outside the workspace is touched; a target is never seen half-written; an inquiry's answer stays true.
Blocking: call in threads.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import secrets
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from services.actuator.decider import Outcome
from services.actuator.hands.hand import Task, cannot_tell, failed
from shared.contracts.events import Receipt
from shared.contracts.kinds.files import FileWrite, path_trouble

RECEIPTS = ".receipts"
IDENTITY = "identity"
KEEP_RECEIPTS_S = 30 * 86_400.0

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ESCAPES = (errno.ELOOP, errno.ENOTDIR)


class Workspace:
    """One folder that actions may write into. `identity` names it, so that a claim made on another is not answered here."""

    def __init__(self, root: Path) -> None:
        """Creates what is missing. Raises `OSError` when the folder cannot be used."""
        root.mkdir(parents=True, exist_ok=True)
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with suppress(FileExistsError):
            os.mkdir(RECEIPTS, 0o700, dir_fd=self._root)
        self._receipts = os.open(RECEIPTS, _FOLDER, dir_fd=self._root)
        os.fsync(self._root)
        self.identity, _ = self._place(IDENTITY, uuid.uuid4().hex[:12])

    def close(self) -> None:
        os.close(self._receipts)
        os.close(self._root)

    # -- doing ------------------------------------------------------------------------------------------------------

    def write(
        self, target: str, params: FileWrite, *, key: str, claim: str, hindered: Callable[[], Outcome | None]
    ) -> Outcome:
        """Write the file. `hindered` is asked right before the point of no return. Raises nothing that is an `OSError`."""
        content = params.content.encode()
        if trouble := path_trouble(target):
            return failed("path_escape", trouble)
        try:
            with self._parent(target, create=True) as (folder, name):
                temporary = _temporary(claim)
                _write_new(folder, temporary, content)
                if (refused := hindered()) is not None:
                    _remove(folder, temporary)
                    return refused
                try:
                    _, first = self._place(key, f"executing {claim}")
                except OSError:
                    _remove(folder, temporary)
                    raise
                if not first:
                    _remove(folder, temporary)
                    return failed("fenced", "there is a receipt already: an inquiry fenced it off")
                return self._put(folder, temporary, name, target, params, content)
        except OSError as error:
            code = "path_escape" if error.errno in _ESCAPES else "io_error"
            return failed(code, f"{target}: {error.strerror}")

    def _put(self, folder: int, temporary: str, name: str, target: str, params: FileWrite, content: bytes) -> Outcome:
        """The point of no return."""
        try:
            if params.mode == "create":
                os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
            else:
                os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:  # the call is atomic: it failed, so nothing is there
            with suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            code = "target_exists" if isinstance(error, FileExistsError) else "io_error"
            return failed(code, f"{target}: {error.strerror}")
        try:
            _remove(folder, temporary)  # `create` linked it
            os.fsync(folder)
        except OSError as error:
            return Outcome(
                outcome="unknown", summary=f"{target} is written but perhaps not durable", error=_code(error)
            )
        return _success(target, content)

    # -- finding out ------------------------------------------------------------------------------------------------

    def inquire(self, target: str, params: FileWrite, *, key: str, claim: str) -> Outcome:
        """Whether the claimed write happened; where it did not, make sure it no longer can. Raises no `OSError`."""
        content = params.content.encode()
        if path_trouble(target):
            return failed("path_escape", "a path that leads nowhere in the workspace is never written")
        try:
            word, _ = self._place(key, f"fenced {claim}")
        except OSError as error:
            return cannot_tell(f"the receipts cannot be read: {error.strerror}")
        if word == f"fenced {claim}":
            with suppress(OSError), self._parent(target, create=False) as (folder, _):
                _remove(folder, _temporary(claim))
            return failed("not_executed", "it had not begun, and is now fenced off")
        if word != f"executing {claim}":
            return cannot_tell(f"the receipt is of another claim: {word[:80]}")
        try:
            with self._parent(target, create=False) as (folder, name):
                if _holds(folder, name, content):
                    _remove(folder, _temporary(claim))
                    os.fsync(folder)  # the writer may have died before it did
                    return _success(target, content)
                withdrawn = self._withdraw(folder, _temporary(claim), key)
                if _holds(folder, name, content):  # put in place between the two looks
                    os.fsync(folder)
                    return _success(target, content)
                if withdrawn:
                    return failed("not_executed", "the file was prepared but not put in place, and is now withdrawn")
        except OSError as error:
            return cannot_tell(f"{target}: {error.strerror}")
        return cannot_tell("it began, and the target is not, or no longer, what was to be written")

    def prune(self, older_than_s: float = KEEP_RECEIPTS_S) -> int:
        """Remove receipts older than that; inquiries about claims half that age must not rely on them. How many went."""
        count, oldest = 0, time.time() - older_than_s
        for name in os.listdir(self._receipts):
            if name != IDENTITY and os.stat(name, dir_fd=self._receipts, follow_symlinks=False).st_mtime < oldest:
                count += _remove(self._receipts, name)
        return count

    # -- steps ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _parent(self, target: str, *, create: bool) -> Iterator[tuple[int, str]]:
        """A descriptor of the folder `target` is in, and its name there; folders are created and synced on the way."""
        *folders, name = target.split("/")
        current = os.dup(self._root)
        try:
            for folder in folders:
                if create:
                    with suppress(FileExistsError):
                        os.mkdir(folder, 0o755, dir_fd=current)
                    os.fsync(current)  # also when it was there: whoever made it may have died before
                deeper = os.open(folder, _FOLDER, dir_fd=current)
                os.close(current)
                current = deeper
            yield current, name
        finally:
            os.close(current)

    def _withdraw(self, folder: int, temporary: str, key: str) -> bool:
        """Take a prepared file away, so that it can no longer be put in place; True also when that was done before."""
        name = f"{key}.withdrawn"
        try:
            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=self._receipts)
        except FileNotFoundError:
            try:
                os.stat(name, dir_fd=self._receipts, follow_symlinks=False)
            except FileNotFoundError:
                return False
        os.fsync(self._receipts)
        return True

    def _place(self, name: str, line: str) -> tuple[str, bool]:
        """Put a line under `name` unless one is there: the line that is there in the end, durable, and whether we put it."""
        placed = False
        draft = f".{secrets.token_hex(8)}"
        _write_new(self._receipts, draft, line.encode())
        try:
            with suppress(FileExistsError):
                os.link(draft, name, src_dir_fd=self._receipts, dst_dir_fd=self._receipts, follow_symlinks=False)
                placed = True
        finally:
            os.unlink(draft, dir_fd=self._receipts)
        os.fsync(self._receipts)
        descriptor = os.open(name, _READ, dir_fd=self._receipts)
        try:
            return os.read(descriptor, 512).decode(errors="replace"), placed
        finally:
            os.close(descriptor)


class WorkspaceHand:
    """Does the kinds of files in one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    async def act(self, task: Task) -> Outcome:
        key, claim = task.job.key, task.claim.id
        match task.params:
            case FileWrite() as params:
                return await asyncio.to_thread(
                    self._workspace.write, task.target, params, key=key, claim=claim, hindered=task.hindered
                )
            case other:
                raise TypeError(f"the workspace does no {type(other).__name__}")

    async def inquire(self, task: Task) -> Outcome:
        if f"/{self._workspace.identity}/" not in task.mark:
            return cannot_tell(f"it was claimed on another workspace, by {task.mark}")
        if task.age > timedelta(seconds=KEEP_RECEIPTS_S / 2):
            return cannot_tell("the claim is older than receipts are kept")
        key, claim = task.job.key, task.claim.id
        match task.params:
            case FileWrite() as params:
                return await asyncio.to_thread(self._workspace.inquire, task.target, params, key=key, claim=claim)
            case other:
                raise TypeError(f"the workspace does no {type(other).__name__}")


def _temporary(claim: str) -> str:
    return f".{hashlib.sha256(claim.encode()).hexdigest()[:32]}.tmp"


def _write_new(folder: int, name: str, content: bytes) -> None:
    """A new file with this content, synced; removed again when it cannot be written whole."""
    descriptor = os.open(name, _NEW, 0o644, dir_fd=folder)
    try:
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        _remove(folder, name)
        raise


def _holds(folder: int, name: str, content: bytes) -> bool:
    """Whether the name is a regular file with exactly this content."""
    try:
        descriptor = os.open(name, _READ, dir_fd=folder)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        return stat.S_ISREG(about.st_mode) and about.st_size == len(content) and file.read(len(content) + 1) == content


def _remove(folder: int, name: str) -> bool:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    return True


def _success(target: str, content: bytes) -> Outcome:
    receipt = Receipt(target=target, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
    return Outcome(outcome="success", summary=f"wrote {len(content)} bytes to {target}", receipt=receipt)


def _code(error: OSError) -> str:
    return "io_error" if error.errno is None else f"io_{errno.errorcode.get(error.errno, 'error').lower()}"
