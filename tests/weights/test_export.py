"""Weights into other codebases' names and back; timm's model folders; what a dialect cannot say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from resnets.arch.preprocessing import Preprocessing
from resnets.arch.variants import get_config
from resnets.errors import ConfigError, UnknownNameError, WeightsError
from resnets.nn.model import Network
from resnets.weights.export import foreign_tensors, save_weights
from resnets.weights.folder.bundle import Bundle
from resnets.weights.folder.model_folder import read_bundle, save_bundle
from resnets.weights.folder.timm_folder import read_preprocessing, read_timm_folder
from resnets.weights.load import import_weights
from resnets.weights.open import load_bundle
from tests.weights.networks import create_network, randomized

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


def network(name: str, **options: Any) -> Network:
    return randomized(get_config(name, **options))


def same(model: Network, other: Network) -> bool:
    mine, theirs = model.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(tensor, theirs[key]) for key, tensor in mine.items())


CASES = [
    ("torchvision", "resnet18"),
    ("torchvision", "resnext50_32x4d"),
    ("torchvision", "vgg11_bn"),
    ("timm", "resnet18"),
    ("timm", "resnet18d"),
    ("timm", "seresnet18"),
    ("timm", "ecaresnet50t"),
    ("timm", "resnetv2_18"),
    ("timm", "resnetblur50"),
    ("timm", "resnet50_gn"),
    ("timm", "vgg11"),
    ("ibnnet", "resnet18_ibn_a"),
    ("ibnnet", "resnet18_ibn_b"),
    ("resnets", "resnetv2_18"),
    ("akamaster", "resnet20_cifar"),
]


def small(name: str) -> dict[str, Any]:
    """VGG's inner layers are narrowed, for time."""
    return {"hidden": 16, "widths": (8, 8, 8, 8, 8)} if name.startswith("vgg") else {}


@pytest.mark.parametrize(("dialect", "name"), CASES)
def test_written_weights_are_read_back(dialect: str, name: str, tmp_path: Path) -> None:
    model = network(name, num_classes=5, **small(name))
    path = save_weights(model, tmp_path / "deep" / "w.safetensors", dialect=dialect)
    back, report = import_weights(path, dialect=dialect, variant=model.config)
    assert report.dialect == dialect
    assert back.config == model.config
    assert same(back, model)


@pytest.mark.parametrize(("dialect", "name"), CASES)
def test_read_weights_are_written_bit_for_bit(dialect: str, name: str) -> None:
    """A file of that codebase, made from its key map, is the same again after a passage through ours."""
    model = network(name, num_classes=5, **small(name))
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
        ("torchvision", "resnet50_v1", {"depths": (1, 1, 1, 1)}, "stride_in 3x3 for 1x1"),
        ("torchvision", "resnet18", {"norm_eps": 1e-3}, "norm_eps 1e-05 for 0.001"),
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


# timm's folders


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
    bundle, report = read_timm_folder(Bundle, folder, values, variant="auto", depths=(1, 1, 1, 1))
    assert report.dialect == "cadene"
    assert bundle.config == model.config
    v2 = network("resnetv2_18", num_classes=3)
    folder = timm_folder(tmp_path / "b", foreign_tensors(v2, "timm"), architecture="resnetv2_18")
    assert same(load_bundle(folder).model, v2)


def test_grayscale_folders() -> None:
    preprocessing = read_preprocessing({"input_size": [1, 28, 28], "mean": [0.1], "std": [0.2]}, 1, Path("x"))
    assert (preprocessing.channels, preprocessing.mean, preprocessing.std, preprocessing.size) == (
        "L",
        (0.1,),
        (0.2,),
        (28, 28),
    )
    assert read_preprocessing({"mean": [0.1, 0.2, 0.3]}, 1, Path("x")).mean == (0.2,)
    with pytest.raises(WeightsError, match="the network takes 5"):
        read_preprocessing({}, 5, Path("x"))


def test_folders_that_are_refused(tmp_path: Path) -> None:
    tensors = foreign_tensors(network("resnet18", num_classes=3), "timm")
    for index, (values, part) in enumerate(
        [
            ({"architecture": 3}, "our fields or timm's"),
            ({"pretrained_cfg": [1]}, "our fields or timm's"),
            ({"model_args": {"wings": 2}}, "unknown timm option; got 'wings'"),
            ({"pretrained_cfg": {"std": [0, 0, 0]}}, "std must be positive"),
            ({"pretrained_cfg": {"input_size": 5}}, "must describe the preprocessing"),
            ({"pretrained_cfg": {"crop_mode": "zoom"}}, "crop_mode 'zoom'"),
            ({"architecture": "resnet34"}, "missing"),
        ]
    ):
        folder = timm_folder(tmp_path / str(index), tensors, **values)
        with pytest.raises(WeightsError, match=part) as caught:
            load_bundle(folder)
        assert "\n" not in str(caught.value)
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="holds its weights"):
        load_bundle(folder)


# Files that lack a part


def test_min_filled(tmp_path: Path) -> None:
    model = network("resnet18", num_classes=5)
    tensors = foreign_tensors(model, "torchvision")
    tensors["extra.weight"] = torch.ones(3)
    del tensors["layer4.1.conv2.weight"]
    tensors["layer4.1.bn2.weight"] = torch.ones(7)
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="missing"):
        import_weights(tmp_path / "w.safetensors", min_filled=1, variant="resnet18")
    with pytest.raises(WeightsError, match=r"90\.00% of the network must come from the file; .* gives 78\.\d\d%"):
        import_weights(tmp_path / "w.safetensors", min_filled=0.9, variant="resnet18")
    part, report = import_weights(tmp_path / "w.safetensors", min_filled=0.7, variant="resnet18")
    assert report.missing == ("layer4.1.conv2.weight", "layer4.1.bn2.weight")
    assert set(report.unexpected) == {"extra.weight", "layer4.1.bn2.weight"}
    assert 0.78 < report.filled < 0.79
    assert report.notes[-1] == "2 tensors start fresh"
    assert torch.equal(part.state_dict()["layer4.1.conv1.weight"], model.state_dict()["layer4.1.conv1.weight"])
    assert part.state_dict()["layer4.1.bn2.weight"].unique().tolist() == [1]
