"""Fixtures of the weights tests."""

from __future__ import annotations

import pytest

from resnets.arch.preprocessing import Preprocessing
from resnets.arch.variants import get_config
from resnets.weights.folder.bundle import Bundle
from tests.weights.networks import randomized


@pytest.fixture
def bundle() -> Bundle:
    """A small network with every field of a bundle set."""
    return Bundle(
        model=randomized(get_config("resnet8_cifar", num_classes=3)),
        preprocessing=Preprocessing(size=(32, 32), crop_pct=1, mean=(0.1, 0.2, 0.3), value_range=(-1, 1)),
        classes=("cat", "dög", "a|b"),
        name="resnet8_cifar",
        license="Apache-2.0",
        provenance={"data": "pets", "recipe": {"epochs": 2, "lr": 0.1}, "metrics": {"top-1": 0.9125}, "seed": 3},
        calibration={"temperature": 1.25},
    )


@pytest.fixture(autouse=True)
def no_network(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads are off, and the user's cache is not used."""
    monkeypatch.setenv("RESNETS_OFFLINE", "1")
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path_factory.mktemp("cache")))
