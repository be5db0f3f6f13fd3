"""`repr` of configs is short, and evaluates to an equal config."""

from __future__ import annotations

import pytest

import resnets
from resnets.arch.vgg import VGGConfig
from resnets.data.augment.config import AugmentConfig


@pytest.mark.parametrize("name", ["resnet50", "resnet50d", "resnet20_cifar", "resnet50_ibn_a", "vgg16"])
def test_a_config_shows_what_differs_from_the_defaults(name: str) -> None:
    config = resnets.get_config(name)
    text = repr(config)
    assert len(text) < 300
    assert "depths=" in text
    assert "num_classes=" in text
    names = {"ResNetConfig": resnets.ResNetConfig, "VGGConfig": VGGConfig}
    assert eval(text, names) == config


def test_options_without_changes_are_empty() -> None:
    assert repr(AugmentConfig()) == "AugmentConfig()"
    assert repr(AugmentConfig(pad=4)) == "AugmentConfig(pad=4)"
