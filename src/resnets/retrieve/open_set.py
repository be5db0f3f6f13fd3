"""Open-set identification: is the object in the gallery at all? Identification rate at a false alarm rate.

A query is accepted if its nearest gallery image is at most a threshold away. A query with a match in the gallery counts
as identified if it is accepted and that nearest image is a match; a query without a match that is accepted is a false
alarm (Grother and Ngan, FRVT: open-set identification).

Legend: Q queries, G gallery.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from resnets.data.random import Stream, permutation
from resnets.errors import ConfigError, DataError
from resnets.retrieve.distances import Metric
from resnets.retrieve.embeddings import Embeddings, check_pair
from resnets.retrieve.groups import Exclusion, Groups, distance_rows

__all__ = ["OpenSet", "open_set", "with_unknown"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class OpenSet:
    """Distances to the nearest gallery image.

    Args:
        identified: of the queries with a match whose nearest image is one, ascending.
        mated: number of queries with a match.
        unmated: of the queries without a match, ascending.
    """

    identified: Floats
    mated: int
    unmated: Floats

    def threshold(self, far: float) -> float:
        """The largest threshold at which at most a share `far` of the queries without a match are accepted.

        Distances at or below it are accepted. It lies midway between the two distances that it separates, so that it
        suits other data of the kind; -1, below every distance, if already the nearest one is too many.

        Args:
            far: false alarm rate, from 0 to below 1.
        """
        if not 0 <= far < 1:
            raise ConfigError(f"a false alarm rate is from 0 to below 1; got {far}")
        allowed = int(np.floor(far * len(self.unmated) + 1e-9))
        first_refused = self.unmated[allowed]
        nearer = np.concatenate([self.unmated[:allowed], self.identified[self.identified < first_refused]])
        nearer = nearer[nearer < first_refused]
        return float((nearer.max() + first_refused) / 2) if len(nearer) else -1.0

    def rates(self, threshold: float) -> tuple[float, float]:
        """Detection and identification rate, and false alarm rate, at a threshold."""
        identified = np.searchsorted(self.identified, threshold, "right") / self.mated
        return float(identified), float(np.searchsorted(self.unmated, threshold, "right") / len(self.unmated))

    def dir_at_far(self, far: float) -> float:
        """Detection and identification rate at a false alarm rate of at most `far`."""
        return self.rates(self.threshold(far))[0]


def with_unknown(
    query: Embeddings, gallery: Embeddings, same_image: npt.NDArray[Any] | None, fraction: float, seed: int
) -> tuple[Embeddings, npt.NDArray[Any] | None]:
    """A gallery without a random part of the identities of the queries, which become unknown.

    Args:
        query, gallery, same_image: as of `rank_matches`.
        fraction: of the identities that are in both, above 0 and below 1; at least one, and not all.
        seed: 0 to 2**64 - 1.

    Returns:
        The rest of the gallery, and the positions of the queries' own images in it, -1 for those that are gone.

    Raises:
        ConfigError: another fraction.
        DataError: fewer than two identities are in both.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"the fraction of unknown identities is above 0 and below 1; got {fraction}; 0.5 is usual")
    both = np.intersect1d(query.ids, gallery.ids)
    if len(both) < 2:
        raise DataError(f"unknown queries are made of two identities or more; query and gallery share {len(both)}")
    count = min(max(round(fraction * len(both)), 1), len(both) - 1)
    unknown = both[permutation(len(both), seed, 0, Stream.SPLIT)[:count]]
    kept = np.flatnonzero(~np.isin(gallery.ids, unknown))
    if same_image is not None:
        position = np.full(len(gallery), -1)
        position[kept] = np.arange(len(kept))
        same_image = np.where(same_image >= 0, position[same_image], -1)
    return gallery.select(kept), same_image


def open_set(
    query: Embeddings,
    gallery: Embeddings,
    *,
    metric: Metric = "cosine",
    exclude: Exclusion = "same_camera",
    same_image: npt.NDArray[Any] | None = None,
    memory_mib: int = 512,
    progress: Callable[[int], None] = lambda done: None,
) -> OpenSet:
    """Find the nearest gallery image of each query; the arguments are those of `rank_matches`.

    Raises:
        DataError: no query with a match, or none without one.
    """
    check_pair(query, gallery)
    groups = Groups(query, gallery, exclude, same_image)
    identified, unmated, mated = [], [], 0
    rows = distance_rows(query, gallery, groups, metric=metric, memory_mib=memory_mib, progress=progress)
    for distances, matches, _ in rows:
        nearest = int(distances.argmin())
        mated += bool(len(matches))
        if not len(matches):
            unmated.append(float(distances[nearest]))
        elif nearest in matches:
            identified.append(float(distances[nearest]))
    if not mated or not unmated:
        kind = "with" if not mated else "without"
        raise DataError(
            f"open-set identification needs queries with and without a match; all {len(query):,} are of one kind, none "
            f"is {kind} one; add identities that the gallery lacks, or has"
        )
    return OpenSet(identified=np.sort(identified), mated=mated, unmated=np.sort(unmated))
