"""The k nearest gallery items of each query, exact, in blocks.

Legend: Q queries, G gallery, B queries in a block, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from resnets.errors import ConfigError
from resnets.retrieve.distances import BlockScores, Metric, query_blocks

__all__ = ["Nearest", "nearest"]


@dataclass(frozen=True)
class Nearest:
    """(Q, k) positions in the gallery, nearest first, and their distances: 1 - cosine similarity, or squared Euclidean.

    Items at the same distance are in the order of the gallery.
    """

    index: npt.NDArray[np.int64]
    distance: npt.NDArray[np.float32]


def nearest(
    query: npt.NDArray[Any],
    gallery: npt.NDArray[Any],
    k: int,
    *,
    metric: Metric = "cosine",
    memory_mib: int = 512,
    progress: Callable[[int], None] = lambda done: None,
) -> Nearest:
    """Find the k nearest items of each query, or all if the gallery has fewer.

    Args:
        query: (Q, D).
        gallery: (G, D), perhaps memory-mapped.
        k: at least 1.
        metric: `cosine` or `euclidean`.
        memory_mib: limit for the scores of a block of queries.
        progress: called with the number of queries that are done.
    """
    if k < 1:
        raise ConfigError(f"the number of nearest items must be at least 1; got {k}")
    count, k = len(gallery), min(k, len(gallery))
    scorer = BlockScores(gallery, metric)
    index, distance = np.zeros((len(query), k), np.int64), np.zeros((len(query), k), np.float32)
    for part in query_blocks(query, gallery, memory_mib) if count else ():
        block = query[part]
        scores = scorer.scores(block)
        values, found = (
            found.numpy() for found in torch.topk(torch.from_numpy(scores), min(k + 1, count), 1, largest=False)
        )
        order = np.lexsort((found, values))
        values, found = np.take_along_axis(values, order, 1), np.take_along_axis(found, order, 1)
        if k < count:
            for row in np.flatnonzero(values[:, k] == values[:, k - 1]):  # which of the equal items are among the k?
                items = np.flatnonzero(scores[row] <= values[row, k])
                found[row, :k] = items[np.lexsort((items, scores[row, items]))][:k]
        index[part] = found[:, :k]
        near = np.take_along_axis(scores, index[part], 1)
        near += scorer.offsets(block)
        distance[part] = np.maximum(near, 0)
        progress(part.stop)
    return Nearest(index, distance)
