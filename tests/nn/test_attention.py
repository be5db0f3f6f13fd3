"""Attention and IBN, recomputed with plain arithmetic."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnets.arch.config import ResNetConfig
from resnets.nn.attention import CBAM, ECA, SELayer, SEModule
from resnets.nn.layers import IBN, FrozenBatchNorm2d
from resnets.nn.model import build_model

SMALL: dict[str, Any] = {"widths": (8, 16, 24, 32), "depths": (1, 2, 1, 2), "stem_width": 8}


def maps(channels: int = 8) -> Tensor:
    return torch.randn(2, channels, 5, 4, generator=torch.Generator().manual_seed(0))


def set_all(module: nn.Module, value: float) -> None:
    for parameter in module.parameters():
        nn.init.constant_(parameter, value)


def test_squeeze_and_excitation_by_hand() -> None:
    """Two channels of mean 1 and 3, one squeezed: 0.5 * (1 + 3) = 2, then 2 * 0.5 = 1 to each gate."""
    x = torch.tensor([1.0, 3.0]).reshape(1, 2, 1, 1).expand(1, 2, 2, 2)
    linear = SELayer(2, 1)
    set_all(linear, 0.5)
    gate = torch.sigmoid(torch.tensor(1.0))
    assert torch.allclose(linear(x), x * gate)
    conv = SEModule(2, 1)
    set_all(conv, 0.5)  # biases too: 2.5, then 1.75
    assert torch.allclose(conv(x), x * torch.sigmoid(torch.tensor(1.75)))
    set_all(conv, -0.5)  # the ReLU cuts -2.5 off, and the last bias is left
    assert torch.allclose(conv(x), x * torch.sigmoid(torch.tensor(-0.5)))
    assert [name for name, _ in linear.named_parameters()] == ["fc.0.weight", "fc.2.weight"]
    assert [name for name, _ in conv.named_parameters()] == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]


def test_both_forms_of_squeeze_and_excitation_agree() -> None:
    linear, conv, x = SELayer(8, 2), SEModule(8, 2), maps()
    with torch.no_grad():
        for layer, weight in (
            (conv.fc1, linear.get_parameter("fc.0.weight")),
            (conv.fc2, linear.get_parameter("fc.2.weight")),
        ):
            layer.weight.copy_(weight[:, :, None, None])
            assert layer.bias is not None
            layer.bias.zero_()
    assert torch.allclose(linear(x), conv(x), atol=1e-6)


def test_efficient_channel_attention_by_hand() -> None:
    """Each channel's mean and its neighbours'; beyond the ends there is nothing."""
    eca = ECA(3)
    with torch.no_grad():
        eca.conv.weight.copy_(torch.tensor([[[1.0, 10.0, 100.0]]]) / 1000)
    means = torch.tensor([1.0, 2.0, 3.0])
    x = means.reshape(1, 3, 1, 1).expand(1, 3, 2, 2)
    y = torch.tensor([10 * 1 + 100 * 2, 1 * 1 + 10 * 2 + 100 * 3, 1 * 2 + 10 * 3]) / 1000
    assert torch.allclose(eca(x), x * torch.sigmoid(y).reshape(1, 3, 1, 1))


@pytest.mark.parametrize(("width", "kernel"), [(8, 3), (64, 3), (128, 5), (256, 5), (512, 5), (1024, 5), (2048, 7)])
def test_neighbours_by_the_papers_rule(width: int, kernel: int) -> None:
    """|log2(C) / 2 + 1 / 2|, up to the next odd number: Wang et al. 2020, timm's least being 3."""
    config = ResNetConfig(block="basic", depths=(1,), widths=(width,), stem_width=8, attention="eca")
    conv = build_model(config, init=False).get_submodule("layer1.0.se.conv")
    assert isinstance(conv, nn.Conv1d)
    assert conv.kernel_size == (kernel,)


def test_cbam_by_hand() -> None:
    torch.manual_seed(0)
    cbam, x = CBAM(8, 2).eval(), maps()

    def through(y: Tensor) -> Tensor:
        y = (y @ cbam.channel.fc1.weight[:, :, 0, 0].T).relu()
        return y @ cbam.channel.fc2.weight[:, :, 0, 0].T

    gate = torch.sigmoid(through(x.mean((2, 3))) + through(x.amax((2, 3))))
    y = x * gate[:, :, None, None]
    assert torch.allclose(cbam.channel(x), y, atol=1e-6)
    both = torch.stack((y.mean(1), y.amax(1)), dim=1)
    conv = cbam.spatial.conv.get_submodule("conv")
    assert isinstance(conv, nn.Conv2d)
    places = F.conv2d(both, conv.weight, padding=3) / (1 + 1e-5) ** 0.5  # a fresh batch norm in evaluation
    assert torch.allclose(cbam(x), y * torch.sigmoid(places), atol=1e-6)


