"""Weights of one network in a related one: hand-worked numbers for every rule, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from resnets.arch.variants import get_config
from resnets.errors import ConfigError, WeightsError
from resnets.nn.model import Network
from resnets.weights.adapt import adapt, inflate_kernel
from tests.weights.networks import randomized

SMALL: dict[str, Any] = {"depths": (1, 1), "widths": (8, 16), "stem_width": 8, "num_classes": 4}


def small(**options: Any) -> Network:
    """A bottleneck network of two stages, every tensor of its own numbers."""
    return randomized(get_config("resnet50", **SMALL | options))


def test_sums_and_repeats_by_hand() -> None:
    kernel = torch.tensor([1.0, 2.0, 4.0]).reshape(1, 3, 1, 1)
    for rule, chans, expected in (
        ("auto", 1, [7.0]),
        ("sum", 1, [7.0]),
        ("sum", 2, [3.5, 3.5]),
        ("repeat", 1, [3.0]),
        ("auto", 2, [1.5, 3.0]),  # times 3/2
        ("auto", 4, [0.75, 1.5, 3.0, 0.75]),  # times 3/4, then from the start
        ("repeat", 6, [0.5, 1.0, 2.0, 0.5, 1.0, 2.0]),
        ("auto", 3, [1.0, 2.0, 4.0]),
    ):
        assert inflate_kernel(kernel, chans, rule).flatten().tolist() == expected  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="inflate is one of auto, sum, repeat; got 'mean'"):
        inflate_kernel(kernel, 1, "mean")  # type: ignore[arg-type]


@pytest.mark.parametrize("stem", ["7x7", "deep"])
def test_grayscale_input_gives_the_output_of_its_rgb_image(stem: str) -> None:
    source = small(stem=stem).eval()
    gray = torch.rand(2, 1, 32, 32)
    expected = source(gray.expand(-1, 3, -1, -1))
    for chans, rules in ((1, ("auto", "sum")), (2, ("sum",)), (4, ("sum",)), (6, ("auto", "sum", "repeat"))):
        for rule in rules:
            model, report = adapt(source, source.config.with_overrides(in_chans=chans), inflate=rule)  # type: ignore[arg-type]
            torch.testing.assert_close(model(gray.expand(-1, chans, -1, -1)), expected, rtol=1e-4, atol=1e-5)
            assert list(report.changed) == ["conv1.weight" if stem == "7x7" else "conv1.0.weight"]
            assert not report.fresh
            assert not report.dropped
            assert f"takes {chans} channels instead of 3" in report.notes[0]


def test_unchanged_tensors_are_shared() -> None:
    source = small()
    model, report = adapt(source, source.config.with_overrides(output_stride=4, drop_rate=0.5))
    assert report.kept == 1
    assert report.notes == ()
    mine, theirs = model.state_dict(), source.state_dict()
    assert all(mine[key].data_ptr() == theirs[key].data_ptr() for key in theirs)
    assert not model.training


def test_ibn_a_splits_the_first_norm() -> None:
    source = small()
    model, report = adapt(source, source.config.with_overrides(ibn=("a", "")))
    old, new = source.state_dict(), model.state_dict()
    for name in ("weight", "bias"):
        assert torch.equal(new[f"layer1.0.bn1.IN.{name}"], old[f"layer1.0.bn1.{name}"][:4])
    for name in ("weight", "bias", "running_mean", "running_var"):
        assert torch.equal(new[f"layer1.0.bn1.BN.{name}"], old[f"layer1.0.bn1.{name}"][4:])
    assert int(new["layer1.0.bn1.BN.num_batches_tracked"]) == 7
    assert torch.equal(new["layer2.0.bn1.weight"], old["layer2.0.bn1.weight"])
    assert report.fresh == ()
    assert report.dropped == ()
    assert report.changed["layer1.0.bn1.IN.weight"] == "first 4 of layer1.0.bn1.weight"
    assert len(report.changed) == 6
    assert "IBN-a" in report.notes[0]
    # The second half of the channels has the same output as before.
    x = torch.rand(2, 8, 5, 5)
    torch.testing.assert_close(
        model.get_submodule("layer1.0.bn1")(x)[:, 4:], source.eval().get_submodule("layer1.0.bn1")(x)[:, 4:]
    )


def test_ibn_b_starts_its_instance_norms() -> None:
    source = small()
    model, report = adapt(source, source.config.with_overrides(ibn=("b", "")))
    new, old = model.state_dict(), source.state_dict()
    assert torch.equal(new["bn1.weight"], old["bn1.weight"])
    assert isinstance(model.get_submodule("bn1"), nn.InstanceNorm2d)
    assert set(report.dropped) == {"bn1.running_mean", "bn1.running_var", "bn1.num_batches_tracked"}
    assert report.fresh == ("layer1.0.IN.weight", "layer1.0.IN.bias")
    assert new["layer1.0.IN.weight"].unique().tolist() == [1]
    assert new["layer1.0.IN.bias"].unique().tolist() == [0]
    assert sum("IBN-b" in note for note in report.notes) == 2


@pytest.mark.parametrize("attention", ["se", "eca", "cbam"])
def test_attention_starts_fresh(attention: str) -> None:
    source = small()
    torch.manual_seed(1)
    model, report = adapt(source, source.config.with_overrides(attention=attention))
    assert report.fresh
    assert all(".se." in key for key in report.fresh)
    assert report.notes[0] == "attention: every gate starts fresh"
    assert report.dropped == ()
    assert 0.5 < report.kept < 1
    new, old = model.state_dict(), source.state_dict()
    assert all(torch.equal(new[key], old[key]) for key in old)
    assert torch.isfinite(model(torch.rand(1, 3, 32, 32))).all()
    drawn = [key for key in report.fresh if key.endswith("weight") and new[key].ndim > 1]
    assert drawn
    assert all(float(new[key].std()) > 0 for key in drawn)


def test_linear_gates_and_gem() -> None:
    source = small()
    config = source.config.with_overrides(attention="se", se_form="linear", ibn=("a", "a"), global_pool="gem")
    model, report = adapt(source, config)
    assert "avgpool.p" in report.fresh
    assert float(model.state_dict()["avgpool.p"]) == 3
    assert len(report.notes) == 3
    assert json.loads(json.dumps(report.to_dict()))["fresh"] == list(report.fresh)


def test_frozen_norms_and_back() -> None:
    source = small().eval()
    frozen, report = adapt(source, source.config.with_overrides(norm="frozen_batch"))
    assert all(key.endswith("num_batches_tracked") for key in report.dropped)
    assert report.dropped
    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(frozen(x), source(x), rtol=1e-4, atol=1e-4)
    back, report = adapt(frozen, source.config)
    assert report.notes == ("step counters start at 0",)
    assert torch.equal(back(x), source(x))


def test_the_head() -> None:
    source = small()
    model, report = adapt(source, source.config.with_overrides(num_classes=7))
    assert report.fresh == ("fc.weight", "fc.bias")
    assert report.dropped == ("fc.weight", "fc.bias")
    assert report.notes == ("the old head has 4 classes, 7 are requested: the classifier starts fresh",)
    assert model.state_dict()["fc.weight"].shape == (7, 64)
    model, report = adapt(source, source.config.with_overrides(num_classes=0))
    assert (report.fresh, report.notes, report.dropped) == ((), (), ("fc.weight", "fc.bias"))
    vgg = randomized(get_config("vgg11", widths=(4, 4, 4, 4, 4), hidden=8, num_classes=3))
    model, report = adapt(vgg, vgg.config.with_overrides(num_classes=5, in_chans=1))
    assert report.fresh == ("classifier.6.weight", "classifier.6.bias")
    assert list(report.changed) == ["features.0.weight"]


def test_differences_without_a_rule_are_errors() -> None:
    source = small()
    for changes, part in (
        ({"depths": (2, 1)}, r"differs in depths \(2, 1\) for \(1, 1\)"),
        ({"stride_in": "1x1"}, "differs in stride_in 1x1 for 3x3"),
        ({"norm": "group", "norm_groups": 4}, "differs in norm group for batch"),
    ):
        with pytest.raises(WeightsError, match=part):
            adapt(source, source.config.with_overrides(**changes))
    with pytest.raises(WeightsError, match="differs in attention none for se"):
        adapt(small(attention="se"), source.config)
    with pytest.raises(WeightsError, match="differs in ibn"):
        adapt(small(ibn=("a", "")), source.config)
    with pytest.raises(WeightsError, match="must be of one family"):
        adapt(source, get_config("vgg11"))
