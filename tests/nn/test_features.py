"""Feature maps of every kind of network: channels and reductions, side outputs, heads of other kinds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from resnets.arch.networks import NetworkConfig
from resnets.arch.variants import VARIANTS, get_config
from resnets.errors import ConfigError, ShapeError
from resnets.nn.model import FeatureExtractor, Network, build_model
from tests.nn.tracing import shallow, thin, weightless

KINDS = {thin(shallow(config, 2)): name for name, config in reversed(VARIANTS.items())}
OPTIONS: list[dict[str, Any]] = [
    {"output_stride": 8},
    {"output_stride": 16, "dilation_rule": "detectron"},
    {"last_stride": 1},
    {"stem_pool": "none"},
    {"stem": "3x3"},
    {"stem": "3x3", "stem_pool": "none"},
    {"padding": "same", "stem_pool": "max_same"},
]
# An anti-aliased stem has a pool of its own.
CASES = [
    (n, o) for n in ("resnet18", "resnet50", "resnetv2_50", "resnet_v2_50", "resnet50d", "plain18") for o in OPTIONS
]
CASES += [("resnetblur50", options) for options in OPTIONS[:-1]]


def check_maps(config: NetworkConfig, height: int = 64, width: int = 96) -> None:
    """Each map has the shape in `feature_info`, however many are chosen, and those of the whole network."""
    torch.manual_seed(0)
    model = build_model(config).eval()
    x = torch.randn(1, config.in_chans, height, width)
    _, maps = model.forward_intermediates(x)
    for info, feature in zip(model.feature_info, maps, strict=True):
        assert feature.shape == (1, info["num_chs"], height // info["reduction"], width // info["reduction"]), info
    extractor = FeatureExtractor(model, (0, -2))
    chosen = extractor(x)
    assert [info["module"] for info in extractor.feature_info] == [
        model.feature_info[0]["module"],
        model.feature_info[-2]["module"],
    ]
    assert all(torch.equal(one, maps[index]) for one, index in zip(chosen, (0, -2), strict=True))


@pytest.mark.parametrize("config", KINDS, ids=KINDS.get)
def test_channels_and_reductions_of_every_kind(config: NetworkConfig) -> None:
    """At sizes that the network divides; an unpadded pool needs a cell more, or one less, to do so."""
    pool = getattr(config, "stem_pool", "max")
    check_maps(config, *((64, 96) if pool != "max_valid" else (66, 98)))


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_channels_and_reductions_of_every_option(name: str, options: dict[str, Any]) -> None:
    check_maps(thin(get_config(name, depths=(1, 2, 1, 2), **options)))


def reductions(name: str, **options: Any) -> list[int]:
    return [info["reduction"] for info in weightless(get_config(name, **options)).feature_info]


def test_reductions_by_hand() -> None:
    assert reductions("resnet50") == [2, 4, 8, 16, 32]
    assert reductions("resnet50", output_stride=8) == [2, 4, 8, 8, 8]
    assert reductions("resnet50", last_stride=1) == [2, 4, 8, 16, 16]
    assert reductions("resnet_v2_50") == [2, 8, 16, 32, 32]  # a stage's last unit strides for the next stage
    assert reductions("resnet_v2_50", output_stride=16) == [2, 8, 16, 16, 16]
    assert reductions("resnet20_cifar") == [1, 1, 2, 4]
    assert reductions("vgg16") == [1, 2, 4, 8, 16]
    assert [info["num_chs"] for info in weightless(get_config("senet154")).feature_info] == [128, 256, 512, 1024, 2048]


def test_vgg_side_outputs_at_352() -> None:
    """As edge detection and saliency take them: before each pool."""
    model = weightless(get_config("vgg16", num_classes=0, global_pool="none"))
    maps = model.forward_intermediates(torch.empty(1, 3, 352, 352, device="meta"), intermediates_only=True)
    assert [tuple(one.shape[1:]) for one in maps] == [
        (64, 352, 352),
        (128, 176, 176),
        (256, 88, 88),
        (512, 44, 44),
        (512, 22, 22),
    ]


def test_resnet50_side_outputs_at_352() -> None:
    model = weightless(get_config("resnet50"))
    maps = model.forward_intermediates(torch.empty(1, 3, 352, 352, device="meta"), intermediates_only=True)
    assert [tuple(one.shape[1:]) for one in maps] == [
        (64, 176, 176),
        (256, 88, 88),
        (512, 44, 44),
        (1024, 22, 22),
        (2048, 11, 11),
    ]


def vgg(**options: Any) -> Network:
    torch.manual_seed(0)
    return build_model(thin(get_config("vgg11_bn", num_classes=5, **options))).eval()


def test_vgg_outputs_logits_embeddings_and_maps() -> None:
    model, x = vgg(), torch.randn(2, 3, 40, 56)
    features = model.forward_features(x)
    assert (model(x).shape, features.shape, model.num_features) == ((2, 5), (2, 64, 1, 1), 16)
    embedding = model.forward_head(features, pre_logits=True)
    assert embedding.shape == (2, 16)
    assert torch.equal(model(x), model.get_classifier()(embedding))
    points = model.end_points(x)
    assert {f"block{number}" for number in (1, 2, 3, 4, 5)} | {"pre_logits", "logits"} <= points.keys()
    assert torch.equal(points["pre_logits"], embedding)
    with pytest.raises(ShapeError, match=r"the network takes \(N, 3, H, W\)"):
        model(x[:, :1])


def test_reset_classifier_keeps_vggs_inner_layers() -> None:
    model, x = vgg(), torch.randn(2, 3, 40, 40)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    features = model.forward_features(x)
    embedding = model.forward_head(features, pre_logits=True)
    model.reset_classifier(3)
    assert (model(x).shape, model.num_classes) == ((2, 3), 3)
    after = model.state_dict()
    assert before.keys() == after.keys()
    changed = {
        key for key in before if before[key].shape != after[key].shape or not torch.equal(before[key], after[key])
    }
    assert changed == {"classifier.6.weight", "classifier.6.bias"}
    model.reset_classifier(0)
    assert torch.equal(model(x), embedding)
    model.reset_classifier(0, "none")
    assert torch.equal(model(x), features)


def test_gem_keeps_its_power_when_the_classifier_goes() -> None:
    torch.manual_seed(0)
    model = build_model(thin(get_config("resnet18", depths=(1, 1, 1, 1), global_pool="gem"))).eval()
    power = model.get_submodule("avgpool").p
    assert isinstance(power, Tensor)
    nn.init.constant_(power, 2.5)
    model.reset_classifier(3)
    assert model.state_dict()["avgpool.p"].item() == 2.5


def test_a_head_of_fixed_windows() -> None:
    """The tutorials' 2x2 average over a 2x2 map of 64x64 images, flattened: one number a channel."""
    config = thin(get_config("resnet50", depths=(1, 1, 1, 1), global_pool="window", pool_window=2, img_size=96))
    torch.manual_seed(0)
    model = build_model(config).eval()
    x = torch.randn(1, 3, 96, 96)
    features = model.forward_features(x)
    assert features.shape == (1, 256, 3, 3)
    embedding = model.forward_head(features, pre_logits=True)
    assert torch.allclose(embedding, features[:, :, :2, :2].mean((2, 3)), atol=1e-6)  # the third row is left over
    wide = build_model(config.with_overrides(img_size=128)).eval()
    assert wide.num_features == 256 * 4
    maps = wide.forward_features(torch.randn(1, 3, 128, 128))
    expected = maps.reshape(1, 256, 2, 2, 2, 2).mean((3, 5)).flatten(1)  # channel, row of windows, column
    assert torch.allclose(wide.forward_head(maps, pre_logits=True), expected, atol=1e-6)
    with pytest.raises(ShapeError, match="takes images of 128x128; got one whose windows give 256"):
        wide(x)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnetv2_18", "plain18", "resnet_v2_50"])
