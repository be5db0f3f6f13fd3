"""Gradient checkpointing changes memory and time, and nothing else."""

from __future__ import annotations

import pytest
import torch

from resnets.arch.variants import get_config
from resnets.errors import ConfigError
from resnets.nn.model import Network, build_model
from tests.nn.tracing import thin

CONFIGS = {
    "basic": get_config("resnet8_cifar", drop_path_rate=0.2, drop_rate=0.2),
    "bottleneck": thin(get_config("seresnext50_32x4d", depths=(1, 1, 1, 1))),
    "pre-activation": thin(get_config("resnetv2_50", depths=(1, 1, 1, 1))),
    "ibn": thin(get_config("resnet50_ibn_a", depths=(1, 1, 1, 1))),
}


def step(model: Network, frozen: bool) -> dict[str, torch.Tensor]:
    """Gradients and buffers after a forward and a backward pass."""
    model.train()
    if frozen:
        model.get_submodule("layer1").eval().requires_grad_(False)
    model.zero_grad()
    torch.manual_seed(1)
    size = model.config.img_size if model.config.img_size <= 32 else 64
    model(torch.randn(4, 3, size, size)).square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return gradients | dict(model.named_buffers())


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_and_statistics_are_the_same_to_the_bit(name: str, frozen: bool) -> None:
    torch.manual_seed(0)
    model = build_model(CONFIGS[name])
    state = {key: value.clone() for key, value in model.state_dict().items()}
    expected = {key: value.clone() for key, value in step(model, frozen).items()}
    model.load_state_dict(state)
    model.set_grad_checkpointing()
    found = step(model, frozen)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def test_backward_runs_again_on_a_graph_that_is_kept() -> None:
    torch.manual_seed(0)
    model = build_model(get_config("resnet8_cifar"))
    model.set_grad_checkpointing()
    loss = model(torch.randn(4, 3, 32, 32)).square().mean()
    before = {name: value.clone() for name, value in model.named_buffers()}
    parameters = list(model.parameters())
    first = torch.autograd.grad(loss, parameters, retain_graph=True)
    second = torch.autograd.grad(loss, parameters)
    assert all(map(torch.equal, first, second))
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


def test_fewer_activations_are_kept() -> None:
    model = build_model(get_config("resnet20_cifar"))
    counts = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        kept = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(torch.randn(2, 3, 32, 32))
        counts.append(kept)
    assert counts[1] < counts[0] / 3


def test_networks_without_residual_blocks_have_none() -> None:
    with pytest.raises(ConfigError, match=r"residual blocks; this network has none"):
        build_model(thin(get_config("vgg11"))).set_grad_checkpointing()
    build_model(thin(get_config("vgg11"))).set_grad_checkpointing(False)
