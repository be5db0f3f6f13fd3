"""Folders of Hugging Face transformers. `test_golden` values are not needed: the network is torchvision's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from resnets.arch.variants import get_config
from resnets.errors import WeightsError
from resnets.weights.convert import convert
from resnets.weights.export import foreign_tensors
from resnets.weights.load import import_weights
from resnets.weights.open import load_bundle
from tests.conftest import Command, assert_one_line_error
from tests.weights.networks import create_network, same_weights
from tests.weights.networks import randomized_network as network

SMALL: dict[str, Any] = {"depths": (1, 2, 1, 1), "num_classes": 3}
CONFIG = {
    "architectures": ["ResNetForImageClassification"],
    "model_type": "resnet",
    "depths": [1, 2, 1, 1],
    "hidden_sizes": [256, 512, 1024, 2048],
    "embedding_size": 64,
    "layer_type": "bottleneck",
    "hidden_act": "relu",
    "downsample_in_first_stage": False,
    "downsample_in_bottleneck": False,
    "num_channels": 3,
    "id2label": {"0": "cat", "1": "dog", "2": "fox"},
}
PROCESSOR = {
    "crop_pct": 0.9,
    "resample": 3,
    "size": {"shortest_edge": 160},
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.4, 0.5, 0.6],
}


def folder_of(folder: Path, processor: dict[str, Any] | None = None, **values: Any) -> Path:
    folder.mkdir()
    save_file(foreign_tensors(network("resnet50", **SMALL), "transformers"), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG | values))
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def test_a_folder(tmp_path: Path) -> None:
    bundle = load_bundle(folder_of(tmp_path / "a", PROCESSOR))
    assert bundle.config == get_config("resnet50", **SMALL)
    assert same_weights(bundle.model, network("resnet50", **SMALL))
    assert bundle.classes == ("cat", "dog", "fox")
    found = bundle.preprocessing
    assert (found.size, found.crop_pct, found.crop_mode, found.interpolation) == ((160, 160), 0.9, "center", "bicubic")
    assert (found.mean, found.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_the_stride_in_the_first_convolution(tmp_path: Path) -> None:
    assert load_bundle(folder_of(tmp_path / "a", downsample_in_bottleneck=True)).config == get_config(
        "resnet50", stride_in="1x1", **SMALL
    )


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        ({"size": {"height": 96, "width": 128}}, {"size": (96, 128), "crop_mode": "squash", "crop_pct": 1.0}),
        ({"size": {"shortest_edge": 384}}, {"size": (384, 384), "crop_mode": "squash"}),
        ({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}, {"crop_pct": 0.875}),
        ({"size": 100, "do_normalize": False}, {"size": (100, 100), "mean": (0, 0, 0), "std": (1, 1, 1)}),
        ({"do_rescale": False}, {"value_range": (0, 255)}),
    ],
)
def test_image_processors(tmp_path: Path, processor: dict[str, Any], expected: dict[str, Any]) -> None:
    preprocessing = load_bundle(folder_of(tmp_path / "a", processor)).preprocessing
    assert {name: getattr(preprocessing, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("values", "processor", "message"),
    [
        ({"model_type": "vit"}, None, "has 'vit'; no network here is one"),
        ({"hidden_act": "gelu"}, None, "hidden_act must be one of 'relu'"),
        ({"downsample_in_first_stage": True}, None, "downsample_in_first_stage must be one of False"),
        ({"depths": [1, 1, 1, 1]}, None, "layer.1|unexpected|depths"),
        ({}, {"size": "large"}, "must describe the preprocessing"),
        ({}, {"resample": 9}, "must describe the preprocessing"),
        ({}, {"do_resize": False}, "takes images of any size"),
    ],
)
def test_folders_that_are_refused(
    tmp_path: Path, command: Command, values: dict[str, Any], processor: dict[str, Any] | None, message: str
) -> None:
    folder = folder_of(tmp_path / "a", processor, **values)
    with pytest.raises(Exception, match=message):
        load_bundle(folder)
    assert_one_line_error(command("predict", folder, "--model", folder), "")


def test_the_file_of_a_folder_that_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", model_type="vit")
    with pytest.raises(WeightsError):
        convert(folder)
    report = convert(folder / "model.safetensors").report
    assert report is not None
    assert report.dialect == "transformers"
    assert any(note.startswith("the config.json beside the file is not used: folders of") for note in report.notes)


def test_names_without_the_prefix() -> None:
    model = create_network("resnet18", num_classes=0, global_pool="none")
    tensors = {name.removeprefix("resnet."): value for name, value in foreign_tensors(model, "transformers").items()}
    found, report = import_weights(tensors)
    assert report.dialect == "transformers"
    assert found.config == model.config
    assert found(torch.zeros(1, 3, 64, 64)).shape == (1, 512, 2, 2)
