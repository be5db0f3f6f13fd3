"""Fixtures of the weights tests."""

from __future__ import annotations

import pytest
import torch

from resnets.arch.preprocessing import Preprocessing
from resnets.arch.variants import get_config
from resnets.nn.model import ResNet, build_model
from resnets.weights.folder.bundle import Bundle


def lively(model: ResNet, seed: int = 0) -> ResNet:
    """`model` with every tensor random, statistics and step counters too, so that no two are alike."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
        else:
            tensor.fill_(7)
    return model


@pytest.fixture
def bundle() -> Bundle:
    """A small network with everything that a bundle can carry."""
    return Bundle(
        model=lively(build_model(get_config("resnet8_cifar", num_classes=3))),
        preprocessing=Preprocessing(size=(32, 32), crop_pct=1, mean=(0.1, 0.2, 0.3), value_range=(-1, 1)),
        classes=("cat", "dög", "a|b"),
        name="resnet8_cifar",
        license="Apache-2.0",
        provenance={"data": "pets", "recipe": {"epochs": 2, "lr": 0.1}, "figures": {"top-1": 0.9125}, "seed": 3},
        calibration={"temperature": 1.25},
    )


@pytest.fixture(autouse=True)
def no_network(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fetched, and nobody's own cache is looked into."""
    monkeypatch.setenv("RESNETS_OFFLINE", "1")
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path_factory.mktemp("cache")))
