"""What a report shows besides metrics: distances of matching and other pairs, and the galleries of some queries.

Legend: Q queries, G gallery, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from resnets.retrieve.distances import Metric
from resnets.retrieve.embeddings import Embeddings
from resnets.retrieve.groups import Exclusion, Groups, distance_rows
from resnets.retrieve.metrics import RetrievalMetrics

__all__ = ["Findings", "RankedItem", "RankedQuery", "collect", "principal_plane"]

BINS = 100
HARDEST, TYPICAL, ITEMS = 8, 4, 6  # queries, and gallery items of each
MAP_IMAGES = 2000


@dataclass(frozen=True)
class RankedItem:
    """A gallery item of a query: its position in the gallery, rank from 1, distance, and whether it is a match."""

    position: int
    rank: int
    distance: float
    match: bool


@dataclass(frozen=True)
class RankedQuery:
    """A query with the nearest items of its gallery.

    Args:
        position: of the query.
        ap: average precision, in [0, 1].
        items: nearest first, without removed ones; then the first match, if it is none of them.
    """

    position: int
    ap: float
    items: tuple[RankedItem, ...]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Arrays and lists of a report.

    Args:
        edges: (BINS + 1,) of the distances.
        same, other: (BINS,) numbers of matching and of other pairs, without removed items.
        hardest: matched queries with the lowest average precision, lowest first.
        typical: matched queries around the median.
        cameras: camera of a query -> (number of matched queries, their mAP); empty without cameras.
    """

    edges: npt.NDArray[np.float64]
    same: npt.NDArray[np.int64]
    other: npt.NDArray[np.int64]
    hardest: tuple[RankedQuery, ...]
    typical: tuple[RankedQuery, ...]
    cameras: dict[int, tuple[int, float]]


def collect(
    query: Embeddings,
    gallery: Embeddings,
    metrics: RetrievalMetrics,
    *,
    metric: Metric = "cosine",
    exclude: Exclusion = "same_camera",
    same_image: npt.NDArray[np.int64] | None = None,
    memory_mib: int = 512,
    progress: Callable[[int], None] = lambda done: None,
) -> Findings:
    """Go through the distances of all queries once.

    Args:
        query, gallery, metric, exclude, same_image, memory_mib, progress: as of `rank_matches`.
        metrics: of the same ranking.
    """
    ordered = np.argsort(metrics.ap, kind="stable")[: metrics.matched]  # NaN, without a match, is last
    middle = max(len(ordered) // 2 - TYPICAL // 2, 0)
    hardest, typical = ordered[:HARDEST], ordered[middle : middle + TYPICAL]
    chosen, ranked = set(map(int, (*hardest, *typical))), dict[int, RankedQuery]()
    same, other = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    top = 2.0 if metric == "cosine" else 0.0
    groups = Groups(query, gallery, exclude, same_image)
    rows = distance_rows(query, gallery, groups, metric=metric, memory_mib=memory_mib, progress=progress)
    for number, (row, matches, _) in enumerate(rows):
        kept = np.isfinite(row)
        farthest = float(row[kept].max(initial=0))
        if metric != "cosine":  # Euclidean distances have no bound: bins are joined in pairs as farther ones appear
            top = top or farthest
            while 0 < top < farthest:
                same, other, top = _joined(same), _joined(other), 2 * top
        scale = BINS / (top or 1)
        bins = np.clip((row[kept] * scale).astype(np.int64), 0, BINS - 1)
        of_matches = np.clip((row[matches] * scale).astype(np.int64), 0, BINS - 1)
        matching = np.bincount(of_matches, minlength=BINS)
        same += matching
        other += np.bincount(bins, minlength=BINS) - matching
        if number in chosen:
            ranked[number] = RankedQuery(number, float(metrics.ap[number]), _items(row, matches))
    return Findings(
        edges=np.linspace(0, top or 1, BINS + 1),
        same=same,
        other=other,
        hardest=tuple(ranked[int(one)] for one in hardest),
        typical=tuple(ranked[int(one)] for one in typical),
        cameras=_by_camera(query, metrics),
    )


def _joined(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Counts in bins twice as wide; the upper half is empty."""
    return np.concatenate([counts.reshape(-1, 2).sum(1), np.zeros(BINS // 2, np.int64)])


def _items(row: npt.NDArray[np.float32], matches: npt.NDArray[np.int64]) -> tuple[RankedItem, ...]:
    order = np.argsort(row, kind="stable")[: int(np.isfinite(row).sum())]
    correct = np.isin(order, matches)
    shown = list(range(min(ITEMS, len(order))))
    if correct.any() and (first := int(correct.argmax())) not in shown:
        shown.append(first)
    return tuple(RankedItem(int(order[at]), at + 1, float(row[order[at]]), bool(correct[at])) for at in shown)


def _by_camera(query: Embeddings, metrics: RetrievalMetrics) -> dict[int, tuple[int, float]]:
    if query.cameras is None:
        return {}
    found = {}
    for camera in np.unique(query.cameras):
        own = metrics.ap[query.cameras == camera]
        own = own[~np.isnan(own)]
        if len(own):
            found[int(camera)] = (len(own), float(own.mean()))
    return found


def principal_plane(
    gallery: Embeddings, metric: Metric
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], float]:
    """Embeddings in the plane of their two principal components.

    Returns:
        (M,) positions of up to `MAP_IMAGES` images, evenly spaced; (M, 2) coordinates; and the share of the variance
        that the plane holds, in [0, 1].
    """
    at = np.unique(np.linspace(0, len(gallery) - 1, min(MAP_IMAGES, len(gallery))).astype(np.int64))
    x = np.asarray(gallery.features[at], np.float64)
    if metric == "cosine":
        x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    x = x - x.mean(0)
    _, values, axes = np.linalg.svd(x, full_matrices=False)
    coordinates = np.zeros((len(at), 2))
    coordinates[:, : min(2, len(axes))] = x @ axes[:2].T
    total = float((values**2).sum())
    return at, coordinates, float((values[:2] ** 2).sum()) / total if total else 0.0
