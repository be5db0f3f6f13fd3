"""Weights into other codebases' names and back; timm's model folders; what a dialect cannot say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resnets.errors import ConfigError, UnknownNameError, WeightsError
from resnets.weights.export import foreign_tensors, save_weights
from resnets.weights.load import import_weights
from tests.weights.networks import randomized_network as network
from tests.weights.networks import same_weights as same

CASES = [
    ("torchvision", "resnet18"),
    ("torchvision", "resnext50_32x4d"),
    ("timm", "resnet18"),
    ("timm", "resnet18d"),
    ("timm", "seresnet18"),
    ("timm", "ecaresnet50t"),
    ("timm", "resnetv2_18"),
    ("timm", "resnetblur50"),
    ("timm", "resnet50_gn"),
    ("ibnnet", "resnet18_ibn_a"),
    ("ibnnet", "resnet18_ibn_b"),
    ("resnets", "resnetv2_18"),
    ("akamaster", "resnet20_cifar"),
]


@pytest.mark.parametrize(("dialect", "name"), CASES)
def test_written_weights_are_read_back(dialect: str, name: str, tmp_path: Path) -> None:
    model = network(name, num_classes=5)
    path = save_weights(model, tmp_path / "deep" / "w.safetensors", dialect=dialect)
    back, report = import_weights(path, dialect=dialect, variant=model.config)
    assert report.dialect == dialect
    assert back.config == model.config
    assert same(back, model)


@pytest.mark.parametrize(("dialect", "name"), CASES)
def test_read_weights_are_written_bit_for_bit(dialect: str, name: str) -> None:
    """A file of that codebase, made from its key map, is the same again after a passage through ours."""
    model = network(name, num_classes=5)
    file = foreign_tensors(model, dialect)
    back, _ = import_weights(file, dialect=dialect, variant=model.config)
    again = foreign_tensors(back, dialect)
    assert list(again) == list(file)
    assert all(torch.equal(again[key], tensor) and again[key].dtype == tensor.dtype for key, tensor in file.items())


def test_timm_names() -> None:
    assert {"stages.0.blocks.0.conv1.weight", "head.fc.weight", "stem.conv.weight"} <= foreign_tensors(
        network("resnetv2_18", num_classes=5), "timm"
    ).keys()
    model = network("resnet18", num_classes=5)
    assert foreign_tensors(model, "timm").keys() == foreign_tensors(model, "torchvision").keys()


def test_npz_in_tensorflow_order(tmp_path: Path) -> None:
    model = network("keras_resnet50", depths=(1, 1, 1, 1), num_classes=5)
    path = save_weights(model, tmp_path / "w.npz", dialect="keras")
    with np.load(path) as arrays:
        kernels = [arrays[name] for name in arrays.files if arrays[name].ndim == 4]
        assert any(kernel.shape == (7, 7, 3, 64) for kernel in kernels)
        tensors = {name: arrays[name] for name in arrays.files}
    back, _ = import_weights(tensors, dialect="keras", variant=model.config)
    for key, tensor in back.state_dict().items():
        assert key.endswith("num_batches_tracked") or torch.equal(tensor, model.state_dict()[key])


@pytest.mark.parametrize(
    ("dialect", "name", "options", "part"),
    [
        ("torchvision", "resnetv2_18", {}, "torchvision .* cannot represent this one"),
        ("torchvision", "seresnet18", {}, "torchvision .* cannot represent this one"),
        ("torchvision", "resnet50_v1", {"depths": (1, 1, 1, 1)}, "stride_in 1x1 instead of 3x3"),
        ("torchvision", "resnet18", {"norm_eps": 1e-3}, "norm_eps 0.001 instead of 1e-05"),
        ("torchvision", "vgg11_bn", {"hidden": 16}, "hidden 16 instead of 4096"),
        ("timm", "resnet18_ibn_a", {}, "timm .* cannot represent this one"),
        ("akamaster", "resnet18", {}, "akamaster .* cannot represent this one"),
    ],
)
def test_networks_that_a_dialect_cannot_represent(
    dialect: str, name: str, options: dict[str, Any], part: str, tmp_path: Path
) -> None:
    model = network(name, **options)
    with pytest.raises(WeightsError, match=part) as caught:
        save_weights(model, tmp_path / "w.safetensors", dialect=dialect)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_wrong_paths_and_dialects(tmp_path: Path) -> None:
    model = network("resnet20_cifar")
    with pytest.raises(ConfigError, match=r"never as a pickle; got w\.pth"):
        save_weights(model, tmp_path / "w.pth", dialect="akamaster")
    with pytest.raises(UnknownNameError, match="did you mean torchvision"):
        save_weights(model, tmp_path / "w.npz", dialect="torchvison")
    (tmp_path / "w.npz").mkdir()
    with pytest.raises(WeightsError, match="cannot write"):
        save_weights(model, tmp_path / "w.npz", dialect="akamaster")
