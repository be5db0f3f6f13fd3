"""What each option does to the blocks of a plan: strides, shortcuts, widths, biases, norms, dilations."""

from __future__ import annotations

from typing import Any

import pytest

from resnets.arch.config import ResNetConfig
from resnets.arch.nodes import Blur, Chain, Conv, Gate, Identity, Node, Norm, PadChannels, Pool, SplitNorm, walk
from resnets.arch.plan import plan
from resnets.arch.variants import VARIANTS, get_config


def nodes(config: str | ResNetConfig, **options: Any) -> dict[str, Node]:
    base = get_config(config) if isinstance(config, str) else config
    return dict(walk(plan(base.with_overrides(**options))))


def strided(config: str | ResNetConfig, **options: Any) -> list[str]:
    """The convolutions and pools behind the stem that stride."""
    found = nodes(config, **options).items()
    return [
        path
        for path, node in found
        if path.startswith("layer") and isinstance(node, Conv | Pool | PadChannels | Blur) and node.stride > 1
    ]


def shortcut(config: str | ResNetConfig, block: str, **options: Any) -> list[Node]:
    found = nodes(config, **options).items()
    return [node for path, node in found if path.startswith(f"{block}.downsample.")]


def conv(config: str | ResNetConfig, path: str, **options: Any) -> Conv:
    node = nodes(config, **options)[path]
    assert isinstance(node, Conv)
    return node


@pytest.mark.parametrize(
    ("name", "block", "inner"),
    [
        ("resnet18", 0, "conv1"),
        ("resnet50", 0, "conv2"),
        ("resnet50_v1", 0, "conv1"),
        ("keras_resnet50", 0, "conv1"),
        ("se_resnet50", 0, "conv1"),
        ("se_resnext50_32x4d", 0, "conv2"),
        ("senet154", 0, "conv2"),
        ("resnetv2_50", 0, "conv2"),
        ("resnet_v1_50", -1, "conv2"),
        ("resnet_v2_50", -1, "conv2"),
        ("keras_resnet50v2", -1, "conv2"),
    ],
)
def test_where_a_dialect_strides(name: str, block: int, inner: str) -> None:
    """In the first block of stages 2..4, or in the last of stages 1..3; shortcut and branch alike."""
    depths = VARIANTS[name].depths
    stages = [(stage, 0) for stage in (2, 3, 4)] if block == 0 else [(s, depths[s - 1] - 1) for s in (1, 2, 3)]
    assert strided(name) == [f"layer{s}.{b}.{part}" for s, b in stages for part in (inner, "downsample.0")]


def test_last_stride_for_strides_in_last_units() -> None:
    assert strided("resnet_v2_50", last_stride=1)[-1] == "layer2.3.downsample.0"
    assert strided("resnet50", last_stride=1)[-1] == "layer3.0.downsample.0"


def test_option_a_on_either_side() -> None:
    (pad,) = shortcut("resnet20_cifar", "layer2.0")
    assert pad == PadChannels(name="0", stride=2, before=8, after=8)
    (pad,) = shortcut("resnet20_cifar", "layer2.0", shortcut="A_after")
    assert pad == PadChannels(name="0", stride=2, before=0, after=16)
    assert shortcut("resnet20_cifar", "layer2.1") == []


def test_option_d() -> None:
    """Average pool, then a 1x1 that does not stride; where nothing strides, only the place of the pool is kept."""
    pool, projection, norm = shortcut("resnet50d", "layer2.0")
    assert pool == Pool(name="0", kind="avg", kernel=2, stride=2, ceil=True)
    assert isinstance(projection, Conv)
    assert (projection.kernel, projection.stride) == (1, 1)
    assert isinstance(norm, Norm)
    assert isinstance(shortcut("resnet50d", "layer1.0")[0], Identity)
    (dilated, *_) = shortcut("resnet50d", "layer4.0", output_stride=16)
    assert dilated == Pool(name="0", kind="avg", kernel=2, stride=1, padding="same")


def test_projection_in_the_first_block_of_every_stage() -> None:
    for stage in (1, 2, 3, 4):
        assert isinstance(shortcut("resnet18", f"layer{stage}.0", shortcut="first")[0], Conv)
        assert shortcut("resnet18", f"layer{stage}.1", shortcut="first") == []
    assert shortcut("resnet18", "layer1.0") == []  # option B: the shape stays there


def test_strided_identity() -> None:
    (pool,) = shortcut("resnet_v2_50", "layer1.2")
    assert pool == Pool(name="0", kind="max", kernel=1, stride=2)
    (projection,) = shortcut("resnet_v2_50", "layer2.0")
    assert isinstance(projection, Conv)
    assert (projection.stride, projection.bias) == (1, True)
    assert shortcut("resnet_v2_50", "layer4.2") == []


def test_shortcut_kernel_is_for_strides_alone() -> None:
    """SENet-154: 3x3 where it strides, 1x1 in the first stage, which only widens."""
    kernels = [conv("senet154", f"layer{stage}.0.downsample.0").kernel for stage in (1, 2, 3, 4)]
    assert kernels == [1, 3, 3, 3]
    assert conv("senet154", "layer2.0.downsample.0").padding == 1
    dilated = conv("senet154", "layer4.0.downsample.0", output_stride=16, dilation_rule="detectron")
    assert (dilated.kernel, dilated.dilation, dilated.padding) == (3, 2, 2)


