"""Which image files a command was given."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from resnets.data.sources.folder import EXTENSIONS, walk
from resnets.errors import DataError, nearest

__all__ = ["list_images"]


def list_images(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """The images that `paths` name.

    A file is taken as it is, whatever its extension; of a folder all images below it, sorted by code point,
    hidden ones left out. The order of `paths` is kept, and a file that comes twice is listed once.

    Raises:
        DataError: a path does not exist, or there is no image.
    """
    given = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    found: dict[Path, None] = {}
    for path in given:
        if path.is_dir():
            found.update(dict.fromkeys(path / name for name in walk(path)))
        elif path.exists():
            found[path] = None
        else:
            close = nearest(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else []
            remedy = f"did you mean {' or '.join(close)}?" if close else "check the path"
            raise DataError(f"images must exist; got {path}; {remedy}")
    if not found:
        listed = ", ".join(map(str, given)) or "nothing"
        raise DataError(
            f"at least one image is needed; got {listed}; known extensions are {' '.join(sorted(EXTENSIONS))}"
        )
    return list(found)
