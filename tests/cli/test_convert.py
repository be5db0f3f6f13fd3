from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from resnets.arch.variants import get_config
from resnets.nn.model import build_model
from resnets.weights.export import save_weights
from resnets.weights.open import load_bundle
from tests.conftest import Command, assert_one_line_error
from tests.weights.networks import randomized_network


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of ResNet-20 with the tensor names of akamaster, in a training checkpoint."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    model = build_model(get_config("resnet20_cifar"))
    path = save_weights(model, folder / "w.safetensors", dialect="akamaster")
    tensors = {f"module.{key}": tensor for key, tensor in load_file(path).items()}
    torch.save({"state_dict": tensors, "best_prec1": 91.2}, folder / "resnet20.th")
    return folder / "resnet20.th"


def test_weights_file_to_model_folder(command: Command, weights: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"class {index}\n" for index in range(10)))
    code, out, err = command(
        "convert", weights, "-o", tmp_path / "m", "--labels", labels, "--map", tmp_path / "map.json"
    )
    assert (code, err) == (0, "")
    assert out.startswith(f"{weights}: resnet20_cifar, 10 classes, 3 channels, 269,722 parameters\n")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for start in (
        "dialect akamaster: akamaster/pytorch_resnet_cifar10",
        "filled 100.00 %",
        "assumed not determined by the tensors; ",
        "stem_pool=none: Pool of the stem; alternatives: max, ",
        "shortcut=A: Shortcut (subsampling, zero channels on both sides); alternatives: A_after, B, ",
        "norm_eps=1e-05: Added to the variance in each norm",
        "assumed RGB images of 32x32 (bilinear, crop 1 center), values 0..1, mean 0.485, 0.456, 0.406",
        "renamed 2: linear.bias -> fc.bias, linear.weight -> fc.weight",
        "dropped 1: best_prec1",
        f"wrote {tmp_path / 'm'}",
    ):
        assert any(line.startswith(start) for line in lines), start
    assert any(line.startswith("note ") and "'module.'" in line for line in lines)
    bundle = load_bundle(tmp_path / "m")
    assert bundle.classes[3] == "class 3"
    assert bundle.provenance["import"]["dialect"] == "akamaster"
    mapping = json.loads((tmp_path / "map.json").read_text())
    assert mapping["read"]["linear.weight"] == "fc.weight"
    assert len(mapping["read"]) == len(bundle.model.state_dict())
    assert mapping["dropped"] == ["best_prec1"]


def test_round_trip_restores_the_same_tensors(command: Command, weights: Path, tmp_path: Path) -> None:
    assert command("convert", weights, "-o", tmp_path / "m").code == 0
    code, out, _ = command("convert", tmp_path / "m", "--to", "akamaster", "-o", tmp_path / "w.safetensors")
    assert code == 0
    assert f"wrote {tmp_path / 'w.safetensors'}" in out
    before = torch.load(weights, weights_only=True)["state_dict"]
    after = load_file(tmp_path / "w.safetensors")
    assert {f"module.{key}" for key in after} == before.keys()
    assert all(torch.equal(tensor, before[f"module.{key}"]) for key, tensor in after.items())


def test_report_without_output(command: Command, weights: Path) -> None:
    code, out, _ = command("convert", weights, "--json")
    result = json.loads(out)
    assert code == 0
    assert (result["report"]["variant"], result["report"]["filled"]) == ("resnet20_cifar", 1.0)
    assert (result["written"], result["map"], result["adapted"]) == (None, None, None)
    assert result["preprocessing_assumed"] is True
    assert "nothing written" in command("convert", weights).out


def test_num_classes_and_settings(command: Command, weights: Path, tmp_path: Path) -> None:
    code, out, _ = command("convert", weights, "-o", tmp_path / "m", "--num-classes", 3, "--set", "output_stride=2")
    assert code == 0
    assert "adapted" in out
    bundle = load_bundle(tmp_path / "m")
    assert (bundle.classes, bundle.config.to_dict()["output_stride"]) == (("0", "1", "2"), 2)
    assert bundle.provenance["adapted"]["fresh"] == ["fc.weight", "fc.bias"]
    torch.save(build_model(get_config("resnet18")).state_dict(), tmp_path / "tv.pth")
    words = ("convert", tmp_path / "tv.pth", "-o", tmp_path / "tv", "--dialect", "torchvision")
    code, out, err = command(*words, "--set", "replace_stride_with_dilation=false,true,true")
    assert (code, err) == (0, "")
    assert load_bundle(tmp_path / "tv").config.to_dict()["output_stride"] == 8


def test_timm_folder(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "timm"
    folder.mkdir()
    save_weights(build_model(get_config("resnet18")), folder / "model.safetensors", dialect="timm")
    config = {"architecture": "resnet18", "pretrained_cfg": {"crop_pct": 0.95, "license": "apache-2.0"}}
    (folder / "config.json").write_text(json.dumps(config))
    code, out, _ = command("convert", folder, "-o", tmp_path / "m")
    assert code == 0
    assert "resnet18, 1000 classes" in out
    assert "assumed" not in out
    assert load_bundle(tmp_path / "m").preprocessing.crop_pct == 0.95


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("gotcha",))


