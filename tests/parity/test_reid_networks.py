"""Networks of torchreid, fast-reid, reid-strong-baseline and layumi's code, and the files that hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from resnets import api
from resnets.arch.config import ResNetConfig
from resnets.cli import main
from resnets.errors import ConfigError, WeightsError
from resnets.nn.model import ResNet, build_model
from resnets.weights.export import foreign_tensors
from resnets.weights.load import import_weights
from tests.golden import rule
from tests.golden.reid import rules
from tests.retrieve.golden import files, meta_of, read

FILES = files("net")
ROOTS = {"fastreid": "backbone.", "strongbaseline": "base.", "layumi": "model.", "torchreid": ""}
TOLERANCE = 1e-4  # of an array's largest magnitude


def tensors_of(meta: dict[str, Any]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(rule.tensor(name, tuple(shape), role)) for name, shape, role in meta["tensors"]}


def options_of(meta: dict[str, Any]) -> dict[str, Any]:
    """What a file of fast-reid does not tell of a classifier that was trained with a margin."""
    build = meta["build"]
    return (
        {name: build[name] for name in ("cls_layer", "scale")} if build.get("cls_layer", "Linear") != "Linear" else {}
    )


def inputs_of(meta: dict[str, Any], shape: list[int]) -> Tensor:
    if "pixels" not in meta["input_rule"]:
        return torch.from_numpy(rules.normal(0, shape)).float()
    mean, std = (torch.tensor(meta["preprocessing"][name])[:, None, None] for name in ("mean", "std"))
    return (torch.from_numpy(rules.pixels(0, shape)).float() - mean) / std


def differs(ours: NDArray[Any], theirs: NDArray[Any], full: NDArray[Any]) -> float:
    """Largest difference relative to the largest magnitude; `theirs` may be a probe of an array of the shape `full`."""
    assert tuple(ours.shape) == tuple(full)
    found = ours.reshape(theirs.shape) if ours.size == theirs.size else rules.probe(ours, theirs.size)
    return float(np.abs(found - theirs).max() / np.abs(theirs).max())


def record(model: ResNet, layer: str, root: str, maps: dict[str, Tensor]) -> Any:
    """A hook that keeps the output of a foreign layer, if ours has one of its name."""
    name, modules = layer.removeprefix(root), dict(model.named_modules())
    if name not in modules:
        return None
    if "nl" in modules[name]._modules:  # in fast-reid it follows the block
        name += ".act3"
    return model.get_submodule(name).register_forward_hook(lambda _, __, out: maps.update({layer: out}))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_outputs_and_feature_maps(path: Path) -> None:
    golden = read(path)
    meta = meta_of(golden)
    codebase = path.stem.split("__")[1]
    model, report = import_weights(tensors_of(meta), **options_of(meta))
    assert report.dialect == codebase
    assert all(name.startswith(("base.fc.", "model.fc.")) for name in report.dropped)
    assert isinstance(model, ResNet)
    for number, shape in enumerate(meta["inputs"]):
        maps: dict[str, Tensor] = {}
        prefix = f"{number}:tap:"
        layers = [key.removeprefix(prefix) for key in golden if key.startswith(prefix) and not key.endswith(":shape")]
        hooks = [record(model, layer, ROOTS[codebase], maps) for layer in layers]
        x = inputs_of(meta, shape)
        with torch.no_grad():
            before, after = model.forward_neck(model.forward_features(x))
            logits = model.classify(after)
            if codebase == "layumi":  # its maps are those of the mirrored image, which it tests last
                model(x.flip(3))
        for hook in filter(None, hooks):
            hook.remove()
        features = after if meta["build"].get("neck_feat") == "after" else before
        ours = {"embedding": after, "embedding_before": before, "features": features, "logits": logits}
        for name, output in ours.items():
            if (theirs := golden.get(f"{number}:{name}")) is not None:
                assert differs(output.numpy(), theirs, golden[f"{number}:{name}:shape"]) < TOLERANCE, name
        compared = 0
        for layer, output in maps.items():
            if tuple(output.shape) == tuple(golden[f"{prefix}{layer}:shape"]):
                assert differs(output.numpy(), golden[f"{prefix}{layer}"], output.shape) < TOLERANCE, layer  # type: ignore[arg-type]
                compared += 1
        assert compared >= 2 or not layers


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_convert_back_to_the_same_tensors(path: Path, tmp_path: Path) -> None:
    meta = meta_of(read(path))
    tensors = tensors_of(meta)
    model, report = import_weights(tensors, **options_of(meta))
    back = foreign_tensors(model, report.dialect)
    assert set(tensors) - set(back) == set(report.dropped)
    for name, tensor in back.items():
        assert torch.equal(tensor.reshape(-1), tensors[name].reshape(-1)), name
        assert tensor.shape == tensors[name].shape


@pytest.mark.parametrize("codebase", list(ROOTS))
def test_a_checkpoint_opens_and_embeds(codebase: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the codebases save it, and without any option."""
    meta = meta_of(read(next(path for path in FILES if path.stem.split("__")[1] == codebase)))
    wrapped: dict[str, Any] = {"model": tensors_of(meta), "iteration": 7}
    if codebase == "torchreid":
        wrapped = {"state_dict": {f"module.{name}": tensor for name, tensor in wrapped["model"].items()}, "epoch": 3}
    torch.save(wrapped, tmp_path / "checkpoint.pth")
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (70, 30, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    bundle = api.load(tmp_path / "checkpoint.pth")
    assert bundle.preprocessing.size == (256, 128)
    assert bundle.preprocessing.crop_mode == "squash"
    command = ["embed", str(tmp_path), "--model", str(tmp_path / "checkpoint.pth"), "--save", str(tmp_path / "e.npy")]
    assert main(command) == 0, capsys.readouterr().err
    assert np.load(tmp_path / "e.npy").shape == (3, bundle.model.num_features)
    for number in range(3):  # two identities, one of them with two images
        folder = tmp_path / "data" / str(number // 2)
        folder.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{number}.png").rename(folder / f"{number}.png")
    assert main(["reid", str(tmp_path / "data"), "--model", str(tmp_path / "checkpoint.pth")]) == 0
    assert "mAP" in capsys.readouterr().out


SMALL: dict[str, Any] = {
    "depths": (2, 3, 2), "widths": (8, 16, 24), "stem_width": 8, "num_classes": 5, "last_stride": 1, "neck": "bn",
}  # fmt: skip


@pytest.mark.parametrize(
    ("dialect", "changes"),
    [
        ("strongbaseline", {"classifier_bias": False, "stem_act": False}),
        ("strongbaseline", {"classifier_bias": False, "ibn": ("a", "a", "")}),
        ("strongbaseline", {"neck": "none", "stem_act": False}),
        ("strongbaseline", {"classifier_bias": False, "block": "basic", "stem_act": False}),
        ("strongbaseline", {"classifier_bias": False, "attention": "se", "attention_reduction": 4, "stride_in": "1x1",
                            "stem_pool": "max_ceil"}),
        ("fastreid", {"classifier_bias": False, "stem_pool": "max_ceil"}),
        ("fastreid", {"classifier_bias": False, "stem_pool": "max_ceil", "embedding_dim": 6, "embedding_bias": False}),
        ("fastreid", {"classifier_bias": False, "stem_pool": "max_ceil", "global_pool": "gem", "non_local": (0, 2, 1)}),
        ("fastreid", {"classifier_bias": False, "stem_pool": "max_ceil", "ibn": ("a", "a", ""), "attention": "se",
                      "se_form": "linear", "attention_reduction": 4}),
        ("fastreid", {"classifier_bias": False, "stem_pool": "max_ceil", "neck": "none", "block": "basic"}),
        ("torchreid", {"neck": "bn_relu", "embedding_dim": 6}),
        ("torchreid", {"neck": "none", "last_stride": None}),
        ("torchreid", {"neck": "none", "last_stride": None, "attention": "se", "attention_reduction": 4,
                       "stride_in": "1x1", "stem_pool": "max_ceil"}),
        ("torchreid", {"neck": "bn_relu", "embedding_dim": 6, "attention": "se", "attention_reduction": 4,
                       "stride_in": "1x1", "stem_pool": "max_ceil"}),
        ("layumi", {"embedding_dim": 6, "last_stride": None}),
        ("layumi", {"last_stride": None}),
    ],
    ids=str,
)  # fmt: skip
def test_other_networks_survive_the_round_trip(dialect: str, changes: dict[str, Any]) -> None:
    config = ResNetConfig(**SMALL | changes)
    torch.manual_seed(0)
    model = build_model(config).eval()
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    back, report = import_weights(foreign_tensors(model, dialect))
    assert report.dialect == dialect
    assert back.config == config
    x = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        assert torch.equal(back(x), model(x))


def test_what_the_file_does_not_tell_is_refused_or_noted() -> None:
    torch.manual_seed(0)
    config = ResNetConfig(
        **SMALL, classifier="cosine", classifier_bias=False, classifier_scale=30.0, stem_pool="max_ceil"
    )
    model = build_model(config).eval()
    tensors = foreign_tensors(model, "fastreid")
    plain, report = import_weights(tensors)
    assert plain.config.classifier == "linear"
    assert any("cls_layer" in note for note in report.notes)
    back, report = import_weights(tensors, cls_layer="CosSoftmax", scale=30)
    assert back.config == config
    assert not any("cls_layer" in note for note in report.notes)
    with pytest.raises(ConfigError, match="cls_layer"):
        import_weights(tensors, cls_layer="Softmax")
    with pytest.raises(ConfigError, match=r"classifier_scale=64"):  # of a classifier that is read as linear
        import_weights(tensors, scale=64)
    _, report = import_weights(tensors, cls_layer="CosSoftmax")
    assert any("scale=64" in note for note in report.notes)
    with pytest.raises(ConfigError, match="pool_layer"):
        import_weights(tensors, pool_layer="SoftPool")
    missing = {name: tensor for name, tensor in tensors.items() if name != "heads.bottleneck.0.running_var"}
    with pytest.raises(WeightsError, match="running_var"):
        import_weights(missing)


@pytest.mark.parametrize(("target", "fact"), [("timm", "neck"), ("torchvision", "neck"), ("ibnnet", "names")])
def test_layouts_without_a_neck_refuse_it(target: str, fact: str) -> None:
    model = build_model(ResNetConfig(depths=(2, 2, 2, 2), block="basic", neck="bn", classifier_bias=False))
    with pytest.raises(WeightsError, match=fact):
        foreign_tensors(model, target)
