"""Files by directory descriptor, without following symbolic links. Blocking; raise `OSError`."""

from __future__ import annotations

import errno
import os
import stat

MAX_READ_BYTES = 16 * 1024 * 1024
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def write_new(folder: int, name: str, content: bytes) -> None:
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
        remove(folder, name)
        raise


def holds(folder: int, name: str, content: bytes) -> bool:
    """Whether the name is a regular file with exactly this content."""
    try:
        descriptor = os.open(name, READ, dir_fd=folder)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        return stat.S_ISREG(about.st_mode) and about.st_size == len(content) and file.read(len(content) + 1) == content


def remove(folder: int, name: str) -> bool:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    return True


def read(folder: int, name: str) -> bytes:
    """The whole regular file. Raises `OSError` for none, one larger than `MAX_READ_BYTES`, or what is no file."""
    descriptor = os.open(name, READ, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "what is there is no file")
        if about.st_size > MAX_READ_BYTES:
            raise OSError(errno.EFBIG, f"what is there has more than the {MAX_READ_BYTES} bytes that are read")
        return file.read(MAX_READ_BYTES)
