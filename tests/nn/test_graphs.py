"""Networks as graphs: what tracing, exporting, copying and pickling tools need of them."""

from __future__ import annotations

import copy

import pytest
import torch

from resnets.arch.variants import get_config
from resnets.nn.model import build_model

NAMES = ("resnet20_cifar", "resnetv2_20_cifar", "plain20_cifar")


@pytest.mark.parametrize("name", NAMES)
def test_traced_exported_and_copied_networks_answer_the_same(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(get_config(name)).eval()
    x = torch.randn(2, 3, 32, 32)
    expected = model(x)
    assert torch.equal(torch.fx.symbolic_trace(model)(x), expected)
    assert torch.equal(copy.deepcopy(model)(x), expected)
    assert torch.allclose(torch.export.export(model, (x,)).module()(x), expected, atol=1e-5)
