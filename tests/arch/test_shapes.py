"""Laws that hold for every network, and single operations worked by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnets.arch.config import ResNetConfig
from resnets.arch.nodes import (
    Chain,
    Conv,
    Flatten,
    GlobalPool,
    Identity,
    Linear,
    Node,
    Norm,
    PadChannels,
    Pool,
    Residual,
    children,
    walk,
)
from resnets.arch.plan import plan
from resnets.arch.shapes import Signal, apply, trace
from resnets.arch.variants import VARIANTS
from resnets.errors import ShapeError
from tests.strategies import SIDES, configs


@given(configs(), SIDES, SIDES, SIDES, SIDES)
def test_params_do_not_depend_on_the_input(config: ResNetConfig, h1: int, w1: int, h2: int, w2: int) -> None:
    one, other = (trace(plan(config), (config.in_chans, h, w)) for h, w in ((h1, w1), (h2, w2)))
    assert [(r.path, r.params) for r in one] == [(r.path, r.params) for r in other]


@given(configs(), SIDES, SIDES)
def test_a_map_is_the_input_over_its_stride_rounded_up(config: ResNetConfig, height: int, width: int) -> None:
    for record in trace(plan(config), (config.in_chans, height, width)):
        if record.result.receptive_field is not None and len(record.result.shape) == 3:
            stride = record.result.stride
            assert record.result.shape[1:] == (-(-height // stride), -(-width // stride)), record.path


@given(configs(), st.integers(1, 3), st.integers(1, 3))
def test_macs_grow_as_the_area(config: ResNetConfig, rows: int, columns: int) -> None:
    """At sizes that the network divides: four times the cells, four times the work, but for the classifier."""
    unit = 2 * config.stem_reduction * 2 ** len(config.depths)
    small = trace(plan(config), (config.in_chans, unit * rows, unit * columns))
    large = trace(plan(config), (config.in_chans, unit * rows * 2, unit * columns * 2))
    for one, four in zip(small, large, strict=True):
        if isinstance(one.node, Conv) and ".se." not in one.path:  # attention looks at means, one cell a channel
            assert four.macs == 4 * one.macs
        elif isinstance(one.node, Linear):
            assert four.macs == one.macs


@given(configs())
def test_output_stride_is_what_the_config_says(config: ResNetConfig) -> None:
    stages = [r for r in trace(plan(config), (config.in_chans, 64, 64)) if _is_stage(r.node)]
    natural = config.stem_reduction * 2 ** (len(config.depths) - 1)
    assert stages[-1].result.stride == (config.output_stride or natural)


def _is_stage(node: Node) -> bool:
    return isinstance(node, Chain) and node.role == "stage"


@given(configs(output_stride=None), st.integers(1, 40))
def test_dilation_keeps_params_and_adds_work(config: ResNetConfig, side: int) -> None:
    dilated = config.with_overrides(output_stride=config.stem_reduction)
    one, other = (trace(plan(c), (config.in_chans, side, side)) for c in (config, dilated))
    assert one[0].params == other[0].params
    assert one[0].macs <= other[0].macs


@pytest.mark.parametrize("name", VARIANTS)
def test_paths_are_unique_and_walked_in_the_same_order(name: str) -> None:
    tree = plan(VARIANTS[name])
    traced = [(r.path, r.node) for r in trace(tree, (3, 32, 32))]
    assert traced == list(walk(tree))
    leaves = [path for path, node in traced if not children(node) and not isinstance(node, Flatten)]
    assert len(set(leaves)) == len(leaves)


def one(node: Node, shape: tuple[int, ...], field: int = 1, stride: int = 1) -> Signal:
    """The output of a single node."""
    return apply(node, Signal(shape, field, stride), "here")


def conv(**fields: object) -> Conv:
    return Conv(**({"name": "c", "in_chans": 2, "out_chans": 4, "kernel": 3} | fields))  # type: ignore[arg-type]


def test_convolutions_by_hand() -> None:
    assert one(conv(), (2, 7, 9)) == Signal((4, 5, 7), 3, 1)
    assert one(conv(stride=2, padding=1), (2, 7, 8)) == Signal((4, 4, 4), 3, 2)
    assert one(conv(dilation=2, padding=2), (2, 7, 8), 3, 2) == Signal((4, 7, 8), 3 + 4 * 2, 2)
    assert one(conv(padding=(0, 1), stride=2), (2, 7, 8)) == Signal((4, 3, 4), 3, 2)
    assert one(conv(padding="same", stride=2), (2, 7, 8)) == Signal((4, 4, 4), 3, 2)
    assert one(conv(padding="same", stride=3), (2, 1, 1)) == Signal((4, 1, 1), 3, 3)


def test_pools_by_hand() -> None:
    pool = Pool(name="p", kind="max", kernel=3, stride=2)
    assert one(pool, (5, 8, 9)).shape == (5, 3, 4)
    assert one(Pool(name="p", kind="max", kernel=3, stride=2, ceil=True), (5, 8, 9)).shape == (5, 4, 4)
    assert one(Pool(name="p", kind="avg", kernel=2, stride=3, padding=1, ceil=True), (5, 5, 5)).shape == (5, 2, 2)
    assert one(GlobalPool(name="p", kind="avg"), (5, 8, 9), 3, 4) == Signal((5, 1, 1), None, 4)


def test_the_rest_by_hand() -> None:
    assert one(PadChannels(name="p", stride=2, before=1, after=2), (3, 5, 6)) == Signal((6, 3, 3), 1, 2)
    assert one(Flatten(name=""), (3, 5, 6)).shape == (90,)
    assert one(Linear(name="l", in_features=3, out_features=7), (3,)) == Signal((7,), None, 1)
    assert one(Identity(name="i"), (3, 5, 6)).shape == (3, 5, 6)


def test_costs_by_hand() -> None:
    tree = Chain(
        name="",
        role="network",
        nodes=(
            conv(name="a", groups=2, bias=True),
            Norm(name="n", kind="batch", channels=4, eps=1e-5, momentum=0.1, groups=1),
            Norm(name="f", kind="frozen_batch", channels=4, eps=1e-5, momentum=0.1, groups=1),
        ),
    )
    records = {r.path: r for r in trace(tree, (2, 6, 6))}
    assert (records["a"].params, records["a"].macs) == (4 * 1 * 9 + 4, 16 * 4 * 1 * 9)
    assert (records["n"].params, records["f"].params) == (8, 0)
    assert (records[""].params, records[""].macs) == (48, 576)


def test_a_residual_sees_as_far_as_its_longer_path() -> None:
    node = Residual(name="r", kind="X", body=(conv(in_chans=4, padding=1),), shortcut=())
    (record, *_) = trace(node, (4, 6, 6))
    assert record.result == Signal((4, 6, 6), 3, 1)
    assert {path for path, _ in children(node)} == {"c"}


def test_paths_that_do_not_meet() -> None:
    with pytest.raises(ShapeError, match=r"both paths .* \(4, 4, 4\) and \(2, 6, 6\)"):
        trace(Residual(name="r", kind="X", body=(conv(),)), (2, 6, 6))


def test_wrong_channels_name_the_layer_and_the_remedy() -> None:
    with pytest.raises(ShapeError, match="conv1 requires 3 channels; got 4; pass in_chans=4"):
        trace(plan(ResNetConfig()), (4, 64, 64))
