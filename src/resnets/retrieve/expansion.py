"""Query expansion: each embedding replaced by a mean of its nearest ones (Chum et al. 2007, Radenovic et al. 2018).

Legend: N images, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from resnets.errors import ConfigError
from resnets.retrieve.embeddings import Embeddings, check_pair
from resnets.retrieve.nearest import nearest

__all__ = ["expand", "expand_queries"]

Floats = npt.NDArray[np.float32]
ROWS = 4096  # of the embeddings, whose neighbours are gathered at a time


def expand(
    query: Embeddings,
    gallery: Embeddings,
    *,
    k: int = 10,
    alpha: float = 3.0,
    times: int = 1,
    memory_mib: int = 512,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Embeddings, Embeddings]:
    """Replace each embedding of both sets by the mean of its k nearest of all, weighted by similarity^alpha.

    The embedding itself is one of the k. Similarities are cosines; means are of the embeddings as they are, and with
    weights that do not sum to 1, as in fast-reid's `aqe`: compare the results by cosine similarity. `alpha=0` gives
    a plain mean.

    Args:
        query: the queries.
        gallery: the gallery.
        k: number of nearest embeddings, at least 1.
        alpha: power of the similarity, at least 0; with a fraction, negative similarities count as 0.
        times: how often to do so.
        memory_mib: limit for the similarities of a block.
        progress: called with the number of embeddings that are done, of all in each time.
    """
    if k < 1 or alpha < 0 or times < 1:
        raise ConfigError(
            f"query expansion needs k and times of at least 1 and alpha of at least 0; got {k=}, {times=}, {alpha=}"
        )
    check_pair(query, gallery)
    features = np.concatenate([query.features, gallery.features]).astype(np.float32, copy=False)
    for _ in range(times):
        features = _mean_of_nearest(features, features, k, alpha, memory_mib, progress)
    return (
        replace(query, features=features[: len(query)]),
        replace(gallery, features=features[len(query) :]),
    )


def expand_queries(query: Embeddings, items: npt.NDArray[Any], *, k: int = 6, memory_mib: int = 512) -> Embeddings:
    """Replace each query by the plain mean of its k nearest of `items` (N, D), in Euclidean distance, as VOC-ReID does.

    There the embeddings are normalised, and `items` are those of queries and gallery.
    """
    found = nearest(query.features, items, k, metric="euclidean", memory_mib=memory_mib)
    return replace(query, features=np.asarray(items, np.float32)[found.index].mean(1))


def _mean_of_nearest(
    query: Floats, items: Floats, k: int, alpha: float, memory_mib: int, progress: Callable[[int], None]
) -> Floats:
    out = np.empty_like(query)
    for start in range(0, len(query), ROWS):
        part = slice(start, start + ROWS)
        found = nearest(query[part], items, k, memory_mib=memory_mib)
        similarity = 1 - found.distance
        weights = (similarity if float(alpha).is_integer() else np.maximum(similarity, 0)) ** np.float32(alpha)
        out[part] = np.einsum("nk,nkd->nd", weights, items[found.index]) / found.index.shape[1]
        progress(min(start + ROWS, len(query)))
    return out
