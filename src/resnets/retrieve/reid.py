"""Evaluating re-identification: query expansion, re-ranking, ranking, verification and repeated draws in one call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from resnets.data.reid.dataset import JUNK
from resnets.errors import ConfigError, DataError
from resnets.retrieve.distances import Metric
from resnets.retrieve.embeddings import Embeddings
from resnets.retrieve.expansion import expand
from resnets.retrieve.groups import Exclusion
from resnets.retrieve.metrics import AveragePrecision, RetrievalMetrics, Unmatched, retrieval_metrics
from resnets.retrieve.open_set import OpenSet, open_set, with_unknown
from resnets.retrieve.ranks import Ties, rank_matches
from resnets.retrieve.rerank import RerankConfig, rerank
from resnets.retrieve.single_shot import RepeatedMetrics, repeated_splits, single_shot_cmc
from resnets.retrieve.verification import Verification, verify_pairs

__all__ = ["ReidOptions", "ReidResult", "reid_eval"]

FARS, OPEN_FARS = (1e-4, 1e-3, 1e-2), (0.01, 0.1)
NOT_WITH_DRAWS = ("expand_k", "rerank", "single_shot", "verification", "open_set", "unknown_fraction", "ties", "ap")
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class ReidOptions:
    """How to evaluate; the defaults are the rules of Market-1501, as torchreid and fast-reid compute them.

    Args:
        metric: `cosine` or `euclidean`.
        exclude, ties: as of `rank_matches`.
        ap, unmatched: as of `retrieval_metrics`.
        junk: leave gallery images of the identity -1 out; else they are ordinary wrong matches.
        expand_k: expand queries and gallery over so many nearest embeddings; `None` for none.
        rerank: re-rank by k-reciprocal neighbours; `None` for none.
        single_shot: compute the CMC of CUHK03's protocol, too.
        verification: compute the ROC over all pairs, too.
        open_set: compute the detection and identification rates for queries that may not be in the gallery, too.
        unknown_fraction: for `open_set`, part of the identities whose gallery images are left out, so that their
            queries are unknown; `None` where the queries have unknown ones.
        seed: of the choice of these identities.
        draws: evaluate by VehicleID's protocol instead, in so many random draws from the gallery; `None` for none.
        memory_mib: limit for a block of distances.
    """

    metric: Metric = "cosine"
    exclude: Exclusion = "same_camera"
    ties: Ties = "stable"
    ap: AveragePrecision = "step"
    unmatched: Unmatched = "skip"
    junk: bool = True
    expand_k: int | None = None
    rerank: RerankConfig | None = None
    single_shot: bool = False
    verification: bool = False
    open_set: bool = False
    unknown_fraction: float | None = None
    seed: int = 0
    draws: int | None = None
    memory_mib: int = 512


@dataclass(frozen=True, kw_only=True)
class ReidResult:
    """What an evaluation found; `None` for what was not asked for.

    Args:
        gallery: number of gallery images that counted.
        metrics: of the ranking; `None` for repeated draws.
        repeated: of repeated draws.
        single_shot: (50,) CMC with one gallery image of each identity.
        verification: over all pairs.
        open_set: for queries with and without a match.
        junk: number of gallery images that were left out as junk.
    """

    gallery: int
    metrics: RetrievalMetrics | None
    repeated: RepeatedMetrics | None = None
    single_shot: npt.NDArray[np.float64] | None = None
    verification: Verification | None = None
    open_set: OpenSet | None = None
    junk: int = 0

    def summary(self) -> dict[str, Any]:
        """All numbers, for JSON."""
        found: dict[str, Any] = {"gallery": self.gallery, "junk": self.junk}
        if self.metrics is not None:
            found |= self.metrics.summary()
        if self.repeated is not None:
            cmc, std = self.repeated.cmc, self.repeated.cmc_std
            found |= {"draws": len(self.repeated.draws), "map": self.repeated.map, "map_std": self.repeated.map_std}
            found |= {f"rank{k}": float(cmc[k - 1]) for k in (1, 5)}
            found |= {f"rank{k}_std": float(std[k - 1]) for k in (1, 5)}
        if self.single_shot is not None:
            found |= {f"single_shot_rank{k}": float(self.single_shot[k - 1]) for k in (1, 5, 10)}
        if (pairs := self.verification) is not None:
            found |= {"pairs_same": pairs.same, "pairs_different": pairs.different, "auc": pairs.auc, "eer": pairs.eer}
            found |= {f"tar_at_far_{far:g}": pairs.at_far(far)[0] for far in FARS}
        if self.open_set is not None:
            found |= {f"dir_at_far_{far:g}": self.open_set.dir_at_far(far) for far in OPEN_FARS}
            found |= {f"threshold_at_far_{far:g}": self.open_set.threshold(far) for far in OPEN_FARS}
        return found


def reid_eval(
    query: Embeddings | None,
    gallery: Embeddings,
    options: ReidOptions | None = None,
    *,
    progress: Progress = lambda what, done, total: None,
) -> ReidResult:
    """Evaluate embeddings.

    Args:
        query: the queries; `None` compares every image of the gallery with all others.
        gallery: the gallery.
        options: how; by default as Market-1501 is evaluated.
        progress: called with the name of a step, and how much of it is done.

    Raises:
        DataError: no query has a match, or other sets that cannot be evaluated.
        ConfigError: options that contradict each other.
    """
    options = options or ReidOptions()
    junk = 0
    if options.junk and (gallery.ids == JUNK).any():
        junk = int((gallery.ids == JUNK).sum())
        gallery = gallery.select(gallery.ids != JUNK)
    if options.draws is not None:
        got = ["a query set"] if query is not None else []
        got += [name for name in NOT_WITH_DRAWS if getattr(options, name) != getattr(ReidOptions, name)]
        got += ["exclude=other_camera"] if options.exclude == "other_camera" else []
        if got:
            raise ConfigError(
                "repeated draws make queries and gallery of one set, and are ranked as VehicleID states; got draws and "
                f"{', '.join(got)}; leave one out"
            )
        repeated = repeated_splits(gallery, draws=options.draws, metric=options.metric)
        return ReidResult(gallery=len(gallery), metrics=None, repeated=repeated, junk=junk)
    if options.unknown_fraction is not None and not options.open_set:
        raise ConfigError("unknown_fraction makes queries for open_set; got it without open_set; add it")
    same_image = None
    if query is None:
        query, same_image = gallery, np.arange(len(gallery))
    for what, value in (("re-ranking", options.rerank), ("expansion", options.expand_k)):
        if value is not None and same_image is not None:
            raise ConfigError(f"{what} needs a query set beside the gallery; every image is a query here; leave it out")
    if not len(query) or not len(gallery):
        raise DataError(f"an evaluation needs queries and a gallery; got {len(query):,} and {len(gallery):,} images")
    if options.expand_k is not None:
        total = len(query) + len(gallery)
        query, gallery = expand(
            query, gallery, k=options.expand_k, memory_mib=options.memory_mib,
            progress=lambda done: progress("expanding", done, total),
        )  # fmt: skip
    distances = None
    if options.rerank is not None:
        total = len(query) + len(gallery)
        distances = rerank(
            query, gallery, options.rerank, metric=options.metric, memory_mib=options.memory_mib,
            progress=lambda done: progress("finding neighbours", done, total),
        )  # fmt: skip

    def report(what: str) -> Callable[[int], None]:
        return lambda done: progress(what, done, len(query))

    rules: dict[str, Any] = {"metric": options.metric, "exclude": options.exclude, "same_image": same_image}
    blocks: dict[str, Any] = rules | {"memory_mib": options.memory_mib}
    ranks = rank_matches(query, gallery, ties=options.ties, distances=distances, progress=report("ranking"), **blocks)
    pairs, unknown, single = None, None, None
    if options.verification:
        pairs = verify_pairs(query, gallery, progress=report("comparing pairs"), **blocks)
    if options.open_set:
        known = gallery
        if options.unknown_fraction is not None:
            known, blocks["same_image"] = with_unknown(
                query, gallery, same_image, options.unknown_fraction, options.seed
            )
        unknown = open_set(query, known, progress=report("finding the nearest"), **blocks)
    if options.single_shot:
        single = single_shot_cmc(query, gallery, **rules)
    return ReidResult(
        gallery=len(gallery),
        metrics=retrieval_metrics(ranks, ap=options.ap, unmatched=options.unmatched),
        single_shot=single,
        verification=pairs,
        open_set=unknown,
        junk=junk,
    )
