"""What a model reference stands for, and networks made from one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from resnets.arch.config import ResNetConfig
from resnets.arch.variants import get_config
from resnets.errors import ConfigError, UnknownNameError, WeightsError
from resnets.nn.model import FeatureExtractor, Network
from resnets.weights import resolve as references
from resnets.weights.create import create_model
from resnets.weights.folder.bundle import Bundle
from resnets.weights.folder.model_folder import save_bundle
from resnets.weights.open import load_bundle, open_model
from resnets.weights.resolve import resolve
from tests.weights.networks import create_network, randomized


@pytest.fixture
def folder(bundle: Bundle, tmp_path: Path) -> Path:
    return save_bundle(bundle, tmp_path / "m")


def resnet18(**options: Any) -> Network:
    return randomized(get_config("resnet18", **{"num_classes": 4, **options}))


def test_the_kinds_of_references(bundle: Bundle, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (resolve("resnet50").kind, resolve("resnet50").path) == ("variant", None)
    assert resolve("resnet38_cifar").kind == "variant"
    assert (resolve(str(folder)).kind, resolve(folder).path) == ("folder", folder)
    assert (resolve(folder / "model.safetensors").kind, resolve(folder / "model.safetensors").path) == (
        "folder",
        folder,
    )
    (tmp_path / "w.pth").touch()
    assert (resolve(str(tmp_path / "w.pth")).kind, resolve(tmp_path / "w.pth").path) == ("file", tmp_path / "w.pth")
    monkeypatch.setattr(references, "STARTER", folder)
    assert (resolve("starter").kind, resolve("starter").path) == ("starter", folder)
    assert load_bundle("starter").classes == bundle.classes


def test_a_run_folder_gives_its_best_or_else_its_last(bundle: Bundle, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "args.yaml").touch()
    with pytest.raises(WeightsError, match="a run without a saved model"):
        resolve(run)
    save_bundle(bundle, run / "last")
    assert (resolve(run).kind, resolve(run).path) == ("run", run / "last")
    save_bundle(bundle, run / "best")
    assert resolve(str(run)).path == run / "best"
    (run / "best").rename(run / ".best.old")  # a save was killed between its two renames
    assert resolve(run).path == run / "best"
    assert load_bundle(run).classes == bundle.classes


def test_names_come_before_paths(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_bundle(bundle, "resnet18")
    save_bundle(bundle, "mine")
    assert resolve("resnet18").kind == "variant"
    for reference in ("./resnet18", Path("resnet18"), "mine"):
        assert resolve(reference).kind == "folder"
    with pytest.raises(WeightsError, match=r"without any \(for the folder, write \./resnet18\)"):
        load_bundle("resnet18")


def test_references_without_a_model_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownNameError, match=r"no network, file or folder.* got 'resnt50'; did you mean resnet50"):
        resolve("resnt50")
    with pytest.raises(UnknownNameError, match="did you mean starter"):
        resolve("startr")
    for path in ("./resnet50x", "runs/x", "w.pth", Path("x")):
        with pytest.raises(WeightsError, match="does not exist"):
            resolve(path)
    with pytest.raises(WeightsError, match="a folder without a model"):
        resolve(tmp_path)
    with pytest.raises(ConfigError, match=r"6n\+2; got 21; nearest are 20 and 26"):
        resolve("resnet21_cifar")
    with pytest.raises(
        WeightsError, match=r"resnet50 is a network without any; pass resnet50\.tv_in1k, .*, or a weights file"
    ):
        load_bundle("resnet50")
    monkeypatch.setattr(references, "STARTER", tmp_path / "starter")
    with pytest.raises(WeightsError, match="`starter` comes with the package"):
        load_bundle("starter")


def test_a_weights_file_is_a_bundle_with_assumed_preprocessing(tmp_path: Path) -> None:
    model = resnet18()
    torch.save(model.state_dict(), tmp_path / "w.pth")
    bundle = load_bundle(tmp_path / "w.pth")
    assert (bundle.name, bundle.classes) == ("resnet18", ("0", "1", "2", "3"))
    assert (bundle.preprocessing.size, bundle.preprocessing.crop_pct) == ((224, 224), 0.875)
    assert "assumed from the torchvision dialect" in bundle.provenance["note"]
    assert bundle.provenance["import"]["filled"] == 1
    assert torch.equal(bundle.model.state_dict()["fc.weight"], model.state_dict()["fc.weight"])
    assert load_bundle(save_bundle(bundle, tmp_path / "m")).provenance == bundle.provenance


@pytest.mark.parametrize(
    ("name", "mean"), [("akamaster/resnet20-12fca82f.th", 0.485), ("laodaoguizhong/cifar10_resnet20.pth", 0.4914)]
)
def test_small_networks_take_small_images_whole(shared_data: Path, name: str, mean: float) -> None:
    preprocessing = load_bundle(shared_data / "weights" / name).preprocessing
    assert (preprocessing.size, preprocessing.crop_pct, preprocessing.mean[0]) == ((32, 32), 1, mean)


def test_input_of_other_channels(tmp_path: Path) -> None:
    save_file(resnet18(in_chans=1).state_dict(), tmp_path / "gray.safetensors")
    assert load_bundle(tmp_path / "gray.safetensors").preprocessing.channels == "L"
    save_file(resnet18(in_chans=4).state_dict(), tmp_path / "four.safetensors")
    with pytest.raises(WeightsError, match="takes 4 channels"):
        load_bundle(tmp_path / "four.safetensors")


def test_configs_are_read_without_tensors(folder: Path, bundle: Bundle, tmp_path: Path) -> None:
    assert resolve("resnet50").read_config() == get_config("resnet50")
    assert resolve("resnet50.tv2_in1k").read_config() == get_config("resnet50")
    assert resolve(folder).read_config() == bundle.config
    (tmp_path / "w.pth").touch()
    assert resolve(tmp_path / "w.pth").read_config() is None
    (folder / "config.json").write_text('{"architecture": "resnet18"}')  # timm's
    assert resolve(folder).read_config() is None


def test_options_for_our_own_folder_are_errors(folder: Path) -> None:
    with pytest.raises(ConfigError, match="got variant, last_stride"):
        open_model(resolve(folder), variant="resnet18", options={"last_stride": 1})


# create_model


def test_fresh_networks_have_the_requested_config() -> None:
    assert create_model("resnet20_cifar").config == get_config("resnet20_cifar")
    model = create_model("resnet18", num_classes=5, in_chans=1, output_stride=16, drop_rate=0.1)
    assert model.config == get_config("resnet18", num_classes=5, in_chans=1, output_stride=16, drop_rate=0.1)
    assert model.training
    config = ResNetConfig(block="basic", depths=(1,), widths=(16,), stem_width=16)
    assert create_network(config, num_classes=3).num_classes == 3
    assert create_model("resnet18", pretrained=False, num_classes=0)(torch.zeros(2, 3, 32, 32)).shape == (2, 512)


def test_features_only() -> None:
    model = create_model("resnet18", features_only=True, out_indices=(1, 4), output_stride=8)
    assert isinstance(model, FeatureExtractor)
    assert [tuple(m.shape) for m in model(torch.zeros(1, 3, 64, 64))] == [(1, 64, 16, 16), (1, 512, 8, 8)]
    with pytest.raises(ConfigError, match="pass features_only=True"):
        create_model("resnet18", out_indices=(1,))


def test_unknown_names_and_options_list_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean resnet18"):
        create_model("resnet_18")
    with pytest.raises(UnknownNameError, match="did you mean drop_path_rate"):
        create_model("resnet18", drop_path=0.1)
    with pytest.raises(UnknownNameError, match="no network, file"):
        create_model("resnet18", pretrained="startr")
    with pytest.raises(WeightsError, match=r"got True.*pass 'starter'"):
        create_model("resnet20_cifar", pretrained=True)
    with pytest.raises(WeightsError, match="resnet18 is a network's name"):
        create_model("resnet18", pretrained="resnet18")


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_pretrained_weights_and_a_fresh_head(
    bundle: Bundle, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    caplog.set_level(logging.INFO, "resnets")
    state = bundle.model.state_dict()
    save_file(state, tmp_path / "w.safetensors")
    reference = folder if kind == "folder" else tmp_path / "w.safetensors"

    model = create_model("resnet8_cifar", pretrained=reference)
    assert model.num_classes == 3  # what the weights have, not the ten of the name
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert model.training
    assert not caplog.records

    model = create_model("resnet8_cifar", pretrained=str(reference), num_classes=5, drop_path_rate=0.1)
    assert model.config == get_config("resnet8_cifar", num_classes=5, drop_path_rate=0.1)
    assert model.state_dict()["fc.weight"].shape == (5, 64)
    assert float(model.state_dict()["fc.weight"].detach().std()) > 0
    assert "has 3 classes, 5 are requested: the classifier starts fresh" in caplog.text
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items() if not k.startswith("fc."))

    caplog.clear()
    features = create_model("resnet8_cifar", pretrained=reference, features_only=True)
    assert [tuple(m.shape[1:]) for m in features(torch.zeros(1, 3, 32, 32))][-1] == (64, 8, 8)
    embedding = create_model("resnet8_cifar", pretrained=reference, num_classes=0)
    assert embedding(torch.zeros(1, 3, 32, 32)).shape == (1, 64)
    assert create_model("resnet8_cifar", pretrained=reference, num_classes=0, global_pool="none").num_classes == 0
    assert not caplog.records


def test_a_config_determines_the_classes(bundle: Bundle, folder: Path) -> None:
    config = get_config("resnet8_cifar", num_classes=10)
    assert create_model(config, pretrained=folder).num_classes == 10
    assert create_model(bundle.config, pretrained=folder).config == bundle.config


def test_weights_of_another_network_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"differs in depths \(3, 3, 3\) for \(1, 1, 1\)"):
        create_model("resnet20_cifar", pretrained=folder)
    with pytest.raises(WeightsError, match="differs in shortcut none for A"):
        create_model("plain8_cifar", pretrained=folder)
    with pytest.raises(WeightsError, match="differs in norm_eps"):
        create_model("resnet8_cifar", pretrained=folder, norm_eps=1e-3)
    torch.save(resnet18().state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="missing: "):
        create_model("resnet34", pretrained=tmp_path / "w.pth")


def test_geometry_changes_only_if_passed(tmp_path: Path) -> None:
    model = resnet18(last_stride=1)
    from resnets.arch.preprocessing import Preprocessing

    bundle = Bundle(model=model, preprocessing=Preprocessing(), classes=tuple("abcd"), name="resnet18")
    folder = save_bundle(bundle, tmp_path / "m")
    with pytest.raises(WeightsError, match="differs in last_stride None for 1"):
        create_model("resnet18", pretrained=folder)
    assert create_network("resnet18", pretrained=folder, last_stride=1).config == model.config
    assert create_network("resnet18", pretrained=folder, last_stride=2).config.last_stride == 2
    frozen = create_model("resnet18", pretrained=folder, last_stride=1, norm="frozen_batch")
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(frozen(x), model.eval()(x), rtol=1e-4, atol=1e-4)
    pooled = create_model("resnet18", pretrained=folder, last_stride=1, global_pool="max")
    assert torch.equal(pooled.state_dict()["fc.weight"], model.state_dict()["fc.weight"])
