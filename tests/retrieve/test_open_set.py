"""Open-set identification by hand, and against a direct computation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from resnets.errors import ConfigError, DataError
from resnets.retrieve.distances import exact_distances
from resnets.retrieve.embeddings import Embeddings
from resnets.retrieve.open_set import OpenSet, open_set
from tests.golden.reid import rules


def test_rates_by_hand() -> None:
    """Five queries with a match, three of them nearest to it; four without one."""
    one = OpenSet(identified=np.array([0.1, 0.2, 0.6]), mated=5, unmated=np.array([0.3, 0.5, 0.7, 0.9]))
    assert one.threshold(0) == pytest.approx(0.25)
    assert one.dir_at_far(0) == 2 / 5
    assert one.threshold(0.25) == pytest.approx(0.4)
    assert one.dir_at_far(0.25) == 2 / 5
    assert one.threshold(0.5) == pytest.approx(0.65)
    assert one.rates(0.65) == (3 / 5, 0.5)
    never = OpenSet(identified=np.array([0.4]), mated=1, unmated=np.array([0.1]))
    assert never.threshold(0) == -1
    assert never.dir_at_far(0) == 0
    with pytest.raises(ConfigError, match="below 1"):
        one.threshold(1)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_nearest_images_are_those_of_all_distances(metric: Any) -> None:
    made = rules.retrieval(5, 40, 150, 16, 12, 3, spread=1.5, unmatched=0.25)
    query = Embeddings(features=made["qf"], ids=made["qp"], cameras=made["qc"])
    gallery = Embeddings(features=made["gf"], ids=made["gp"], cameras=made["gc"])
    found = open_set(query, gallery, metric=metric, memory_mib=0)
    identified, unmated, mated = [], [], 0
    for x, identity, camera in zip(made["qf"], made["qp"], made["qc"], strict=True):
        same = made["gp"] == identity
        keep = ~(same & (made["gc"] == camera))
        d, match = exact_distances(x, made["gf"][keep], metric), same[keep]
        mated += match.any()
        if not match.any():
            unmated.append(d.min())
        elif match[d.argmin()]:
            identified.append(d.min())
    assert found.mated == mated
    np.testing.assert_allclose(found.identified, sorted(identified), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.unmated, sorted(unmated), rtol=1e-5, atol=1e-6)
    accepted, alarms = found.rates(found.threshold(0.2))
    assert alarms <= 0.2
    assert accepted == found.dir_at_far(0.2)
    for kind in (made["qp"] <= 12, made["qp"] > 12):
        with pytest.raises(DataError, match="with and without a match"):
            open_set(query.select(kind), gallery)
