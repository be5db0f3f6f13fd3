"""Nearest items against a full sort, ties, blocks; query expansion against fast-reid and VOC-ReID."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnets.errors import ConfigError
from resnets.retrieve.distances import exact_distances
from resnets.retrieve.embeddings import Embeddings
from resnets.retrieve.expansion import expand, expand_queries
from resnets.retrieve.nearest import nearest
from tests.golden.reid import rules
from tests.retrieve.golden import files, load, meta_of


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 10**6), queries=st.integers(0, 6), gallery=st.integers(0, 50), size=st.integers(1, 6),
    k=st.integers(1, 60), metric=st.sampled_from(["cosine", "euclidean"]),
)  # fmt: skip
def test_nearest_items_are_those_of_a_full_sort_with_ties_in_order(
    seed: int, queries: int, gallery: int, size: int, k: int, metric: Any
) -> None:
    rng = np.random.default_rng(seed)
    # Whole numbers, whose distances are equal; for cosines, axes, whose products float32 computes exactly.
    draw = (
        (lambda n: rng.integers(-1, 2, (n, size)))
        if metric == "euclidean"
        else (lambda n: np.eye(size)[rng.integers(0, size, n)])
    )
    query, items = draw(queries).astype(np.float32), draw(gallery).astype(np.float32)
    for memory in (0, 512):
        found = nearest(query, items, k, metric=metric, memory_mib=memory)
        assert found.index.shape == found.distance.shape == (queries, min(k, gallery))
        for row in range(queries if gallery else 0):
            exact = exact_distances(query[row], items, metric)
            assert found.index[row].tolist() == np.argsort(exact, kind="stable")[:k].tolist()
            np.testing.assert_allclose(found.distance[row], np.sort(exact)[:k], atol=1e-6)


@pytest.mark.parametrize("path", files("aqe"), ids=lambda path: path.stem.removeprefix("aqe__"))
def test_query_expansion_of_fast_reid_and_vocreid(path: Path) -> None:
    golden, query, gallery = load(path)
    meta = meta_of(golden)
    done: list[int] = []
    new_query, new_gallery = expand(
        query, gallery, k=meta["qe_k"], alpha=meta["alpha"], times=meta["qe_times"], progress=done.append
    )
    largest = np.abs(golden["fastreid:queries"]).max()
    np.testing.assert_allclose(new_query.features, golden["fastreid:queries"], atol=1e-5 * largest)
    probe = rules.probe(new_gallery.features, 256)
    np.testing.assert_allclose(probe, golden["fastreid:gallery:probe"], atol=1e-5 * largest)
    norms = np.linalg.norm(new_gallery.features, axis=1)
    np.testing.assert_allclose(norms, golden["fastreid:gallery:norms"], rtol=1e-5)
    assert done == [len(query) + len(gallery)]

    def unit(features: Any) -> Any:
        return features / np.linalg.norm(features, axis=1, keepdims=True)

    items = unit(np.concatenate([query.features, gallery.features]))
    queries = expand_queries(replace(query, features=unit(query.features)), items)
    np.testing.assert_allclose(queries.features, golden["vocreid:queries"], atol=1e-6)
    everything = Embeddings(features=items, ids=np.zeros(len(items), np.int64))
    database = expand_queries(everything, items).features
    np.testing.assert_allclose(rules.probe(database, 256), golden["vocreid:database"], atol=1e-6)


def test_expansion_by_hand() -> None:
    """The two nearest of the query are itself, with weight 1, and (0.6, 0.8), with weight 0.6."""
    query = Embeddings(features=np.array([[1, 0]], np.float32), ids=np.array([0]))
    gallery = Embeddings(features=np.array([[0.6, 0.8], [-1, 0]], np.float32), ids=np.array([0, 1]))
    expanded, _ = expand(query, gallery, k=2, alpha=1)
    np.testing.assert_allclose(expanded.features, [[(1 + 0.36) / 2, 0.48 / 2]], atol=1e-6)
    for alpha in (0.5, 2.0):
        assert np.isfinite(expand(query, gallery, k=3, alpha=alpha)[0].features).all()


@pytest.mark.parametrize("options", [{"k": 0}, {"alpha": -1.0}, {"times": 0}])
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    one = Embeddings(features=np.ones((2, 2), np.float32), ids=np.zeros(2, np.int64))
    with pytest.raises(ConfigError, match="at least"):
        expand(one, one, **options)
    with pytest.raises(ConfigError, match="at least 1; got 0"):
        nearest(one.features, one.features, 0)
