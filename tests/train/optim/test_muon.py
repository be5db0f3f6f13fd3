"""Muon against torch's (matrices only), singular values, and SGD where no update is orthogonalised."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from resnets.arch.variants import get_config
from resnets.nn.model import build_model
from resnets.train.config.options import OptimConfig
from resnets.train.optim.muon import Muon, orthogonalise
from resnets.train.optim.optimizers import build_optimizer


def filled(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(16, 144), (64, 64), (96, 20), (1, 9), (5, 1)])
def test_singular_vectors_stay_and_singular_values_are_near_one(shape: tuple[int, int]) -> None:
    matrix = filled(*shape)
    orthogonal = orthogonalise(matrix[None])[0]
    left, lengths, right = torch.linalg.svd(matrix, full_matrices=False)
    inner = left.T @ orthogonal @ right.T
    assert torch.allclose(inner, inner.diagonal().diag(), atol=2e-3)
    some = inner.diagonal()[lengths > 0.05 * lengths.max()]
    assert float(some.min()) > 0.6
    assert float(some.max()) < 1.3


def test_matrices_of_one_shape_are_independent() -> None:
    both = torch.stack([filled(8, 12), 1e-4 * filled(8, 12, seed=1)])
    for one, orthogonal in zip(both, orthogonalise(both), strict=True):
        torch.testing.assert_close(orthogonalise(one[None])[0], orthogonal)
    assert orthogonalise(torch.zeros(1, 3, 4)).abs().max() == 0


@pytest.mark.parametrize("shape", [(16, 40), (40, 16)])
def test_many_steps_on_a_matrix_equal_torch(shape: tuple[int, int]) -> None:
    ours, theirs = (nn.Parameter(filled(*shape)) for _ in range(2))
    one = Muon([ours], lr=0.05, momentum=0.9, weight_decay=0.1)
    other = torch.optim.Muon([theirs], lr=0.05, momentum=0.9, weight_decay=0.1)
    for step in range(10):
        ours.grad = filled(*shape, seed=step + 1)
        theirs.grad = ours.grad.clone()
        one.step()
        other.step()  # type: ignore[no-untyped-call]
    moved, apart = (ours - filled(*shape)).norm(), (ours - theirs).norm()
    assert float((apart / moved).detach()) < 0.02  # theirs iterates in bfloat16


def test_filters_are_updated_as_a_matrix_by_output_channel() -> None:
    filters = nn.Parameter(filled(8, 4, 3, 3).to(memory_format=torch.channels_last))
    matrix = nn.Parameter(filters.detach().flatten(1).clone())
    for step in range(3):
        filters.grad = filled(8, 4, 3, 3, seed=step)
        matrix.grad = filters.grad.flatten(1)
        Muon([filters], lr=0.1).step()
        Muon([matrix], lr=0.1).step()
    torch.testing.assert_close(filters.flatten(1), matrix)


def test_other_groups_are_sgd_with_decoupled_weight_decay() -> None:
    ours, theirs = (nn.Parameter(filled(5)) for _ in range(2))
    one = Muon([ours], lr=0.1, momentum=0.8, weight_decay=0.01, orthogonal=False)
    other = torch.optim.SGD([theirs], lr=0.1, momentum=0.8, nesterov=True)
    for step in range(5):
        ours.grad = filled(5, seed=step)
        theirs.grad = ours.grad.clone()
        one.step()
        theirs.data.mul_(1 - 0.1 * 0.01)
        other.step()
    torch.testing.assert_close(ours, theirs)


def test_all_filters_but_the_first_are_orthogonalised() -> None:
    model = build_model(get_config("resnet20_cifar"))
    names = {id(tensor): name for name, tensor in model.named_parameters()}
    groups = build_optimizer(model, OptimConfig(opt="muon", weight_decay=0.01)).param_groups
    orthogonal = {names[id(tensor)] for group in groups if group["orthogonal"] for tensor in group["params"]}
    assert orthogonal == {name for name in names.values() if "conv" in name and name != "conv1.weight"}
    assert sum(len(group["params"]) for group in groups) == len(names)
    assert {group["weight_decay"] for group in groups if group["orthogonal"]} == {0.01}


def test_parameters_without_a_gradient_are_skipped() -> None:
    early, late = nn.Parameter(filled(4, 6)), nn.Parameter(filled(4, 6, seed=1))
    optimizer = Muon([early, late], lr=0.1)
    before = late.detach().clone()
    early.grad = filled(4, 6, seed=2)
    optimizer.step()
    assert torch.equal(late, before)
    late.grad = filled(4, 6, seed=3)
    optimizer.step()
    assert not torch.equal(late, before)
