"""Forward and backward at tiny size: every parameter of every kind of network gets a gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from resnets.arch.config import ResNetConfig
from resnets.arch.variants import VARIANTS, get_config
from resnets.nn.layers import FrozenBatchNorm2d
from resnets.nn.model import ResNet, build_model
from tests.strategies import configs

SHALLOW = {name: config for name, config in VARIANTS.items() if sum(config.depths) < 40}


def tiny(config: ResNetConfig) -> ResNetConfig:
    """The same layout with an eighth of the channels and at most two blocks a stage."""
    eighth = tuple(max(width // 8, 8) for width in config.widths)
    depths = tuple(min(depth, 2) for depth in config.depths)
    groups = min(config.groups, 2)
    group_width = 32 if config.groups > 1 else config.group_width
    return config.with_overrides(widths=eighth, depths=depths, stem_width=8, groups=groups, group_width=group_width)


def backward(config: ResNetConfig) -> ResNet:
    """A network after one backward pass from a batch of two pictures."""
    torch.manual_seed(0)
    model = build_model(config).train()
    side = 32 if config.stem == "7x7" else 16
    x = torch.randn(2, config.in_chans, side, side)
    out: Tensor = model(x)
    (out * torch.randn_like(out)).sum().backward()
    return model


@pytest.mark.parametrize("name", SHALLOW)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    for path, parameter in backward(tiny(SHALLOW[name])).named_parameters():
        assert parameter.grad is not None, path
        assert parameter.grad.abs().sum() > 0, path


@given(configs(zero_init_last=False, drop_path_rate=0.0))
@settings(max_examples=25)
def test_any_network_gets_gradients(config: ResNetConfig) -> None:
    model = backward(config)
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None, path
        assert parameter.grad.shape == parameter.shape
        assert torch.isfinite(parameter.grad).all(), path


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnetv2_18", "resnetv2_50", "resnext50_32x4d"])
def test_zero_init_makes_every_block_the_identity(name: str) -> None:
    """A post-activation block with an identity shortcut is then ReLU(x); a pre-activation one x itself."""
    torch.manual_seed(0)
    model = build_model(tiny(get_config(name, zero_init_last=True))).train()
    stage = model.get_submodule("layer2")
    assert isinstance(stage, nn.Sequential)
    first = model.get_submodule("layer2.0.conv1")
    assert isinstance(first, nn.Conv2d)
    x = torch.randn(2, first.in_channels, 8, 8)
    mapped = stage[0](x)
    identity = stage[1]
    assert identity.downsample is None
    expected = mapped if name.startswith("resnetv2") else mapped.relu()
    assert torch.equal(identity(mapped), expected)
    plain = build_model(tiny(get_config(name))).train()
    assert not torch.equal(plain.get_submodule("layer2.1")(mapped), expected)


def test_zero_init_marks_only_the_last_of_each_branch() -> None:
    model = build_model(tiny(get_config("resnet50", zero_init_last=True)))
    zero = {path for path, p in model.named_parameters() if path.endswith("weight") and not p.any()}
    assert zero == {f"layer{stage}.{block}.bn3.weight" for stage in (1, 2, 3, 4) for block in (0, 1)}
    model = build_model(tiny(get_config("resnetv2_18", zero_init_last=True)))
    zero = {path for path, p in model.named_parameters() if path.endswith("weight") and not p.any()}
    assert zero == {f"layer{stage}.{block}.conv2.weight" for stage in (1, 2, 3, 4) for block in (0, 1)}


def test_first_weights_are_he_initialised() -> None:
    torch.manual_seed(0)
    model = build_model(get_config("resnet18"))
    conv = model.get_submodule("layer3.0.conv2")
    assert isinstance(conv, nn.Conv2d)
    assert conv.weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)  # fan out, gain of a ReLU
    assert conv.bias is None
    norm = model.get_submodule("bn1")
    assert isinstance(norm, nn.BatchNorm2d)
    assert (norm.weight == 1).all()
    assert (norm.bias == 0).all()
    assert (norm.running_var == 1).all()


def test_the_seed_decides_the_weights() -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in build_model(get_config("resnet20_cifar")).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_group_norm() -> None:
    model = build_model(tiny(get_config("resnet18", norm="group", norm_groups=4)))
    norms = [module for module in model.modules() if isinstance(module, nn.GroupNorm)]
    assert len(norms) == 20
    assert {norm.num_groups for norm in norms} == {4}
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    x = torch.randn(3, 3, 32, 32)
    model.train()
    assert torch.allclose(model(x)[:1], model(x[:1]), atol=1e-5)  # a picture does not feel its batch


def test_frozen_batch_norm_never_moves() -> None:
    torch.manual_seed(0)
    model = build_model(tiny(get_config("resnet18", norm="frozen_batch"))).train()
    before = {path: value.clone() for path, value in model.named_buffers()}
    x = torch.randn(2, 3, 32, 32)
    train_out = model(x)
    train_out.sum().backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    assert len(before) == 20 * 4
    assert all(torch.equal(value, before[path]) for path, value in model.named_buffers())
    assert not any(path.split(".")[-2].startswith("bn") for path, _ in model.named_parameters())
    model = build_model(tiny(get_config("resnet18", norm="frozen_batch")))
    assert torch.equal(model.train()(x), model.eval()(x))


def test_frozen_batch_norm_is_batch_norm_in_evaluation() -> None:
    torch.manual_seed(0)
    batch, frozen = nn.BatchNorm2d(6, eps=1e-3).eval(), FrozenBatchNorm2d(6, eps=1e-3)
    assert batch.running_mean is not None
    assert batch.running_var is not None
    for tensor in (batch.weight.data, batch.running_var):
        tensor.uniform_(0.5, 1.5)
    for tensor in (batch.bias.data, batch.running_mean):
        tensor.normal_()
    frozen.load_state_dict({key: value for key, value in batch.state_dict().items() if "num_batches" not in key})
    x = torch.randn(2, 6, 4, 4)
    assert torch.allclose(frozen(x), batch(x), atol=1e-6)
