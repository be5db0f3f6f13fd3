"""Metrics of retrieval and re-identification from the ranks of matches: mAP, CMC, mINP, precision at k.

Legend: Q queries, K ranks, m matches of a query.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from resnets.errors import ConfigError, DataError
from resnets.retrieve.ranks import MatchRanks

__all__ = ["AveragePrecision", "RetrievalMetrics", "retrieval_metrics"]

AveragePrecision = Literal["step", "trapezoid"]
Unmatched = Literal["skip", "zero"]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class RetrievalMetrics:
    """Metrics over the queries that count, and per query.

    Args:
        queries: number of queries.
        matched: number of queries with a match in the gallery.
        map: mean average precision, in [0, 1].
        minp: mean inverse negative penalty, in [0, 1]: m / rank of the last match (Ye et al. 2021).
        cmc: (K,) cumulative matching characteristics: share of queries with a match among the first k items.
        ap: (Q,) average precision of each query; NaN without a match.
        inp: (Q,) inverse negative penalty of each query; NaN without a match.
        first: (Q,) rank of the first match, from 1; 0 without a match.
        precision: k -> mean share of matches among the first k items.
    """

    queries: int
    matched: int
    map: float
    minp: float
    cmc: Floats
    ap: Floats
    inp: Floats
    first: npt.NDArray[np.int64]
    precision: dict[int, float]

    def summary(self) -> dict[str, Any]:
        """The metrics over all queries, for JSON and tables."""
        ranks = {f"rank{k}": float(self.cmc[k - 1]) for k in (1, 5, 10, 20) if k <= len(self.cmc)}
        precision = {f"precision{k}": value for k, value in self.precision.items()}
        return {
            "queries": self.queries, "matched": self.matched, "map": self.map, "minp": self.minp, **ranks, **precision,
        }  # fmt: skip


def retrieval_metrics(
    ranks: MatchRanks,
    *,
    top: int = 50,
    ap: AveragePrecision = "step",
    unmatched: Unmatched = "skip",
    precision_at: tuple[int, ...] = (1, 5, 10),
) -> RetrievalMetrics:
    """Compute the metrics of a ranking.

    Args:
        ranks: of the matches of each query.
        top: K. A query whose gallery is shorter counts in all later ranks as in its last.
        ap: `step` is the mean precision at the matches, as in torchreid, fast-reid and scikit-learn; `trapezoid` is the
            area under the line through the precisions before and at each match, as in Market-1501's own evaluation.
        unmatched: what a query without any match is. `skip` leaves it out of the means, as in torchreid and fast-reid;
            `zero` counts it as a failure, as in layumi's code.
        precision_at: the k of `precision`; a shorter gallery has no more items than it has.

    Raises:
        DataError: no query has a match, and such queries are skipped.
        ConfigError: an unknown `ap` or `unmatched`.
    """
    for name, value, allowed in (("ap", ap, get_args(AveragePrecision)), ("unmatched", unmatched, get_args(Unmatched))):
        if value not in allowed:
            raise ConfigError(f"{name} is one of {', '.join(allowed)}; got {value!r}")
    matches = ranks.matches
    valid, count = matches > 0, len(matches)
    if unmatched == "skip" and not valid.any():
        raise DataError(
            f"a query needs a match in the gallery; none of {count:,} queries has one; check identities and cameras: "
            "matches of the same camera are removed"
        )
    owner = np.repeat(np.arange(count), matches)
    number = np.arange(len(ranks.ranks)) - ranks.offsets[owner] + 1  # of each match within its query, from 1
    at = number / ranks.ranks
    if ap == "trapezoid":
        others = np.maximum(ranks.ranks - 1, 1)
        at = (np.where(ranks.ranks > 1, (number - 1) / others, 1.0) + at) / 2
    divisor = np.maximum(matches, 1)
    nothing = np.where(valid, 0.0, np.nan)
    ap_each = np.bincount(owner, at, count) / divisor + nothing
    last = ranks.ranks[ranks.offsets[1:][valid] - 1]
    inp = np.full(count, np.nan)
    inp[valid] = matches[valid] / last
    first = np.zeros(count, np.int64)
    first[valid] = ranks.ranks[ranks.offsets[:-1][valid]]
    total = int(valid.sum()) if unmatched == "skip" else count
    reached = np.bincount(first[valid & (first <= top)], minlength=top + 1)[1:]
    precision = {}
    for k in precision_at:
        hits = np.bincount(owner[ranks.ranks <= k], minlength=count) / np.maximum(np.minimum(k, ranks.kept), 1)
        precision[k] = float(hits[valid].sum() / total)
    return RetrievalMetrics(
        queries=count,
        matched=int(valid.sum()),
        map=float(ap_each[valid].sum() / total),
        minp=float(inp[valid].sum() / total),
        cmc=reached.cumsum() / total,
        ap=ap_each,
        inp=inp,
        first=first,
        precision=precision,
    )
