"""Finding image files: extensions, searching folders, and the images that a command line names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from resnets.errors import DataError, nearest

__all__ = ["EXTENSIONS", "is_clutter", "list_images", "subfolders", "walk_images"]

EXTENSIONS = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".gif", ".webp", ".avif", ".tif",
    ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".tga", ".ico",
    ".npy",
})  # fmt: skip
_CLUTTER = frozenset(("thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "lost+found"))


def is_clutter(name: str) -> bool:
    """Whether a file or folder is hidden, or left behind by an operating system or a viewer."""
    return name.startswith(".") or name.lower() in _CLUTTER


def walk_images(root: str | Path, skipped: list[str] | None = None) -> list[str]:
    """Image files below `root`, sorted by code point, as paths relative to it.

    Args:
        skipped: receives the files without an image extension.

    Raises:
        DataError: a folder cannot be read.
    """
    found: list[str] = []
    _walk(str(root), "", found, [] if skipped is None else skipped, set())
    return sorted(found)


def _walk(folder: str, prefix: str, found: list[str], skipped: list[str], seen: set[tuple[int, int]]) -> None:
    try:
        status = os.stat(folder)
        with os.scandir(folder) as entries:
            if (status.st_dev, status.st_ino) in seen:  # a link to a folder above
                return
            seen.add((status.st_dev, status.st_ino))
            inside = [entry for entry in entries if not is_clutter(entry.name)]
    except OSError as error:
        raise _unreadable(folder, error) from error
    for entry in inside:
        if entry.is_dir():
            _walk(entry.path, f"{prefix}{entry.name}/", found, skipped, seen)
        elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
            found.append(prefix + entry.name)
        else:
            skipped.append(prefix + entry.name)


def subfolders(root: str | Path) -> list[str]:
    """Names of the folders in `root` that are no clutter, sorted by code point; raises DataError."""
    try:
        with os.scandir(root) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not is_clutter(entry.name))
    except OSError as error:
        raise _unreadable(root, error) from error


def _unreadable(folder: str | Path, error: OSError) -> DataError:
    return DataError(f"a data folder must be readable; {folder}: {error.strerror}; check its permissions")


def list_images(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """The images that `paths` name.

    Args:
        paths: files, used whatever their extension, and folders, of which all images below are used, sorted by code
            point. The order of `paths` is kept, without duplicates.

    Raises:
        DataError: a path does not exist, or there is no image.
    """
    given = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    found: dict[Path, None] = {}
    for path in given:
        if path.is_dir():
            found.update(dict.fromkeys(path / name for name in walk_images(path)))
        elif path.exists():
            found[path] = None
        else:
            close = nearest(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else []
            remedy = f"did you mean {' or '.join(close)}?" if close else "check the path"
            raise DataError(f"images must exist; got {path}; {remedy}")
    if not found:
        listed = ", ".join(map(str, given)) or "nothing"
        raise DataError(
            f"paths must name at least one image; got {listed}; extensions are {' '.join(sorted(EXTENSIONS))}"
        )
    return list(found)
