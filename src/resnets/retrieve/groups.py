"""Which gallery items are matches of a query, and which are removed before ranking.

Legend: Q queries, G gallery, B queries in a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from resnets.errors import ConfigError
from resnets.retrieve.distances import BlockScores, Metric, query_blocks
from resnets.retrieve.embeddings import Embeddings

__all__ = ["EXCLUSIONS", "Exclusion", "Groups", "distance_rows"]

Exclusion = Literal["same_camera", "other_camera", "none"]
EXCLUSIONS: tuple[str, ...] = get_args(Exclusion)

Ints = npt.NDArray[np.int64]


class Groups:
    """Matches and removed items of each query, found in the gallery sorted by identity; arguments as `rank_matches`.

    Raises:
        ConfigError: an exclusion that does not exist.
    """

    def __init__(
        self, query: Embeddings, gallery: Embeddings, exclude: Exclusion, same_image: npt.NDArray[Any] | None
    ) -> None:
        if exclude not in EXCLUSIONS:
            raise ConfigError(f"exclude is one of {', '.join(EXCLUSIONS)}; got {exclude!r}")
        self._query, self._gallery, self._exclude, self._same = query, gallery, exclude, same_image
        self._order = np.argsort(gallery.ids, kind="stable")
        ids = gallery.ids[self._order]
        self._low, self._high = (np.searchsorted(ids, query.ids, side) for side in ("left", "right"))

    def find(self, query: int) -> tuple[Ints, Ints]:
        """Positions in the gallery of matches and of removed items, ascending."""
        items = self._order[self._low[query] : self._high[query]]
        gone = np.zeros(len(items), bool)
        if self._exclude != "none" and self._query.cameras is not None and self._gallery.cameras is not None:
            gone = self._gallery.cameras[items] == self._query.cameras[query]
            if self._exclude == "other_camera":
                gone = ~gone
        matches, removed = items[~gone], items[gone]
        if self._same is not None and self._same[query] >= 0:
            own = self._same[query]
            matches, removed = matches[matches != own], np.union1d(removed, [own])
        return matches, removed


def distance_rows(
    query: Embeddings,
    gallery: Embeddings,
    groups: Groups,
    *,
    metric: Metric,
    memory_mib: int,
    progress: Callable[[int], None],
) -> Iterator[tuple[npt.NDArray[np.float32], Ints, Ints]]:
    """Distances of each query in turn to the gallery, computed in blocks.

    Args:
        query, gallery, metric, memory_mib: as of `rank_matches`.
        groups: of the same query and gallery.
        progress: called with the number of queries that are done, after each block.

    Yields:
        (G,) distances, which the caller may change, infinite for removed items; positions of matches and removed items.
    """
    scorer = BlockScores(gallery.features, metric)
    for part in query_blocks(query.features, gallery.features, memory_mib):
        block = query.features[part]
        distances = scorer.scores(block)
        distances += scorer.offsets(block)
        for number, row in enumerate(distances, part.start):
            matches, removed = groups.find(number)
            row[removed] = np.inf
            yield row, matches, removed
        progress(part.stop)
