"""Searching a file of embeddings: the images most similar to others, and groups of near duplicates.

Legend: N images of the file, Q queries, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from resnets.errors import ConfigError, DataError, ShapeError
from resnets.retrieve.distances import BlockScores, Metric, exact_distances, query_blocks
from resnets.retrieve.embed import model_identity
from resnets.retrieve.embedding_file import EmbeddingFile
from resnets.retrieve.embeddings import require_finite
from resnets.retrieve.nearest import nearest
from resnets.weights.folder.bundle import Bundle

__all__ = ["Hit", "check_model", "find_duplicates", "search"]


ROUNDING = 1e-12  # of a distance in float64


@dataclass(frozen=True, kw_only=True)
class Hit:
    """An image that a search found.

    Args:
        path: of the image.
        distance: 1 - cosine similarity, or squared Euclidean.
        id: its identity, if the file has identities.
    """

    path: str
    distance: float
    id: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form."""
        known = {} if self.id is None else {"id": self.id}
        return {"path": self.path, "distance": self.distance, **known}


def check_model(bundle: Bundle, file: EmbeddingFile, where: str) -> None:
    """Check that a file holds embeddings of a model; those of another one are not comparable.

    Raises:
        DataError: they are of another model, or of one whose weights have changed.
    """
    identity = model_identity(bundle)
    if file.model and file.model.get("hash") != identity["hash"]:
        raise DataError(
            f"embeddings are searched with the model that computed them; {where} is of {file.model.get('name')} with "
            f"other weights than this {identity['name']}; pass that model, or embed the images again"
        )


def search(
    queries: npt.NDArray[np.float32],
    file: EmbeddingFile,
    *,
    k: int = 10,
    metric: Metric = "cosine",
    threshold: float | None = None,
    names: Sequence[str] | None = None,
    memory_mib: int = 512,
) -> list[list[Hit]]:
    """The images most similar to each query.

    Args:
        queries: (Q, D) embeddings.
        file: what is searched.
        k: at most so many images for each query.
        metric: `cosine` or `euclidean`.
        threshold: only images at most so far; `None` for all.
        names: (Q,) paths of the queries, which are left out of their own results.
        memory_mib: limit for a block of distances.

    Raises:
        ShapeError: embeddings of another size.
    """
    if queries.ndim != 2 or queries.shape[1] != file.features.shape[1]:
        raise ShapeError(
            f"queries need embeddings of the size of the file's, {file.features.shape[1]}; got shape {queries.shape}"
        )
    require_finite(queries, "query")
    require_finite(file.features, "file")
    wanted = k if names is None else k + names_repeated(file.paths)
    found = nearest(queries, file.features, wanted, metric=metric, memory_mib=memory_mib)
    results = []
    for row in range(len(queries)):
        hits = []
        for item, distance in zip(found.index[row], found.distance[row], strict=True):
            if names is not None and file.paths[item] == names[row]:
                continue
            if threshold is not None and distance > threshold:
                break
            identity = None if file.ids is None else int(file.ids[item])
            hits.append(Hit(path=file.paths[item], distance=float(distance), id=identity))
        results.append(hits[:k])
    return results


def names_repeated(paths: Sequence[str]) -> int:
    """How often the most frequent path stands in the file."""
    names, counts = np.unique(np.array(paths, dtype=object).astype(str), return_counts=True)
    return int(counts.max()) if len(names) else 0


def find_duplicates(
    features: npt.NDArray[Any],
    threshold: float,
    *,
    metric: Metric = "cosine",
    memory_mib: int = 512,
    progress: Callable[[int], None] = lambda done: None,
) -> list[list[int]]:
    """Groups of images that are linked by distances of at most `threshold`, by their first image.

    Args:
        features: (N, D).
        threshold: largest distance of two near duplicates, at least 0.
        metric: `cosine` or `euclidean`.
        memory_mib: limit for a block of distances.
        progress: called with the number of images that are done.

    Returns:
        Positions of each group with two images or more, ascending.
    """
    if threshold < 0:
        raise ConfigError(f"a threshold of duplicates must be at least 0; got {threshold}")
    require_finite(features, "file")
    count = len(features)
    scorer, parent = BlockScores(features, metric), np.arange(count)
    for part in query_blocks(features, features, memory_mib):
        block = np.asarray(features[part], np.float32)
        distances = scorer.scores(block)
        distances += scorer.offsets(block)
        for row, margin in enumerate(scorer.errors(block)):
            items = np.flatnonzero(distances[row] <= threshold + margin)
            items = items[items > part.start + row]
            close = distances[row, items] > threshold - margin  # float32 cannot tell
            exact = exact_distances(block[row], features[items[close]], metric)
            for item in (*items[~close].tolist(), *items[close][exact <= threshold + ROUNDING].tolist()):
                _join(parent, part.start + row, item)
        progress(part.stop)
    roots = np.array([_root(parent, item) for item in range(count)], np.int64)
    groups: dict[int, list[int]] = {}
    for item, root in enumerate(roots.tolist()):
        groups.setdefault(root, []).append(item)
    return [group for group in groups.values() if len(group) > 1]


def _root(parent: npt.NDArray[np.int64], item: int) -> int:
    while parent[item] != item:
        parent[item] = parent[parent[item]]
        item = int(parent[item])
    return item


def _join(parent: npt.NDArray[np.int64], one: int, other: int) -> None:
    first, second = _root(parent, one), _root(parent, other)
    parent[max(first, second)] = min(first, second)
