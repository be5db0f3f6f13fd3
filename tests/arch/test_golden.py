"""Parameters and MACs of every variant, against one JSON and against what others published."""

from __future__ import annotations

import json

import pytest

from resnets.arch.describe import describe, totals
from resnets.arch.nodes import Conv, Norm, walk
from resnets.arch.plan import plan
from resnets.arch.variants import VARIANTS, get_config
from tests.arch.regenerate import GOLDEN, rows

TORCHVISION = {  # num_params and _ops (GFLOPs there are multiply-adds) of torchvision 0.28's weights, at 224
    "resnet18": (11_689_512, 1.814),
    "resnet34": (21_797_672, 3.664),
    "resnet50": (25_557_032, 4.089),
    "resnet101": (44_549_160, 7.801),
    "resnet152": (60_192_808, 11.514),
    "resnext50_32x4d": (25_028_904, 4.23),
    "resnext101_32x8d": (88_791_336, 16.414),
    "resnext101_64x4d": (83_455_272, 15.46),
    "wide_resnet50_2": (68_883_240, 11.398),
    "wide_resnet101_2": (126_886_696, 22.753),
    "vgg11": (132_863_336, 7.609),
    "vgg11_bn": (132_868_840, 7.609),
    "vgg13": (133_047_848, 11.308),
    "vgg13_bn": (133_053_736, 11.308),
    "vgg16": (138_357_544, 15.47),
    "vgg16_bn": (138_365_992, 15.47),
    "vgg19": (143_667_240, 19.632),
    "vgg19_bn": (143_678_248, 19.632),
}
TIMM_MILLIONS = {  # param_count of timm's results/results-imagenet.csv; `legacy_` there is Caffe's
    "resnet18d": 11.71,
    "resnet34d": 21.82,
    "resnet50d": 25.58,
    "resnet101d": 44.57,
    "resnet152d": 60.21,
    "resnext101_32x4d": 44.18,
    "resnetv2_18": 11.69,
    "resnetv2_34": 21.80,
    "resnetv2_50": 25.55,
    "resnetv2_101": 44.54,
    "seresnet50": 28.09,
    "seresnext50_32x4d": 27.56,
    "seresnext101_32x4d": 48.96,
    "seresnext101_32x8d": 93.57,
    "ecaresnet50t": 25.57,
    "ecaresnet50d": 25.58,
    "ecaresnet101d": 44.57,
    "resnetblur50": 25.56,
    "resnet50_gn": 25.56,
    "senet154": 115.09,
    "resnetv2_50x1_bit": 25.55,
    "resnetv2_101x1_bit": 44.54,
    "resnetv2_50x3_bit": 217.32,
    "se_resnet50": 28.09,
    "se_resnet101": 49.33,
    "se_resnet152": 66.82,
    "se_resnext50_32x4d": 27.56,
    "se_resnext101_32x4d": 48.96,
}
KERAS = {  # total and trainable parameters that model.summary() prints; the rest are moving means and variances
    "keras_resnet50": (25_636_712, 25_583_592),
    "keras_resnet101": (44_707_176, 44_601_832),
    "keras_resnet152": (60_419_944, 60_268_520),
    "keras_resnet50v2": (25_613_800, 25_568_360),
    "keras_resnet101v2": (44_675_560, 44_577_896),
    "keras_resnet152v2": (60_380_648, 60_236_904),
}
PAPER_MILLIONS = {  # He et al. 2015, table 6
    "resnet20_cifar": "0.27",
    "resnet32_cifar": "0.46",
    "resnet44_cifar": "0.66",
    "resnet56_cifar": "0.85",
    "resnet110_cifar": "1.7",
    "resnet1202_cifar": "19.4",
}
OSMR = {  # counts of pytorchcv, an independent implementation; its CIFAR ResNets have option B shortcuts
    ("resnet20_cifar", "B"): 272_474,
    ("resnet56_cifar", "B"): 855_770,
    ("resnet110_cifar", "B"): 1_730_714,
    ("resnet1202_cifar", "B"): 19_424_026,
    ("resnetv2_20_cifar", "B"): 272_282,
    ("resnetv2_164_bottleneck_cifar", "B"): 1_703_258,
    ("resnetv2_1001_bottleneck_cifar", "B"): 10_327_706,
}


def test_every_variant_is_as_the_golden_file_has_it() -> None:
    assert rows() == json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name: str) -> None:
    table = describe(name, 224)
    params, gmacs = TORCHVISION[name]
    assert (table.params, round(table.macs / 1e9, 3)) == (params, gmacs)


@pytest.mark.parametrize("name", TIMM_MILLIONS)
def test_timm(name: str) -> None:
    assert round(describe(name).params / 1e6, 2) == TIMM_MILLIONS[name]


@pytest.mark.parametrize("name", KERAS)
def test_keras(name: str) -> None:
    norms = [node.channels for _, node in walk(plan(get_config(name))) if isinstance(node, Norm)]
    params = describe(name).params
    assert (params + 2 * sum(norms), params) == KERAS[name]


def test_cbam() -> None:
    """pytorchcv counts 28,089,624: it has a bias in both layers of the channel gate, as the authors' code."""
    biases = sum(
        node.out_chans
        for path, node in walk(plan(get_config("cbamresnet50")))
        if ".se.channel.fc" in path and isinstance(node, Conv)
    )
    assert describe("cbamresnet50").params + biases == 28_089_624


@pytest.mark.parametrize("name", [name for name in VARIANTS if name.endswith("_ibn_a") and not name.startswith("se_")])
def test_ibn_a_costs_nothing(name: str) -> None:
    """An instance norm of half the channels and a batch norm of the rest have as many affine terms as one norm."""
    plain = get_config(name, ibn=())
    assert describe(name).params == describe(plain).params
    assert describe(name).macs == describe(plain).macs


def test_ibn_b_has_two_more_norms() -> None:
    """Behind the sums of stages 1 and 2; the stem's takes the place of another."""
    assert describe("resnet50_ibn_b").params == describe("resnet50").params + 2 * (256 + 512)


def test_linear_squeeze_and_excitation_has_no_biases() -> None:
    """Each block of width C and squeezed C / 16 is C + C / 16 numbers shorter than with convolutions."""
    blocks = [(256, 3), (512, 4), (1024, 6), (2048, 3)]
    biases = sum(count * (width + width // 16) for width, count in blocks)
    assert describe("seresnet50").params - describe("se_resnet50_ibn_a").params == biases


@pytest.mark.parametrize("name", PAPER_MILLIONS)
def test_paper(name: str) -> None:
    digits = len(PAPER_MILLIONS[name].partition(".")[2])
    assert f"{describe(name).params / 1e6:.{digits}f}" == PAPER_MILLIONS[name]


@pytest.mark.parametrize(("name", "shortcut"), OSMR)
def test_pytorchcv(name: str, shortcut: str) -> None:
    assert describe(get_config(name, shortcut=shortcut)).params == OSMR[name, shortcut]


@pytest.mark.parametrize("name", VARIANTS)
def test_totals_are_those_of_the_full_walk(name: str) -> None:
    """The quick sum extends stages that it has not walked."""
    for size in ((224, 224), (97, 65)):
        table = describe(name, size)
        assert totals(VARIANTS[name], size) == (table.params, table.macs)


def test_plain_nets_cost_what_option_a_nets_do() -> None:
    """Option A adds neither a parameter nor a multiply-add: He et al. 2015 compare them for that reason."""
    for depth in (20, 32, 44, 56):
        assert totals(VARIANTS[f"plain{depth}_cifar"]) == totals(VARIANTS[f"resnet{depth}_cifar"])