def test_malicious_and_damaged_files(command: Command, weights: Path, tmp_path: Path) -> None:
    good = torch.load(weights, weights_only=True)["state_dict"]
    torch.save({"conv1.weight": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "cut.th").write_bytes(weights.read_bytes()[:5000])
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("archive/data.pkl", b"0" * 10_000_000)
    missing = {key: tensor for key, tensor in good.items() if "layer3.2.conv2" not in key}
    torch.save(missing, tmp_path / "missing.th")
    torch.save({**good, "module.layer9.0.conv1.weight": torch.ones(1)}, tmp_path / "two.th")
    save_file({"conv1.weight": torch.ones(2, dtype=torch.int64)}, tmp_path / "int.safetensors")
    out = tmp_path / "m"
    for name, part in (
        ("evil.pth", "evil.pth"),
        ("cut.th", "cut.th"),
        ("bomb.pth", "bomb.pth"),
        ("missing.th", "layer3.2.conv2.weight"),
        ("two.th", "layer"),
        ("int.safetensors", "int.safetensors"),
        ("nowhere.pth", "does not exist"),
    ):
        assert_one_line_error(command("convert", tmp_path / name, "-o", out, "--map", tmp_path / "map.json"), part)
        assert not out.exists()
        assert not (tmp_path / "map.json").exists()
    code, text, _ = command("convert", tmp_path / "missing.th", "-o", out, "--min-filled", 0.8)
    assert code == 0
    assert "layer3.2.conv2.weight" in text
    assert command("convert", tmp_path / "missing.th", "-o", out, "--min-filled", 0.99).code == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--to", "timm"], 2, "-o"),
        (["--to", "tim", "-o", "{tmp}/w.safetensors"], 1, "did you mean timm"),
        (["--to", "akamaster", "-o", "{tmp}/w.pth"], 1, "w.pth"),
        (["--to", "cadene", "-o", "{tmp}/w.npz"], 1, "cadene"),
        (["--dialect", "akamastr"], 1, "did you mean akamaster"),
        (["--set", "wings=2"], 1, "'wings'"),
        (["--set", "wings"], 1, "'wings'"),
        (["--labels", "{tmp}/none.txt"], 1, "none.txt"),
        (["--variant", "resnet56_cifar"], 1, "missing"),
        (["--map", "{tmp}/none/map.json"], 1, "none/map.json"),
    ],
)
def test_errors(command: Command, weights: Path, tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    result = command("convert", weights, *(argument.format(tmp=tmp_path) for argument in arguments))
    assert_one_line_error(result, message, code)
    assert not list(tmp_path.iterdir())


def test_the_mapping_replaces_only_a_mapping(command: Command, tmp_path: Path) -> None:
    weights = tmp_path / "w.pth"
    torch.save(randomized_network("resnet8_cifar").state_dict(), weights)
    before = weights.read_bytes()
    settings = ("--set", "shortcut=A", "--set", "stem_pool=none")
    (tmp_path / "notes.json").write_text('{"mine": 1}')
    for name, part in (("w.pth", "a .json file, which is written"), ("notes.json", "holds something else")):
        assert_one_line_error(command("convert", weights, *settings, "--map", tmp_path / name), part)
    for _ in range(2):
        assert command("convert", weights, *settings, "--map", tmp_path / "map.json").code == 0
    assert weights.read_bytes() == before
    assert json.loads((tmp_path / "notes.json").read_text()) == {"mine": 1}


def test_the_preprocessing_can_be_named(command: Command, tmp_path: Path) -> None:
    torch.save(randomized_network("resnet18", num_classes=2).state_dict(), tmp_path / "w.pth")
    for name, mean, channels in (("caffe", 103.939, "BGR"), ("raw", 0, "RGB"), ("inception", 0, "RGB")):
        result = command("convert", tmp_path / "w.pth", "-o", tmp_path / name, "--preprocessing", name)
        assert result.code == 0
        assert "--preprocessing" not in result.out
        preprocessing = load_bundle(tmp_path / name).preprocessing
        assert (preprocessing.mean[0], preprocessing.channels) == (mean, channels)
    wrong = command("convert", tmp_path / "w.pth", "--preprocessing", "cafe")
    assert_one_line_error(wrong, "unknown preprocessing; got 'cafe'; did you mean caffe?")
    assert "std 0.229, 0.224, 0.225: usual for" in command("convert", tmp_path / "w.pth").out


def test_an_output_with_the_suffix_of_a_file(command: Command, tmp_path: Path) -> None:
    torch.save(randomized_network("resnet18", num_classes=2).state_dict(), tmp_path / "w.pth")
    for name, more, part in (
        ("a.safetensors", (), "name a folder, or pass --to"),
        ("a.pth", (), "name a folder, or pass --to"),
        ("a.pth", ("--to", "timm"), "a .safetensors or .npz file; got"),
        ("a.onnx", ("--to", "torchvision"), "rename it"),
    ):
        assert_one_line_error(command("convert", tmp_path / "w.pth", "-o", tmp_path / name, *more), part)
        assert not (tmp_path / name).exists()
