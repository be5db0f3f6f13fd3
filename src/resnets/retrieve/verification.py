"""Verification: do two images show the same identity? The ROC curve over all pairs of queries and gallery items.

A pair is accepted if its distance is at most a threshold. All pairs that `rank_matches` would rank count, those of
queries without a match too. Only the distances of the pairs of one identity are kept; those of all other pairs are
counted between them.

Legend: Q queries, G gallery, P pairs of one identity, N pairs of two identities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from resnets.errors import DataError
from resnets.retrieve.distances import Metric, exact_distances
from resnets.retrieve.embeddings import Embeddings, check_pair
from resnets.retrieve.groups import Exclusion, Groups, distance_rows

__all__ = ["Verification", "verify_pairs"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The ROC curve at the distances of the P pairs of one identity.

    Args:
        same: P.
        different: N.
        distances: (P,) of the pairs of one identity, ascending.
        below: (P,) number of pairs of two identities that are nearer than each of them.
        up_to: (P,) number of pairs of two identities that are at most as far.
    """

    same: int
    different: int
    distances: Floats
    below: Ints
    up_to: Ints

    @property
    def auc(self) -> float:
        """Area under the ROC curve: how often a pair of one identity is nearer than a pair of two; ties count half."""
        return float(1 - (self.below + self.up_to).sum() / (2 * self.same * self.different))

    @property
    def eer(self) -> float:
        """Equal error rate: the mean of both errors at the threshold where they differ least."""
        rejected = 1 - np.arange(1, self.same + 1) / self.same
        accepted = self.up_to / self.different
        at = int(np.abs(rejected - accepted).argmin())
        return float(rejected[at] + accepted[at]) / 2

    def at_far(self, far: float) -> tuple[float, float]:
        """True accept rate at a false accept rate of at most `far`, and the threshold; (0, -1) if none is so low.

        Args:
            far: share of the pairs of two identities that may be accepted, from 0 to 1.
        """
        accepted = int(np.searchsorted(self.up_to, far * self.different, "right"))
        return accepted / self.same, float(self.distances[accepted - 1]) if accepted else -1.0

    def fastreid_tpr(self, fpr: float) -> float:
        """fast-reid's TPR at an FPR. There, a pair of two identities is the positive one, and its distance the score.

        The TPR is the share of such pairs that are farther than the threshold; the FPR that of pairs of one identity.
        It is taken at the corner of the curve whose FPR is nearest, the first one if several are.
        """
        farther = self.different - self.up_to[::-1]  # of each distance, descending
        levels = np.flatnonzero(np.diff(np.append(farther, self.different)) > 0) + 1  # a vertical part follows
        levels = np.unique(np.concatenate([[0], levels, [self.same]]))
        level = int(levels[np.abs(levels / self.same - fpr).argmin()])
        return float(farther[level - 1] / self.different) if level else 0.0


def verify_pairs(
    query: Embeddings,
    gallery: Embeddings,
    *,
    metric: Metric = "cosine",
    exclude: Exclusion = "same_camera",
    same_image: npt.NDArray[Any] | None = None,
    memory_mib: int = 512,
    progress: Callable[[int], None] = lambda done: None,
) -> Verification:
    """Compare all pairs of a query and a gallery item; the arguments are those of `rank_matches`.

    Raises:
        DataError: no pair of one identity, or none of two.
    """
    check_pair(query, gallery)
    groups = Groups(query, gallery, exclude, same_image)
    near, different = [], 0
    for row in range(len(query)):
        matches, removed = groups.find(row)
        near.append(exact_distances(query.features[row], gallery.features[matches], metric))
        different += len(gallery) - len(matches) - len(removed)
    same = np.sort(np.concatenate(near))
    if not len(same) or not different:
        kind = "one identity" if not len(same) else "two identities"
        raise DataError(f"verification needs pairs of one identity and of two; there is no pair of {kind}")
    below, up_to = np.zeros(len(same) + 1, np.int64), np.zeros(len(same) + 1, np.int64)
    rows = distance_rows(query, gallery, groups, metric=metric, memory_mib=memory_mib, progress=progress)
    for distances, matches, removed in rows:
        distances[matches] = np.inf
        others = np.sort(distances)[: len(distances) - len(matches) - len(removed)]  # sorted, they are found sooner
        up_to += np.bincount(np.searchsorted(same, others, "left"), minlength=len(same) + 1)
        below += np.bincount(np.searchsorted(same, others, "right"), minlength=len(same) + 1)
    return Verification(
        same=len(same),
        different=different,
        distances=same,
        below=below.cumsum()[:-1],
        up_to=up_to.cumsum()[:-1],
    )
