"""Opening data of re-identification in any of its layouts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from resnets.data.files import subfolders, suggest_path, walk_images
from resnets.data.reid.dataset import ReidDataset, ReidRow, build_reid
from resnets.data.reid.layouts import open_layout
from resnets.data.reid.table import open_table
from resnets.errors import DataError

__all__ = ["open_reid"]

SETS = {"train": "train", "query": "query", "gallery": "gallery", "test": "gallery"}  # folder -> set


def open_reid(data: str | Path, *, vehicleid_size: int = 800) -> ReidDataset:
    """Open data of re-identification.

    Layouts: Market-1501, DukeMTMC-reID, VeRi-776, MSMT17 and VehicleID (see `layouts`); a CSV table
    `path,id[,camera][,set]`; `root/{train,query,gallery}/IDENTITY/*` (also `test` for `gallery`) or
    `root/IDENTITY/*`, without cameras.

    Args:
        data: a folder or a table.
        vehicleid_size: identities of VehicleID's test list: 800, 1600 or 2400.

    Raises:
        DataError: the data does not exist, or has another layout.
    """
    root = Path(data)
    if not root.exists():
        raise DataError(f"data must be a folder or a .csv file; {root} does not exist; {suggest_path(root)}")
    if root.is_file():
        return open_table(root)
    found = open_layout(root, vehicleid_size)
    if found is not None:
        return found
    inside, name = subfolders(root), root.resolve().name
    if "gallery" in inside or ("train" in inside and subfolders(root / "train")):
        rows = (row for folder, part in SETS.items() if folder in inside for row in _identities(root / folder, part))
        others = sorted(set(inside) - set(SETS))
        notes = [f"folders beside the sets are left out: {', '.join(others[:5])}"] if others else []
        return build_reid(name, "a folder for each set and identity", rows, notes)
    if not inside:
        raise DataError(
            f"re-identification needs a folder for each identity; {root} has none; see `resnets reid --help`"
        )
    return build_reid(name, "a folder for each identity", _identities(root, "gallery"))


def _identities(folder: Path, part: str) -> Iterator[ReidRow]:
    for identity in subfolders(folder):
        for name in walk_images(folder / identity):
            yield ReidRow(str(folder / identity / name), part, identity, None)
