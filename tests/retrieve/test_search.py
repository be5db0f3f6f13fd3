"""Searching a file of embeddings, near duplicates, and the sheet of results."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import resnets
from resnets.errors import ConfigError, DataError, ShapeError
from resnets.retrieve.contact_sheet import MAX_ROWS, contact_sheet
from resnets.retrieve.embed import model_identity
from resnets.retrieve.embedding_file import EmbeddingFile
from resnets.retrieve.search import Hit, check_model, find_duplicates, search


def make(features: Any, paths: list[str] | None = None, **known: Any) -> EmbeddingFile:
    array = np.array(features, np.float32)
    names = tuple(paths or [f"{row}.png" for row in range(len(array))])
    return EmbeddingFile(features=array, paths=names, model={}, **known)


def test_the_nearest_are_found_in_order_with_their_identities() -> None:
    file = make([[1, 0], [0, 1], [1, 1], [-1, 0]], ids=np.array([3, 4, 5, 6]))
    (hits,) = search(np.array([[1, 0.1]], np.float32), file, k=3)
    assert [(hit.path, hit.id) for hit in hits] == [("0.png", 3), ("2.png", 5), ("1.png", 4)]
    assert hits[0].distance == pytest.approx(1 - 1 / np.sqrt(1.01), abs=1e-6)
    assert hits[0].to_dict() == {"path": "0.png", "distance": hits[0].distance, "id": 3}
    assert [len(one) for one in search(np.eye(2, dtype=np.float32), file, k=9, threshold=0.3)] == [2, 2]
    with pytest.raises(ShapeError, match="size of the file's, 2"):
        search(np.zeros((1, 3), np.float32), file)


def test_an_image_is_not_found_for_itself() -> None:
    """Also where it stands in the file several times."""
    file = make([[1, 0], [1, 0], [1, 0.1], [0, 1]], ["a.png", "a.png", "b.png", "c.png"])
    (hits,) = search(np.array([[1, 0]], np.float32), file, k=2, names=["a.png"])
    assert [hit.path for hit in hits] == ["b.png", "c.png"]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("memory", [0, 512])
def test_near_duplicates_are_linked_groups(metric: Any, memory: int) -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((60, 16)).astype(np.float32)
    features[[7, 31]] = features[2]  # equal
    features[50] = features[10] + 1e-3
    features[51] = features[50] + 1e-3
    done: list[int] = []
    groups = find_duplicates(features, 0.0, metric=metric, memory_mib=memory, progress=done.append)
    assert groups == [[2, 7, 31]]
    assert done[-1] == 60
    near = find_duplicates(features, 1e-4 if metric == "cosine" else 1e-3, metric=metric, memory_mib=memory)
    assert near == [[2, 7, 31], [10, 50, 51]]
    assert find_duplicates(features[:0], 0.1) == []
    with pytest.raises(ConfigError, match="at least 0"):
        find_duplicates(features, -1.0)


def test_embeddings_of_another_model_are_refused() -> None:
    bundle = resnets.load("starter")
    file = EmbeddingFile(features=np.zeros((1, 64), np.float32), paths=("a",), model=model_identity(bundle))
    check_model(bundle, file, "x.parquet")
    next(bundle.model.parameters()).data.view(-1)[0] += 1
    with pytest.raises(DataError, match=r"x\.parquet is of resnet20_cifar with other weights"):
        check_model(bundle, file, "x.parquet")


def test_the_sheet_has_a_row_for_each_query(tmp_path: Path) -> None:
    for name, colour in (("q.png", "red"), ("h.png", "blue")):
        Image.new("RGB", (300, 200), colour).save(tmp_path / name)
    hits = [Hit(path=str(tmp_path / "h.png"), distance=0.25, id=3), Hit(path=str(tmp_path / "gone.png"), distance=0.5)]
    content = contact_sheet([str(tmp_path / "q.png")] * 2, [hits, hits[:1]])
    with Image.open(io.BytesIO(content)) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    assert (pixels == (255, 0, 0)).all(2).sum() == 2 * 128 * 85
    assert (pixels == (0, 0, 255)).all(2).sum() == 2 * 128 * 85
    with pytest.raises(ConfigError, match=f"at most {MAX_ROWS}"):
        contact_sheet(["q.png"] * (MAX_ROWS + 1), [[]] * (MAX_ROWS + 1))


def test_embeddings_that_are_not_finite_are_refused() -> None:
    features = np.eye(3, dtype=np.float32)
    broken = features.copy()
    broken[1, 0] = np.nan
    with pytest.raises(DataError, match="the file has NaN or infinity in row 1"):
        search(features, make(broken))
    with pytest.raises(DataError, match="the query has NaN or infinity in row 1"):
        search(broken, make(features))
    with pytest.raises(DataError, match="the file has NaN"):
        find_duplicates(broken, 0.1)
