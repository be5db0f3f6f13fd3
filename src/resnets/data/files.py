"""Finding image files: extensions, searching folders, and the images that a command line names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from resnets.errors import DataError, nearest

__all__ = ["EXTENSIONS", "is_clutter", "list_images", "subfolders", "suggest_path", "walk_images"]

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
        skipped: receives the names of the files without an image extension.

    Raises:
        DataError: a folder cannot be read.
    """
    found: list[str] = []
    seen: set[tuple[int, int]] = set()

    def fail(error: OSError) -> None:
        raise _unreadable(error.filename, error) from error

    for folder, inside, files in os.walk(root, onerror=fail, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder above
            inside.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        inside[:] = [name for name in inside if not is_clutter(name)]
        prefix = Path(folder).relative_to(root).as_posix() + "/"
        for name in files:
            if is_clutter(name):
                continue
            if os.path.splitext(name)[1].lower() in EXTENSIONS:
                found.append(prefix.removeprefix("./") + name)
            elif skipped is not None:
                skipped.append(name)
    return sorted(found)


def subfolders(root: str | Path) -> list[str]:
    """Names of the folders in `root` that are no clutter, sorted by code point; raises DataError."""
    try:
        with os.scandir(root) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not is_clutter(entry.name))
    except OSError as error:
        raise _unreadable(root, error) from error


def _unreadable(folder: str | Path, error: OSError) -> DataError:
    return DataError(f"a data folder must be readable; {folder}: {error.strerror}; check its permissions")


def suggest_path(path: Path, others: Iterable[str] = ()) -> str:
    """The remedy for a path that does not exist: similar names beside it, or among `others`."""
    try:
        known = [other.name for other in path.parent.iterdir()]
    except OSError:
        return "check the path" if path.parent.exists() else f"{path.parent} does not exist either"
    close = nearest(path.name, [*known, *others])
    return f"did you mean {' or '.join(close)}?" if close else f"{path.parent} has no similar name"


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
            raise DataError(f"images must exist; got {path}; {suggest_path(path)}")
    if not found:
        listed = ", ".join(map(str, given)) or "nothing"
        raise DataError(
            f"paths must name at least one image; got {listed}; extensions are {' '.join(sorted(EXTENSIONS))}"
        )
    return list(found)
