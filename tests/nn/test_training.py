"""Forward and backward at tiny size: every parameter of every kind of network gets a gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from resnets.arch.config import ResNetConfig
from resnets.arch.networks import NetworkConfig
from resnets.arch.variants import VARIANTS, get_config
from resnets.nn.layers import FrozenBatchNorm2d
from resnets.nn.model import Network, build_model
from tests.nn.tracing import shallow, thin
from tests.strategies import configs


def tiny(config: NetworkConfig) -> ResNetConfig:
    small = thin(shallow(config, 2))
    assert isinstance(small, ResNetConfig)
    return small


KINDS = {thin(shallow(config, 1)): name for name, config in reversed(VARIANTS.items())}  # depth and width apart

# What no named network has, on the basic and the bottleneck block, post- and pre-activation.
OPTIONS: list[dict[str, Any]] = [
    {"shortcut": "C"},
    {"shortcut": "A_after"},
    {"shortcut": "first"},
    {"shortcut": "B", "shortcut_norm": False},
    {"shortcut": "B", "shortcut_kernel": 3},
    {"kernel": 5},
    {"stem_act": False},
    *({"stem_pool": pool} for pool in ("max_same", "max_zero", "max_ceil", "max_valid", "max2", "none")),
    {"stem": "tiered", "norm_groups": 1},
    {"conv_bias": "all"},
    {"padding": "same"},
    {"standardised": True},
    {"antialias": True},
    {"attention": "se", "se_form": "linear", "attention_reduction": 2},  # one squeezed channel may be dead at first
    {"attention": "eca"},
    {"attention": "cbam", "attention_reduction": 2},
    {"attention": "cbam", "attention_reduction": 2, "norm": "frozen_batch"},
    {"ibn": ("a", "b", "b", "a")},
    {"norm": "group"},
    {"output_stride": 8, "dilation_rule": "detectron"},
    {"output_stride": 8, "stride_unit": "last"},
    {"global_pool": "gem"},
    {"global_pool": "window", "pool_window": 2, "img_size": 96},
]
BASES = {
    "basic": thin(get_config("resnet18", depths=(1, 1, 1, 1))),
    "bottleneck": thin(get_config("resnet50", depths=(1, 1, 1, 1))),
    "pre-activation": thin(get_config("resnetv2_50", depths=(1, 1, 1, 1))),
}
FORBIDDEN = {"ibn", "stem_act", "shortcut_norm"}  # before pre-activation blocks, by rule
CASES = [(b, o) for b in BASES for o in OPTIONS if b != "pre-activation" or not o.keys() & FORBIDDEN]


def backward(config: NetworkConfig, side: int = 33) -> Network:
    """A network after one backward pass from a batch of two images."""
    torch.manual_seed(0)
    model = build_model(config).train()
    x = torch.randn(2, config.in_chans, side, side)
    out: Tensor = model(x)
    (out * torch.randn_like(out)).sum().backward()  # type: ignore[no-untyped-call]
    return model


def every_parameter_gets_one(model: Network) -> None:
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None, path
        assert torch.isfinite(parameter.grad).all(), path
        assert parameter.grad.abs().sum() > 0, path


@pytest.mark.parametrize("config", KINDS, ids=KINDS.get)
def test_every_parameter_gets_a_gradient(config: NetworkConfig) -> None:
    every_parameter_gets_one(backward(config))


@pytest.mark.parametrize(("base", "options"), CASES, ids=str)
def test_every_option_trains(base: str, options: dict[str, Any]) -> None:
    every_parameter_gets_one(backward(BASES[base].with_overrides(**options), options.get("img_size", 65)))


@given(configs(zero_init_last=False, drop_path_rate=0.0))
@settings(max_examples=25)
def test_any_network_gets_gradients(config: ResNetConfig) -> None:
    model = backward(config, 32 if config.stem != "3x3" else 16)
    for path, parameter in model.named_parameters():
        if path == "neck.bias" and not config.neck_bias:  # stays at 0
            assert not parameter.requires_grad
            continue
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
    identity = model.get_submodule("layer2.1")
    assert "downsample" not in dict(identity.named_children())
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


def test_initial_weights_are_he_initialised() -> None:
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
    assert norm.running_var is not None
    assert (norm.running_var == 1).all()


def test_the_seed_determines_the_weights() -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in build_model(get_config("resnet20_cifar")).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_group_norm() -> None:
    model = build_model(tiny(get_config("resnet18", norm="group")))
    norms = [module for module in model.modules() if isinstance(module, nn.GroupNorm)]
    assert len(norms) == 20
    assert {norm.num_groups for norm in norms} == {4}
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    x = torch.randn(3, 3, 32, 32)
    model.train()
    assert torch.allclose(model(x)[:1], model(x[:1]), atol=1e-5)  # an image does not feel its batch


def test_frozen_batch_norm_never_changes() -> None:
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
