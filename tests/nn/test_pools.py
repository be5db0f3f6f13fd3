"""Pools and padded convolutions, on maps small enough to work by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnets.arch.config import ResNetConfig
from resnets.arch.nodes import Conv
from resnets.nn.build import build
from resnets.nn.layers import BlurPool2d, GeM
from resnets.nn.model import build_model


def stem_pool(kind: str) -> nn.Module:
    return build_model(ResNetConfig(stem_pool=kind), init=False).get_submodule("maxpool")  # type: ignore[arg-type]


def ramp(side: int) -> Tensor:
    """-1, -2, -3, ... row by row: the maximum of a window is its first cell, and any zero of padding would beat it."""
    return -torch.arange(1, side * side + 1, dtype=torch.float32).reshape(1, 1, side, side)


@pytest.mark.parametrize(
    ("kind", "side", "expected"),
    [
        ("max", 4, [[-1, -2], [-5, -6]]),  # windows begin at -1 and 1; what they lack is no candidate
        ("max_zero", 4, [[0, 0], [0, -6]]),  # the same windows, where zeros come first
        ("max_same", 4, [[-1, -3], [-9, -11]]),  # one cell of padding in all: after
        ("max_valid", 4, [[-1]]),
        ("max_ceil", 4, [[-1, -3], [-9, -11]]),  # the last window may hang over
        ("max2", 4, [[-1, -3], [-9, -11]]),
        ("max", 5, [[-1, -2, -4], [-6, -7, -9], [-16, -17, -19]]),
        ("max_zero", 5, [[0, 0, 0], [0, -7, 0], [0, 0, 0]]),  # its last windows hang over too
        ("max_same", 5, [[-1, -2, -4], [-6, -7, -9], [-16, -17, -19]]),  # two cells: one before, one after
        ("max_valid", 5, [[-1, -3], [-11, -13]]),
        ("max_ceil", 5, [[-1, -3], [-11, -13]]),  # nothing is left over, so nothing is rounded
        ("max2", 5, [[-1, -3], [-11, -13]]),  # the fifth row and column are dropped
    ],
)
def test_stem_pools_by_hand(kind: str, side: int, expected: list[list[float]]) -> None:
    assert stem_pool(kind)(ramp(side)).tolist() == [[expected]]


def test_no_stem_pool() -> None:
    assert isinstance(stem_pool("none"), nn.Identity)


@pytest.mark.parametrize(("side", "before", "after"), [(4, 0, 1), (5, 1, 1), (6, 0, 1), (7, 1, 1)])
def test_same_convolution_puts_the_odd_cell_after(side: int, before: int, after: int) -> None:
    """A 3x3 of stride 2 needs one cell more than an even map has: TensorFlow adds it below and to the right."""
    torch.manual_seed(0)
    module = build(Conv(name="c", in_chans=2, out_chans=3, kernel=3, stride=2, padding="same"))
    assert isinstance(module, nn.Conv2d)
    x = torch.randn(1, 2, side, side)
    padded = F.pad(x, (before, after, before, after))
    assert torch.equal(module(x), F.conv2d(padded, module.weight, stride=2))
    symmetric = F.conv2d(x, module.weight, stride=2, padding=1)
    assert torch.equal(module(x), symmetric) == (side % 2 == 1)  # no more than an offset, so that a wrong guess runs


def test_standardised_filters_have_mean_0_and_variance_1() -> None:
    torch.manual_seed(0)
    module = build(Conv(name="c", in_chans=6, out_chans=4, kernel=3, padding=1, standardised=True, groups=2))
    assert isinstance(module, nn.Conv2d)
    with torch.no_grad():
        module.weight.mul_(3).add_(2)
    window = torch.eye(27).reshape(27, 3, 3, 3)  # one-hot images read a filter out, cell by cell
    x = torch.cat((window, window), dim=1)
    used = F.conv2d(x, torch.zeros(4, 3, 3, 3), groups=2)[..., 0, 0]
    used = used + module(x)[..., 1, 1]  # the middle cell sees the whole image
    assert torch.allclose(used.mean(0), torch.zeros(4), atol=1e-6)
    assert torch.allclose(used.var(0, correction=0), torch.ones(4), atol=1e-5)
    expected = module(x)
    with torch.no_grad():
        module.weight.mul_(7).sub_(1)  # neither scale nor offset of a filter means anything
    assert torch.allclose(module(x), expected, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [4, 5])
def test_blur(stride: int, side: int) -> None:
    blur = BlurPool2d(stride)
    constant = torch.full((1, 2, side, side), 3.5)
    assert torch.equal(blur(constant), constant[:, :, ::stride, ::stride])
    x = torch.randn(1, 2, side, side, generator=torch.Generator().manual_seed(0))
    whole = BlurPool2d(1)(x)
    assert whole.shape == x.shape
    assert torch.equal(blur(x), whole[:, :, ::stride, ::stride])
    centre = x[0, 1, 0:3, 0:3] * torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    assert whole[0, 1, 1, 1].item() == pytest.approx(centre.sum().item(), abs=1e-6)
    corner = (4 * x[0, 1, 0, 0] + 4 * x[0, 1, 0, 1] + 4 * x[0, 1, 1, 0] + 4 * x[0, 1, 1, 1]) / 16  # reflected
    assert whole[0, 1, 0, 0].item() == pytest.approx(corner.item(), abs=1e-6)


def test_generalised_mean() -> None:
    x = torch.tensor([1.0, 2.0, 3.0, 6.0]).reshape(1, 1, 2, 2)
    assert GeM(p=1.0)(x).item() == pytest.approx(3.0)
    assert GeM(p=2.0)(x).item() == pytest.approx((50 / 4) ** 0.5)
    assert GeM()(x).item() == pytest.approx((252 / 4) ** (1 / 3))  # p begins at 3
    assert GeM(p=40.0)(x.double()).item() == pytest.approx(6.0, rel=0.04)
    assert GeM()(-x).item() == pytest.approx(1e-6)  # a power needs positive numbers
    assert GeM()(torch.rand(2, 3, 5, 4)).shape == (2, 3, 1, 1)
