"""Protocols with one gallery image for each identity: CUHK03's random draws and VehicleID's repeated splits.

Legend: Q queries, G gallery, K ranks, m matches of a query.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from resnets.errors import ConfigError, DataError
from resnets.retrieve.distances import Metric, exact_distances
from resnets.retrieve.embeddings import Embeddings, check_pair
from resnets.retrieve.groups import Exclusion, Groups
from resnets.retrieve.metrics import RetrievalMetrics, retrieval_metrics
from resnets.retrieve.ranks import rank_matches

__all__ = ["RepeatedMetrics", "repeated_splits", "single_shot_cmc", "vehicleid_splits"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def single_shot_cmc(
    query: Embeddings,
    gallery: Embeddings,
    *,
    metric: Metric = "cosine",
    exclude: Exclusion = "same_camera",
    same_image: npt.NDArray[Any] | None = None,
    top: int = 50,
    draws: int | None = None,
    seed: int = 0,
) -> Floats:
    """CMC where the gallery holds one random image of each identity (`use_metric_cuhk03` of torchreid and fast-reid).

    Args:
        query: Q images; those without a match are left out.
        gallery: G images; all distractors of one identity count as one.
        metric: `cosine` or `euclidean`.
        exclude, same_image: as in `rank_matches`.
        top: K.
        draws: galleries drawn for each query; `None` computes the mean over all possible ones. torchreid draws 10.
        seed: of numpy's legacy generator, from which torchreid draws: with its number of draws, the result is
            torchreid's after `numpy.random.seed(seed)`.

    Returns:
        (K,) shares of queries. torchreid ends the array at the smallest number of identities, beyond which it is 1.

    Raises:
        DataError: no query has a match.
    """
    if draws is not None and draws < 1:
        raise ConfigError(f"the number of draws must be at least 1; got {draws}")
    check_pair(query, gallery)
    groups, generator = Groups(query, gallery, exclude, same_image), np.random.RandomState(seed)
    curves = []
    for row in range(len(query)):
        matches, removed = groups.find(row)
        if not len(matches):
            continue
        distances = exact_distances(query.features[row], gallery.features, metric)
        order = np.argsort(distances, kind="stable")
        order = order[~np.isin(order, removed)]
        ids = gallery.ids[order]
        first = (
            _expected(ids, query.ids[row], top) if draws is None else _drawn(ids, query.ids[row], top, draws, generator)
        )
        curves.append(first.cumsum())
    if not curves:
        raise DataError(f"a query needs a match in the gallery; none of {len(query):,} queries has one")
    return np.asarray(np.mean(curves, axis=0))


def _expected(ids: Ints, identity: int, top: int) -> Floats:
    """(K,) probability of each rank of the query's identity, over all galleries; `ids` in the order of distance.

    The probability that another identity is before a match is the share of its images that are nearer, independently of
    the others: the number of such identities has a Poisson binomial distribution.
    """
    hits = np.flatnonzero(ids == identity)
    others, number, counts = np.unique(ids, return_inverse=True, return_counts=True)
    ranks = np.zeros((len(hits), top))  # distribution of the number of identities before each match
    ranks[:, 0] = 1
    for other in range(len(others)):
        if others[other] == identity:
            continue
        nearer = np.searchsorted(np.flatnonzero(number == other), hits) / counts[other]
        moved = ranks * nearer[:, None]
        ranks -= moved
        ranks[:, 1:] += moved[:, :-1]
    return np.asarray(ranks.mean(0))


def _drawn(ids: Ints, identity: int, top: int, draws: int, generator: np.random.RandomState) -> Floats:
    """(K,) share of each rank of the query's identity in random galleries."""
    names, first = np.unique(ids, return_index=True)
    places = {int(name): np.flatnonzero(ids == name) for name in names[np.argsort(first)]}
    ranks = np.zeros(top)
    for _ in range(draws):
        chosen = {name: int(generator.choice(where)) for name, where in places.items()}
        rank = sum(place < chosen[identity] for place in chosen.values())
        if rank < top:
            ranks[rank] += 1 / draws
    return ranks


@dataclass(frozen=True, kw_only=True)
class RepeatedMetrics:
    """Metrics of repeated random splits.

    Args:
        draws: the metrics of each split.
        map: mean over the splits.
        map_std: standard deviation over the splits.
        cmc: (K,) mean over the splits.
        cmc_std: (K,) standard deviation over the splits.
    """

    draws: tuple[RetrievalMetrics, ...]
    map: float
    map_std: float
    cmc: Floats
    cmc_std: Floats


def vehicleid_splits(ids: npt.NDArray[Any], draws: int = 10, seed: int = 0) -> Iterator[tuple[Ints, Ints]]:
    """Splits of a list of images by VehicleID's protocol: one image of each identity is the gallery, the rest queries.

    Args:
        ids: identity of each image, in the order of the list.
        draws: number of splits.
        seed: of the first split; the next ones count up. Python's generator shuffles the list, as in fast-reid after
            `random.seed(seed)`, and the first image of each identity goes to the gallery.

    Yields:
        Positions of queries and gallery in the list, in shuffled order.
    """
    if draws < 1:
        raise ConfigError(f"the number of draws must be at least 1; got {draws}")
    for draw in range(draws):
        order = list(range(len(ids)))
        random.Random(seed + draw).shuffle(order)
        shuffled = np.array(order, np.int64)
        first = np.unique(np.asarray(ids)[shuffled], return_index=True)[1]
        in_gallery = np.zeros(len(order), bool)
        in_gallery[first] = True
        yield shuffled[~in_gallery], shuffled[in_gallery]


def repeated_splits(
    images: Embeddings, *, draws: int = 10, seed: int = 0, metric: Metric = "cosine", top: int = 50
) -> RepeatedMetrics:
    """Evaluate a list of images by VehicleID's protocol.

    Cameras are not used: each image is its own camera. A query has one match; its average precision is 1 / rank.

    Raises:
        DataError: no identity has two images.
    """
    found = []
    for query, gallery in vehicleid_splits(images.ids, draws, seed):
        if not len(query):
            raise DataError(f"a query needs a match; none of {len(images):,} identities has two images")
        ranks = rank_matches(images.select(query), images.select(gallery), metric=metric, exclude="none")
        found.append(retrieval_metrics(ranks, top=top))
    maps, cmcs = np.array([one.map for one in found]), np.array([one.cmc for one in found])
    return RepeatedMetrics(
        draws=tuple(found),
        map=float(maps.mean()),
        map_std=float(maps.std()),
        cmc=cmcs.mean(0),
        cmc_std=cmcs.std(0),
    )
