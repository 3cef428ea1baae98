"""Files of the workspace, written, patched and deleted whole or not at all, in steps that can be told apart after a crash.

Theory of operation. Every step goes through directory descriptors and follows no symbolic link, so no path leads out, even if the
tree changes underneath. A write is: temporary file beside the target, synced; a receipt (`receipts`), synced; then the
rename (or, for `create`, the link), synced.

After `executing`, an inquiry looks at the target; if that is not what was to be written, it moves the temporary file in with the
receipts: when there was one, the rename has not happened and now cannot. Only if it is gone and the target differs can nobody tell.

What was there before is kept with the receipt, and the outcome tells where: undoing is a new proposal. A patch is a write of what was
there with a passage replaced. A deletion links the file to what is kept, its point of no return, and then unlinks its name: an inquiry
that finds the link finishes the deletion, and one that finds none puts its own word there, so that no link can come.

Invariants: nothing outside the workspace is touched; a target is never seen half-written; an inquiry's answer stays true.
Blocking: call in threads.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import msgspec

from services.actuator.hands.hand import Task, cannot_tell, cannot_tell_yet, failed
from services.actuator.hands.receipts import KEEP_RECEIPTS_S, Receipts
from services.actuator.terms import Outcome
from shared.contracts.events import Receipt
from shared.contracts.kinds.files import FileDelete, FilePatch, FileWrite, patched, path_trouble, text_trouble
from shared.outside.filing import FOLDER, holds, read, remove, write_new

_ESCAPES = (errno.ELOOP, errno.ENOTDIR)
_FENCED = failed("fenced", "there is a receipt already: an inquiry fenced it off")


class _Writing(msgspec.Struct, frozen=True, kw_only=True):
    """One write. `is_new` refuses when the file exists; `old` is what is there, when it must be kept byte for byte."""

    target: str
    key: str
    claim: str
    content: bytes
    is_new: bool = False
    old: bytes | None = None


class Workspace:
    """One folder that actions may write into."""

    def __init__(self, root: Path) -> None:
        """Creates what is missing. Raises `OSError` when the folder cannot be used."""
        root.mkdir(parents=True, exist_ok=True)
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.receipts = Receipts(self._root)

    def close(self) -> None:
        self.receipts.close()
        os.close(self._root)

    # -- doing ------------------------------------------------------------------------------------------------------

    def write(
        self, target: str, params: FileWrite, *, key: str, claim: str, hindered: Callable[[], Outcome | None]
    ) -> Outcome:
        """Write the file. `hindered` is asked right before the point of no return. Raises nothing that is an `OSError`."""
        content, is_new = params.content.encode(), params.mode == "create"
        job = _Writing(target=target, key=key, claim=claim, content=content, is_new=is_new)
        return self._at(target, lambda folder, name: self._write(folder, name, job, hindered), create=True)

    def patch(
        self, target: str, params: FilePatch, *, key: str, claim: str, hindered: Callable[[], Outcome | None]
    ) -> Outcome:
        """Write what is there with one passage replaced, if it is what that was made for. Otherwise as `write`."""

        def do(folder: int, name: str) -> Outcome:
            old = read(folder, name)
            if _sha256(old) != params.base:
                return failed("changed_since", f"{target} is no longer what the patch was made for")
            content = patched(old, params)
            if isinstance(content, str):
                return failed("bad_params", content)
            if hidden := text_trouble(target, content.decode()):
                return failed("bad_params", f"with that in place, {hidden}")
            job = _Writing(target=target, key=key, claim=claim, content=content, old=old)
            return self._write(folder, name, job, hindered)

        return self._at(target, do)

    def delete(
        self, target: str, params: FileDelete, *, key: str, claim: str, hindered: Callable[[], Outcome | None]
    ) -> Outcome:
        """Take the file away, if it is what it was; it is kept with the receipt. Otherwise as `write`."""

        def do(folder: int, name: str) -> Outcome:
            if _sha256(read(folder, name)) != params.base:
                return failed("changed_since", f"{target} is no longer what was to be deleted")
            if (refused := hindered()) is not None:
                return refused
            if not self.receipts.begin(key, claim) or not self.receipts.link(key, folder, name):
                return _FENCED
            return self._take_away(folder, name, target, params, key)

        return self._at(target, do)

    def _at(self, target: str, do: Callable[[int, str], Outcome], *, create: bool = False) -> Outcome:
        if trouble := path_trouble(target):
            return failed("path_escape", trouble)
        try:
            with self._parent(target, create=create) as (folder, name):
                return do(folder, name)
        except OSError as error:
            code = "path_escape" if error.errno in _ESCAPES else "io_error"
            return failed(code, f"{target}: {error.strerror}")

    def _write(self, folder: int, name: str, job: _Writing, hindered: Callable[[], Outcome | None]) -> Outcome:
        temporary = _temporary(job.claim)
        write_new(folder, temporary, job.content)
        try:
            if (refused := hindered()) is not None:
                remove(folder, temporary)
                return refused
            if job.old is not None:
                self.receipts.keep(job.key, job.old)
            elif not job.is_new:
                with suppress(FileNotFoundError):
                    self.receipts.link(job.key, folder, name)
            if not self.receipts.begin(job.key, job.claim):
                remove(folder, temporary)
                return _FENCED
        except OSError:
            remove(folder, temporary)
            raise
        return self._put(folder, temporary, name, job)

    def _put(self, folder: int, temporary: str, name: str, job: _Writing) -> Outcome:
        """The point of no return."""
        try:
            if job.is_new:
                os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
            else:
                os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:  # the call is atomic: it failed, so nothing is there
            with suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            code = "target_exists" if isinstance(error, FileExistsError) else "io_error"
            return failed(code, f"{job.target}: {error.strerror}")
        try:
            remove(folder, temporary)  # `create` linked it
            os.fsync(folder)
        except OSError as error:
            said = f"{job.target} is written but perhaps not durable"
            return Outcome(outcome="unknown", summary=said, error=_code(error))
        return self._written(job.target, job.content, job.key)

    def _take_away(self, folder: int, name: str, target: str, params: FileDelete, key: str) -> Outcome:
        """After the point of no return: the name goes, if it is still that file's."""
        kept = self.receipts.linked(key)
        with suppress(FileNotFoundError):
            if os.path.samestat(kept, os.stat(name, dir_fd=folder, follow_symlinks=False)):
                os.unlink(name, dir_fd=folder)
        os.fsync(folder)
        receipt = Receipt(target=target, sha256=params.base, size_bytes=kept.st_size)
        said = f"deleted {target}; it is kept as {self.receipts.before(key)}"
        return Outcome(outcome="success", summary=said, receipt=receipt)

    # -- finding out ------------------------------------------------------------------------------------------------

    def inquire(self, target: str, params: FileWrite, *, key: str, claim: str) -> Outcome:
        """Whether the claimed write happened; where it did not, make sure it no longer can. Raises no `OSError`."""
        content = params.content.encode()
        return self._inquire(target, key, claim, lambda: self._was_written(target, content, key, claim))

    def inquire_patch(self, target: str, params: FilePatch, *, key: str, claim: str) -> Outcome:
        """As `inquire`, of a patch: what was to be written is what was there before with the passage replaced."""

        def look() -> Outcome:
            old = self.receipts.kept(key)
            content = patched(old, params) if _sha256(old) == params.base else ""
            if isinstance(content, str):
                return cannot_tell("it began, and what was there before is not kept")
            return self._was_written(target, content, key, claim)

        return self._inquire(target, key, claim, look)

    def inquire_delete(self, target: str, params: FileDelete, *, key: str, claim: str) -> Outcome:
        """As `inquire`, of a deletion; one that passed its point of no return is finished."""

        def look() -> Outcome:
            if self.receipts.never_linked(key, claim):
                return failed("not_executed", "it had not begun to take the file away, and is now fenced off")
            with self._parent(target, create=False) as (folder, name):
                return self._take_away(folder, name, target, params, key)

        return self._inquire(target, key, claim, look)

    def _inquire(self, target: str, key: str, claim: str, look: Callable[[], Outcome]) -> Outcome:
        """By the receipt: whether it began, and then what `look` finds."""
        if path_trouble(target):
            return failed("path_escape", "a path that leads nowhere in the workspace is never written")
        try:
            word = self.receipts.fence(key, claim)
        except OSError as error:
            return cannot_tell_yet(f"the receipts cannot be read: {error.strerror}")
        if word == "fenced":
            with suppress(OSError), self._parent(target, create=False) as (folder, _):
                remove(folder, _temporary(claim))
            return failed("not_executed", "it had not begun, and is now fenced off")
        if word != "executing":
            return cannot_tell(f"the receipt is of another claim: {word[:80]}")
        try:
            return look()
        except OSError as error:
            return cannot_tell_yet(f"{target}: {error.strerror}")

    def _was_written(self, target: str, content: bytes, key: str, claim: str) -> Outcome:
        with self._parent(target, create=False) as (folder, name):
            if holds(folder, name, content):
                remove(folder, _temporary(claim))
                os.fsync(folder)  # the writer may have died before it did
                return self._written(target, content, key)
            withdrawn = self.receipts.withdraw(folder, _temporary(claim), key)
            if holds(folder, name, content):  # put in place between the two looks
                os.fsync(folder)
                return self._written(target, content, key)
            if withdrawn:
                return failed("not_executed", "the file was prepared but not put in place, and is now withdrawn")
        return cannot_tell("it began, and the target is not, or no longer, what was to be written")

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
                deeper = os.open(folder, FOLDER, dir_fd=current)
                os.close(current)
                current = deeper
            yield current, name
        finally:
            os.close(current)

    def _written(self, target: str, content: bytes, key: str) -> Outcome:
        receipt = Receipt(target=target, sha256=_sha256(content), size_bytes=len(content))
        said = f"wrote {len(content)} bytes, SHA-256 {receipt.sha256}, to {target}"
        if (before := self.receipts.before(key)) is not None:
            said += f"; what was there is kept as {before}"
        return Outcome(outcome="success", summary=said, receipt=receipt)


