"""Replacing a model folder as a whole: it exists completely or not at all.

The new folder is written beside the old one under a temporary name and flushed to the disk; the old one is renamed to
`.NAME.old`, the new one to `NAME`, then the old one is deleted. A program killed between the two renames leaves only
`.NAME.old`; readers of `NAME` are then given that, and the next save restores it first.

Other files in a model folder (an export, notes, thumbnails of a file browser) are moved from the old folder to the new
one before the old one is deleted. What cannot be moved stays beside it, in `.NAME.XXXXXXXX.kept`.
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

__all__ = [
    "CARD", "CONFIG", "TENSORS", "is_model_folder", "current_folder", "remove_leftovers",
    "replacing_folder",
]  # fmt: skip

CONFIG, TENSORS, CARD = "config.json", "model.safetensors", "README.md"
STALE_SECONDS = 3600


def is_model_folder(folder: Path) -> bool:
    """Whether `folder`, or the copy of it that an interrupted save has left, holds a model."""
    return (current_folder(folder) / CONFIG).is_file()


def current_folder(folder: Path) -> Path:
    """`folder`, or the copy of it that an interrupted save has left."""
    folder = folder.expanduser().resolve()
    return _old(folder) if folder.name and not folder.exists() and _old(folder).is_dir() else folder


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` to write to; it takes the name `folder` when the block ends well.

    Only the model's own files are replaced; others in the folder stay in it.

    Raises:
        WeightsError: `folder` is a file, or holds other files and no model of ours.
        OSError: no permission, or a full disk; `folder` is then unchanged.
    """
    _clean_up(folder)
    if folder.exists() and not (folder.is_dir() and (not _other_files(folder) or _is_ours(folder))):
        raise WeightsError(
            f"only an empty or a model folder is replaced; {folder} holds other files; choose another folder"
        )
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        yield new
        umask = os.umask(0)
        os.umask(umask)
        new.chmod(0o777 & ~umask)  # mkdtemp and safetensors restrict access to the owner
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
        _delete_old(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Delete the unfinished folders of killed saves of `folder`; no other program may be saving there."""
    for left in folder.parent.glob(f".{folder.name}.*.tmp"):
        shutil.rmtree(left, ignore_errors=True)


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _clean_up(folder: Path) -> None:
    """Clean up after killed saves, and free the name that the old folder is moved to."""
    old = _old(folder)
    if old.is_dir() and not folder.exists():
        old.replace(folder)
    _delete_old(folder)
    if old.is_dir():
        suffix = ".kept" if _other_files(old) else ".tmp"
        old.replace(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=suffix, dir=folder.parent))
    for left in folder.parent.glob(f".{folder.name}.*.tmp"):
        if time.time() - left.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)


def _delete_old(folder: Path) -> None:
    """Move other files from the old folder to `folder`, then delete the old one if that succeeded."""
    old = _old(folder)
    if not old.is_dir():
        return
    if others := _other_files(old):
        for entry in others:
            if not os.path.lexists(folder / entry.name):  # else a newer file has that name
                with suppress(OSError):
                    entry.replace(folder / entry.name)
        fsync(folder)
    if not _other_files(old):
        shutil.rmtree(old, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    try:
        read_config(folder / CONFIG)
    except WeightsError:
        return False
    return True


def _other_files(folder: Path) -> list[Path]:
    """Entries that are neither a model's own files nor NFS's remains of files deleted while open."""
    return [
        entry
        for entry in folder.iterdir()
        if entry.name not in (CONFIG, TENSORS, CARD) and not entry.name.startswith(".nfs")
    ]