def test_the_norm_of_cbam_is_frozen_with_the_rest() -> None:
    model = build_model(ResNetConfig(**SMALL, attention="cbam", norm="frozen_batch"))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert isinstance(model.get_submodule("layer1.0.se.spatial.conv.bn"), FrozenBatchNorm2d)


@pytest.mark.parametrize(("step", "squeezed"), [(1, 6), (8, 8)])
def test_squeezed_channels(step: int, squeezed: int) -> None:
    """96 / 16 is 6; timm rounds to a multiple of 8."""
    config = ResNetConfig(depths=(1,), widths=(24,), stem_width=8, attention="se", attention_round=step)
    fc1 = build_model(config, init=False).get_submodule("layer1.0.se.fc1")
    assert isinstance(fc1, nn.Conv2d)
    assert (fc1.in_channels, fc1.out_channels) == (96, squeezed)


@pytest.mark.parametrize("attention", ["se", "eca", "cbam"])
@pytest.mark.parametrize("options", [{}, {"block": "basic"}, {"pre_activation": True}, {"shortcut": "none"}], ids=str)
def test_attention_ends_the_branch_of_every_block(attention: str, options: dict[str, Any]) -> None:
    model = build_model(ResNetConfig(**SMALL | options, attention=attention), init=False)  # type: ignore[arg-type]
    block = model.get_submodule("layer2.1")
    names = [name for name, module in block.named_children() if name not in ("drop_path", "downsample")]
    last = "conv2" if options.get("block") else "conv3"
    before = last if options.get("pre_activation") else last.replace("conv", "bn")
    assert names[names.index("se") - 1] == before


def test_ibn_normalises_the_first_half_by_sample() -> None:
    ibn, x = IBN(8).eval(), maps() * 4 + 3
    out = ibn(x)
    assert torch.allclose(out[:, :4].mean((2, 3)), torch.zeros(2, 4), atol=1e-6)
    assert torch.allclose(out[:, :4].var((2, 3), correction=0), torch.ones(2, 4), atol=1e-4)
    assert torch.allclose(out[:, 4:], x[:, 4:], rtol=1e-4)  # a fresh batch norm in evaluation
    trained = ibn.train()(x)[:, 4:]
    assert torch.allclose(trained.mean((0, 2, 3)), torch.zeros(4), atol=1e-6)  # over the batch, not by sample
    assert not torch.allclose(trained.mean((2, 3)), torch.zeros(2, 4), atol=1e-2)


def test_ibn_a_is_the_first_norm_of_its_stages() -> None:
    model = build_model(ResNetConfig(**SMALL, ibn=("a", "", "a", "")), init=False)
    found = [path for path, module in model.named_modules() if isinstance(module, IBN)]
    assert found == ["layer1.0.bn1", "layer3.0.bn1"]
    odd = IBN(7)
    assert odd.IN.num_features == 3
    assert odd.BN.num_features == 4


def test_ibn_b_is_in_the_stem_and_in_the_last_block_of_its_stages() -> None:
    model = build_model(ResNetConfig(**SMALL, ibn=("b", "b", "", "b")), init=False)
    found = [path for path, module in model.named_modules() if isinstance(module, nn.InstanceNorm2d)]
    assert found == ["bn1", "layer1.0.IN", "layer2.1.IN", "layer4.1.IN"]
    assert isinstance(build_model(ResNetConfig(**SMALL, ibn=("", "b", "", "")), init=False).bn1, nn.BatchNorm2d)


def test_ibn_b_normalises_the_sum() -> None:
    torch.manual_seed(0)
    model = build_model(ResNetConfig(**SMALL, ibn=("", "b", "", ""))).eval()
    block = model.get_submodule("layer2.1")
    sums: list[Tensor] = []
    norm = block.get_submodule("IN")
    norm.register_forward_hook(lambda module, args, out: sums.append(args[0]))
    x = torch.randn(1, 64, 6, 6)
    out = block(x)
    (total,) = sums
    expected = (total - total.mean((2, 3), keepdim=True)) / (
        total.var((2, 3), correction=0, keepdim=True) + 1e-5
    ).sqrt()
    assert torch.allclose(out, expected.relu(), atol=1e-5)
