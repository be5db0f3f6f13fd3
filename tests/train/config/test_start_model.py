"""Notes on how the pretrained model differs from the data, and a classifier of other classes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from resnets import api
from resnets.data.open import open_dataset
from resnets.errors import ConfigError, DataError
from resnets.train.config.start_model import compare_with_start
from tests.train.runs import QUIET, start, without_report

__all__ = ["QUIET", "without_report"]


def test_a_classifier_of_other_classes_starts_anew(images: Path, tmp_path: Path) -> None:
    """As many classes, but others: the rows of the old classifier mean nothing for them."""
    first = start(images, tmp_path, name="first").folder
    renamed = Path(shutil.copytree(images, tmp_path / "renamed"))
    for folder in renamed.glob("*/blue"):
        folder.rename(folder.with_name("zebra"))
    plan = api.plan_training(str(renamed), pretrained=str(first), epochs=1)
    assert any("its classes are others, such as 'blue' in place of 'green'" in line for line in plan.lines)
    options = {"pretrained": str(first), "epochs": 1, "lr": 1e-9, "recipe": "none", "model_args": {}}
    same = start(images, tmp_path, name="same", **options).folder
    other = start(renamed, tmp_path, name="other", **options).folder
    old, kept, fresh = (api.load(folder / "last").model.fc for folder in (first, same, other))
    assert torch.allclose(old.weight, kept.weight, atol=1e-4)  # type: ignore[union-attr, arg-type]
    assert not torch.allclose(old.weight, fresh.weight, atol=1e-2)  # type: ignore[union-attr, arg-type]


def test_notes_of_sizes_channels_and_counts(images: Path) -> None:
    starter, dataset = api.load("starter"), open_dataset(images)
    notes, fresh = compare_with_start(starter, dataset, starter.preprocessing, dataset.classes)
    assert notes == ["the classifier starts anew: resnet20_cifar has 10 classes, the data 3"]
    assert not fresh


def test_a_dry_run_refuses_what_training_refuses(images: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(images, tmp_path / "changed"))
    shutil.copytree(changed / "val" / "blue", changed / "val" / "whale")
    with pytest.raises(DataError, match="class 'whale' has no image"):
        api.plan_training(str(changed))


def test_transforms_of_something_else_and_top_k() -> None:
    with pytest.raises(ConfigError, match="got ResNetConfig"):
        api.transforms(api.load("starter").model.config)
    with pytest.raises(ConfigError, match="top_k must be at least 1; got 0"):
        api.load("starter").predict(torch.zeros(3, 32, 32), top_k=0)
