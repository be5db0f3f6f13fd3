"""Outputs of a network: heads, intermediate maps, named end points, feature extraction, other inputs."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from resnets.arch.config import ResNetConfig
from resnets.arch.plan import plan
from resnets.arch.variants import get_config
from resnets.errors import ConfigError, ShapeError
from resnets.nn.model import FeatureExtractor, Network, build_model

SMALL: dict[str, Any] = {"widths": (8, 16, 24, 32), "depths": (1, 2, 1, 1), "stem_width": 8, "num_classes": 5}


def small(**options: Any) -> Network:
    """A ResNet-50 of few channels with moving statistics that are not trivial, in evaluation mode."""
    torch.manual_seed(0)
    model = build_model(ResNetConfig(**(SMALL | options)))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def image(channels: int = 3, height: int = 64, width: int = 48) -> torch.Tensor:
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(1))


def test_forward_is_features_then_head() -> None:
    model, x = small(), image()
    features = model.forward_features(x)
    assert features.shape == (2, 128, 2, 2)
    assert torch.equal(model(x), model.forward_head(features))
    embedding = model.forward_head(features, pre_logits=True)
    assert torch.allclose(embedding, features.mean((2, 3)), atol=1e-6)
    assert torch.equal(model(x), model.get_classifier()(embedding))


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels(channels: int) -> None:
    model = small(in_chans=channels)
    assert model(image(channels)).shape == (2, 5)
    with pytest.raises(ShapeError, match=rf"takes \(N, {channels}, H, W\); got \(2, 3, 64, 48\); set in_chans"):
        model(image(3))
    with pytest.raises(ShapeError, match="add the batch axis"):
        model(image(channels)[0])


def test_no_classes_output_embeddings() -> None:
    model = small(num_classes=0)
    assert model(image()).shape == (2, 128)
    assert model.num_features == 128
    maps = small(num_classes=0, global_pool="none")(image())
    assert maps.shape == (2, 128, 2, 2)
    assert torch.allclose(small(num_classes=0)(image()), maps.mean((2, 3)), atol=1e-6)
    assert torch.equal(small(num_classes=0, global_pool="max")(image()), maps.amax((2, 3)))


def test_dropout_acts_in_training_only() -> None:
    model, x = small(drop_rate=0.5), image()
    assert torch.equal(model(x), small()(x))
    torch.manual_seed(0)
    features = model.forward_features(x)
    model.train()
    assert not torch.equal(model.forward_head(features), model.forward_head(features))
    assert torch.equal(
        model.forward_head(features, pre_logits=True), model.eval().forward_head(features, pre_logits=True)
    )


@pytest.mark.parametrize("options", [{}, {"pre_activation": True}, {"output_stride": 8}, {"stem": "3x3"}], ids=str)
def test_forward_intermediates(options: dict[str, Any]) -> None:
    model, x = small(**options), image()
    last, maps = model.forward_intermediates(x)
    assert torch.equal(last, model.forward_features(x))
    for info, feature in zip(model.feature_info, maps, strict=True):
        cells = (-(-64 // info["reduction"]), -(-48 // info["reduction"]))
        assert feature.shape == (2, info["num_chs"], *cells)
    hooked: dict[str, torch.Tensor] = {}
    for info in model.feature_info:
        model.get_submodule(info["module"]).register_forward_hook(
            lambda module, args, out, name=info["module"]: hooked.update({name: out})
        )
    model(x)
    assert all(torch.equal(hooked[info["module"]], m) for info, m in zip(model.feature_info, maps, strict=True))


def test_feature_info_is_timms() -> None:
    model = build_model(get_config("resnet50"), init=False)
    assert [(info["num_chs"], info["reduction"], info["module"]) for info in model.feature_info] == [
        (64, 2, "act1"),
        (256, 4, "layer1"),
        (512, 8, "layer2"),
        (1024, 16, "layer3"),
        (2048, 32, "layer4"),
    ]


def test_feature_info_has_timms_methods() -> None:
    model = build_model(get_config("resnet50"), init=False)
    info = model.feature_info
    assert info.channels() == [64, 256, 512, 1024, 2048]
    assert info.channels((0, -1)) == [64, 2048]
    assert (info.channels(2), info.reduction(2), info.module_name(2)) == (512, 8, "layer2")
    assert FeatureExtractor(model, (1, 3)).feature_info.reduction() == [4, 16]
    info.get_dicts()[0]["num_chs"] = 0
    assert info.channels(0) == 64


def test_an_assigned_classifier_sets_the_number_of_classes() -> None:
    model, x = small(), image()
    model.fc = nn.Linear(model.num_features, 7)
    assert (model.num_classes, model.config.num_classes, model(x).shape[1]) == (7, 7, 7)
    assert model.plan == plan(model.config)
    assert copy.deepcopy(model).num_classes == 7
    model.fc = nn.Identity()
    assert (model.num_classes, model.config.num_classes) == (0, 0)
    model.fc = nn.Sequential(nn.Dropout(0.5), nn.Linear(model.num_features, 3))
    assert model.num_classes == 3
    vgg = build_model(get_config("vgg11", img_size=32), init=False)
    layers = vgg.get_submodule("classifier")
    assert isinstance(layers, nn.Sequential)
    layers[6] = nn.Linear(4096, 4)
    assert (vgg.num_classes, vgg.config.num_classes) == (4, 4)


def test_classifiers_of_other_kinds_keep_the_number_of_classes() -> None:
    dense, x = small(global_pool="none"), image()
    dense.fc = nn.Sequential(nn.Linear(dense.num_features, 4), nn.Identity())
    assert (dense.num_classes, dense(x).shape[1]) == (4, 4)
    vgg = build_model(get_config("vgg11", num_classes=6, img_size=32), init=False)
    vgg.classifier = nn.Linear(25088, 5)
    assert (vgg.num_classes, vgg.config.num_classes, vgg.plan.nodes != ()) == (6, 6, True)
    other = small()
    other.config = other.config.with_overrides(drop_rate=0.1)
    assert other.config.drop_rate == 0.1


def test_chosen_intermediates() -> None:
    model, x = small(), image()
    _, maps = model.forward_intermediates(x)

    def chosen(indices: Any, **options: Any) -> list[int]:
        """Which of all maps came, by their identity of values."""
        got = model.forward_intermediates(x, indices, intermediates_only=True, **options)
        return [next(i for i, m in enumerate(maps) if m.shape == g.shape and torch.equal(m, g)) for g in got]

    assert chosen([1, 3]) == [1, 3]
    assert chosen([3, 1]) == [3, 1]
    assert chosen([-1]) == [4]
    assert chosen(2) == [3, 4]
    assert chosen([0, 2], stop_early=True) == [0, 2]
    for wrong in ([5], [-6], [], 0, 6):
        with pytest.raises(ConfigError, match=r"out_indices must be among 0\.\.4"):
            model.forward_intermediates(x, wrong)
    with pytest.raises(ConfigError, match="intermediates_only=True"):
        model.forward_intermediates(x, [1], stop_early=True)


def test_stop_early() -> None:
    model = small()
    ran: list[str] = []
    for name in ("layer2", "layer3"):
        model.get_submodule(name).register_forward_hook(lambda module, args, out, name=name: ran.append(name))
    model.forward_intermediates(image(), [2], stop_early=True, intermediates_only=True)
    assert ran == ["layer2"]


def test_last_norm_of_a_pre_activation_network() -> None:
    model, x = small(pre_activation=True), image()
    last, raw = model.forward_intermediates(x)
    _, normed = model.forward_intermediates(x, norm=True)
    assert torch.equal(normed[-1], last)
    assert not torch.equal(raw[-1], last)
    assert torch.equal(raw[-2], normed[-2])


def test_end_points() -> None:
    model, x = small(), image()
    points = model.end_points(x)
    own = [name for name in points if "/" not in name and not name.startswith(("conv", "pool1"))]
    blocks = [f"layer{stage}.{block}" for stage, depth in enumerate(model.config.depths, 1) for block in range(depth)]
    assert own == ["stem", "layer1", "layer2", "layer3", "layer4", *blocks, "pre_logits", "logits"]
    assert points["layer4"] is points[blocks[-1]] is points[f"conv5_block{model.config.depths[-1]}_out"]
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(points["logits"], model(x))
    assert torch.equal(points["pre_logits"], points["layer4"].mean((2, 3), keepdim=True).flatten(1))
    assert not {"logits"} & small(num_classes=0).end_points(x).keys()
    assert not {"logits", "pre_logits"} & small(num_classes=0, global_pool="none").end_points(x).keys()


def test_reset_classifier() -> None:
    model, x = small(), image()
    features = model.forward_features(x)
    order = [name for name, _ in model.named_children()]
    model.reset_classifier(3)
    assert (model(x).shape, model.num_classes, model.config.num_classes) == ((2, 3), 3, 3)
    model.reset_classifier(0)
    assert torch.allclose(model(x), features.mean((2, 3)), atol=1e-6)
    model.reset_classifier(0, "max")
    assert torch.equal(model(x), features.amax((2, 3)))
    model.reset_classifier(7, "avg")
    fc = model.get_classifier()
    assert isinstance(fc, nn.Linear)
    assert fc.weight.abs().max() <= 128**-0.5
    assert torch.equal(model.forward_features(x), features)
    assert [name for name, _ in model.named_children()] == order
    with pytest.raises(ConfigError, match="num_classes must be a whole number"):
        model.reset_classifier(-1)


def test_reset_classifier_keeps_device_and_type() -> None:
    model = build_model(ResNetConfig(**SMALL), init=False).to(torch.float16)
    model.reset_classifier(3)
    fc = model.get_classifier()
    assert isinstance(fc, nn.Linear)
    assert (fc.weight.device.type, fc.weight.dtype) == ("meta", torch.float16)


def test_feature_extractor() -> None:
    x = image()
    _, maps = small().forward_intermediates(x)
    extractor = FeatureExtractor(small(), (1, -1))
    assert [info["num_chs"] for info in extractor.feature_info] == [32, 128]
    assert all(torch.equal(a, b) for a, b in zip(extractor(x), (maps[1], maps[4]), strict=True))
    assert not any("fc" in path for path in extractor.state_dict())
    assert len(FeatureExtractor(small())(x)) == 5


def test_channels_last_and_copies_have_the_same_output() -> None:
    model, x = small(), image()
    expected = model(x)
    assert torch.equal(copy.deepcopy(model)(x), expected)
    channels_last = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert torch.allclose(channels_last(x.to(memory_format=torch.channels_last)), expected, atol=1e-5)


def test_a_network_without_weights_is_filled_from_another() -> None:
    model, x = small(), image()
    empty = build_model(model.config, init=False)
    assert {p.device.type for p in empty.parameters()} == {"meta"}
    empty.load_state_dict(model.state_dict(), assign=True)
    assert torch.equal(empty.eval()(x), model(x))
