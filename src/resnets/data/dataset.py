"""What a data set is, wherever it comes from: classes, splits, and what is wrong with it (`check` finds more).

Legend: N pictures, H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from resnets.data import random
from resnets.data.decode import PixelChannels, Pixels, decode, header, to_luma
from resnets.errors import DataError, ImageError

__all__ = [
    "SPLITS",
    "ContractHint",
    "Dataset",
    "ImageSet",
    "Problem",
    "Source",
    "split_rows",
]

Labels = npt.NDArray[np.int64]
SPLITS = ("train", "val", "test")


class Source(Protocol):
    """Where pictures lie; cheap to pickle and safe to read from several threads."""

    def name(self, row: int) -> str:
        """The path, or `shard#row`, of a picture."""
        ...

    def read(self, row: int) -> bytes | Pixels:
        """Its encoded bytes, or (H, W, C) pixels; raises ImageError."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
    """Pictures with labels.

    Args:
        source: where the pictures lie.
        rows: (N,) int64, which of the source's pictures these are.
        labels: (N,) int64 class indices.
    """

    source: Source
    rows: Labels
    labels: Labels

    def __post_init__(self) -> None:
        assert len(self.rows) == len(self.labels)

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, i: int) -> str:
        """The path, or `shard.parquet#row`, of picture `i`."""
        return self.source.name(int(self.rows[i]))

    def read(self, i: int) -> bytes | Pixels:
        """Picture `i` as it is stored: encoded bytes, or (H, W, C) uint8 pixels."""
        return self.source.read(int(self.rows[i]))

    def image(self, i: int, channels: PixelChannels) -> Pixels:
        """Picture `i` decoded, (H, W, C) uint8.

        Raises:
            ImageError: it cannot be read or decoded.
        """
        content = self.read(i)
        if isinstance(content, bytes):
            return decode(content, channels, where=self.name(i))
        if channels == "RGB":
            return content if content.shape[2] == 3 else np.repeat(content, 3, axis=2)
        return content if content.shape[2] == 1 else to_luma(content)

    def subset(self, indices: npt.ArrayLike) -> ImageSet:
        """The pictures at these places, in this order."""
        at = np.asarray(indices, np.int64)
        return replace(self, rows=self.rows[at], labels=self.labels[at])


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that is wrong with a data set.

    Args:
        kind: `undecodable`, `empty-class`, `untrained-class`, `missing-class`, `missing-shard`, `ignored`,
            `unlabelled` or `mixed-files`.
        where: the path, or `shard#row`, it is about.
        reason: what is wrong and what to do, in a few words.
        fatal: whether training must not start with it.
    """

    kind: Literal[
        "undecodable",
        "empty-class",
        "untrained-class",
        "missing-class",
        "missing-shard",
        "ignored",
        "unlabelled",
        "mixed-files",
    ]
    where: str
    reason: str
    fatal: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class ContractHint:
    """What a sample of the headers says, for choosing a preprocessing contract.

    Args:
        channels: `L` when every sampled picture is stored grey, else `RGB`.
        size: (H, W) medians, in pixels.
        smallest, largest: (H, W), each the least and the greatest of its axis.
        sampled: how many headers were read.
    """

    channels: PixelChannels
    size: tuple[int, int]
    smallest: tuple[int, int]
    largest: tuple[int, int]
    sampled: int

    @property
    def uniform(self) -> bool:
        """Whether all sampled pictures have one size."""
        return self.smallest == self.largest


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Classes and splits.

    Args:
        name: of the data, for run names and model cards.
        classes: names in the order of their indices; the union of all splits, so that a folder that is missing
            from one split shifts nothing.
        splits: `train`, `val` and `test`, those that there are.
        problems: what was found without decoding a picture; `check` decodes them all.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, ImageSet]
    problems: tuple[Problem, ...] = ()

    def __len__(self) -> int:
        return sum(len(images) for images in self.splits.values())

    @cached_property
    def contract_hint(self) -> ContractHint:
        """Sizes and channels of up to 64 pictures, evenly spaced over the training split.

        Raises:
            DataError: not one of their headers could be read.
        """
        images = self.splits.get("train") or next(iter(self.splits.values()))
        seen = []
        for i in np.unique(np.linspace(0, len(images) - 1, 64).astype(int)):
            try:
                content = images.read(i)
                if isinstance(content, bytes):
                    seen.append(header(content, where=images.name(i)))
                else:
                    seen.append((content.shape[0], content.shape[1], content.shape[2] == 1))
            except ImageError:  # `check` reports it
                continue
        if not seen:
            raise DataError(f"pictures must decode; none of those sampled in {self.name} does; run resnets data check")
        sizes = np.array([(height, width) for height, width, _ in seen])
        return ContractHint(
            channels="L" if all(grey for *_, grey in seen) else "RGB",
            size=_pair(np.median(sizes, axis=0)),
            smallest=_pair(sizes.min(axis=0)),
            largest=_pair(sizes.max(axis=0)),
            sampled=len(seen),
        )

    def without(self, problems: Iterable[Problem]) -> Dataset:
        """The data set without the pictures that cannot be decoded.

        Raises:
            DataError: a split would be left empty.
        """
        gone = {problem.where for problem in problems if problem.kind == "undecodable"}
        splits = {}
        for split, images in self.splits.items():
            keep = [i for i in range(len(images)) if images.name(i) not in gone]
            if not keep:
                raise DataError(f"a split needs pictures; none of {split} in {self.name} decodes; repair the data")
            splits[split] = images.subset(keep)
        return replace(self, splits=splits, problems=tuple(p for p in self.problems if p.where not in gone))


def _pair(values: npt.NDArray[Any]) -> tuple[int, int]:
    return int(values[0]), int(values[1])


def split_rows(labels: Labels, fraction: float, seed: int) -> tuple[Labels, Labels]:
    """A seeded stratified split: of every class with two pictures or more, `fraction` and at least one go to val.

    Args:
        labels: (N,) class indices.
        fraction: in (0, 1).

    Returns:
        Places of training and of validation pictures, each sorted; together all, in common none.
    """
    if not 0 < fraction < 1:
        raise DataError(f"val_fraction must be between 0 and 1; got {fraction}; 0.1 is usual")
    held = []
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        count = min(len(places) - 1, max(1, round(len(places) * fraction)))
        held.append(places[random.permutation(len(places), seed, int(label), random.Stream.SPLIT)[:count]])
    val = np.sort(np.concatenate(held)) if held else np.empty(0, np.int64)
    return np.setdiff1d(np.arange(len(labels)), val), val
