"""Ranks of the matches of each query in a gallery, without a full matrix of distances and without a full sort.

All metrics of re-identification follow from the ranks of the matches. In a row of scores, only the items that are at
most as far as the farthest match are sorted. Where float32 leaves the order of a match and another item open, their
distances are computed again in float64, so that the ranks are those of exact distances.

Legend: Q queries, G gallery, B queries in a block, D embedding, m matches of a query.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from resnets.errors import ConfigError
from resnets.retrieve.distances import BlockScores, Metric, exact_distances, query_blocks
from resnets.retrieve.embeddings import Embeddings, check_pair
from resnets.retrieve.groups import Exclusion, Groups

__all__ = ["TIES", "MatchRanks", "Ties", "rank_matches"]

Ties = Literal["stable", "optimistic", "pessimistic"]
TIES: tuple[str, ...] = get_args(Ties)

EXACT_VALUES = 2**22  # of the gallery, converted to float64 at a time

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MatchRanks:
    """Ranks of the matches of Q queries.

    Args:
        offsets: (Q + 1,) of the queries in `ranks`; a query without matches has none.
        ranks: rank of each match among the items kept for its query, from 1, ascending within a query.
        kept: (Q,) number of gallery items kept for each query.
    """

    offsets: Ints
    ranks: Ints
    kept: Ints

    def of(self, query: int) -> Ints:
        """Ranks of the matches of one query."""
        return self.ranks[self.offsets[query] : self.offsets[query + 1]]

    @property
    def matches(self) -> Ints:
        """(Q,) number of matches of each query."""
        return np.diff(self.offsets)


def rank_matches(
    query: Embeddings,
    gallery: Embeddings,
    *,
    metric: Metric = "cosine",
    exclude: Exclusion = "same_camera",
    ties: Ties = "stable",
    same_image: npt.NDArray[Any] | None = None,
    half: bool = False,
    distances: Callable[[int, int], npt.NDArray[np.float32]] | None = None,
    memory_mib: int = 512,
    progress: Callable[[int], None] = lambda done: None,
) -> MatchRanks:
    """Find the ranks of all matches: gallery items of the query's identity that are not excluded.

    Args:
        query: Q images.
        gallery: G images.
        metric: `cosine`, or `euclidean` on the embeddings as they are.
        exclude: which items of a query's own identity are removed before ranking. `same_camera`: those of its own
            camera, the rule of Market-1501 and of most codebases (none without cameras). `other_camera`: those of other
            cameras, as VOC-ReID does for a gallery of one camera. `none`.
        ties: order of items at exactly the same distance: `stable` by position in the gallery, `optimistic` matches
            first, `pessimistic` matches last.
        same_image: (Q,) position in the gallery of the query's own image, which is removed; -1 if it is not there.
        half: compute distances in bfloat16, and do not settle close ones in float64.
        distances: function of a range of queries that returns their distances to the gallery, such as re-ranked ones;
            by default they are computed from the embeddings.
        memory_mib: limit for the scores of a block of queries.
        progress: called with the number of queries that are done.

    Raises:
        ShapeError: embeddings of different sizes.
        DataError: no queries, no gallery, or cameras in only one of them.
    """
    if ties not in TIES:
        raise ConfigError(f"ties is one of {', '.join(TIES)}; got {ties!r}")
    check_pair(query, gallery)
    groups = Groups(query, gallery, exclude, same_image)
    scorer = BlockScores(gallery.features, metric, half=half) if distances is None else None
    found: list[Ints] = []
    kept: list[int] = []
    for part in query_blocks(query.features, gallery.features, memory_mib):
        block = query.features[part]
        if distances is not None:
            scores = distances(part.start, part.stop)
        elif scorer is not None:
            scores = scorer.scores(block)
        settled = scorer is None or half  # the scores themselves decide
        errors = np.zeros(len(block)) if scorer is None or half else scorer.errors(block)
        for number, row in enumerate(scores):
            matches, removed = groups.find(part.start + number)
            kept.append(len(gallery) - len(removed))
            row[removed] = np.inf
            if settled:
                exact: Callable[[Ints], Floats] = row.__getitem__
            else:
                exact = partial(_exact, block[number], gallery.features, metric)
            found.append(_ranks(row, matches, float(errors[number]), ties, exact))
        progress(part.stop)
    return MatchRanks(
        offsets=np.cumsum([0, *map(len, found)]),
        ranks=np.concatenate(found) if found else np.zeros(0, np.int64),
        kept=np.array(kept),
    )


def _exact(query: npt.NDArray[Any], gallery: npt.NDArray[Any], metric: Metric, items: Ints) -> Floats:
    """Distances of a query to items of the gallery, a part at a time."""
    step = max(1, EXACT_VALUES // gallery.shape[1])
    parts = [exact_distances(query, gallery[items[at : at + step]], metric) for at in range(0, len(items), step)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _ranks(
    scores: npt.NDArray[np.float32], matches: Ints, error: float, ties: Ties, exact: Callable[[Ints], Floats]
) -> Ints:
    """(m,) ranks of matches in a row of scores (G,), ascending; removed items have an infinite score.

    Args:
        error: scores that differ by less are compared by `exact`, which returns the distances of items.
    """
    if not len(matches):
        return matches
    wanted = np.sort(scores[matches]).astype(np.float64)
    below, above = wanted - error, wanted + error
    near = np.sort(scores[scores <= above[-1]])
    # Number of other items that are certainly before each match, and of those that are perhaps before it.
    low = np.searchsorted(near, below, "left") - np.searchsorted(wanted, below, "left")
    high = np.searchsorted(near, above, "right") - np.searchsorted(wanted, above, "right")
    if (low == high).all():
        return np.asarray(low + np.arange(1, len(wanted) + 1))
    # Some items are too close to a match: sort the matches by exact distance, and compare those items one by one.
    distances = exact(matches)
    order = np.lexsort((matches, distances))
    matches, distances = matches[order], distances[order]
    own = scores[matches].astype(np.float64)
    certain = np.searchsorted(near, own - error, "left") - np.searchsorted(wanted, own - error, "left")
    items = np.flatnonzero(scores <= above[-1])
    items = items[np.argsort(scores[items])]  # `near` are their scores
    windows = np.zeros(len(items) + 1, np.int64)  # +1 where the window of a match begins, -1 behind its end
    np.add.at(windows, np.searchsorted(near, below, "left"), 1)
    np.add.at(windows, np.searchsorted(near, above, "right"), -1)
    others = items[windows[:-1].cumsum() > 0]
    others = others[~np.isin(others, matches)]
    other_distances = exact(others)[:, None]  # (others, 1) against (m,) of the matches
    first = {"stable": others[:, None] < matches, "optimistic": False, "pessimistic": True}[ties]
    before = (other_distances < distances) | ((other_distances == distances) & first)
    undecided = (before & (np.abs(scores[others][:, None] - own) <= error)).sum(0)
    return np.asarray(certain + undecided + np.arange(1, len(matches) + 1))
