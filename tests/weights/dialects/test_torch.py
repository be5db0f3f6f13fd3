"""The dialects of torch: there and back for every network of theirs, and what `auto` and a name mean."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import Any

import pytest
import torch

from resnets.arch.config import ResNetConfig
from resnets.arch.networks import NetworkConfig
from resnets.arch.plan import plan
from resnets.arch.variants import VARIANTS, get_config
from resnets.arch.vgg import VGGConfig
from resnets.errors import ConfigError, UnknownNameError, WeightsError
from resnets.nn.model import FeatureExtractor
from resnets.weights.dialects import DIALECTS
from resnets.weights.load import import_weights
from tests.weights.networks import empty_tensors, foreign, in_dialect, randomized

# The networks of each dialect, by patterns of our names; and those that its keys alone do not tell, with what does.
OWN: dict[str, tuple[str, ...]] = {
    "torchvision": ("resnet18", "resnet34", "resnet50", "resnet152", "resnext*", "wide_resnet*", "vgg*"),
    "timm": ("resnet*d", "resnet50t", "seresnet*", "seresnext*", "ecaresnet*", "cbamresnet50", "resnetv2_??", "*_bit"),
    "ibnnet": ("*_ibn_a", "*_ibn_b"),
    "cadene": ("se_resnet50", "se_resnet101", "se_resnet152", "se_resnext*", "senet154"),
    "akamaster": ("resnet20_cifar", "resnet110_cifar"),
}


def matching(dialect: str) -> list[str]:
    others = ("resnext*_ibn_a", "resnet*_cifar")
    return [
        name
        for name in VARIANTS
        if any(fnmatch(name, pattern) for pattern in OWN[dialect])
        and (dialect == "ibnnet" or not fnmatch(name, others[0]))
        and (dialect == "akamaster" or not fnmatch(name, others[1]))
    ]


@pytest.mark.parametrize(("dialect", "name"), [(dialect, name) for dialect in OWN for name in matching(dialect)])
def test_every_network_of_a_dialect_is_recognised(dialect: str, name: str) -> None:
    config = get_config(name, num_classes=7, in_chans=4)
    tensors = empty_tensors(config, dialect)
    names = DIALECTS[dialect].key_map(plan(config))
    assert len(set(names.values())) == len(names)
    renamed = DIALECTS[dialect].our_keys({key: tuple(tensor.shape) for key, tensor in tensors.items()})
    assert renamed == {theirs: ours for ours, theirs in names.items()}
    model, report = import_weights(tensors)
    assert (report.dialect, report.filled, report.missing, report.dropped) == (dialect, 1, (), ())
    assert model.config == config.with_overrides(**{f: getattr(model.config, f) for f in ("drop_rate",)})
    assert report.variant == name


SMALL: dict[str, Any] = {"depths": (1, 2, 1), "widths": (16, 24, 32), "stem_width": 16, "num_classes": 5}


@pytest.mark.parametrize(
    ("dialect", "config"),
    [
        ("torchvision", ResNetConfig(**SMALL, groups=4, group_width=8)),
        ("torchvision", VGGConfig(depths=(1, 2), widths=(8, 16), hidden=24, norm="batch", num_classes=3)),
        ("timm", ResNetConfig(**SMALL, block="basic", stem="tiered", shortcut="D", attention="eca")),
        ("timm", ResNetConfig(**SMALL, attention="se", attention_round=8, shortcut_kernel=3, reduce_first=2)),
        ("timm", ResNetConfig(**SMALL, attention="cbam", attention_reduction=4)),
        ("timm", ResNetConfig(**SMALL, pre_activation=True, block="basic")),
        ("timm", ResNetConfig(**SMALL, pre_activation=True, stem="deep", shortcut="D")),
        ("timm", ResNetConfig(**SMALL, pre_activation=True, stem="tiered", shortcut="D", block="basic")),
        ("timm", VGGConfig(depths=(1, 2), widths=(8, 16), hidden=24, num_classes=3)),
        ("ibnnet", ResNetConfig(**SMALL, ibn=("a", "a", ""), attention="se", se_form="linear")),
        ("ibnnet", ResNetConfig(**SMALL, ibn=("b", "", ""), block="basic")),
        ("cadene", ResNetConfig(**SMALL, attention="se", stride_in="1x1", stem_pool="max_ceil")),
        ("cadene", ResNetConfig(**SMALL, attention="se", stem="deep", reduce_first=2, stem_pool="max_ceil")),
        ("torchreid", ResNetConfig(**SMALL)),
    ],
    ids=str,
)
def test_values_survive_the_round_trip(dialect: str, config: NetworkConfig) -> None:
    model = randomized(config)
    tensors = in_dialect(model.state_dict(), model, dialect)
    assert all(
        torch.equal(t.flatten(), s.flatten())
        for t, s in zip(tensors.values(), model.state_dict().values(), strict=True)
    )
    back, report = import_weights(tensors)
    assert (back.config, report.dialect) == (config, dialect)
    for key, tensor in model.state_dict().items():
        assert torch.equal(back.state_dict()[key], tensor), key
    arrays = {key: tensor.numpy() for key, tensor in tensors.items()}
    again, _ = import_weights(arrays, dialect=dialect)
    assert again.config == config


def test_keys_of_two_dialects_are_ambiguous() -> None:
    bare = empty_tensors(get_config("resnet50", num_classes=0), "torchvision")
    with pytest.raises(
        WeightsError, match=r"read as torchvision \(.*\) and tutorial \(.*stem_pool='max2'.*pass dialect="
    ):
        import_weights(bare)
    model, report = import_weights(bare, dialect="tutorial")
    assert (model.config.stem_pool, model.config.stem_act, model.config.global_pool) == ("max2", False, "none")
    assert report.assumed["stem_act"] is False
    assert import_weights(bare, dialect="torchvision")[0].config == get_config("resnet50", num_classes=0)
    assert import_weights(bare, variant="resnet50")[0].config == get_config("resnet50", num_classes=0)


def test_a_variant_has_the_meaning_of_a_requested_dialect() -> None:
    config = get_config("senet154")
    caffe = import_weights(empty_tensors(config, "cadene"), variant="senet154")[0].config
    assert (caffe.stem_pool, caffe.stride_in) == ("max_ceil", "3x3")
    timms, report = import_weights(empty_tensors(config, "timm"), dialect="timm", variant="senet154")
    assert timms.config.stem_pool == "max"
    assert report.assumed == {}
    unsaid = import_weights(empty_tensors(config, "timm"), variant="senet154")[0].config
    assert unsaid.stem_pool == "max_ceil"
    tutorial = get_config("resnet50", attention="se", se_form="linear", num_classes=0)
    model, _ = import_weights(empty_tensors(tutorial, "tutorial"), dialect="tutorial", variant="seresnet50")
    assert (model.config.se_form, model.config.stem_pool, model.config.stem_act) == ("linear", "max2", False)


def test_a_variant_keeps_fields_without_a_default_of_the_dialect() -> None:
    plain = empty_tensors(get_config("resnet50"), "timm")
    blur, report = import_weights(plain, dialect="timm", variant="resnetblur50")
    assert blur.config == get_config("resnetblur50")
    assert report.variant == "resnetblur50"
    first, _ = import_weights(plain, dialect="torchvision", variant="resnet50_v1")
    assert first.config.stride_in == "1x1"
    with pytest.raises(WeightsError, match="missing"):
        import_weights(plain, dialect="timm", variant="resnet101")


def test_vocreid_drops_the_classifier() -> None:
    tensors = empty_tensors(get_config("resnet50_ibn_a"), "ibnnet")
    for variant in ("auto", "resnet50_ibn_a"):
        model, report = import_weights(tensors, dialect="vocreid", variant=variant, last_stride=1)
        assert report.dropped == ("fc.weight", "fc.bias")
        assert model(torch.zeros(1, 3, 64, 32)).shape == (1, 2048, 4, 2)


@pytest.mark.parametrize("flat", [False, True])
def test_feature_maps_of_timm(flat: bool) -> None:
    for name in ("resnet34", "resnetv2_18", "vgg11"):
        tensors = empty_tensors(get_config(name, num_classes=3), "timm")
        if flat:  # as timm's features_only names and leaves out
            parts = ("stem.", "stages.", "features.")
            tensors = {
                key.replace(".", "_", 1) if key.startswith(parts) else key: tensor
                for key, tensor in tensors.items()
                if not key.startswith(("norm", "head", "fc", "pre_logits"))
            }
        model, report = import_weights(tensors, dialect="timm", features_only=True, out_indices=(1, -1))
        assert isinstance(model, FeatureExtractor)
        assert not model.training
        maps = model(torch.zeros(1, 3, 64, 64))
        assert [info["num_chs"] for info in model.feature_info] == [tensor.shape[1] for tensor in maps]
        assert all(not key.startswith("stages") for key in report.dropped)
    assert len(import_weights(tensors, dialect="timm", features_only=True)[0].feature_info) == 5 + flat
    with pytest.raises(ConfigError, match="features_only=True"):
        import_weights(tensors, dialect="timm", out_indices=(1,))  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({"output_stride": 8}, {"output_stride": 8}),
        ({"output_stride": 32}, {}),
        ({"global_pool": ""}, {"global_pool": "none", "num_classes": 0}),
        ({"global_pool": "max"}, {"global_pool": "max"}),
        ({"global_pool": "catavgmax", "num_classes": 0}, {"global_pool": "catavgmax", "num_classes": 0}),
        ({"global_pool": "fastavgmax"}, {"global_pool": "avgmax"}),
        ({"act_layer": "swish"}, {"act": "silu"}),
        ({"aa_layer": "blurpool"}, {"antialias": True}),
        ({"aa_layer": "avg"}, {"antialias": True, "antialias_filter": "average", "stem_pool": "avg2"}),
        ({"drop_rate": 0.25}, {"drop_rate": 0.25}),
        ({"cardinality": 1, "base_width": 64, "stem_type": "", "stem_width": 64, "layers": [3, 4, 6, 3]}, {}),
        ({"norm_layer": "frozenbatchnorm2d"}, {"norm": "frozen_batch"}),
        ({"block_args": {"attn_layer": None}}, {}),
    ],
    ids=str,
)
def test_options_of_timm(options: dict[str, Any], fields: dict[str, Any]) -> None:
    tensors = empty_tensors(get_config("resnet50"), "timm")
    for variant in ("auto", "resnet50"):
        model, _ = import_weights(tensors, dialect="timm", variant=variant, **options)
        assert model.config == get_config("resnet50", **fields)


def test_options_without_a_counterpart_are_refused() -> None:
    tensors = empty_tensors(get_config("resnet50"), "timm")
    for options in ({"global_pool": "lse"}, {"act_layer": "mish"}, {"block_args": {"x": 1}}, {"aa_layer": ["a"]}):
        with pytest.raises(ConfigError, match="no other has a counterpart"):
            import_weights(tensors, dialect="timm", **options)
    with pytest.raises(UnknownNameError, match="timm option"):
        import_weights(tensors, dialect="timm", replace_stride_with_dilation=None)


@pytest.mark.parametrize(
    ("options", "stem", "pool"),
    [
        ({"stem_type": "same"}, "7x7", "max"),  # of resnetv2.py; resnet.py looks for "deep" alone
        ({"stem_type": "tiered"}, "7x7", "max"),
        ({"stem_type": "fixed", "stem_width": 32}, "7x7", "max"),
        ({"stem_type": "deep_same"}, "deep", "max"),
        ({"stem_type": "deep_tiered"}, "tiered", "max"),
    ],
)
def test_stems_of_timms_first_family(options: dict[str, Any], stem: Any, pool: str) -> None:
    config = get_config("resnet18", stem=stem)
    found = import_weights(empty_tensors(config), dialect="timm", variant="resnet18", **options)[0].config
    assert found == config
    assert found.stem_pool == pool


@pytest.mark.parametrize(
    ("word", "pool"),
    [("", "max"), ("fixed", "max_zero"), ("same", "max_same"), ("deep", "max"), ("deep_same", "max_same")],
)
def test_stems_of_timms_second_family(word: str, pool: str) -> None:
    deep = {"stem": "deep", "shortcut": "D"} if "deep" in word else {}
    config = get_config("resnetv2_50", depths=(1, 1, 1, 1), **deep)
    tensors = foreign(config, "timm")[0]
    found = import_weights(tensors, dialect="timm", stem_type=word)[0].config
    assert found == config.with_overrides(stem_pool=pool)


def test_a_stem_of_another_width_is_read_off_the_tensors() -> None:
    config = get_config("resnet18", stem="deep", stem_width=128)
    for options in ({"stem_type": "deep"}, {"stem_type": "deep", "stem_width": 64}):
        assert import_weights(empty_tensors(config), dialect="timm", variant="resnet18", **options)[0].config == config


def test_what_the_keys_of_timm_leave_open_is_assumed() -> None:
    cases = {
        "resnetv2_50": {"shortcut"},
        "resnetv2_50x1_bit": {"shortcut", "norm", "standardised", "standardised_eps"},
        "seresnet18": {"attention"},
        "ecaresnet50d": {"attention"},
    }
    for name, fields in cases.items():
        report = import_weights(foreign(get_config(name, depths=(1, 1, 1, 1)), "timm")[0], dialect="timm")[1]
        assert fields <= report.assumed.keys(), name
    assert "attention" not in import_weights(empty_tensors(get_config("resnet18")))[1].assumed


def test_two_tensors_for_one_place() -> None:
    tensors = empty_tensors(get_config("resnet18"), "akamaster")
    both = {**tensors, "fc.weight": tensors["linear.weight"]}
    with pytest.raises(WeightsError, match="each tensor has one place"):
        import_weights(both, dialect="akamaster")


def test_a_network_that_a_codebase_does_not_have() -> None:
    with pytest.raises(WeightsError, match="cadene has no such network"):
        import_weights(empty_tensors(get_config("resnet50d"), "cadene"), dialect="cadene")
    with pytest.raises(WeightsError, match="have no such network"):
        import_weights(empty_tensors(get_config("keras_resnet50"), "resnets"))
