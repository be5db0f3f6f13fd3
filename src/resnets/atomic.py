"""Atomic file writes: a file is written under a temporary name and then renamed."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_file", "describe_write_error", "fsync", "write_atomic"]

# Errors of systems and file systems that cannot flush a directory.
_DIRECTORY_SYNC_UNSUPPORTED = (errno.EACCES, errno.EBADF, errno.EINVAL, errno.ENOTSUP)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`; rename it to `path` if the block succeeds, remove it otherwise.

    Raises:
        OSError: no permission, or no space left on the disk; `path` is then unchanged. The error names `path`.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            fsync(temporary)  # the content must be on the disk before the name refers to it
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)  # mkstemp creates files that only their owner can read
            temporary.replace(path)
            fsync(path.parent)  # so that the caller may then remove older files
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:  # errors name the temporary file, or none when the disk is full
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def fsync(path: Path) -> None:
    """Flush a file, or the entries of a directory where the system supports it, to the disk.

    Raises:
        OSError: the disk failed, or has no space left.
    """
    if not path.is_dir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        return
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _DIRECTORY_SYNC_UNSUPPORTED:
            raise


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write `content` (text as UTF-8) to `path`; an interrupted write leaves the previous file intact."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def describe_write_error(error: Exception, alternative: str | None = None) -> str:
    """Reason and remedy of a failed write, such as `No space left on device; free disk space or choose another file`.

    Args:
        error: an OSError, or that of a library with `os error NUMBER` in its text.
        alternative: what else to choose, such as `another file`; `None` if nothing else can be.
    """
    found = re.search(r"os error (\d+)", str(error))
    number = error.errno if isinstance(error, OSError) else int(found[1]) if found else None
    reason = os.strerror(number) if number else getattr(error, "strerror", None) or str(error)
    remedies = [f"choose {alternative}"] if alternative else []
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        remedies.insert(0, "free disk space")
    elif number in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedies.insert(0, "allow writing there")
    return "; ".join([reason, *([" or ".join(remedies)] if remedies else [])])
