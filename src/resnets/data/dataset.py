"""The data set, independent of its storage: classes, splits of images, and problems found when it was opened.

Legend: N images, H height, W width, C channels.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from resnets.arch.preprocessing import Depth
from resnets.data.decode.bands import Header, array_header, convert_array
from resnets.data.decode.image import PixelChannels, Pixels, decode, read_header
from resnets.errors import DataError, ImageError

__all__ = ["SPLITS", "PreprocessingHint", "Dataset", "ImageSet", "Problem", "Source"]

Labels = npt.NDArray[np.int64]
SPLITS = ("train", "val", "test")


class Source(Protocol):
    """Storage of images; cheap to pickle and safe to read from several threads."""

    def name(self, row: int) -> str:
        """The path, or `shard#row`, of an image."""
        ...

    def read(self, row: int) -> bytes | Pixels:
        """The encoded bytes, or (H, W, C) uint8, uint16 or float32 pixels, of an image; raises ImageError."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
    """Images with labels.

    Args:
        source: reads the images.
        rows: (N,) int64 rows of the source.
        labels: (N,) int64 class indices.
        groups: (N,) int64, or None; images with the same number (one person, plant or film) are never divided
            between training and validation. Numbers are shared by all splits of a data set.
        cameras: (N,) int64, or None; the camera of each image, for re-identification.
    """

    source: Source
    rows: Labels
    labels: Labels
    groups: Labels | None = None
    cameras: Labels | None = None

    def __post_init__(self) -> None:
        assert len(self.rows) == len(self.labels)
        assert self.groups is None or len(self.groups) == len(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, i: int) -> str:
        """The path, or `shard.parquet#row`, of image `i`."""
        return self.source.name(int(self.rows[i]))

    def read(self, i: int) -> bytes | Pixels:
        """Image `i` as stored: encoded bytes, or (H, W, C) pixels."""
        return self.source.read(int(self.rows[i]))

    def image(self, i: int, channels: PixelChannels, depth: Depth = "uint8") -> Pixels:
        """Image `i` decoded, (H, W, C) of dtype `depth`; see `decode`.

        Raises:
            ImageError: it cannot be read or decoded.
        """
        return self.decode(i, self.read(i), channels, depth)

    def decode(self, i: int, content: bytes | Pixels, channels: PixelChannels, depth: Depth = "uint8") -> Pixels:
        """Image `i` decoded from its `content`, as `read` returned it; otherwise as `image`."""
        if isinstance(content, bytes):
            return decode(content, channels, where=self.name(i), depth=depth)
        try:
            return convert_array(content, channels, depth)
        except ValueError as error:
            raise ImageError(self.name(i), str(error)) from error

    def subset(self, indices: npt.ArrayLike) -> ImageSet:
        """The images with these indices, in this order."""
        at = np.asarray(indices, np.int64)
        groups = None if self.groups is None else self.groups[at]
        cameras = None if self.cameras is None else self.cameras[at]
        return replace(self, rows=self.rows[at], labels=self.labels[at], groups=groups, cameras=cameras)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something wrong with a data set.

    Args:
        kind: `undecodable`, `thin` (an image much longer than wide, of which crops show little), `empty-class`,
            `untrained-class`, `missing-class`, `missing-shard`, `ignored`, `unlabelled`, `linked-twice` (one file in
            several places), `nested` (all images of a class are in folders inside it), `several-labels` (a class named
            like several) or `shared-groups` (between training and another split).
        where: path, or `shard#row`, that it concerns.
        reason: what is wrong, in a few words.
        fatal: training must not start.
    """

    kind: Literal[
        "undecodable", "thin", "empty-class", "untrained-class", "missing-class", "missing-shard", "ignored",
        "unlabelled", "linked-twice", "nested", "several-labels", "shared-groups",
    ]  # fmt: skip
    where: str
    reason: str
    fatal: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class PreprocessingHint:
    """Properties of a sample of the images, for choosing a preprocessing.

    Args:
        channels: `L` if every sampled image is grayscale, else `RGB`; where some have bands that are not colours, the
            most frequent number of bands.
        size: (H, W) medians, in pixels.
        smallest, largest: (H, W) minima and maxima of each axis.
        dtype: `uint16` or `float32` if no sampled image has 8 bits, else `uint8`.
    """

    channels: PixelChannels
    size: tuple[int, int]
    smallest: tuple[int, int]
    largest: tuple[int, int]
    dtype: Depth = "uint8"

    @property
    def uniform(self) -> bool:
        """Whether all sampled images have the same size."""
        return self.smallest == self.largest


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Classes and splits.

    Args:
        name: for run names and model cards.
        classes: class names in the order of their indices, of all splits together.
        splits: those of `train`, `val` and `test` that exist.
        problems: what was found without decoding images; `check` decodes them all.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, ImageSet]
    problems: tuple[Problem, ...] = ()

    def __len__(self) -> int:
        return sum(len(images) for images in self.splits.values())

    @cached_property
    def folder(self) -> str:
        """Common prefix of all image names, up to a slash: what changes when the data set is moved."""
        names = [images.name(i) for images in self.splits.values() for i in range(len(images))]
        common = os.path.commonprefix(names)  # noqa: RUF071 (it is cut at a slash)
        return common[: common.rfind("/") + 1]

    @cached_property
    def preprocessing_hint(self) -> PreprocessingHint:
        """Sizes, channels and depth of up to 64 images, evenly spaced over the training split.

        Raises:
            DataError: none of the headers can be read.
        """
        images = self.splits.get("train") or next(iter(self.splits.values()))
        seen: list[Header] = []
        for i in np.unique(np.linspace(0, len(images) - 1, 64).astype(int)):
            try:
                content = images.read(i)
                if isinstance(content, bytes):
                    seen.append(read_header(content, where=images.name(i)))
                else:
                    seen.append(array_header(content.shape, content.dtype))
            except ImageError:  # `check` reports it
                continue
        if not seen:
            raise DataError(
                f"images must be decodable; none of {len(images)} sampled from {self.name} is; run resnets data check"
            )
        sizes = np.array([(found.height, found.width) for found in seen])
        bands = Counter(found.channels for found in seen if isinstance(found.channels, int))
        grayscale = all(found.channels == "L" for found in seen)
        dtypes = {found.dtype for found in seen}
        return PreprocessingHint(
            channels=bands.most_common(1)[0][0] if bands else "L" if grayscale else "RGB",
            size=_pair(np.median(sizes, axis=0)),
            smallest=_pair(sizes.min(axis=0)),
            largest=_pair(sizes.max(axis=0)),
            dtype="uint8" if "uint8" in dtypes else "float32" if "float32" in dtypes else "uint16",
        )

    def without_undecodable(self, problems: Iterable[Problem]) -> Dataset:
        """The data set without the images of the `undecodable` problems.

        A class that loses its last training image becomes a fatal problem of the result.

        Raises:
            DataError: a split would be empty.
        """
        gone = {problem.where for problem in problems if problem.kind == "undecodable"}
        if not gone:
            return self
        splits = {}
        for split, images in self.splits.items():
            keep = [i for i in range(len(images)) if images.name(i) not in gone]
            if not keep:
                raise DataError(
                    f"every split must have images; none of {split} in {self.name} can be decoded; repair the data"
                )
            splits[split] = images.subset(keep)
        problems = [problem for problem in self.problems if problem.where not in gone]
        if "train" in splits:
            for label in np.setdiff1d(self.splits["train"].labels, splits["train"].labels):
                where, reason = f"{self.name}/train", f"class {self.classes[label]!r} has no image that can be decoded"
                problems.append(Problem(kind="untrained-class", where=where, reason=reason, fatal=True))
        return replace(self, splits=splits, problems=tuple(problems))


def _pair(values: npt.NDArray[Any]) -> tuple[int, int]:
    return int(values[0]), int(values[1])
