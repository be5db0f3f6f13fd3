"""Layouts of public re-identification data sets, read from their folders and file names.

| data set | sets | identity and camera |
|---|---|---|
| Market-1501 | `bounding_box_train`, `query`, `bounding_box_test` | `0002_c1s1_000451_03.jpg`: identity 2, camera 1 |
| DukeMTMC-reID | the same folders | `0001_c2_f0046182.jpg` |
| VeRi-776 | `image_train`, `image_query`, `image_test` | `0001_c001_00016450_0.jpg` |
| MSMT17 | `train`, `test` and `list_{train,val,query,gallery}.txt` | lines `PATH IDENTITY`; camera `_01_` in the name |
| VehicleID | `image` and `train_test_split/*.txt` | lines `NAME IDENTITY`; no cameras |

Identity -1 marks junk images (Market-1501), which no metric counts; 0 marks distractors, which are wrong for everybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from resnets.data.files import walk_images
from resnets.data.reid.dataset import ReidDataset, ReidRow, build_reid
from resnets.errors import DataError
from resnets.small_files import read_small_text

__all__ = ["VEHICLEID_SIZES", "open_layout"]

MARKET = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
VERI = {"train": "image_train", "query": "image_query", "gallery": "image_test"}
MSMT = {"train": ("train", "val"), "query": ("query",), "gallery": ("gallery",)}
VEHICLEID_SIZES = (800, 1600, 2400)
MAX_LIST = 2**28  # bytes

_NAME = re.compile(r"(-?\d+)_c(\d+)")  # identity and camera at the beginning of a name
_MSMT_CAMERA = re.compile(r"^\d+_\d+_(\d+)_")


def open_layout(root: Path, vehicleid_size: int = 800) -> ReidDataset | None:
    """The data set of a folder in one of the layouts; `None` if it is in none of them.

    Args:
        root: the folder.
        vehicleid_size: of the test list of VehicleID: 800, 1600 or 2400 identities.

    Raises:
        DataError: a file that does not follow the layout.
    """
    for folders, kind in ((MARKET, "Market-1501 or DukeMTMC-reID"), (VERI, "VeRi-776")):
        if all((root / folder).is_dir() for folder in folders.values()):
            return build_reid(root.name, kind, _named_files(root, folders))
    if all((root / f"list_{name}.txt").is_file() for name in ("train", "query", "gallery")):
        return build_reid(root.name, "MSMT17", _msmt(root))
    if (root / "train_test_split").is_dir() and (root / "image").is_dir():
        return build_reid(root.name, "VehicleID", _vehicleid(root, vehicleid_size))
    return None


def _named_files(root: Path, folders: dict[str, str]) -> Iterator[ReidRow]:
    for part, folder in folders.items():
        for name in walk_images(root / folder):
            found = _NAME.match(Path(name).name)
            if found is None:
                raise DataError(
                    f"names begin with identity and camera, as 0002_c1; {root / folder / name} does not; rename or "
                    "remove it"
                )
            yield ReidRow(str(root / folder / name), part, str(int(found[1])), str(int(found[2])))


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """The two words of each line of a list."""
    try:
        text = read_small_text(path, MAX_LIST)
    except OSError as error:
        raise DataError(f"a list of images must be readable; {path}: {error.strerror}; check the path") from None
    except UnicodeDecodeError:
        raise DataError(f"a list of images is UTF-8 text; {path} is not; write it again") from None
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if words and len(words) != 2:
            raise DataError(
                f"a line has a name and an identity; {path} line {number} has {len(words)} words; repair it"
            )
        if words:
            yield words[0], words[1]


def _msmt(root: Path) -> Iterator[ReidRow]:
    for part, lists in MSMT.items():
        folder = root / ("train" if part == "train" else "test")
        for path in (root / f"list_{name}.txt" for name in lists):
            for name, identity in _lines(path) if path.is_file() else ():
                found = _MSMT_CAMERA.match(Path(name).name)
                if found is None:
                    raise DataError(f"names have the camera third, as 0000_000_01_; {path} has {name}; correct it")
                yield ReidRow(str(folder / name), part, identity, found[1])


def _vehicleid(root: Path, size: int) -> Iterator[ReidRow]:
    """The training list, and the test list of a size as gallery: its protocol draws queries and gallery from it."""
    for part, name in (("train", "train_list"), ("gallery", f"test_list_{size}")):
        path = root / "train_test_split" / f"{name}.txt"
        for image, identity in _lines(path):
            yield ReidRow(str(root / "image" / f"{image}.jpg"), part, identity, None)
