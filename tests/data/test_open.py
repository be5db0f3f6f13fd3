"""The built-in digits, and what is not there."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from resnets.data.open import open_dataset
from resnets.errors import MissingExtraError
from tests.images import write_images


def test_digits() -> None:
    pytest.importorskip("sklearn")
    dataset = open_dataset("digits")
    train, val = dataset.splits["train"], dataset.splits["val"]
    assert dataset.classes == tuple("0123456789")
    assert len(train) + len(val) == 1797
    counts = np.bincount(np.concatenate([train.labels, val.labels]))
    assert np.abs(np.bincount(val.labels) / counts - 0.1).max() < 0.01
    everything = np.stack([images.image(i, "L") for images in (train, val) for i in range(len(images))])
    assert everything.shape == (1797, 8, 8, 1)
    assert (everything.min(), everything.max()) == (0, 255)
    assert dataset.preprocessing_hint.channels == "L"
    assert dataset.preprocessing_hint.size == (8, 8)
    assert train.name(0).startswith("digits#")


def test_digits_need_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'resnets\[demo\]'"):
        open_dataset("digits")


def test_a_table_among_images_does_not_make_them_parquet_data(tmp_path: Path) -> None:
    root = write_images(tmp_path / "images", {"train": 3})
    (root / "train" / "blue" / "predictions.parquet").write_bytes(b"PAR1")
    assert open_dataset(root).classes == ("blue", "green", "red")