def test_output_stride_computes_the_same_at_the_strided_places(name: str) -> None:
    """Dilation spreads the taps over the cells that the stride would have left: each fourth cell is the strided map's.

    At 97 and 65 the borders fall together. Under detectron's rule the block that would stride looks twice as far.
    """
    options = {"depths": (1, 2, 2, 2), "num_classes": 0, "global_pool": "none"}
    torch.manual_seed(0)
    strided = build_model(thin(get_config(name, **options))).eval()
    x = torch.randn(1, 3, 97, 65)
    for rule, same in (("torchvision", True), ("detectron", False)):
        dense = build_model(thin(get_config(name, **options, output_stride=8, dilation_rule=rule))).eval()
        dense.load_state_dict(strided.state_dict())
        with torch.no_grad():
            maps, expected = dense(x), strided(x)
        assert maps.shape[2:] == (13, 9)
        nearly = 1e-5 * float(expected.abs().max())
        assert torch.allclose(maps[:, :, ::4, ::4], expected, rtol=1e-4, atol=nearly) == same


def test_unknown_indices_are_errors() -> None:
    with pytest.raises(ConfigError, match=r"out_indices must be among 0\.\.4; got \(5,\)"):
        FeatureExtractor(vgg(), (5,))


def test_feature_maps_of_a_network_with_a_neck() -> None:
    """The head is dropped, embedding layer and neck with it; the maps stay."""
    options: dict[str, Any] = {"neck": "bn", "embedding_dim": 4, "classifier": "cosine", "classifier_scale": 30.0}
    model = build_model(get_config("resnet8_cifar", **options)).eval()
    x = torch.randn(1, 3, 32, 32)
    expected = model.forward_intermediates(x, intermediates_only=True)
    maps = FeatureExtractor(model)(x)
    assert all(torch.equal(one, other) for one, other in zip(maps, expected, strict=True))
    assert not any(name.startswith(("neck", "embedding")) for name in model.state_dict())
    assert (model.config.neck, model.config.embedding_dim) == ("none", None)
