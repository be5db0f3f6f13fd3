"""Matches and removed items: rows of distances, and exclusions that do not exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from resnets.errors import ConfigError
from resnets.retrieve.distances import exact_distances
from resnets.retrieve.embeddings import Embeddings
from resnets.retrieve.groups import Groups, distance_rows
from resnets.retrieve.open_set import open_set
from resnets.retrieve.ranks import rank_matches
from resnets.retrieve.single_shot import single_shot_cmc
from resnets.retrieve.verification import verify_pairs


@pytest.fixture
def images() -> Embeddings:
    rng = np.random.default_rng(0)
    return Embeddings(
        features=rng.standard_normal((12, 5)).astype(np.float32), ids=np.arange(12) % 4, cameras=np.arange(12) % 3
    )


@pytest.mark.parametrize("evaluate", [rank_matches, verify_pairs, open_set, single_shot_cmc])
def test_an_exclusion_that_does_not_exist_is_one_line(evaluate: Callable[..., Any], images: Embeddings) -> None:
    with pytest.raises(ConfigError, match="exclude is one of same_camera, other_camera, none; got 'camera'"):
        evaluate(images, images, exclude="camera")


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_rows_are_the_distances_of_each_query(metric: Any, images: Embeddings) -> None:
    query, done = images.select(np.arange(12) < 3), list[int]()
    groups = Groups(query, images, "none", np.array([0, 1, -1]))
    rows = list(distance_rows(query, images, groups, metric=metric, memory_mib=0, progress=done.append))
    assert [matches.tolist() for _, matches, _ in rows] == [[4, 8], [5, 9], [2, 6, 10]]
    assert [removed.tolist() for _, _, removed in rows] == [[0], [1], []]
    for number, (distances, _, removed) in enumerate(rows):
        expected = exact_distances(query.features[number], images.features, metric)
        expected[removed] = np.inf
        np.testing.assert_allclose(distances, expected, atol=1e-5)
    assert done == [1, 2, 3]
