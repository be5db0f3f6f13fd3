"""Images of identities seen by cameras, independent of how they are stored.

Legend: N images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from resnets.errors import DataError

__all__ = ["JUNK", "REID_SETS", "ReidDataset", "ReidRow", "ReidSet", "build_reid"]

REID_SETS = ("train", "query", "gallery")
JUNK = -1  # identity of images that show nobody: neither correct nor wrong

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ReidSet:
    """Images of one set.

    Args:
        paths: of the N image files.
        ids: (N,) identities; `JUNK` for images of none.
        cameras: (N,) cameras; `None` without cameras.
    """

    paths: tuple[str, ...]
    ids: Ints
    cameras: Ints | None = None

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, kw_only=True)
class ReidDataset:
    """A data set of re-identification.

    Args:
        name: for messages and tables.
        layout: how it was recognised, such as `Market-1501`.
        sets: those of `train`, `query` and `gallery` that it has. Without a query set, every image of `gallery` is a
            query that is compared with all others.
        id_names: identity -> its name in the data, where identities are not numbers.
        notes: what a user should know.
    """

    name: str
    layout: str
    sets: Mapping[str, ReidSet]
    id_names: Mapping[int, str]
    notes: tuple[str, ...] = ()

    @property
    def leave_one_out(self) -> bool:
        """Whether every image of the gallery is a query, too."""
        return "query" not in self.sets


@dataclass(frozen=True)
class ReidRow:
    """An image: its file, the set it is in, and the names of its identity and camera (`None` without cameras)."""

    path: str
    part: str
    identity: str
    camera: str | None


def build_reid(name: str, layout: str, rows: Iterable[ReidRow], notes: Iterable[str] = ()) -> ReidDataset:
    """The data set of some images. Identities that are all whole numbers keep them; others are numbered by name.

    Raises:
        DataError: no images, cameras of only some images, or a query set without a gallery.
    """
    rows, notes = list(rows), list(notes)
    if not rows:
        raise DataError(f"re-identification needs images; {name} has none; check its layout ({layout})")
    ids, id_names = _numbers([row.identity for row in rows])
    with_camera = sum(row.camera is not None for row in rows)
    if with_camera not in (0, len(rows)):
        raise DataError(f"all images need a camera, or none; {with_camera:,} of {len(rows):,} of {name} have one")
    cameras = _numbers([row.camera or "" for row in rows])[0] if with_camera else None
    sets = {}
    for part in REID_SETS:
        at = np.array([number for number, row in enumerate(rows) if row.part == part], np.int64)
        if len(at):
            sets[part] = ReidSet(
                paths=tuple(rows[number].path for number in at), ids=ids[at],
                cameras=None if cameras is None else cameras[at],
            )  # fmt: skip
    if "query" in sets and "gallery" not in sets:
        raise DataError(f"queries need a gallery; {name} has none; name a set gallery")
    if not with_camera:
        notes.append("the images have no cameras: no match is left out for being of the query's camera")
    return ReidDataset(name=name, layout=layout, sets=sets, id_names=id_names, notes=tuple(notes))


def _numbers(names: list[str]) -> tuple[Ints, dict[int, str]]:
    """A number for each name, and the names of the numbers where they are no numbers themselves."""
    distinct = sorted(set(names))
    try:
        of_name = {name: int(name) for name in distinct if len(name) < 19}
        if len(of_name) == len(distinct) == len(set(of_name.values())):
            return np.array([of_name[name] for name in names], np.int64), {}
    except ValueError:
        pass
    of_name = {name: number for number, name in enumerate(distinct)}
    return np.array([of_name[name] for name in names], np.int64), {number: name for name, number in of_name.items()}
