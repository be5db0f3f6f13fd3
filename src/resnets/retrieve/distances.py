"""Distances between queries and a gallery in blocks: float32 for speed, float64 where the order must be certain.

Legend: B queries in a block, G gallery, D embedding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from resnets.errors import ConfigError

__all__ = ["METRICS", "BlockScores", "Metric", "exact_distances", "query_blocks"]

Metric = Literal["cosine", "euclidean"]
METRICS: tuple[str, ...] = get_args(Metric)

KEPT_BYTES = 2**30  # of a prepared gallery; a larger one is prepared anew for each block of queries
CHUNK_BYTES = 2**27
EPS, TINY = float(np.finfo(np.float32).eps), float(np.finfo(np.float32).tiny)


class BlockScores:
    """Scores of blocks of queries for a whole gallery; the nearer, the smaller.

    For `cosine` a score is -q·g of the normalised vectors (0 for a zero vector). For `euclidean` it is |g|² - 2 q·g,
    the squared distance less |q|², which all scores of a query share.

    Args:
        gallery: (G, D), perhaps memory-mapped.
        metric: `cosine` or `euclidean`.
        half: multiply in bfloat16 and add in float32, where the processor can.
    """

    def __init__(self, gallery: npt.NDArray[Any], metric: Metric, *, half: bool = False) -> None:
        if metric not in METRICS:
            raise ConfigError(f"a metric is cosine or euclidean; got {metric!r}; choose one of them")
        self.gallery, self.metric, self.half = gallery, metric, half
        size = 4 * gallery.shape[1]
        rows = len(gallery) if len(gallery) * size <= KEPT_BYTES else max(1, CHUNK_BYTES // size)
        self._starts = range(0, len(gallery), max(rows, 1))
        self._kept: Tensor | None = None
        if len(self._starts) <= 1:
            self._kept = _as_tensor(gallery)
            if metric == "cosine":
                self._kept = torch.nn.functional.normalize(self._kept, eps=TINY)
        squares = [block.square().sum(1) for block in self._blocks()]
        self._squares = torch.cat(squares) if squares else torch.zeros(0)  # (G,)
        self._longest = float(self._squares.max()) ** 0.5 if len(gallery) else 1.0

    def scores(self, queries: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """(B, D) -> (B, G)."""
        x, cosine = _as_tensor(queries), self.metric == "cosine"
        x = -torch.nn.functional.normalize(x, eps=TINY) if cosine else x
        out: Tensor | None = None
        with _matmul_precision("medium" if self.half else "highest"):
            for start, block in zip(self._starts, self._blocks(), strict=True):
                part = slice(start, start + len(block))
                if not cosine:
                    scores = torch.addmm(self._squares[part], x, block.T, alpha=-2)
                else:
                    scores = torch.mm(x, block.T)
                    if self._kept is None:  # its vectors are as they are in the file
                        scores *= self._squares[part].clamp(min=TINY).rsqrt()
                if len(self._starts) == 1:
                    return scores.numpy()
                out = torch.empty(len(x), len(self.gallery)) if out is None else out
                out[:, part] = scores
        return (torch.zeros(len(x), 0) if out is None else out).numpy()

    def offsets(self, queries: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """(B, D) -> (B, 1) what makes scores distances: 1 for `cosine`, |q|² for `euclidean`."""
        if self.metric == "cosine":
            return np.ones((len(queries), 1), np.float32)
        return np.asarray(np.square(np.asarray(queries, np.float32)).sum(1, keepdims=True))

    def errors(self, queries: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """(B,) how far the scores of each query may be from those of exact arithmetic.

        Rounding errors of a sum of D products of one sign grow with the square root of D. Their standard deviation is
        EPS * sqrt(D) / 6 of |q| |g|, if the products are added one after another, and less in blocks, as libraries do.
        """
        root = EPS * float(np.sqrt(queries.shape[1]))
        if self.metric == "cosine":
            return np.full(len(queries), root)
        lengths = np.linalg.norm(np.asarray(queries, np.float64), axis=1)
        return np.asarray(root * (2 * lengths * self._longest + self._longest**2))

    def _blocks(self) -> Iterator[Tensor]:
        """(C, D) parts of the gallery, in order."""
        if self._kept is not None:
            yield from [self._kept] * len(self._starts)
        else:
            yield from (_as_tensor(self.gallery[start : start + self._starts.step]) for start in self._starts)


def _as_tensor(features: npt.NDArray[Any]) -> Tensor:
    array = np.ascontiguousarray(features, np.float32)
    return torch.from_numpy(array if array.flags.writeable else array.copy())  # torch warns of arrays it cannot write


def query_blocks(queries: npt.NDArray[Any], gallery: npt.NDArray[Any], memory_mib: int) -> Iterator[slice]:
    """Slices of the queries, in order, whose float32 scores for the gallery need at most so much memory, or of one."""
    rows = max(1, memory_mib * 2**20 // (4 * max(len(gallery), 1)))
    for start in range(0, len(queries), rows):
        yield slice(start, min(start + rows, len(queries)))


def exact_distances(query: npt.NDArray[Any], items: npt.NDArray[Any], metric: Metric) -> npt.NDArray[np.float64]:
    """Distances of a query (D,) to items (K, D), in float64: 1 - cosine similarity, or squared Euclidean."""
    x, y = np.asarray(query, np.float64), np.asarray(items, np.float64)
    if metric == "euclidean":
        return np.asarray(((y - x) ** 2).sum(1))
    lengths = np.linalg.norm(y, axis=1) * np.linalg.norm(x)
    return np.asarray(1 - (y @ x) / np.where(lengths > 0, lengths, 1))


@contextmanager
def _matmul_precision(wanted: str) -> Iterator[None]:
    """Float32 products at a precision of torch's, whatever the program has set."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(wanted)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
