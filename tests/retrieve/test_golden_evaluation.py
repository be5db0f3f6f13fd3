"""Ranks and metrics against torchreid, fast-reid, strong-baseline, VOC-ReID and layumi's code (tests/golden/reid)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnets.errors import DataError
from resnets.retrieve.distances import Metric
from resnets.retrieve.metrics import retrieval_metrics
from resnets.retrieve.ranks import rank_matches
from tests.retrieve.golden import files, load

FILES = files("eval")
KINDS: dict[str, dict[str, Any]] = {
    "euclidean": {"metric": "euclidean"},
    "cosine": {"metric": "cosine"},
    "stable": {"metric": "euclidean", "ties": "stable"},
    "optimistic": {"metric": "euclidean", "ties": "optimistic"},
    "pessimistic": {"metric": "euclidean", "ties": "pessimistic"},
}


def cases() -> Iterator[Any]:
    """Each file with the kinds of distances that it has."""
    for path in FILES:
        golden = load(path)[0]
        for kind in KINDS:
            if f"{kind}:ap" in golden:
                yield pytest.param(path, kind, id=f"{path.stem.removeprefix('eval__')}-{kind}")


@pytest.mark.parametrize(("path", "kind"), list(cases()))
def test_average_precision_cmc_and_minp(path: Path, kind: str) -> None:
    golden, query, gallery = load(path)
    ranks = rank_matches(query, gallery, **KINDS[kind])
    if f"{kind}:cmc50" not in golden:  # no query has a match
        with pytest.raises(DataError, match="needs a match"):
            retrieval_metrics(ranks)
        return
    found = retrieval_metrics(ranks)
    ours: dict[str, Any] = {"ap": found.ap, "inp": found.inp, "map": found.map, "minp": found.minp}
    for name, values in (ours | {"cmc50": found.cmc}).items():
        np.testing.assert_allclose(values, golden[f"{kind}:{name}"], rtol=0, atol=1e-12, err_msg=name)
    assert (found.first - 1 == golden[f"{kind}:first"]).all()
    for other in ("torchreid", "torchreid_cython", "fastreid_cython"):
        if f"{kind}:{other}:cmc" in golden:
            cmc = golden[f"{kind}:{other}:cmc"]
            whole = ranks.kept.min() >= len(
                cmc
            )  # the Cython version repeats another query's tail beyond a short gallery
            np.testing.assert_allclose(found.cmc[: len(cmc)], cmc, atol=1e-6) if whole else None
            assert found.map == pytest.approx(float(golden[f"{kind}:{other}:map"]), abs=1e-6)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem.removeprefix("eval__"))
def test_the_rules_of_layumi(path: Path) -> None:
    """Trapezoids, identity -1 removed from the gallery, and queries without a match counted as failures."""
    golden, query, gallery = load(path)
    if (query.features == 0).all(1).any() or (gallery.features == 0).all(1).any():
        pytest.skip("zero vectors have no direction")
    ranks = rank_matches(query, gallery.select(gallery.ids != -1), ties="optimistic")
    found = retrieval_metrics(ranks, ap="trapezoid", unmatched="zero", top=len(golden["layumi:cmc"]))
    if "ties" not in path.stem:
        np.testing.assert_allclose(found.ap, golden["layumi:ap"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(found.cmc, golden["layumi:cmc"], rtol=0, atol=1e-6)
        assert found.map == pytest.approx(float(golden["layumi:map"]), abs=1e-6)


def test_a_gallery_of_one_camera_by_the_rule_of_vocreid() -> None:
    golden, query, gallery = load(next(path for path in FILES if "same_camera" in path.stem))
    metrics: tuple[Metric, ...] = ("euclidean", "cosine")
    for metric in metrics:
        found = retrieval_metrics(rank_matches(query, gallery, metric=metric, exclude="other_camera"))
        np.testing.assert_allclose(found.cmc, golden[f"{metric}:vocreid:cmc"], atol=1e-6)
        assert found.map == pytest.approx(float(golden[f"{metric}:vocreid:map"]), abs=1e-6)
