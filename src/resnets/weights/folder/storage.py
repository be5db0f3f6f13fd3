"""A model folder is whole or not there.

Replacing one: the new folder is written beside it under a temporary name and flushed to the disk; the old one is
renamed to `.NAME.old`, the new one to `NAME`, then the old one is deleted. A program killed between the two
renames leaves `.NAME.old` alone, and whoever reads `NAME` is then given that; the next save puts it back first.

What else somebody has put into a model folder (an export, notes, what a file browser leaves) goes over from the old
folder to the new one before the old one is deleted. What cannot go over stays beside it, in `.NAME.XXXXXXXX.kept`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from resnets.atomic import fsync
from resnets.errors import WeightsError
from resnets.weights.folder.config_json import read_config

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

    Only the model's own files are replaced; others in the folder stay in it.

    Raises:
        WeightsError: `folder` is a file, or holds other files and no model of ours.
        OSError: no permission, or no room; `folder` is then what it was before.
    """
    _tidy(folder)
    if folder.exists() and not (folder.is_dir() and (not _foreign(folder) or _is_ours(folder))):
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
            fsync(path)
        if folder.exists():
            folder.replace(_old(folder))
            try:
                new.replace(folder)
            except BaseException:  # Ctrl-C too
                _old(folder).replace(folder)
                raise
        else:
            new.replace(folder)
        fsync(folder.parent)
        _clear(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _tidy(folder: Path) -> None:
    """Clear up after saves that were killed, and free the name that the folder is moved to."""
    old = _old(folder)
    if old.is_dir() and not folder.exists():
        old.replace(folder)
    _clear(folder)
    if old.is_dir():
        suffix = ".kept" if _foreign(old) else ".tmp"
        old.replace(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=suffix, dir=folder.parent))
    for left in folder.parent.glob(f".{folder.name}.*.tmp"):
        if time.time() - left.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)


def _clear(folder: Path) -> None:
    """Delete the folder that was moved away, as far as that can be, after what is foreign in it went to `folder`."""
    old = _old(folder)
    if not old.is_dir():
        return
    if foreign := _foreign(old):
        for entry in foreign:
            if not os.path.lexists(folder / entry.name):  # else somebody has put a newer one there
                with suppress(OSError):
                    entry.replace(folder / entry.name)
        fsync(folder)
    if not _foreign(old):
        shutil.rmtree(old, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    try:
        read_config(folder / CONFIG)
    except WeightsError:
        return False
    return True


def _foreign(folder: Path) -> list[Path]:
    """What is not a model's own, nor what NFS leaves of a file that somebody reads while it is deleted."""
    return [
        entry
        for entry in folder.iterdir()
        if entry.name not in (CONFIG, TENSORS, CARD) and not entry.name.startswith(".nfs")
    ]
