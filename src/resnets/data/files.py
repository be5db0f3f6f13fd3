"""Finding image files: extensions, searching folders, and the images that a command line names."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from resnets.errors import DataError, nearest

__all__ = [
    "EXTENSIONS",
    "expand_pattern",
    "is_clutter",
    "list_images",
    "read_remedy",
    "subfolders",
    "suggest_path",
    "walk_images",
]

EXTENSIONS = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".gif", ".webp", ".avif", ".tif",
    ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".tga", ".ico", ".heic", ".heif",
    ".npy",
})  # fmt: skip
_CLUTTER = frozenset(("thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "lost+found"))


def is_clutter(name: str) -> bool:
    """Whether a file or folder is hidden, or left behind by an operating system or a viewer."""
    return name.startswith(".") or name.lower() in _CLUTTER


def walk_images(root: str | Path, skipped: list[str] | None = None, linked: list[str] | None = None) -> list[str]:
    """Image files below `root`, sorted by code point, as paths relative to it.

    Args:
        skipped: receives the names of the files without an image extension.
        linked: receives those of the result that are symbolic links, or lie in a folder that is one.

    Raises:
        DataError: a folder cannot be read.
    """
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    folders = [("", os.path.islink(root))]  # paths relative to the root, and whether they are reached by a link
    while folders:
        inside, by_link = folders.pop()
        folder = os.path.join(root, inside.rstrip("/")) if inside else root
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:  # a link to a folder above
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    path, link = inside + entry.name, by_link or entry.is_symlink()
                    if is_clutter(entry.name):
                        continue
                    if _is_folder(entry):
                        folders.append((path + "/", link))
                    elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
                        found.append(path)
                        if link and linked is not None:
                            linked.append(path)
                    elif skipped is not None:
                        skipped.append(entry.name)
        except OSError as error:
            raise _unreadable(folder, error) from error
    return sorted(found)


def as_text(name: str) -> str:
    """The name of a file as UTF-8 text where it is, also in a locale of another encoding."""
    try:
        return os.fsencode(name).decode()
    except (UnicodeDecodeError, UnicodeEncodeError):
        return name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: reading it fails with the reason
        return False


def subfolders(root: str | Path) -> list[str]:
    """Names of the folders in `root` that are no clutter, sorted by code point; raises DataError."""
    try:
        with os.scandir(root) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not is_clutter(entry.name))
    except OSError as error:
        raise _unreadable(root, error) from error


def _unreadable(folder: str | Path, error: OSError) -> DataError:
    return DataError(f"a data folder must be readable; {folder}: {error.strerror}; {read_remedy(error)}")


def read_remedy(error: OSError) -> str:
    """What to do after a file or folder could not be read."""
    return "check its permissions" if isinstance(error, PermissionError) else "check the path"


def suggest_path(path: Path, others: Iterable[str] = ()) -> str:
    """The remedy for a path that does not exist: similar names beside it, or among `others`."""
    if path.is_symlink():
        return "it is a link to nothing, or to itself; correct the link"
    try:
        known = [other.name for other in path.parent.iterdir()]
    except OSError:
        return "check the path" if path.parent.exists() else f"{path.parent} does not exist either"
    close = nearest(path.name, [*known, *others])
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"{'this folder' if path.parent == Path() else path.parent} has no similar name"


def expand_pattern(path: str) -> list[str]:
    """The paths that a pattern with `*`, `?`, `[...]` or `**` matches, sorted; `path` itself if it is no pattern.

    A file whose name has such characters is taken as it is.

    Raises:
        DataError: the pattern matches nothing.
    """
    if not path:
        raise DataError("a path must not be empty; got ''; pass an image or a folder (. for this one)")
    if not glob.has_magic(path) or os.path.lexists(path):
        return [path]
    found = sorted(one for one in glob.glob(path, recursive=True) if not is_clutter(os.path.basename(one)))
    if not found:
        raise DataError(f"a pattern must match an image; {path} matches nothing; check it")
    return found


def list_images(paths: str | Path | Iterable[str | Path], *, recursive: bool = True) -> list[Path]:
    """The images that `paths` name.

    Args:
        paths: files, used whatever their extension, and folders, of which all images below are used, sorted by code
            point. The order of `paths` is kept, without duplicates.
        recursive: also use the images in the folders of a folder.

    Raises:
        DataError: a path does not exist, or there is no image.
    """
    given = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    found: dict[Path, None] = {}
    for path in given:
        if path.is_dir():
            names = [name for name in walk_images(path) if recursive or "/" not in name]
            found.update(dict.fromkeys(path / name for name in names))
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
