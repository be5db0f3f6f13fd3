"""Parameters and MACs of every variant, against one JSON and against what others published."""

from __future__ import annotations

import json

import pytest

from resnets.arch.describe import describe
from resnets.arch.totals import totals
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
}
TIMM_MILLIONS = {"resnetv2_50": 25.55, "resnetv2_101": 44.54, "resnetv2_152": 60.19}
PAPER_MILLIONS = {  # He et al. 2015, table 6
    "resnet20_cifar": "0.27",
    "resnet32_cifar": "0.46",
    "resnet44_cifar": "0.66",
    "resnet56_cifar": "0.85",
    "resnet110_cifar": "1.7",
    "resnet1202_cifar": "19.4",
}
OSMR = {  # pytorchcv's counts, an implementation of its own; its CIFAR ResNets have option B shortcuts
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
    for size in ((224, 224), (97, 33)):
        table = describe(name, size)
        assert totals(VARIANTS[name], size) == (table.params, table.macs)


def test_plain_nets_cost_what_option_a_nets_do() -> None:
    """Option A adds neither a parameter nor a multiply-add: He et al. 2015 compare them for that reason."""
    for depth in (20, 32, 44, 56):
        assert totals(VARIANTS[f"plain{depth}_cifar"]) == totals(VARIANTS[f"resnet{depth}_cifar"])
