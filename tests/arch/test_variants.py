"""Names: the table, the CIFAR rule, patterns, and the way back from a description to its name."""

from __future__ import annotations

import pytest

from resnets.arch.config import ResNetConfig
from resnets.arch.variants import VARIANTS, cifar_config, get_config, list_models, name_of
from resnets.errors import ConfigError, UnknownNameError

ISSUE = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2"),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "resnetv2_50", "plain18", "plain34"),
    *(f"resnet{depth}_cifar" for depth in (20, 32, 44, 56, 110, 1202)),
    *("plain20_cifar", "plain56_cifar"),
)


@pytest.mark.parametrize("name", ISSUE)
def test_named_networks_are_listed(name: str) -> None:
    assert name in list_models()


def test_names_are_unique_networks() -> None:
    assert len(set(VARIANTS.values())) == len(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_configuration_finds_its_name(name: str) -> None:
    assert name_of(get_config(name)) == name
    assert name_of(get_config(name, num_classes=7, in_chans=1, drop_rate=0.1)) == name


def test_a_changed_network_has_no_name() -> None:
    assert name_of(get_config("resnet50", last_stride=1)) is None


@pytest.mark.parametrize("name", [name for name in VARIANTS if name.endswith("_cifar")])
def test_cifar_nets_have_ten_classes(name: str) -> None:
    assert (get_config(name).num_classes, get_config(name).img_size) == (10, 32)


@pytest.mark.parametrize(
    ("name", "depths"),
    [
        ("resnet38_cifar", (6, 6, 6)),
        ("resnet8_cifar", (1, 1, 1)),
        ("plain14_cifar", (2, 2, 2)),
        ("resnetv2_26_cifar", (4, 4, 4)),
        ("resnetv2_29_bottleneck_cifar", (3, 3, 3)),
        ("resnet29_bottleneck_cifar", (3, 3, 3)),
    ],
)
def test_cifar_networks_of_any_depth(name: str, depths: tuple[int, ...]) -> None:
    config = get_config(name)
    assert isinstance(config, ResNetConfig)
    assert config.depths == depths
    assert (config.block == "bottleneck") == ("bottleneck" in name)
    assert config.pre_activation == name.startswith("resnetv2")
    assert (config.shortcut == "none") == name.startswith("plain")


@pytest.mark.parametrize("depth", [20, 32, 1202])
def test_the_table_agrees_with_the_rule_of_cifar_networks(depth: int) -> None:
    assert get_config(f"resnet{depth}_cifar") == cifar_config(depth)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet21_cifar", "CIFAR depth must be 6n+2; got 21; nearest are 20 and 26"),
        ("plain57_cifar", "CIFAR depth must be 6n+2; got 57; nearest are 56 and 62"),
        ("resnet2_cifar", "CIFAR depth must be 6n+2; got 2; the minimum is 8"),
        ("resnet0_cifar", "CIFAR depth must be 6n+2; got 0; the minimum is 8"),
        ("resnetv2_165_bottleneck_cifar", "CIFAR depth must be 9n+2; got 165; nearest are 164 and 173"),
    ],
)
def test_impossible_cifar_depths(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        get_config(name)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "near"), [("resnet51", "resnet50"), ("resnext50", "resnext50_32x4d"), ("wide_resnet50", "wide_resnet50_2")]
)
def test_an_unknown_name_names_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match=f"unknown model; got '{name}'; did you mean .*{near}"):
        get_config(name)


def test_overrides() -> None:
    assert get_config("resnet50", num_classes=3).num_classes == 3
    with pytest.raises(UnknownNameError, match="last_stride"):
        get_config("resnet50", last_strid=1)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("plain34", ["plain34"]),
        ("wide", ["wide_resnet50_2", "wide_resnet101_2"]),
        ("resnet1?", ["resnet18"]),
        ("plain[13]?", ["plain18", "plain34"]),
        ("nothing", []),
    ],
)
def test_patterns(pattern: str, names: list[str]) -> None:
    assert list_models(pattern) == names
