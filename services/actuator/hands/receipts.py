"""What was begun, told apart from what was not, across crashes: a receipt appears whole, once, and says who was there first.

`executing <claim>` by who does it, right before the point of no return; `fenced <claim>` by an inquiry that was first: who comes to do
it finds that and stops, so "it did not happen" stays true. Beside the receipt of an action lies what was there before it.
Blocking: call in threads. Raise `OSError`.
"""

from __future__ import annotations

import os
import secrets
import time
import uuid
from contextlib import suppress

from shared.outside.filing import FOLDER, READ, read, remove, write_new

RECEIPTS = ".receipts"
IDENTITY = "identity"
KEEP_RECEIPTS_S = 30 * 86_400.0


class Receipts:
    """The receipts in one folder. `identity` names it, so that a claim made with another is not answered here."""

    def __init__(self, root: int) -> None:
        with suppress(FileExistsError):
            os.mkdir(RECEIPTS, 0o700, dir_fd=root)
        self._folder = os.open(RECEIPTS, FOLDER, dir_fd=root)
        os.fsync(root)
        self.identity, _ = self.place(IDENTITY, uuid.uuid4().hex[:12])

    def close(self) -> None:
        os.close(self._folder)

    def begin(self, key: str, claim: str) -> bool:
        """Right before the point of no return; False when it was fenced off, or begun before."""
        return self.place(key, f"executing {claim}")[1]

    def fence(self, key: str, claim: str) -> str:
        """Whether it began: `fenced` when it did not, and now cannot; `executing`; or the word of another claim."""
        word, _ = self.place(key, f"fenced {claim}")
        return word.removesuffix(f" {claim}")

    def place(self, name: str, line: str) -> tuple[str, bool]:
        """Put a line under `name` unless one is there: the line that is there in the end, durable, and whether we put it."""
        placed = False
        draft = f".{secrets.token_hex(8)}"
        write_new(self._folder, draft, line.encode())
        try:
            with suppress(FileExistsError):
                os.link(draft, name, src_dir_fd=self._folder, dst_dir_fd=self._folder, follow_symlinks=False)
                placed = True
        finally:
            os.unlink(draft, dir_fd=self._folder)
        os.fsync(self._folder)
        descriptor = os.open(name, READ, dir_fd=self._folder)
        try:
            return os.read(descriptor, 512).decode(errors="replace"), placed
        finally:
            os.close(descriptor)

    def withdraw(self, folder: int, temporary: str, key: str) -> bool:
        """Take a prepared file away, so that it can no longer be put in place; True also when that was done before."""
        name = f"{key}.withdrawn"
        try:
            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=self._folder)
        except FileNotFoundError:
            try:
                os.stat(name, dir_fd=self._folder, follow_symlinks=False)
            except FileNotFoundError:
                return False
        os.fsync(self._folder)
        return True

    def before(self, key: str) -> str | None:
        """Where what was there before is kept, in the folder the receipts are in; None where nothing was."""
        try:
            os.stat(_before(key), dir_fd=self._folder, follow_symlinks=False)
        except OSError:
            return None
        return f"{RECEIPTS}/{_before(key)}"

    def keep(self, key: str, old: bytes) -> None:
        """What was there before the action; an attempt before this one may have kept it."""
        draft = f".{secrets.token_hex(8)}"
        write_new(self._folder, draft, old)
        os.replace(draft, _before(key), src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def kept(self, key: str) -> bytes:
        """What was there before the action."""
        return read(self._folder, _before(key))

    def link(self, key: str, folder: int, name: str) -> bool:
        """Keep the file itself; False when something is kept already."""
        try:
            os.link(name, _before(key), src_dir_fd=folder, dst_dir_fd=self._folder, follow_symlinks=False)
        except FileExistsError:
            return False
        os.fsync(self._folder)
        return True

    def never_linked(self, key: str, claim: str) -> bool:
        """Whether the file was not linked, and now cannot be."""
        word, first = self.place(_before(key), f"unlinked {claim}")
        return first or word == f"unlinked {claim}"

    def linked(self, key: str) -> os.stat_result:
        """The file that was kept."""
        return os.stat(_before(key), dir_fd=self._folder, follow_symlinks=False)

    def prune(self, older_than_s: float = KEEP_RECEIPTS_S) -> int:
        """Remove receipts older than that; inquiries about claims half that age must not rely on them. How many went."""
        count, oldest = 0, time.time() - older_than_s
        for name in os.listdir(self._folder):
            if name != IDENTITY and os.stat(name, dir_fd=self._folder, follow_symlinks=False).st_ctime < oldest:
                count += remove(self._folder, name)
        return count


def _before(key: str) -> str:
    return f"{key}.before"
