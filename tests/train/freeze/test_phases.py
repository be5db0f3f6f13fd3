from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnets.arch.parts import freeze_points, group_of, layer_groups, parts
from resnets.arch.plan import plan
from resnets.arch.variants import get_config
from resnets.errors import ConfigError, UnknownNameError
from resnets.nn.model import build_model
from resnets.train.freeze.phases import FreezeConfig, Phase, ResolvedPhase, check_freeze, make_phases

FREEZE_POINTS = ("stem", "layer1", "layer2", "layer3", "layer4", "backbone")
NETWORKS = [
    "resnet18",
    "resnet50d",
    "resnetv2_50",
    "resnet50_ibn_a",
    "resnet20_cifar",
    "seresnet50",
    "vgg11",
    "vgg16_bn",
]


def steps_of(phases: tuple[Phase, ...]) -> list[tuple[int, str]]:
    return [(phase.epochs, phase.freeze) for phase in phases]


def test_freeze_points_of_the_families() -> None:
    assert freeze_points(plan(get_config("resnet50"))) == FREEZE_POINTS
    assert freeze_points(plan(get_config("resnet20_cifar"))) == ("stem", "layer1", "layer2", "layer3", "backbone")
    assert freeze_points(plan(get_config("vgg16_bn"))) == ("block1", "block2", "block3", "block4", "block5", "backbone")


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_is_in_one_part_and_one_layer_group(name: str) -> None:
    model = build_model(get_config(name), init=False)
    by_part, by_layer = parts(model.plan), layer_groups(model.plan)
    for parameter, _ in model.named_parameters():
        for groups in (list(by_part.values()), list(by_layer)):
            hits = [paths for paths in groups if any(parameter.startswith(f"{path}.") for path in paths)]
            assert len(hits) == 1, parameter
    for paths in (*by_part.values(), *by_layer):
        for path in paths:
            model.get_submodule(path)


def test_parts_by_hand() -> None:
    assert parts(plan(get_config("resnetv2_50"))) == {
        "stem": ("conv1", "bn1", "act1", "maxpool"),
        **{f"layer{stage}": (f"layer{stage}",) for stage in (1, 2, 3, 4)},
        "backbone": ("norm", "act", "avgpool"),
        "classifier": ("fc",),
    }
    vgg = parts(plan(get_config("vgg11")))
    assert vgg["block1"] == ("features.0", "features.1", "features.2")
    assert vgg["backbone"] == ("avgpool", *(f"classifier.{index}" for index in range(5)))
    assert vgg["classifier"] == ("classifier.5", "classifier.6")  # the dropout right before the classifier


def test_layer_groups_are_those_of_timm() -> None:
    found = layer_groups(plan(get_config("resnet50")))
    assert len(found) == 18  # stem, 3 + 4 + 6 + 3 blocks, head
    assert [paths[0] for paths in found[:5]] == ["conv1", "layer1.0", "layer1.1", "layer1.2", "layer2.0"]
    assert found[-1] == ("avgpool", "fc")
    assert layer_groups(plan(get_config("resnetv2_50")))[-2] == ("layer4.2", "norm", "act")
    assert len(layer_groups(plan(get_config("vgg16_bn")))) == 14  # 13 convolutions, head


def test_group_of_compares_whole_names() -> None:
    groups = {"one": ("layer1",), "ten": ("layer10",)}
    assert group_of("layer10.0.conv1.weight", groups) == "ten"
    assert group_of("layer1", groups) == "one"


def test_frozen_then_unfrozen() -> None:
    phases = make_phases(FreezeConfig(freeze="backbone", freeze_epochs=3, unfreeze_lr=0.01), 10, FREEZE_POINTS)
    assert phases == (Phase(epochs=3, freeze="backbone"), Phase(epochs=7, lr=0.01))
    assert make_phases(FreezeConfig(freeze="layer2"), 10, FREEZE_POINTS) == (Phase(epochs=10, freeze="layer2"),)
    assert make_phases(FreezeConfig(), 10, FREEZE_POINTS) == (Phase(epochs=10),)
    left = FreezeConfig(
        freeze="none", freeze_epochs=20, unfreeze="stages", unfreeze_lr=0.01
    )  # from a recipe whose freezing is switched off
    assert make_phases(left, 10, FREEZE_POINTS) == (Phase(epochs=10),)


def test_other_options_hold_in_every_phase() -> None:
    config = FreezeConfig(
        freeze="layer1", freeze_epochs=1, bn_stats="frozen", bn_affine="train", layer_decay=0.8, unfreeze="stages"
    )
    phases = make_phases(config, 5, FREEZE_POINTS)
    assert steps_of(phases) == [(1, "layer1"), (2, "stem"), (2, "none")]
    assert {(phase.bn_stats, phase.bn_affine, phase.layer_decay) for phase in phases} == {("frozen", "train", 0.8)}


