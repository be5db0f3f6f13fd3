from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.utils import deterministic

from resnets.arch.variants import get_config
from resnets.nn.model import build_model
from resnets.train.config.options import OptimConfig
from resnets.train.optim.optimizers import build_optimizer, set_lr


def test_norms_and_biases_have_no_weight_decay() -> None:
    model = build_model(get_config("resnet20_cifar"))
    decayed, free = build_optimizer(model, OptimConfig(weight_decay=5e-4)).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert decayed["weight_decay"] == 5e-4
    assert free["weight_decay"] == 0
    assert {names[id(p)].rsplit(".", 1)[0].rpartition(".")[2][:2] for p in free["params"]} == {"bn", "fc"}
    assert all(names[id(p)].endswith("weight") for p in decayed["params"])
    assert len(decayed["params"]) + len(free["params"]) == len(list(model.parameters()))
    assert decayed["nesterov"]
    assert decayed["fused"]


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_step_skipped_by_the_scaler_leaves_no_momentum(nesterov: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uninitialised memory is filled with NaN here."""
    monkeypatch.setattr(deterministic, "fill_uninitialized_memory", True)
    skipping, plain = nn.Linear(3, 2), nn.Linear(3, 2)
    plain.load_state_dict(skipping.state_dict())
    found = []
    torch.use_deterministic_algorithms(True)
    try:
        for model, gradients in ((skipping, (math.inf, 0.5, -2.0)), (plain, (0.5, -2.0))):
            optimizer = build_optimizer(model, OptimConfig(opt="sgd", nesterov=nesterov))
            set_lr(optimizer, 0.1)
            scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
            for gradient in gradients:
                scale = scaler.scale(torch.ones(()))
                for parameter in model.parameters():
                    parameter.grad = gradient * scale * torch.ones_like(parameter)
                scaler.step(optimizer)
                scaler.update()
            found.append([optimizer.state[parameter]["momentum_buffer"] for parameter in model.parameters()])
    finally:
        torch.use_deterministic_algorithms(False)
    for one, other in zip([*skipping.parameters(), *found[0]], [*plain.parameters(), *found[1]], strict=True):
        assert torch.equal(one, other)
        assert torch.isfinite(one).all()


def test_the_first_steps_equal_torch() -> None:
    model = nn.Linear(3, 2)
    twin = nn.Linear(3, 2)
    twin.load_state_dict(model.state_dict())
    config = OptimConfig(opt="sgd", weight_decay=0.01)
    optimizer = build_optimizer(model, config)
    set_lr(optimizer, 0.1)
    groups = [{"params": [twin.weight], "weight_decay": 0.01}, {"params": [twin.bias], "weight_decay": 0.0}]
    plain = torch.optim.SGD(groups, lr=0.1, momentum=config.momentum, nesterov=config.nesterov, fused=True)
    for seed in range(3):
        for net, one in ((model, optimizer), (twin, plain)):
            x = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))
            one.zero_grad()
            torch.autograd.backward(net(x).square().sum())
            one.step()
    assert torch.equal(model.weight, twin.weight)
    assert torch.equal(model.bias, twin.bias)
