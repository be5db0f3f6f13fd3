"""Folders of timm: our folders are read by timm's rules, and timm's folders are bundles."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from resnets.arch.config import ResNetConfig
from resnets.arch.preprocessing import Preprocessing
from resnets.arch.variants import get_config
from resnets.errors import WeightsError
from resnets.weights.export import foreign_tensors
from resnets.weights.folder.bundle import Bundle
from resnets.weights.folder.model_folder import read_bundle, save_bundle
from resnets.weights.folder.timm_folder import read_preprocessing, read_timm_folder
from resnets.weights.open import load_bundle
from tests.weights.networks import create_network
from tests.weights.networks import randomized_network as network
from tests.weights.networks import same_weights as same

# timm 1.0, `_pretrained.PretrainedCfg`: what `pretrained_cfg` may hold; anything else is an error there.
PRETRAINED_CFG = frozenset(
    re.findall(
        r"\w+",
        """
        url file state_dict hf_hub_id hf_hub_filename source architecture tag custom_load input_size test_input_size
        min_input_size fixed_input_size interpolation crop_pct test_crop_pct crop_mode mean std num_classes
        label_offset label_names label_descriptions pool_size test_pool_size first_conv classifier license
        description origin_url paper_name paper_ids notes
        """,
    )
)


def test_our_folder_has_timms_fields_and_names(tmp_path: Path) -> None:
    for name, first in (("resnet18", "conv1"), ("resnet18d", "conv1.0")):
        model = network(name, num_classes=2, in_chans=3)
        bundle = Bundle(model=model, preprocessing=Preprocessing(), classes=("a", "b"), name=name, license="MIT")
        folder = save_bundle(bundle, tmp_path / name)
        values = json.loads((folder / "config.json").read_text())
        assert (values["architecture"], values["num_classes"], values["num_features"]) == (name, 2, 512)
        assert values["global_pool"] == "avg"
        assert values["label_names"] == ["a", "b"]
        preprocessing = values["pretrained_cfg"]
        assert preprocessing.keys() <= PRETRAINED_CFG
        assert (preprocessing["first_conv"], preprocessing["classifier"]) == (first, "fc")
        assert (preprocessing["input_size"], preprocessing["pool_size"]) == ([3, 224, 224], [7, 7])
        assert load_file(folder / "model.safetensors").keys() == foreign_tensors(model, "timm").keys()
        # Without our part it is a folder as timm writes it, and reads as the same model.
        del values["resnets"]
        (folder / "config.json").write_text(json.dumps(values))
        (folder / "README.md").unlink()
        bundle = load_bundle(folder)
        assert same(bundle.model, model)
        assert bundle.config == model.config
        assert (bundle.preprocessing, bundle.classes, bundle.license) == (Preprocessing(), ("a", "b"), "MIT")
        assert read_bundle(save_bundle(bundle, tmp_path / f"{name}-again")).provenance["architecture"] == name


def timm_folder(folder: Path, tensors: dict[str, Tensor], **values: Any) -> Path:
    folder.mkdir()
    config = {
        "architecture": "resnet18",
        "pretrained_cfg": {
            "tag": "a1_in1k", "input_size": [3, 160, 192], "crop_pct": 0.95, "crop_mode": "squash",
            "interpolation": "bicubic", "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "license": "apache-2.0",
            "test_input_size": [3, 288, 288], "first_conv": "conv1", "classifier": "fc", "num_classes": 3,
        },
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config | values))
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_folder_of_timm(tmp_path: Path) -> None:
    model = network("resnet18", num_classes=3)
    tensors = foreign_tensors(model, "timm")
    args = {"output_stride": 16, "num_classes": 3}
    folder = timm_folder(tmp_path / "a", tensors, model_args=args, label_names=["x", "y", "z"])
    bundle = load_bundle(folder)
    assert bundle.config == get_config("resnet18", num_classes=3, output_stride=16)
    assert bundle.preprocessing == Preprocessing(
        size=(160, 192), crop_pct=0.95, crop_mode="squash", interpolation="bicubic", mean=(0.5,) * 3, std=(0.25,) * 3
    )
    assert (bundle.classes, bundle.license, bundle.name) == (("x", "y", "z"), "apache-2.0", "resnet18")
    assert bundle.provenance["architecture"] == "resnet18.a1_in1k"
    assert same(create_network("resnet18", pretrained=folder, output_stride=16), model)
    # other forms of labels, of weights, and of the early days
    other = timm_folder(tmp_path / "b", tensors, label_names={"0": "x", "2": "z"})
    assert load_bundle(other).classes == ("x", "1", "z")
    (other / "model.safetensors").unlink()
    torch.save(model.state_dict(), other / "pytorch_model.bin")
    (other / "config.json").write_text(json.dumps({"architecture": "resnet18", "labels": ["p", "q", "r"]}))
    assert load_bundle(other).classes == ("p", "q", "r")
    assert load_bundle(other).preprocessing.interpolation == "bicubic"  # timm's default


def test_networks_with_another_name_in_timm(tmp_path: Path) -> None:
    model = network("se_resnet50", depths=(1, 1, 1, 1), num_classes=3)
    tensors = foreign_tensors(model, "cadene")
    folder = timm_folder(tmp_path / "a", tensors, architecture="legacy_seresnet50")
    values = json.loads((folder / "config.json").read_text())
    bundle, report = read_timm_folder(folder, values, variant="auto", depths=(1, 1, 1, 1))
    assert report.dialect == "cadene"
    assert bundle.config == model.config
    v2 = network("resnetv2_18", num_classes=3)
    folder = timm_folder(tmp_path / "b", foreign_tensors(v2, "timm"), architecture="resnetv2_18")
    assert same(load_bundle(folder).model, v2)


def test_grayscale_folders() -> None:
    preprocessing = read_preprocessing(
        {"input_size": [1, 28, 28], "mean": [0.1], "std": [0.2]}, ResNetConfig(in_chans=1), Path("x")
    )
    assert (preprocessing.channels, preprocessing.mean, preprocessing.std, preprocessing.size) == (
        "L",
        (0.1,),
        (0.2,),
        (28, 28),
    )
    assert read_preprocessing({"mean": [0.1, 0.2, 0.3]}, ResNetConfig(in_chans=1), Path("x")).mean == (0.2,)
    with pytest.raises(WeightsError, match="the network takes 5"):
        read_preprocessing({}, ResNetConfig(in_chans=5), Path("x"))


def test_folders_that_are_refused(tmp_path: Path) -> None:
    tensors = foreign_tensors(network("resnet18", num_classes=3), "timm")
    refused: list[tuple[dict[str, Any], str]] = [
        ({"architecture": 3}, "our fields or timm's"),
        ({"pretrained_cfg": [1]}, "our fields or timm's"),
        ({"model_args": {"wings": 2}}, "model_args hold arguments of timm.* has wings"),
        ({"model_args": {"key_map": "secret.yaml"}}, "has key_map"),
        ({"model_args": {"allow_nonfinite": True, "features_only": True}}, "has allow_nonfinite, features_only"),
        ({"pretrained_cfg": {"std": [0, 0, 0]}}, "std must be"),
        ({"pretrained_cfg": {"input_size": 5}}, "must describe the preprocessing"),
        ({"pretrained_cfg": {"crop_mode": "zoom"}}, "crop_mode 'zoom'"),
        ({"architecture": "resnet34"}, "missing"),
    ]
    for index, (values, part) in enumerate(refused):
        folder = timm_folder(tmp_path / str(index), tensors, **values)
        with pytest.raises(WeightsError, match=part) as caught:
            load_bundle(folder)
        assert "\n" not in str(caught.value)
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="holds its weights"):
        load_bundle(folder)


def test_the_second_family_has_other_means() -> None:
    config = ResNetConfig(pre_activation=True)
    assert read_preprocessing({}, config, Path("x")).mean == (0.5, 0.5, 0.5)
    assert read_preprocessing({"mean": [0.1, 0.2, 0.3]}, config, Path("x")).mean == (0.1, 0.2, 0.3)
    assert read_preprocessing({}, ResNetConfig(), Path("x")).mean == (0.485, 0.456, 0.406)
