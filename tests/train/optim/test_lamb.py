"""LAMB against the paper's equations in plain Python, and fused optimizers against torch's others."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from resnets.train.config.options import OptimConfig
from resnets.train.optim.lamb import Lamb
from resnets.train.optim.optimizers import build_optimizer, set_lr

Numbers = list[float]


def reference(
    weights: Numbers, gradients: list[Numbers], lr: float, betas: tuple[float, float], eps: float, decay: float
) -> Numbers:
    """You et al. 2020, algorithm 2, in double precision, without a trust ratio if there is no weight decay."""
    first, second, weights = [0.0] * len(weights), [0.0] * len(weights), list(weights)
    for count, gradient in enumerate(gradients, start=1):
        step = []
        for i, g in enumerate(gradient):
            first[i] = betas[0] * first[i] + (1 - betas[0]) * g
            second[i] = betas[1] * second[i] + (1 - betas[1]) * g * g
            m, v = first[i] / (1 - betas[0] ** count), second[i] / (1 - betas[1] ** count)
            step.append(m / (math.sqrt(v) + eps) + decay * weights[i])
        norm, length = math.hypot(*weights), math.hypot(*step)
        ratio = norm / length if decay and norm > 0 and length > 0 else 1.0
        weights = [w - lr * ratio * s for w, s in zip(weights, step, strict=True)]
    return weights


@pytest.mark.parametrize("decay", [0.0, 0.02])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.9)])
def test_many_steps_equal_the_paper(decay: float, betas: tuple[float, float]) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((3, 4), (5,))]
    before = [tensor.detach().flatten().tolist() for tensor in tensors]
    optimizer = Lamb(tensors, lr=0.01, betas=betas, eps=1e-6, weight_decay=decay)
    history: list[list[Numbers]] = [[], []]
    for _ in range(12):
        for index, tensor in enumerate(tensors):
            tensor.grad = torch.randn(tensor.shape, generator=generator)
            history[index].append(tensor.grad.flatten().tolist())
        optimizer.step()
    for tensor, start, gradients in zip(tensors, before, history, strict=True):
        expected = reference(start, gradients, 0.01, betas, 1e-6, decay)
        assert tensor.detach().flatten().tolist() == pytest.approx(expected, rel=2e-5, abs=1e-6)


def test_a_first_step_by_hand() -> None:
    """m / sqrt(v) is the sign at first; with decay 0.5 the step is (1 + 1.5, -1 + 2), as long as the weights, 5."""
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    weight.grad = torch.tensor([0.2, -7.0])
    Lamb([weight], lr=0.1, eps=1e-12, weight_decay=0.5).step()
    length = math.hypot(2.5, 1.0)
    assert weight.tolist() == pytest.approx([3 - 0.1 * 5 * 2.5 / length, 4 - 0.1 * 5 * 1.0 / length], rel=1e-6)


def test_zero_norms_have_a_trust_ratio_of_one() -> None:
    zero, no_gradient = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    zero.grad, no_gradient.grad = torch.tensor([1.0, -1.0]), torch.zeros(2)
    Lamb([zero, no_gradient], lr=0.1, weight_decay=0.1).step()
    assert zero.tolist() == pytest.approx([-0.1, 0.1], rel=1e-4)
    assert no_gradient.tolist() == [0, 0]


def test_parameters_that_unfreeze_later_count_their_own_steps() -> None:
    early, late, alone = (nn.Parameter(torch.full((2, 2), 0.5)) for _ in range(3))
    optimizer, other = Lamb([early, late], lr=0.1, weight_decay=0.01), Lamb([alone], lr=0.1, weight_decay=0.01)
    for step in range(6):
        early.grad = torch.full((2, 2), 1.0 + step)
        if step >= 4:
            late.grad, alone.grad = torch.full((2, 2), 0.1 * step), torch.full((2, 2), 0.1 * step)
            other.step()
        optimizer.step()
    assert float(optimizer.state[late]["step"]) == 2
    assert torch.equal(late, alone)


class Tiny(nn.Module):
    """A weight with weight decay, and a norm without."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.norm = nn.Linear(6, 4, bias=False), nn.LayerNorm(4)


@pytest.mark.parametrize("opt", ["sgd", "adamw"])
@pytest.mark.parametrize("decay_norms", [False, True])
def test_fused_optimizers_equal_the_plain_ones(opt: str, decay_norms: bool) -> None:
    config = OptimConfig(opt=opt, lr=0.05, weight_decay=0.03, decay_norms=decay_norms)  # type: ignore[arg-type]
    ours, plain = Tiny(), Tiny()
    fused = build_optimizer(ours, config)
    weights = [*plain.linear.parameters(), *(plain.norm.parameters() if decay_norms else ())]
    groups = [{"params": weights, "weight_decay": 0.03}]
    if not decay_norms:
        groups.append({"params": list(plain.norm.parameters()), "weight_decay": 0.0})
    other: torch.optim.Optimizer
    if opt == "sgd":
        other = torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=True, foreach=True)
    else:
        other = torch.optim.AdamW(groups, lr=0.05, betas=(0.9, 0.999), eps=1e-8, foreach=True)
    for step in range(5):
        for one, two in zip(ours.parameters(), plain.parameters(), strict=True):
            one.grad = torch.randn(one.shape, generator=torch.Generator().manual_seed(step))
            two.grad = one.grad.clone()
        set_lr(fused, 0.05)
        fused.step()
        other.step()
    for one, two in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_lamb_has_no_weight_decay_of_norms() -> None:
    decayed, free = build_optimizer(Tiny(), OptimConfig(opt="lamb", weight_decay=0.02)).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.02, 0.0)
    assert [tuple(tensor.shape) for tensor in free["params"]] == [(4,), (4,)]
