"""CUHK03's and VehicleID's protocols against torchreid and fast-reid, and by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnets.errors import ConfigError, DataError
from resnets.retrieve.embeddings import Embeddings
from resnets.retrieve.single_shot import repeated_splits, single_shot_cmc, vehicleid_splits
from tests.golden.reid import rules
from tests.retrieve.golden import files, load, meta_of, read

METRICS: tuple[Any, ...] = ("euclidean", "cosine")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("path", files("eval"), ids=lambda path: path.stem.removeprefix("eval__"))
def test_one_gallery_image_of_each_identity(path: Path, metric: Any) -> None:
    golden, query, gallery = load(path)
    if f"{metric}:cuhk03:expected" not in golden:
        if "same_camera" in path.stem:
            with pytest.raises(DataError, match="needs a match"):
                single_shot_cmc(query, gallery, metric=metric)
        return
    expected = golden[f"{metric}:cuhk03:expected"]
    np.testing.assert_allclose(single_shot_cmc(query, gallery, metric=metric), expected, atol=1e-9)
    cmc = golden[f"{metric}:torchreid:cuhk03:cmc"]
    drawn = single_shot_cmc(query, gallery, metric=metric, draws=10, seed=0)
    np.testing.assert_allclose(drawn[: len(cmc)], cmc, atol=1e-6)
    np.testing.assert_allclose(drawn[len(cmc) :], 1, atol=1e-6)


def test_the_mean_over_all_galleries_by_hand() -> None:
    """Order b a c b a for a query of a: its first image is behind one b with 1/2; its second behind b, behind c."""
    query = Embeddings(features=np.zeros((1, 1), np.float32), ids=np.array([0]))
    gallery = Embeddings(features=np.array([[1], [2], [3], [4], [5]], np.float32), ids=np.array([1, 0, 2, 1, 0]))
    found = single_shot_cmc(query, gallery, metric="euclidean", top=4)
    np.testing.assert_allclose(found, [1 / 4, 1 / 2, 1, 1])
    many = single_shot_cmc(query, gallery, metric="euclidean", top=4, draws=4000)
    np.testing.assert_allclose(many, found, atol=0.03)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("path", files("vehicleid"), ids=lambda path: path.stem.removeprefix("vehicleid__"))
def test_repeated_draws(path: Path, metric: Any) -> None:
    golden = read(path)
    arguments = meta_of(golden)["arguments"]
    ids = rules.labels(arguments["seed"], arguments["images"], arguments["ids"])
    features = rules.embeddings(arguments["seed"] + 1000, ids, arguments["dim"], arguments["spread"])
    draws = meta_of(golden)["draws"]
    for number, (query, gallery) in enumerate(vehicleid_splits(ids, draws)):
        assert sorted(gallery) == sorted(golden["gallery"][number])
        assert sorted([*query, *gallery]) == list(range(len(ids)))
    found = repeated_splits(Embeddings(features=features, ids=ids), draws=draws, metric=metric)
    np.testing.assert_allclose([one.map for one in found.draws], golden[f"{metric}:map"], atol=1e-6)
    np.testing.assert_allclose([one.cmc for one in found.draws], golden[f"{metric}:cmc"], atol=1e-6)
    np.testing.assert_allclose(found.map, golden[f"{metric}:mean:map"], atol=1e-6)
    np.testing.assert_allclose(found.cmc, golden[f"{metric}:mean:cmc"], atol=1e-6)
    assert found.map_std == pytest.approx(golden[f"{metric}:map"].std(), abs=1e-6)


def test_bad_input_is_one_line() -> None:
    images = Embeddings(features=np.eye(3, dtype=np.float32), ids=np.arange(3))
    with pytest.raises(DataError, match="none of 3 identities has two images"):
        repeated_splits(images)
    for call in (lambda: repeated_splits(images, draws=0), lambda: single_shot_cmc(images, images, draws=0)):
        with pytest.raises(ConfigError, match="at least 1"):
            call()
