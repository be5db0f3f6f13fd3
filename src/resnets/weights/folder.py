"""A model folder is whole or not there.

Replacing one: the new folder is written beside it under a temporary name and flushed to the disk; the old one is
renamed to `.NAME.old`, the new one to `NAME`, then the old one is deleted. A program killed between the two
renames leaves `.NAME.old` alone, and whoever reads `NAME` is then given that; the next save puts it back first.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resnets.errors import WeightsError

__all__ = ["CARD", "CONFIG", "TENSORS", "is_model_folder", "replacing_folder", "standing"]

CONFIG, TENSORS, CARD = "config.json", "model.safetensors", "README.md"
STALE_SECONDS = 3600


def is_model_folder(folder: Path) -> bool:
    """Whether `folder`, or the copy that an interrupted save has left of it, holds a model."""
    return (standing(folder) / CONFIG).is_file()


def standing(folder: Path) -> Path:
    """`folder`, or what an interrupted save has left in its place."""
    folder = folder.expanduser().resolve()
    return _old(folder) if folder.name and not folder.exists() and _old(folder).is_dir() else folder


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` to write to; it takes the name `folder` when the block ends well.

    Raises:
        WeightsError: `folder` is a file, or holds what no model folder holds.
        OSError: no permission, or no room; `folder` is then what it was before.
    """
    _tidy(folder)
    if folder.exists() and (
        not folder.is_dir() or {entry.name for entry in folder.iterdir()} - {CONFIG, TENSORS, CARD}
    ):
        raise WeightsError(
            f"only an empty or a model folder is replaced; {folder} holds other files; choose another folder"
        )
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        yield new
        umask = os.umask(0)
        os.umask(umask)
        new.chmod(0o777 & ~umask)  # mkdtemp and safetensors make what only its owner reads
        for path in new.iterdir():
            path.chmod(0o666 & ~umask)
        for path in (*new.iterdir(), new):
            _flush(path)
        if folder.exists():
            folder.replace(_old(folder))
            try:
                new.replace(folder)
            except BaseException:  # Ctrl-C too
                _old(folder).replace(folder)
                raise
        else:
            new.replace(folder)
        _flush(folder.parent)
        shutil.rmtree(_old(folder), ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _tidy(folder: Path) -> None:
    """Clear up after saves that were killed."""
    if _old(folder).is_dir():
        if folder.exists():
            shutil.rmtree(_old(folder))
        else:
            _old(folder).replace(folder)
    for left in folder.parent.glob(f".{folder.name}.*.tmp"):
        if time.time() - left.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)


def _flush(path: Path) -> None:
    """The bytes must be on the disk before a name points at them."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
