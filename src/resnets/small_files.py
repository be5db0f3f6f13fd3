"""Reading files that people name and that should be small: settings, lists, maps."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["read_small_bytes", "read_small_text", "require_regular_file"]

LIMIT = 2**25  # bytes; 100,000 class names with a long history have 10 MB


def require_regular_file(path: Path, limit: int | None = None) -> None:
    """Refuse what is no regular file, such as a pipe, which would wait for somebody to write to it, or a device.

    Args:
        path: of the file.
        limit: largest size in bytes; `None` for any.

    Raises:
        OSError: no such file, no regular file, or one that is too large; `strerror` says which.
    """
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if limit is not None and status.st_size > limit:
        raise OSError(errno.EFBIG, f"{status.st_size:,} bytes, more than {limit:,}", str(path))


def read_small_bytes(path: Path, limit: int = LIMIT) -> bytes:
    """Read a regular file of at most `limit` bytes; raises OSError as `require_regular_file` does."""
    require_regular_file(path, limit)
    return path.read_bytes()


def read_small_text(path: Path, limit: int = LIMIT) -> str:
    """The same as text, UTF-8 with or without a byte order mark.

    Raises:
        OSError: as `require_regular_file`.
        UnicodeDecodeError: other bytes than UTF-8.
    """
    return read_small_bytes(path, limit).decode("utf-8-sig")