class WorkspaceHand:
    """Does the kinds of files in one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    async def act(self, task: Task) -> Outcome:
        do, _ = self._of(task)
        key, claim = task.job.key, task.claim.id
        return await asyncio.to_thread(do, task.target, task.params, key=key, claim=claim, hindered=task.hindered)

    async def inquire(self, task: Task) -> Outcome:
        if f"/{self._workspace.receipts.identity}/" not in task.mark:
            return cannot_tell_yet(f"it was claimed on another workspace, by {task.mark}")
        if task.age > timedelta(seconds=KEEP_RECEIPTS_S / 2):
            return cannot_tell("the claim is older than receipts are kept")
        _, ask = self._of(task)
        return await asyncio.to_thread(ask, task.target, task.params, key=task.job.key, claim=task.claim.id)

    def _of(self, task: Task) -> tuple[Callable[..., Outcome], Callable[..., Outcome]]:
        """How to do it, and how to find out."""
        space = self._workspace
        match task.params:
            case FileWrite():
                return space.write, space.inquire
            case FilePatch():
                return space.patch, space.inquire_patch
            case FileDelete():
                return space.delete, space.inquire_delete
            case other:
                raise TypeError(f"the workspace does no {type(other).__name__}")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _temporary(claim: str) -> str:
    return f".{hashlib.sha256(claim.encode()).hexdigest()[:32]}.tmp"


def _code(error: OSError) -> str:
    return "io_error" if error.errno is None else f"io_{errno.errorcode.get(error.errno, 'error').lower()}"
