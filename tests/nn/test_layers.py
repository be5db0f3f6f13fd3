"""Operations of our own, by hand; and the plan's receptive field against the gradient's reach."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from resnets.arch.config import ResNetConfig
from resnets.arch.nodes import Conv, Pool
from resnets.arch.plan import plan
from resnets.arch.shapes import trace
from resnets.arch.variants import get_config
from resnets.nn.blocks import ResidualBlock
from resnets.nn.build import build
from resnets.nn.layers import CosineLinear, DropPath, GeM, PadChannels
from resnets.nn.model import build_model
from tests.strategies import configs


def test_option_a_by_hand() -> None:
    x = torch.arange(2 * 3 * 3, dtype=torch.float32).reshape(1, 2, 3, 3)
    out = PadChannels(2, 1, 2)(x)
    assert out.shape == (1, 5, 2, 2)
    assert torch.equal(out[0, 0], torch.zeros(2, 2))
    assert torch.equal(out[0, 1], torch.tensor([[0.0, 2.0], [6.0, 8.0]]))
    assert torch.equal(out[0, 2], torch.tensor([[9.0, 11.0], [15.0, 17.0]]))
    assert torch.equal(out[0, 3:], torch.zeros(2, 2, 2))


def test_option_a_in_a_block_by_hand() -> None:
    """With both convolutions at zero only the shortcut is left: every other cell, 8 channels of zeros each side."""
    model = build_model(get_config("resnet20_cifar")).eval()
    block = model.get_submodule("layer2.0")
    for conv in (block.get_submodule("conv1"), block.get_submodule("conv2")):
        assert isinstance(conv, nn.Conv2d)
        nn.init.zeros_(conv.weight)
    x = torch.randn(2, 16, 9, 7)
    out = block(x)
    assert out.shape == (2, 32, 5, 4)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2].relu())
    assert not out[:, :8].any()
    assert not out[:, 24:].any()


@pytest.mark.parametrize(("shortcut", "projections"), [("A", 0), ("B", 2), ("C", 9), ("none", 0)])
def test_options_a_b_c(shortcut: str, projections: int) -> None:
    model = build_model(get_config("resnet20_cifar", shortcut=shortcut), init=False)
    found = [path for path, module in model.named_modules() if path.endswith("downsample.0")]
    assert sum(isinstance(model.get_submodule(path), nn.Conv2d) for path in found) == projections
    assert len(found) == (2 if shortcut == "A" else projections)


@given(st.floats(0.05, 0.95), st.integers(0, 100))
def test_drop_path_keeps_or_drops_whole_samples(rate: float, seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.randn(16, 3, 4, 5) + 10
    out = DropPath(rate).train()(x)
    dropped = (out == 0).all(dim=(1, 2, 3)) if out.ndim == 4 else out
    assert torch.allclose(out[~dropped], x[~dropped] / (1 - rate))
    assert torch.equal(out[dropped], torch.zeros_like(x[dropped]))


def test_drop_path_keeps_the_expectation() -> None:
    torch.manual_seed(0)
    x = torch.ones(40_000, 1, 1, 1)
    out = DropPath(0.3).train()(x)
    assert (out == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)  # 4 standard errors
    assert out.mean().item() == pytest.approx(1.0, abs=0.015)
    assert torch.equal(DropPath(0.3).eval()(x), x)


def test_stochastic_depth_rises_linearly_and_spares_the_shortcut() -> None:
    model = build_model(get_config("resnet20_cifar", drop_path_rate=0.4), init=False)
    rates = [m.rate for m in model.modules() if isinstance(m, DropPath)]
    assert rates == pytest.approx([0.4 * block / 8 for block in range(1, 9)])
    model = build_model(get_config("resnet20_cifar", drop_path_rate=0.999)).train()
    torch.manual_seed(0)
    block = model.get_submodule("layer1.2")
    assert isinstance(block, ResidualBlock)
    block.drop_path = DropPath(0.999999)
    x = torch.randn(2, 16, 4, 4)
    assert torch.equal(block(x), x.relu())


@pytest.mark.parametrize("size", [4, 5, 7, 8])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 1, 1), (3, 2, 1), (7, 2, 1), (1, 2, 1), (3, 1, 2)])
def test_same_padding_is_tensorflows(size: int, kernel: int, stride: int, dilation: int) -> None:
    """TensorFlow: ceil(size / stride) cells; the total is split, the odd cell after."""
    node = Conv(name="c", in_chans=1, out_chans=1, kernel=kernel, stride=stride, dilation=dilation, padding="same")
    module = build(node)
    assert isinstance(module, nn.Conv2d)
    nn.init.ones_(module.weight)
    cells = -(-size // stride)
    total = max((cells - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    x = torch.arange(size * size, dtype=torch.float32).reshape(1, 1, size, size)
    padded = F.pad(x, [total // 2, total - total // 2] * 2)
    expected = F.conv2d(padded, module.weight, stride=stride, dilation=dilation)
    assert expected.shape[-1] == cells
    assert torch.equal(module(x), expected)


@pytest.mark.parametrize("padding", [0, 1, (0, 1), (1, 0), "same"])
@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("size", [6, 7])
def test_pools_have_the_shapes_of_the_plan(padding: object, ceil: bool, size: int) -> None:
    node = Pool(name="p", kind="max", kernel=3, stride=2, padding=padding, ceil=ceil)  # type: ignore[arg-type]
    x = -torch.rand(1, 2, size, size) - 1  # negative, so that a zero of padding would win
    out = build(node)(x)
    assert tuple(out.shape[1:]) == trace(node, (2, size, size))[0].result.shape
    assert out.max() < 0


def reach(config: ResNetConfig, stage: str, side: int) -> int:
    """Input cells a side that reach the middle cell of `stage`, by the gradient of a network of ones."""
    model = build_model(config).eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    model.maxpool = nn.Identity() if config.stem_pool == "none" else nn.AvgPool2d(3, 2, 1)  # a maximum hides cells
    outputs: list[Tensor] = []
    model.get_submodule(stage).register_forward_hook(lambda module, args, out: outputs.append(out))
    x = torch.ones(1, config.in_chans, side, side, dtype=torch.float64, requires_grad=True)
    model.double()(x)
    cells = outputs[0].shape[-1]
    outputs[0][0, :, cells // 2, cells // 2].sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    return int(x.grad[0].abs().sum(0).gt(0).any(0).sum())


# Whole-map operations (group norm, attention, non-local) reach farther; standardised filters of ones would be zeros.
@given(
    configs(
        zero_init_last=False,
        shortcut="B",
        norm="batch",
        attention="none",
        se_form="conv",
        standardised=False,
        non_local=(),
    )
)
@settings(max_examples=12)
def test_receptive_field_is_the_gradients_reach(config: ResNetConfig) -> None:
    config = config.with_overrides(
        depths=tuple(min(depth, 2) for depth in config.depths), drop_path_rate=0.0, global_pool="avg"
    )
    last = f"layer{len(config.depths)}"
    records = {r.path: r for r in trace(plan(config), (config.in_chans, 64, 64))}
    field = records[last].result.receptive_field
    assert field is not None
    if field < 150:  # an image that holds the whole field
        assert reach(config, last, 2 * field + 3) == field


def test_receptive_field_of_resnet20() -> None:
    config = get_config("resnet20_cifar")
    assert isinstance(config, ResNetConfig)
    assert trace(plan(config), (3, 32, 32))[-1].result.receptive_field is None
    assert reach(config, "layer3", 180) == 81


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_gem_and_cosines_compute_in_float32_or_more(dtype: torch.dtype) -> None:
    """The cube of 60 is infinite in float16, and the eps of a normalisation is 0 there."""
    pool = GeM().to(dtype)
    assert pool(torch.full((1, 2, 3, 3), 60.0, dtype=dtype)).flatten().tolist() == pytest.approx([60, 60], rel=1e-2)
    layer = CosineLinear(4, 3, 30.0).to(dtype)
    out = layer(torch.stack([torch.zeros(4), torch.ones(4)]).to(dtype))
    assert out.dtype == dtype
    assert out[0].tolist() == [0, 0, 0]
    assert torch.isfinite(out).all()