def test_unfreeze_lr_as_a_fraction_of_the_peak() -> None:
    config = FreezeConfig(freeze="backbone", freeze_epochs=2, unfreeze_lr_share=0.1).with_peak_lr(0.4)
    assert [phase.lr for phase in make_phases(config, 5, FREEZE_POINTS)] == [None, pytest.approx(0.04)]
    assert FreezeConfig(unfreeze_lr=0.3).with_peak_lr(0.4) == FreezeConfig(unfreeze_lr=0.3)
    with pytest.raises(ConfigError, match=r"unfreeze_lr_share must be .*above 0.*; got 0"):
        FreezeConfig(unfreeze_lr_share=0)
    with pytest.raises(ConfigError, match=r"unfreeze_lr_share .*got 0\.1 and 0\.2"):
        FreezeConfig(unfreeze_lr=0.1, unfreeze_lr_share=0.2)


def test_unfreezing_by_stages() -> None:
    phases = make_phases(
        FreezeConfig(freeze="backbone", freeze_epochs=2, unfreeze="stages", unfreeze_lr=0.1), 14, FREEZE_POINTS
    )
    assert steps_of(phases) == [
        (2, "backbone"),
        (2, "layer3"),
        (2, "layer2"),
        (2, "layer1"),
        (2, "stem"),
        (4, "none"),
    ]
    assert [phase.lr for phase in phases] == [None] + [0.1] * 5
    assert steps_of(make_phases(FreezeConfig(freeze="stem", freeze_epochs=1, unfreeze="stages"), 4, FREEZE_POINTS)) == [
        (1, "stem"),
        (3, "none"),
    ]


@given(
    freeze=st.sampled_from(FREEZE_POINTS),
    frozen=st.integers(1, 40),
    total=st.integers(1, 60),
    unfreeze=st.sampled_from(["all", "stages"]),
)
def test_phases_fill_the_run_and_only_unfreeze(freeze: str, frozen: int, total: int, unfreeze: str) -> None:
    config = FreezeConfig(freeze=freeze, freeze_epochs=frozen, unfreeze=unfreeze)  # type: ignore[arg-type]
    steps = min(FREEZE_POINTS.index(freeze) + 1, 5) if unfreeze == "stages" else 1
    if frozen > total or 0 < total - frozen < steps:
        with pytest.raises(ConfigError):
            make_phases(config, total, FREEZE_POINTS)
        return
    phases = make_phases(config, total, FREEZE_POINTS)
    assert len(phases) == 1 + (steps if frozen < total else 0)
    assert sum(phase.epochs for phase in phases) == total
    depths = [("none", *FREEZE_POINTS).index(phase.freeze) for phase in phases]
    assert depths == sorted(depths, reverse=True)
    assert len(set(depths)) == len(depths)


def test_resolved_phases_have_a_first_epoch_and_learning_rates() -> None:
    phases = (Phase(epochs=2, freeze="stem", lr=0.3), Phase(epochs=3, warmup_epochs=0))
    assert list(ResolvedPhase.sequence(phases, 0.1, 2.0)) == [
        ResolvedPhase(epochs=2, freeze="stem", lr=0.3, warmup_epochs=2.0, first_epoch=0),
        ResolvedPhase(epochs=3, lr=0.1, warmup_epochs=0, first_epoch=2),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, r"epochs must be .*at least 1; got 0"),
        ({"epochs": 1, "lr": 0.0}, r"lr must be .*above 0.*; got 0\.0"),
        ({"epochs": 1, "warmup_epochs": -1.0}, r"warmup_epochs must be .*at least 0"),
        ({"epochs": 1, "layer_decay": 0.0}, "layer_decay must be .*above 0 and at most 1"),
        ({"epochs": 1, "bn_stats": "move"}, r"bn_stats must be auto, train or frozen; got 'move'"),
        ({"epochs": 1, "bn_affine": "no"}, r"bn_affine must be"),
    ],
)
def test_invalid_phases_name_the_option(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Phase(**options)  # type: ignore[arg-type]


def test_invalid_freeze_options_name_the_option() -> None:
    with pytest.raises(ConfigError, match="unfreeze must be all or stages"):
        FreezeConfig(unfreeze="some")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="layer_decay"):
        FreezeConfig(layer_decay=2.0)
    with pytest.raises(ConfigError, match="at most the run's epochs, 3; got 4"):
        make_phases(FreezeConfig(freeze="stem", freeze_epochs=4), 3, FREEZE_POINTS)
    with pytest.raises(ConfigError, match="at least 5 epochs; got 4"):
        make_phases(FreezeConfig(freeze="backbone", freeze_epochs=1, unfreeze="stages"), 5, FREEZE_POINTS)


def test_unknown_freeze_points_name_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"got 'layer5'; did you mean layer"):
        make_phases(FreezeConfig(freeze="layer5"), 3, FREEZE_POINTS)
    with pytest.raises(UnknownNameError, match="backbone"):
        check_freeze("backbon", FREEZE_POINTS)
    with pytest.raises(ConfigError, match="none, stem, layer1"):
        check_freeze("???", FREEZE_POINTS)
