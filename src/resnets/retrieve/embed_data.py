"""The images to embed, and what is known of them: files, folders and patterns, or data with identities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from resnets.data.dataset import Dataset
from resnets.data.files import expand_pattern, list_images, subfolders, walk_images
from resnets.data.reid.dataset import REID_SETS, ReidDataset
from resnets.data.reid.layouts import open_layout
from resnets.data.reid.open import open_reid
from resnets.data.sources.parquet import find_parquet, open_parquet
from resnets.data.sources.webdataset import find_tars, open_webdataset
from resnets.errors import ConfigError, DataError
from resnets.retrieve.embedding_file import EmbeddingFile

__all__ = ["EmbedData", "find_embed_data", "of_reid"]

TABLES = (".csv", ".tsv")


@dataclass(frozen=True, kw_only=True)
class EmbedData:
    """N images to embed.

    Args:
        paths: of the images.
        ids, cameras: (N,), or `None`.
        sets: `train`, `query` or `gallery` for each, or `None`.
        notes: what a user should know.
        read: content of the image at a position, where `paths` are names of samples in shards; `None` for files.
    """

    paths: tuple[str, ...]
    ids: npt.NDArray[np.int64] | None = None
    cameras: npt.NDArray[np.int64] | None = None
    sets: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    read: Callable[[int], Any] | None = None

    def with_features(
        self, features: npt.NDArray[np.float32], kept: Sequence[int], model: dict[str, str]
    ) -> EmbeddingFile:
        """The embeddings of the images that could be decoded, at the positions `kept`."""
        at = np.array(kept, np.int64)
        return EmbeddingFile(
            features=features,
            paths=tuple(self.paths[number] for number in kept),
            ids=None if self.ids is None else self.ids[at],
            cameras=None if self.cameras is None else self.cameras[at],
            sets=None if self.sets is None else tuple(self.sets[number] for number in kept),
            model=model,
        )


def find_embed_data(data: Sequence[str], *, identities: bool = False, vehicleid_size: int = 800) -> EmbedData:
    """The images that the arguments of `resnets embed` stand for.

    Args:
        data: images, folders of images and patterns; one table or folder of re-identification data; or one Parquet
            file, WebDataset shard or folder of them.
        identities: the folder has a folder for each identity; labels of shards are identities.
        vehicleid_size: of VehicleID's test list.

    Raises:
        DataError: something does not exist, or has no images.
        ConfigError: `identities` with several arguments.
    """
    if identities and len(data) != 1:
        raise ConfigError(f"--identities takes one folder; got {len(data)} arguments; embed them one by one")
    if len(data) == 1 and (shards := _shards(Path(data[0]))) is not None:
        return _of_dataset(shards, identities=identities)
    if len(data) == 1 and (found := _reid(Path(data[0]), identities, vehicleid_size)) is not None:
        return of_reid(found)
    paths = [str(path) for one in data for path in list_images(expand_pattern(one))]
    return EmbedData(paths=tuple(dict.fromkeys(paths)))


def _reid(path: Path, identities: bool, vehicleid_size: int) -> ReidDataset | None:
    if identities or (path.is_file() and path.suffix.lower() in TABLES):
        return open_reid(path, vehicleid_size=vehicleid_size)
    if not path.is_dir():
        return None
    found = open_layout(path, vehicleid_size)
    return open_reid(path) if found is None and {"query", "gallery"} <= set(subfolders(path)) else found


def _shards(path: Path) -> Dataset | None:
    """The data set of a Parquet file or WebDataset shard, or of a folder of them without images of its own."""
    try:
        if path.suffix.lower() in (".parquet", ".tar") or (path.is_dir() and not walk_images(path)):
            if shards := find_parquet(path):
                return open_parquet(path, shards)
            if tars := find_tars(path):
                return open_webdataset(path, tars)
    except OSError as error:
        raise DataError(f"data must be readable; {path}: {error.strerror}; check the path") from None
    return None


def _of_dataset(data: Dataset, *, identities: bool) -> EmbedData:
    parts = list(data.splits.values())
    owners = [(images, i) for images in parts for i in range(len(images))]

    def read(position: int) -> Any:
        images, i = owners[position]
        return images.read(i)

    return EmbedData(
        paths=tuple(images.name(i) for images, i in owners),
        ids=np.concatenate([images.labels for images in parts]) if identities else None,
        notes=tuple(map(str, data.problems)),
        read=read,
    )


def of_reid(data: ReidDataset, without: Sequence[str] = ()) -> EmbedData:
    """The images of a data set, but for the sets `without`."""
    sets = [(name, data.sets[name]) for name in REID_SETS if name in data.sets and name not in without]
    cameras = [one.cameras for _, one in sets if one.cameras is not None]
    return EmbedData(
        paths=tuple(path for _, one in sets for path in one.paths),
        ids=np.concatenate([one.ids for _, one in sets]),
        cameras=np.concatenate(cameras) if cameras else None,
        sets=tuple(name for name, one in sets for _ in range(len(one))),
        notes=data.notes,
    )