def test_reduce_first_is_senets() -> None:
    """Hu et al. 2018: the first 1x1 of SENet-154 has half the channels of the 3x3."""
    for stage, width in enumerate((256, 512, 1024, 2048), start=1):
        first, middle = conv("senet154", f"layer{stage}.0.conv1"), conv("senet154", f"layer{stage}.0.conv2")
        assert (first.out_chans, middle.out_chans, middle.groups) == (width // 2, width, 64)
    basic = conv("resnet18", "layer2.0.conv1", reduce_first=2), conv("resnet18", "layer2.0.conv2", reduce_first=2)
    assert [(c.in_chans, c.out_chans) for c in basic] == [(64, 64), (64, 128)]


def test_biases() -> None:
    def biased(config: str, **options: Any) -> set[str]:
        convs = {path: node for path, node in nodes(config, **options).items() if isinstance(node, Conv)}
        return {
            path.rpartition(".")[2] if "downsample" not in path else "shortcut" for path in convs if convs[path].bias
        }

    assert biased("resnet50") == set()
    assert biased("keras_resnet50") == {"conv1", "conv2", "conv3", "shortcut"}
    # before activations are normed: the first convolution has no norm behind it, nor has what ends a branch
    found = {path for path, node in nodes("resnet_v2_50").items() if isinstance(node, Conv) and node.bias}
    assert {path for path in found if not path.startswith("layer")} == {"conv1"}
    assert {path.partition(".")[2].partition(".")[2] for path in found - {"conv1"}} == {"conv3", "downsample.0"}
    assert biased("resnet50", conv_bias="unnormed") == set()
    assert biased("resnet50", conv_bias="unnormed", shortcut_norm=False) == {"shortcut"}


def test_a_projection_without_a_norm() -> None:
    assert [type(node) for node in shortcut("resnet50", "layer2.0", shortcut_norm=False)] == [Conv]
    assert [type(node) for node in shortcut("resnetv2_50", "layer2.0")] == [Conv]


@pytest.mark.parametrize(
    ("rule", "dilations"),
    [
        ("torchvision", [(1, 1), (1, 2), (2, 2), (2, 4), (4, 4)]),  # the block that would stride keeps the old one
        ("detectron", [(1, 1), (2, 2), (2, 2), (4, 4), (4, 4)]),
    ],
)
def test_dilation_rules(rule: str, dilations: list[tuple[int, int]]) -> None:
    found = nodes("resnet18", output_stride=8, dilation_rule=rule)
    for block, expected in zip(("2.0", "3.0", "3.1", "4.0", "4.1"), dilations, strict=True):
        pair = [found[f"layer{block}.conv{number}"] for number in (1, 2)]
        assert [(c.dilation, c.padding) for c in pair if isinstance(c, Conv)] == [(d, d) for d in expected]


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnetv2_50", "resnet_v2_50", "resnet50d", "senet154"])
@pytest.mark.parametrize("stride", [8, 16])
def test_output_stride_changes_no_tensor(name: str, stride: int) -> None:
    def tensors(config: ResNetConfig) -> list[tuple[str, int, int, int, int]]:
        return [
            (path, node.in_chans, node.out_chans, node.kernel, node.groups)
            for path, node in walk(plan(config))
            if isinstance(node, Conv)
        ]

    config = get_config(name)
    assert isinstance(config, ResNetConfig)
    assert tensors(config) == tensors(config.with_overrides(output_stride=stride))


def test_blur_takes_the_stride() -> None:
    found = nodes("resnetblur50")
    assert strided("resnetblur50")[:2] == ["layer2.0.aa", "layer2.0.downsample.0"]
    assert [path for path in found if path.startswith("layer2.0.")][5:7] == ["layer2.0.act2", "layer2.0.aa"]
    pool = found["maxpool"]
    assert isinstance(pool, Chain)
    assert pool.nodes == (Pool(name="0", kind="max", kernel=3, stride=1, padding=1), Blur(name="1", stride=2))


def test_stems() -> None:
    assert conv("resnet50", "conv1").out_chans == 64
    widths = [conv("resnet50d", f"conv1.{place}").out_chans for place in (0, 3, 6)]
    assert widths == [32, 32, 64]
    assert [conv("resnet50t", f"conv1.{place}").out_chans for place in (0, 3, 6)] == [24, 32, 64]
    assert [conv("senet154", f"conv1.{place}").stride for place in (0, 3, 6)] == [2, 1, 1]
    assert isinstance(nodes("resnet50", stem_act=False)["act1"], Identity)


def test_norms_of_ibn() -> None:
    found = nodes("resnet50_ibn_a")
    split = found["layer3.5.bn1"]
    assert isinstance(split, SplitNorm)
    assert [(part.kind, part.channels) for part in split.parts] == [("instance", 128), ("batch", 128)]
    assert isinstance(found["layer4.0.bn1"], Norm)


@pytest.mark.parametrize("name", ["seresnet50", "se_resnet50_ibn_a", "ecaresnet50d", "cbamresnet50", "se_resnet50"])
def test_attention_is_named_se(name: str) -> None:
    assert isinstance(nodes(name)["layer1.0.se"], Gate | Chain)


def test_kernel_of_the_middle() -> None:
    found = nodes("resnet50", kernel=5)
    middle, outer = found["layer1.0.conv2"], found["layer1.0.conv1"]
    assert isinstance(middle, Conv)
    assert isinstance(outer, Conv)
    assert (middle.kernel, middle.padding, outer.kernel) == (5, 2, 1)
