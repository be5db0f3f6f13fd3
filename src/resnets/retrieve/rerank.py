"""Re-ranking by k-reciprocal neighbours (Zhong et al. 2017), with sparse sets in place of dense matrices.

The k-reciprocal neighbours of an image are those of its neighbours that have it among their own neighbours. The
distance of two images is a mix of their original distance and the Jaccard distance of their weighted neighbour sets.
Only the neighbour lists and sets are kept, about 100 numbers an image; distances are computed in blocks.

Legend: Q queries, G gallery, N = Q + G images, K length of the neighbour lists, B rows in a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch

from resnets.errors import ConfigError
from resnets.retrieve.distances import BlockScores, Metric
from resnets.retrieve.embeddings import Embeddings, check_pair

__all__ = ["RERANK_RULES", "RerankConfig", "Reranked", "rerank"]

RerankRule = Literal["zhong", "fastreid"]
RERANK_RULES: tuple[str, ...] = get_args(RerankRule)

PAIRS = 2**22  # entries of sparse arrays that are made at a time
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class RerankConfig:
    """How to re-rank; the defaults are those of the paper.

    Args:
        k1: neighbours in a list.
        k2: neighbours, the image itself included, over whose sets each set is averaged; 1 for no average.
        lambda_value: weight of the original distance, from 0 to 1.
        extra_neighbor: lists have k1 + 1 entries, the image itself first, as in the paper's code and in torchreid;
            without it they have k1.
        exponent: of the distance (squared Euclidean, or 1 - cosine similarity) in the weights and in the mix. torchreid
            hands squared distances to a function that squares them again: 2 gives its result.
        rule: `zhong` divides the distances of an image by their maximum, weights neighbours by exp(-distance), and
            mixes in that distance. `fastreid` weights by a softmax of the negative squared Euclidean distances, and
            mixes in the distance as it is; its lists have k1 entries (`extra_neighbor=False`).

    Raises:
        ConfigError: a value out of range.
    """

    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3
    extra_neighbor: bool = True
    exponent: int = 1
    rule: RerankRule = "zhong"

    def __post_init__(self) -> None:
        for name, value, least in (("k1", self.k1, 1), ("k2", self.k2, 1), ("exponent", self.exponent, 1)):
            if value < least:
                raise ConfigError(f"{name} of re-ranking must be at least {least}; got {value}")
        if not 0 <= self.lambda_value <= 1:
            raise ConfigError(f"lambda_value of re-ranking must be from 0 to 1; got {self.lambda_value}")
        if self.rule not in RERANK_RULES:
            raise ConfigError(f"rule of re-ranking is one of {', '.join(RERANK_RULES)}; got {self.rule!r}")


class Sparse(NamedTuple):
    """Rows of a sparse matrix: `columns[offsets[i]:offsets[i + 1]]` ascending, and their values."""

    offsets: Ints
    columns: Ints
    values: Floats

    def entries(self, rows: Ints) -> tuple[Ints, Ints]:
        """Positions of all entries of some rows, and for each, the position of its row in `rows`."""
        counts = self.offsets[rows + 1] - self.offsets[rows]
        owner = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(len(owner)) - np.repeat(counts.cumsum() - counts, counts)
        return self.offsets[rows][owner] + within, owner


class Reranked:
    """Re-ranked distances, computed a block of queries at a time."""

    def __init__(
        self, sets: Sparse, queries: int, original: Callable[[int, int], Floats], config: RerankConfig
    ) -> None:
        self._sets, self._queries, self._original, self._config = sets, queries, original, config
        count = len(sets.offsets) - 1
        self.gallery = count - queries
        start = sets.offsets[queries]
        order = start + np.argsort(sets.columns[start:], kind="stable")
        owner = np.repeat(np.arange(count), np.diff(sets.offsets))
        # The sets of the gallery by column: which gallery images have an image in their set.
        bounds = np.searchsorted(sets.columns[order], np.arange(count + 1))
        self._inverted = Sparse(bounds, owner[order] - queries, sets.values[order])

    def __call__(self, start: int, stop: int) -> Floats:
        """(B, G) distances of the queries `start` to `stop`."""
        weight = self._config.lambda_value
        out = self._original(start, stop) * np.float32(weight)
        for row in range(start, stop):
            own = slice(self._sets.offsets[row], self._sets.offsets[row + 1])
            at, owner = self._inverted.entries(self._sets.columns[own])
            shared = np.minimum(self._sets.values[own][owner], self._inverted.values[at])
            total = np.bincount(self._inverted.columns[at], shared, self.gallery)
            jaccard = 1 - total / (2 - total)
            if self._config.rule == "fastreid":
                jaccard = np.maximum(jaccard, 0)
            out[row - start] += (jaccard * (1 - weight)).astype(np.float32)
        return out


def rerank(
    query: Embeddings,
    gallery: Embeddings,
    config: RerankConfig | None = None,
    *,
    metric: Metric = "cosine",
    memory_mib: int = 512,
    progress: Callable[[int], None] = lambda done: None,
) -> Reranked:
    """Prepare re-ranked distances of queries and a gallery.

    Args:
        query: Q images.
        gallery: G images.
        config: how; by default as in the paper.
        metric: of the original distance.
        memory_mib: limit for the distances of a block.
        progress: called with the number of images, of Q + G, whose neighbours are found.

    Raises:
        ShapeError, DataError: as for `rank_matches`.
    """
    config = config or RerankConfig()
    check_pair(query, gallery)
    features = np.concatenate([query.features, gallery.features]).astype(np.float32, copy=False)
    if metric == "cosine":
        features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    distances = _Distances(features, metric, config, keep=4 * len(features) ** 2 <= memory_mib * 2**20)
    length = min(config.k1 + config.extra_neighbor, len(features))
    width = min(max(length, config.k2), len(features))
    step = max(1, min(len(features), memory_mib * 2**20 // (12 * len(features))))
    neighbors, near = distances.neighbors(width, step, progress)
    half = min(round(config.k1 / 2) + 1, length)  # round() rounds half to even, as the paper's code does
    sets = _expanded_sets(neighbors[:, :length], half)
    sets = _weighted(sets, neighbors, near, distances, config)
    if config.k2 > 1:
        sets = _averaged(sets, neighbors[:, : config.k2])
    return Reranked(sets, len(query), distances.to_gallery(len(query)), config)


class _Distances:
    """Distances of all N images to each other, by rows."""

    def __init__(self, features: Floats, metric: Metric, config: RerankConfig, *, keep: bool) -> None:
        self.features, self.metric, self.config = features, metric, config
        self._squares = np.einsum("nd,nd->n", features, features)
        self._scorer = BlockScores(features, "euclidean")
        self.largest = np.ones(len(features), np.float32)
        self._all = self._compute(0, len(features)) if keep else None  # (N, N), where that is small

    def neighbors(self, width: int, step: int, progress: Callable[[int], None]) -> tuple[Ints, Floats]:
        """(N, width) nearest images of each, itself first, with their squared distances; sets `largest`."""
        count = len(self.features)
        index, near = np.empty((count, width), np.int64), np.empty((count, width), np.float32)
        for start in range(0, count, step):
            squared = self._squared(start, min(start + step, count)).copy()
            rows = np.arange(len(squared))
            squared[rows, start + rows] = -1  # an image is its own nearest, also where others are equal to it
            values, found = torch.topk(torch.from_numpy(squared), width, dim=1, largest=False)
            index[start : start + len(rows)], near[start : start + len(rows)] = found.numpy(), values.numpy()
            self.largest[start : start + len(rows)] = self._powered(squared.max(1))
            progress(start + len(rows))
        near[:, 0] = 0
        return index, near

    def pairs(self, rows: Ints, columns: Ints) -> Floats:
        """Squared distances of pairs of images."""
        if self._all is not None:
            return np.asarray(self._all[rows, columns])
        out = np.empty(len(rows), np.float32)
        step = max(1, PAIRS // self.features.shape[1])
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            difference = self.features[rows[part]] - self.features[columns[part]]
            out[part] = np.einsum("nd,nd->n", difference, difference)
        return out

    def to_gallery(self, queries: int) -> Callable[[int, int], Floats]:
        """Function of a range of queries: their original distances to the gallery, as they are mixed in."""

        def original(start: int, stop: int) -> Floats:
            squared = self._squared(start, stop)[:, queries:]
            if self.config.rule == "fastreid":
                return squared * np.float32(1.0 if self.metric == "euclidean" else 0.5)
            return self.scaled(squared, self.largest[start:stop, None])

        return original

    def scaled(self, squared: Floats, largest: Floats) -> Floats:
        """Distances from 0 to 1, for squared distances and the largest one of their rows."""
        return np.asarray(self._powered(squared) / np.maximum(largest, np.finfo(np.float32).tiny), np.float32)

    def _powered(self, squared: Floats) -> Floats:
        return squared**self.config.exponent if self.config.exponent > 1 else squared

    def _squared(self, start: int, stop: int) -> Floats:
        return self._compute(start, stop) if self._all is None else self._all[start:stop]

    def _compute(self, start: int, stop: int) -> Floats:
        squared = self._scorer.scores(self.features[start:stop])
        squared += self._squares[start:stop, None]
        return np.asarray(np.maximum(squared, 0, out=squared))


def _reciprocal(neighbors: Ints) -> Ints:
    """Codes `i * N + j`, ascending, of all j that are neighbours of i and have i as a neighbour."""
    count = len(neighbors)
    owner = np.repeat(np.arange(count), neighbors.shape[1])
    forward, backward = owner * count + neighbors.ravel(), neighbors.ravel() * count + owner
    return np.intersect1d(forward, backward, assume_unique=True)


def _from_codes(codes: Ints, count: int) -> Sparse:
    """Sparse rows of ascending codes, without values."""
    offsets = np.searchsorted(codes, np.arange(count + 1) * count)
    return Sparse(offsets, codes % count, np.zeros(0, np.float32))


def _chunks(sizes: Ints) -> Iterator[Ints]:
    """Consecutive rows whose sizes sum to about `PAIRS`."""
    ends = np.searchsorted(sizes.cumsum(), np.arange(PAIRS, int(sizes.sum()) + PAIRS, PAIRS)) + 1
    start = 0
    for end in np.unique(np.minimum(ends, len(sizes))):
        yield np.arange(start, end)
        start = int(end)


def _expanded_sets(neighbors: Ints, half: int) -> Sparse:
    """The k-reciprocal sets, each with the half-length sets of its members that overlap it by more than two thirds."""
    count = len(neighbors)
    codes = _reciprocal(neighbors)
    sets, halves = _from_codes(codes, count), _from_codes(_reciprocal(neighbors[:, :half]), count)
    half_sizes = np.diff(halves.offsets)
    sizes = np.add.reduceat(half_sizes[sets.columns], sets.offsets[:-1])  # an image is in its own set: none is empty
    parts = []
    for rows in _chunks(sizes):
        at, owner = sets.entries(rows)
        members = sets.columns[at]
        inner, pair = halves.entries(members)
        candidates = rows[owner][pair] * count + halves.columns[inner]
        place = np.minimum(np.searchsorted(codes, candidates), len(codes) - 1)
        overlap = np.bincount(pair[codes[place] == candidates], minlength=len(members))
        added = candidates[(overlap > 2 / 3 * half_sizes[members])[pair]]
        parts.append(np.union1d(rows[owner] * count + members, added))
    return _from_codes(np.concatenate(parts), count)


def _weighted(sets: Sparse, neighbors: Ints, near: Floats, distances: _Distances, config: RerankConfig) -> Sparse:
    """Sets with weights that sum to 1 in each row."""
    count = len(neighbors)
    owner = np.repeat(np.arange(count), np.diff(sets.offsets))
    known = (np.arange(count)[:, None] * count + neighbors).ravel()
    order = np.argsort(known)
    codes = owner * count + sets.columns
    place = order[np.minimum(np.searchsorted(known[order], codes), len(known) - 1)]
    squared = near.ravel()[place]
    unknown = np.flatnonzero(known[place] != codes)
    squared[unknown] = distances.pairs(owner[unknown], sets.columns[unknown])
    scores = squared if config.rule == "fastreid" else distances.scaled(squared, distances.largest[owner])
    # The image itself is in its set, at distance 0: no sum is 0.
    weights = np.exp(-scores)
    return sets._replace(values=(weights / np.add.reduceat(weights, sets.offsets[:-1])[owner]).astype(np.float32))


def _averaged(sets: Sparse, neighbors: Ints) -> Sparse:
    """Each set replaced by the mean of those of its neighbours."""
    count, width = neighbors.shape
    columns, values, sizes = [], [], []
    for rows in _chunks(np.diff(sets.offsets)[neighbors].sum(1)):
        at, owner = sets.entries(neighbors[rows].ravel())
        codes, inverse = np.unique(owner // width * count + sets.columns[at], return_inverse=True)
        values.append((np.bincount(inverse, sets.values[at]) / width).astype(np.float32))
        columns.append(codes % count)
        sizes.append(np.bincount(codes // count, minlength=len(rows)))
    return Sparse(
        np.concatenate([[0], np.concatenate(sizes).cumsum()]), np.concatenate(columns), np.concatenate(values)
    )
