"""Ranks of matches: against a full sort of exact distances, ties, exclusions, blocks, and bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resnets.errors import ConfigError, DataError, ShapeError
from resnets.retrieve import distances
from resnets.retrieve.distances import exact_distances
from resnets.retrieve.embeddings import Embeddings
from resnets.retrieve.metrics import retrieval_metrics
from resnets.retrieve.ranks import TIES, rank_matches


def make(
    seed: int, queries: int, gallery: int, size: int, ids: int = 4, cameras: int = 3, grid: bool = False
) -> tuple[Embeddings, Embeddings]:
    """Random sets; on a grid, distances are equal."""
    rng = np.random.default_rng(seed)
    sets = []
    for count, what in ((queries, "query set"), (gallery, "gallery")):
        features = rng.standard_normal((count, size))
        features = np.clip(np.rint(features), -1, 1) if grid else features
        sets.append(
            Embeddings(
                features=features.astype(np.float32), ids=rng.integers(0, ids, count),
                cameras=rng.integers(0, cameras, count), what=what,
            )
        )  # fmt: skip
    return sets[0], sets[1]


def sorted_ranks(query: Embeddings, gallery: Embeddings, metric: Any, ties: str) -> list[list[int]]:
    """By sorting all exact distances."""
    found = []
    for x, identity, camera in zip(query.features, query.ids, query.cameras, strict=True):  # type: ignore[arg-type]
        matches = gallery.ids == identity
        keep = ~(matches & (gallery.cameras == camera))
        d, hit = exact_distances(x, gallery.features[keep], metric), matches[keep]
        second = {"stable": np.zeros(len(d)), "optimistic": ~hit, "pessimistic": hit}[ties]
        order = np.lexsort((np.arange(len(d)), second, d))
        found.append((np.flatnonzero(hit[order]) + 1).tolist())
    return found


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 10**6), queries=st.integers(1, 6), gallery=st.integers(1, 60), size=st.integers(1, 9),
    ids=st.integers(1, 5), cameras=st.integers(1, 3), grid=st.booleans(), ties=st.sampled_from(TIES),
)  # fmt: skip
def test_ranks_are_those_of_a_full_sort(
    seed: int, queries: int, gallery: int, size: int, ids: int, cameras: int, grid: bool, ties: Any
) -> None:
    query, items = make(seed, queries, gallery, size, ids, cameras, grid)
    found = rank_matches(query, items, metric="euclidean", ties=ties)
    assert [found.of(i).tolist() for i in range(len(query))] == sorted_ranks(query, items, "euclidean", ties)
    if not grid:
        found = rank_matches(query, items, metric="cosine", ties=ties)
        assert [found.of(i).tolist() for i in range(len(query))] == sorted_ranks(query, items, "cosine", ties)


def test_nearly_equal_distances_are_settled_in_float64() -> None:
    """Far from the origin, float32 products cannot tell the items apart; their exact distances differ."""
    rng = np.random.default_rng(0)
    features = (1000 + rng.standard_normal((300, 64)) * 0.01).astype(np.float32)
    query = Embeddings(features=features[:20], ids=np.arange(20) % 5)
    gallery = Embeddings(features=features[20:], ids=np.arange(280) % 5)
    found = rank_matches(query, gallery, metric="euclidean")
    for row in range(20):
        order = np.argsort(exact_distances(query.features[row], gallery.features, "euclidean"), kind="stable")
        assert found.of(row).tolist() == (np.flatnonzero(gallery.ids[order] == row % 5) + 1).tolist()


def test_hand_worked_ties() -> None:
    """Distances 1 1 1 2, matches at positions 1 and 3 of the gallery."""
    query = Embeddings(features=np.zeros((1, 1), np.float32), ids=np.array([7]))
    gallery = Embeddings(features=np.array([[1], [-1], [1], [2**0.5]], np.float32), ids=np.array([0, 7, 0, 7]))
    expected = {"stable": [2, 4], "optimistic": [1, 4], "pessimistic": [3, 4]}
    for ties, ranks in expected.items():
        assert rank_matches(query, gallery, metric="euclidean", ties=ties).of(0).tolist() == ranks  # type: ignore[arg-type]
    metrics = retrieval_metrics(rank_matches(query, gallery, metric="euclidean"), top=4, precision_at=(1, 2, 4, 9))
    assert metrics.map == (1 / 2 + 2 / 4) / 2
    assert metrics.minp == 2 / 4
    assert metrics.cmc.tolist() == [0, 1, 1, 1]
    assert metrics.precision == {1: 0, 2: 0.5, 4: 0.5, 9: 0.5}
    trapezoid = retrieval_metrics(rank_matches(query, gallery, metric="euclidean"), ap="trapezoid")
    assert trapezoid.map == pytest.approx(((0 / 1 + 1 / 2) / 2 + (1 / 3 + 2 / 4) / 2) / 2)


def test_items_of_the_querys_camera_and_its_own_image_are_removed() -> None:
    query = Embeddings(features=np.zeros((1, 2), np.float32), ids=np.array([1]), cameras=np.array([5]))
    features = np.array([[0, 0], [0, 1], [0, 2], [0, 3]], np.float32)
    gallery = Embeddings(features=features, ids=np.array([1, 1, 2, 1]), cameras=np.array([5, 6, 5, 6]))

    def ranks(**options: Any) -> list[int]:
        return list(rank_matches(query, gallery, metric="euclidean", **options).of(0))

    assert ranks() == [1, 3]
    assert ranks(exclude="other_camera") == [1]
    assert ranks(exclude="none") == [1, 2, 4]
    assert ranks(exclude="none", same_image=np.array([0])) == [1, 3]
    assert ranks(same_image=np.array([1])) == [2]
    assert ranks(same_image=np.array([-1])) == [1, 3]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_blocks_memory_mapping_and_types_change_nothing(
    metric: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, gallery = make(3, 40, 500, 24, ids=20)
    whole = rank_matches(query, gallery, metric=metric)
    done: list[int] = []
    monkeypatch.setattr(distances, "KEPT_BYTES", 1000)
    monkeypatch.setattr(distances, "CHUNK_BYTES", 7000)
    np.save(tmp_path / "x.npy", gallery.features.astype(np.float64))
    mapped = Embeddings(
        features=np.load(tmp_path / "x.npy", mmap_mode="r"), ids=gallery.ids, cameras=gallery.cameras, what="gallery"
    )
    parts = rank_matches(query, mapped, metric=metric, memory_mib=0, progress=done.append)
    assert (parts.ranks == whole.ranks).all()
    assert (parts.offsets == whole.offsets).all()
    assert (parts.kept == whole.kept).all()
    assert done == list(range(1, 41))


def test_the_programs_own_precision_is_left_alone() -> None:
    query, gallery = make(1, 3, 30, 8)
    before = torch.get_float32_matmul_precision()
    rank_matches(query, gallery, half=True)
    assert torch.get_float32_matmul_precision() == before


def test_half_precision_is_close() -> None:
    query, gallery = make(5, 50, 400, 64, ids=10)
    exact = retrieval_metrics(rank_matches(query, gallery))
    half = retrieval_metrics(rank_matches(query, gallery, half=True))
    assert half.map == pytest.approx(exact.map, abs=5e-3)


def test_zero_vectors_are_similar_to_nothing() -> None:
    query = Embeddings(features=np.array([[1.0, 0.0]], np.float32), ids=np.array([1]))
    gallery = Embeddings(features=np.array([[0, 0], [-1, 0], [1, 1]], np.float32), ids=np.array([1, 0, 0]))
    assert rank_matches(query, gallery, metric="cosine").of(0).tolist() == [2]


def _set(features: npt.NDArray[Any], what: str = "gallery", **fields: Any) -> Embeddings:
    return Embeddings(features=features, ids=np.arange(len(features)), what=what, **fields)


def test_bad_input_is_one_line() -> None:
    good, cameras = np.ones((3, 4), np.float32), np.zeros(3, np.int64)
    broken = good.copy()
    broken[1, 2] = np.nan
    with pytest.raises(DataError, match="gallery has NaN or infinity in row 1"):
        _set(broken)
    with pytest.raises(ShapeError, match=r"shape \(3,\)"):
        _set(good[:, 0])
    with pytest.raises(ShapeError, match="3 images and an array of shape"):
        _set(good, cameras=np.zeros(2, np.int64))
    for query, gallery, error, text in (
        (_set(good[:0], "query set"), _set(good), DataError, "query set needs at least one image"),
        (_set(good), _set(good[:0]), DataError, "gallery needs at least one image"),
        (_set(good), _set(good[:, :2]), ShapeError, "got 4 and 2"),
        (_set(good, cameras=cameras), _set(good), DataError, "the gallery has none"),
        (_set(good), _set(good, cameras=cameras), DataError, "the query set has none"),
    ):
        with pytest.raises(error, match=text):
            rank_matches(query, gallery)
    for options in ({"ties": "best"}, {"exclude": "camera"}, {"metric": "dot"}):
        with pytest.raises(ConfigError, match=next(iter(options.values()))):
            rank_matches(_set(good), _set(good), **options)  # type: ignore[arg-type]
    alone = rank_matches(_set(good), _set(good, cameras=None), same_image=np.arange(3))
    with pytest.raises(DataError, match="none of 3 queries"):
        retrieval_metrics(alone)
    assert retrieval_metrics(alone, unmatched="zero").map == 0
    with pytest.raises(ConfigError, match="area"):
        retrieval_metrics(alone, ap="area")  # type: ignore[arg-type]
