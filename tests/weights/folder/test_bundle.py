"""The model folder: what it holds, that it comes back, and that it is whole or not there."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from resnets.arch.networks import config_from_dict
from resnets.arch.preprocessing import Channels, Preprocessing
from resnets.arch.variants import get_config
from resnets.errors import ConfigError, WeightsError
from resnets.nn.model import build_model
from resnets.weights.folder import storage as folders
from resnets.weights.folder.bundle import Bundle
from resnets.weights.folder.model_card import model_card
from resnets.weights.folder.model_folder import read_bundle, save_bundle

Edit = Callable[[dict[str, Any]], object]


def same_tensors(one: Bundle, other: Bundle) -> bool:
    left, right = one.model.state_dict(), other.model.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def edit(folder: Path, change: Edit) -> Path:
    values = json.loads((folder / "config.json").read_text())
    change(values)
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def test_a_folder_read_back_is_bit_identical(bundle: Bundle, tmp_path: Path) -> None:
    back = read_bundle(save_bundle(bundle, tmp_path / "m"))
    assert same_tensors(bundle, back)
    for part in ("config", "preprocessing", "classes", "name", "license", "provenance", "calibration"):
        assert getattr(back, part) == getattr(bundle, part), part
    assert not back.model.training
    again = save_bundle(back, tmp_path / "n")
    for name in ("model.safetensors", "config.json"):
        assert (again / name).read_bytes() == (tmp_path / "m" / name).read_bytes(), name


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("resnet18", {"num_classes": 2, "output_stride": 8}),
        ("resnetv2_18", {"num_classes": 0, "in_chans": 1}),
        ("resnext50_32x4d", {"norm": "frozen_batch", "last_stride": 1, "num_classes": 5}),
        ("resnet20_cifar", {"norm": "group", "norm_groups": 8, "shortcut": "C"}),
        ("plain20_cifar", {"num_classes": 0, "global_pool": "none"}),
    ],
)
def test_every_kind_of_network_comes_back(name: str, overrides: dict[str, Any], tmp_path: Path) -> None:
    model = build_model(get_config(name, **overrides))
    channels: Channels = "L" if model.config.in_chans == 1 else "RGB"
    mean = (0.5,) * model.config.in_chans
    preprocessing = Preprocessing(size=(64, 48), channels=channels, mean=mean, std=mean)
    bundle = Bundle(model=model, preprocessing=preprocessing, classes=tuple(map(str, range(model.num_classes))))
    back = read_bundle(save_bundle(bundle, tmp_path / "m"))
    assert back.config == model.config
    assert same_tensors(bundle, back)
    x = torch.randn(2, model.config.in_chans, 64, 48)
    torch.testing.assert_close(back.model(x), model.eval()(x), rtol=0, atol=0)


def test_folders_hold_contiguous_float32(bundle: Bundle, tmp_path: Path) -> None:
    bundle.model.to(dtype=torch.bfloat16, memory_format=torch.channels_last)  # type: ignore[call-overload]
    back = read_bundle(save_bundle(bundle, tmp_path / "m")).model.state_dict()
    for key, tensor in bundle.model.state_dict().items():
        assert back[key].dtype == (torch.float32 if tensor.is_floating_point() else torch.int64)
        assert back[key].is_contiguous()
        assert torch.equal(back[key], tensor.to(back[key].dtype))


def test_config_json_has_timms_layout(bundle: Bundle, tmp_path: Path) -> None:
    folder = save_bundle(bundle, tmp_path / "m")
    assert sorted(os.listdir(folder)) == ["README.md", "config.json", "model.safetensors"]
    values = json.loads((folder / "config.json").read_text())
    ours = values.pop("resnets")
    cfg = values.pop("pretrained_cfg")
    assert values == {
        "architecture": "resnet8_cifar",
        "num_classes": 3,
        "num_features": 64,
        "global_pool": "avg",
        "label_names": ["cat", "dög", "a|b"],
        "model_args": {},
    }
    # mean 0.1 of values in [-1, 1] is 0.55 of values in [0, 1]; a std of 0.229 is half as wide there
    assert cfg["mean"] == pytest.approx([0.55, 0.6, 0.65])
    assert cfg["std"] == pytest.approx([0.229 / 2, 0.224 / 2, 0.225 / 2])
    assert (cfg["input_size"], cfg["pool_size"]) == ([3, 32, 32], [8, 8])
    assert (cfg["first_conv"], cfg["classifier"], cfg["license"]) == ("conv1", "fc", "Apache-2.0")
    assert (cfg["interpolation"], cfg["crop_pct"], cfg["crop_mode"], cfg["num_classes"]) == ("bilinear", 1, "center", 3)
    assert ours["schema"] == 1
    assert config_from_dict(ours["config"]) == bundle.config
    assert ours["preprocessing_hash"] == bundle.preprocessing.hash
    assert sorted(load_file(folder / "model.safetensors")) == sorted(bundle.model.state_dict())


def test_options_of_timm_are_in_model_args(tmp_path: Path) -> None:
    model = build_model(get_config("resnet18", num_classes=0, output_stride=16, global_pool="none"))
    save_bundle(Bundle(model=model, preprocessing=Preprocessing(), classes=(), name="resnet18"), tmp_path / "m")
    values = json.loads((tmp_path / "m" / "config.json").read_text())
    assert (values["model_args"], values["global_pool"]) == ({"output_stride": 16, "global_pool": ""}, "")
    assert values["pretrained_cfg"]["pool_size"] == [14, 14]


def test_model_card(bundle: Bundle, tmp_path: Path) -> None:
    text = (save_bundle(bundle, tmp_path / "my model") / "README.md").read_text()
    matter = yaml.safe_load(text.split("---")[1])
    assert (matter["license"], matter["library_name"]) == ("apache-2.0", "resnets")
    assert "| top-1 | 0.9125 |" in text
    assert "- **recipe**: epochs 2, lr 0.1" in text
    assert r"cat, dög, a\|b" in text
    assert "resnets predict --model 'my model' image.jpg" in text


def test_names_on_the_model_card_are_no_html(bundle: Bundle, tmp_path: Path) -> None:
    names = ("<script>alert(1)<!--", *bundle.classes[1:])
    text = (save_bundle(replace(bundle, classes=names), tmp_path / "m") / "README.md").read_text()
    assert "&lt;script&gt;alert(1)&lt;!--" in text
    assert "<script>" not in text


def test_model_card_summarises_the_training(bundle: Bundle, tmp_path: Path) -> None:
    told = {
        "training": {"Optimiser": "SGD, momentum 0.9", "Averaging": "EMA | decay 0.999"},
        "phases": [
            {"epochs": "1 to 3", "frozen": "up to layer3", "lr": 0.1},
            {"epochs": "4", "frozen": "no|", "lr": 1e-3},
        ],
    }
    own = replace(bundle, provenance=bundle.provenance | told)
    text = (save_bundle(own, tmp_path / "m") / "README.md").read_text()
    section = text.partition("## How it was trained\n\n")[2].partition("\n\n## ")[0]
    assert section == (
        "- **Optimiser**: SGD, momentum 0.9\n- **Averaging**: EMA \\| decay 0.999\n\n"
        "| epochs | frozen | lr |\n| --- | --- | --- |\n| 1 to 3 | up to layer3 | 0.1 |\n| 4 | no\\| | 0.001 |"
    )
    assert "**recipe**" not in text  # the same in options
    assert read_bundle(tmp_path / "m").provenance["recipe"] == bundle.provenance["recipe"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["resnets"].update(schema=2), "update resnets"),
        (lambda v: v["resnets"].update(schema="1"), "schema 1 can be read"),
        (lambda v: v["resnets"]["preprocessing"].update(mean=[0.5, 0.5, 0.5]), "states"),
        (lambda v: v["resnets"].update(preprocessing_hash="0" * 16), "states 0000"),
        (lambda v: v["pretrained_cfg"].update(crop_pct=0.5), "differs in crop_pct"),
        (lambda v: v.pop("resnets"), 'no "resnets" part'),
        (lambda v: v["resnets"].pop("config"), "lacks 'config'"),
        (lambda v: v["resnets"]["config"].update(depth=3), "model option"),
        (lambda v: v["resnets"]["config"].update(depths=[1, 1, 10**9]), "at most 1,048,576"),
        (lambda v: v["resnets"]["config"].update(widths="abc"), "does not describe a model"),
        (lambda v: v["resnets"]["config"].update(widths=[16, 32, 32]), "mis-shaped: layer3.0.conv1.weight"),
        (lambda v: v["resnets"]["config"].update(depths=[1, 1, 2]), "missing: layer3.1.conv1.weight"),
        (lambda v: v["resnets"]["config"].update(depths=[1, 1], widths=[16, 64]), "unexpected: layer3.0"),
        (lambda v: v.update(label_names=["cat"]), "1 names for 3 logits"),
        (lambda v: v.update(pretrained_cfg=7), "does not describe a model"),
        (lambda v: v["resnets"].update(provenance=None), "does not describe a model"),
    ],
)
def test_an_edited_config_is_refused(bundle: Bundle, tmp_path: Path, change: Edit, message: str) -> None:
    folder = edit(save_bundle(bundle, tmp_path / "m"), change)
    with pytest.raises(WeightsError) as caught:
        read_bundle(folder)
    assert message in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "garbage"])
def test_a_damaged_file_is_named(bundle: Bundle, tmp_path: Path, name: str, damage: str) -> None:
    path = save_bundle(bundle, tmp_path / "m") / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "garbage": b"\xff\x00" * 500}[damage])
    with pytest.raises(WeightsError) as caught:
        read_bundle(tmp_path / "m")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tensor_of_another_type_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    path = save_bundle(bundle, tmp_path / "m") / "model.safetensors"
    tensors = load_file(path)
    tensors["fc.bias"] = tensors["fc.bias"].to(torch.int32)
    save_file(tensors, path)
    with pytest.raises(WeightsError, match=r"1 of the wrong type: fc.bias int32"):
        read_bundle(tmp_path / "m")


def test_nothing_is_drawn_at_random_on_reading(bundle: Bundle, tmp_path: Path) -> None:
    folder = save_bundle(bundle, tmp_path / "m")

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        drawn: tuple[str, ...] = ()

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            real = isinstance(result, torch.Tensor) and not result.is_meta
            if real and any(word in str(func) for word in ("normal_", "uniform_", "bernoulli")):
                self.drawn += (str(func),)
            return result

    with Watch() as watch:  # type: ignore[no-untyped-call]
        state = torch.get_rng_state()
        read_bundle(folder)
        assert torch.equal(torch.get_rng_state(), state)
        assert watch.drawn == ()
        build_model(bundle.config)  # the watch does see drawing
        assert watch.drawn


def test_saving_replaces_a_model_and_leaves_nothing_beside_it(bundle: Bundle, tmp_path: Path) -> None:
    save_bundle(bundle, tmp_path / "m")
    bundle.model.get_parameter("fc.bias").data.fill_(5)
    save_bundle(bundle, tmp_path / "m")
    assert read_bundle(tmp_path / "m").model.state_dict()["fc.bias"].tolist() == [5, 5, 5]
    assert os.listdir(tmp_path) == ["m"]
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "m").stat().st_mode & 0o777 == 0o777 & ~umask


def test_a_folder_with_other_files_is_not_replaced(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("text")
    for name in ("m", "file"):
        with pytest.raises(WeightsError, match="holds other files"):
            save_bundle(bundle, tmp_path / name)
    assert (tmp_path / "m" / "thesis.tex").read_text() == "years of work"
    assert sorted(os.listdir(tmp_path)) == ["file", "m"]


@pytest.mark.parametrize("dies_at", ["writing", "between the renames", "deleting"])
def test_a_killed_save_leaves_a_loadable_model(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    class KilledError(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise KilledError

    save_bundle(bundle, tmp_path / "m")
    before = bundle.model.state_dict()["fc.bias"].tolist()
    bundle.model.get_parameter("fc.bias").data.fill_(5)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # a killed program cleans up nothing
        if dies_at == "writing":
            patch.setattr(folders, "fsync", die)
        elif dies_at == "between the renames":
            rename = Path.replace
            patch.setattr(Path, "replace", lambda self, to: die() if to.name == "m" else rename(self, to))
        else:
            patch.setattr(shutil, "rmtree", die)
        with pytest.raises(KilledError):
            save_bundle(bundle, tmp_path / "m")
    assert (tmp_path / "m").exists() == (dies_at != "between the renames")
    assert folders.is_model_folder(tmp_path / "m")
    found = read_bundle(tmp_path / "m").model.state_dict()["fc.bias"].tolist()
    assert found == ([5, 5, 5] if dies_at == "deleting" else before)

    for left in tmp_path.glob(".m.*.tmp"):
        os.utime(left, (0, 0))  # long ago
    save_bundle(bundle, tmp_path / "m")  # the next save clears up
    assert read_bundle(tmp_path / "m").model.state_dict()["fc.bias"].tolist() == [5, 5, 5]
    assert os.listdir(tmp_path) == ["m"]


def test_a_full_disk_leaves_the_old_model(bundle: Bundle, tmp_path: Path) -> None:
    save_bundle(bundle, tmp_path / "m")
    before = (tmp_path / "m" / "model.safetensors").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # the tensors are larger than that
    try:
        with pytest.raises(WeightsError, match="cannot write the model folder") as caught:
            save_bundle(bundle, tmp_path / "m")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["m"]
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == before


def test_missing_permission_is_an_error(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> str:  # root, as whom tests may run, is allowed everything
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(WeightsError, match=r"Permission denied; .*choose another folder"):
        save_bundle(bundle, tmp_path / "m")
    assert os.listdir(tmp_path) == []


def test_a_path_that_cannot_be_written_is_an_error(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(WeightsError, match="cannot write the model folder"):
        save_bundle(bundle, tmp_path / "file" / "m")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("cat",)}, "1 names for 3 logits"),
        ({"preprocessing": Preprocessing(channels="L", mean=(0.5,), std=(0.5,))}, "agree on channels"),
        ({"provenance": {"loss": float("nan")}}, "provenance must be what JSON can hold"),
        ({"provenance": {"path": Path()}}, "provenance must be what JSON can hold"),
        ({"calibration": {"t": torch.ones(1)}}, "calibration must be what JSON can hold"),
    ],
)
def test_a_bundle_checks_its_parts(bundle: Bundle, changes: dict[str, Any], message: str) -> None:
    parts = {name: getattr(bundle, name) for name in ("model", "preprocessing", "classes")}
    with pytest.raises(ConfigError, match=message):
        Bundle(**parts | changes)


def test_markdown_and_html_in_class_names_are_shown_as_they_are(tmp_path: Path) -> None:
    shown = {
        "# h": r"\# h", "1. one": r"1\. one", "- x": r"\- x", "-1": "-1", "2.5": "2.5", "esc\x1b": r"esc\\x1b",
        "[x](http://y)": r"\[x\](http://y)", "*a* `b`": r"\*a\* \`b\`", "<b>": "&lt;b&gt;", "a|b": r"a\|b",
        "a_2": "a_2", "_c_": r"\_c\_", "two\nlines": "two lines",
    }  # fmt: skip
    bundle = Bundle(
        model=build_model(get_config("resnet8_cifar", num_classes=len(shown))),
        preprocessing=Preprocessing(size=(32, 32)),
        classes=tuple(shown),
    )
    assert f"\n{', '.join(shown.values())}\n" in model_card(bundle, "folder")


def test_a_model_that_could_not_be_read_is_not_saved(tmp_path: Path) -> None:
    bundle = Bundle(
        model=build_model(get_config("resnet8_cifar", num_classes=2)),
        preprocessing=Preprocessing(size=(32, 32)),
        classes=("a", "b"),
    )
    for classifier, message in (
        (nn.Linear(64, 5), r"each logit has one class name; got 2 names for 5 logits"),
        (nn.Identity(), r"each logit has one class name; got 2 names for 0 logits"),
        (nn.Sequential(nn.Dropout(), nn.Linear(64, 2)), r"is saved as its config describes it; .* fc\.1\.weight"),
        (nn.Linear(64, 2, bias=False), r"is saved as its config describes it; .* fc\.bias"),
    ):
        bundle.model.fc = classifier
        with pytest.raises(ConfigError, match=message):
            save_bundle(bundle, tmp_path / "m")
        assert not (tmp_path / "m").exists()
    bundle.model.fc = nn.Linear(64, 2)
    save_bundle(bundle, tmp_path / "m")
    assert read_bundle(tmp_path / "m").classes == ("a", "b")
