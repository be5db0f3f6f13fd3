"""Whose network a name means."""

from __future__ import annotations

import re

import pytest

from resnets.arch.describe import describe
from resnets.arch.origins import ORIGINS, origin_of
from resnets.arch.variants import VARIANTS, get_config


@pytest.mark.parametrize(
    ("name", "whose"),
    [
        ("resnet50", "torchvision's and timm's"),
        ("resnet50_v1", "the 2015 paper's"),
        ("resnet_v1_50", "TF-slim's"),
        ("resnet_v2_152", "TF-slim's"),
        ("resnetv2_50", "timm's"),
        ("resnetv2_50x1_bit", "Google's BiT"),
        ("keras_resnet101", "Keras's"),
        ("keras_resnet50v2", "Keras's V2"),
        ("seresnext50_32x4d", "timm's"),
        ("se_resnext50_32x4d", "Caffe's"),
        ("se_resnet50", "Caffe's"),
        ("senet154", "Caffe's"),
        ("se_resnet50_ibn_a", "IBN-Net's"),
        ("resnet20_cifar", "the 2015 paper's"),
        ("vgg16", "torchvision's"),
    ],
)
def test_whose(name: str, whose: str) -> None:
    origin = origin_of(name)
    assert origin is not None
    assert origin.startswith(whose)
    assert describe(name).to_dict()["origin"] == origin


def test_nobody_else_has_these() -> None:
    assert origin_of("resnet50_gn") is None
    assert describe("resnet50_gn").origin is None
    assert describe(get_config("resnet50", last_stride=1)).origin is None


def test_every_pattern_has_a_network_and_every_network_one_pattern() -> None:
    matches = {name: [pattern for pattern in ORIGINS if re.fullmatch(pattern, name)] for name in VARIANTS}
    assert all(len(found) <= 1 for found in matches.values()), matches
    assert {pattern for found in matches.values() for pattern in found} == set(ORIGINS)


def test_a_note_is_one_line() -> None:
    for name in VARIANTS:
        assert len(f"{name} is {origin_of(name) or ''}") <= 140


def test_networks_that_are_named_exist() -> None:
    """A note sends people to another name of ours, or to an option."""
    words = {word for text in ORIGINS.values() for word in re.findall(r"\b[a-z]+_?[a-z0-9]*net[a-z0-9_]*\b", text)}
    ours = {word for word in words if any(mark.isdigit() for mark in word)} - {
        "resnext101"
    }  # the text names it as torchvision's
    assert ours
    assert ours <= set(VARIANTS)
