from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from resnets.arch.parts import freeze_points
from resnets.errors import ShapeError, UnknownNameError
from resnets.nn.model import build_model
from resnets.nn.split import split_at
from resnets.train.freeze.frozen_part import apply_phase
from resnets.train.freeze.phases import Phase
from tests.train.nets import CONFIGS, IMAGE, images, make

FREEZE_POINTS = [(name, freeze_point) for name in CONFIGS for freeze_point in freeze_points(make(name).plan)]


@pytest.mark.parametrize(("name", "freeze_point"), FREEZE_POINTS)
def test_prefix_and_suffix_equal_the_network(name: str, freeze_point: str) -> None:
    """In training mode with stochastic depth and dropout: logits and all gradients are equal to the bit."""
    model = make(name)
    frozen = apply_phase(model, Phase(epochs=1, freeze=freeze_point))
    frozen.train_mode()
    x, y = images(4)

    def gradients(forward: Callable[[Tensor], Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        torch.manual_seed(7)
        logits = forward(x)
        model.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(logits, y))
        return logits, {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}

    prefix, suffix = split_at(model, freeze_point)
    whole, expected = gradients(model)
    cut, found = gradients(lambda x: suffix(prefix(x)))
    assert torch.equal(cut, whole)
    assert found.keys() == expected.keys() != set()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize(("name", "freeze_point"), FREEZE_POINTS)
def test_output_shape(name: str, freeze_point: str) -> None:
    model = make(name)
    prefix, _ = split_at(model, freeze_point)
    shape = prefix.output_shape((IMAGE, IMAGE))
    x, _ = images(2)
    with prefix.inference():
        assert prefix(x).shape == (2, *shape)
    if freeze_point == "backbone":
        assert shape == (model.num_features,)


def test_operations_without_weights_go_to_the_prefix() -> None:
    """Up to the last stage, the output is the embedding, unless a module that trains precedes the pool."""
    assert split_at(make("basic"), "layer2")[0].output_shape((IMAGE, IMAGE)) == (24,)
    assert split_at(make("random"), "layer2")[0].output_shape((IMAGE, IMAGE)) == (24,)
    assert split_at(make("SE and GeM"), "layer2")[0].output_shape((IMAGE, IMAGE)) == (24, 6, 6)  # the power trains
    assert split_at(make("pre-activation"), "layer2")[0].output_shape((IMAGE, IMAGE)) == (24, 6, 6)  # the norm trains
    assert split_at(make("VGG"), "block2")[0].output_shape((IMAGE, IMAGE)) == (24, 6, 6)  # its pool would enlarge it


def test_modules_are_not_copied() -> None:
    model = make("basic")
    prefix, _ = split_at(model, "layer1")
    inside = [id(module) for module in prefix.modules]
    assert inside[:5] == [id(m) for m in (model.conv1, model.bn1, model.act1, model.maxpool, model.layer1)]


def test_inference_restores_modes_and_changes_no_tensor() -> None:
    model = make("random").train()
    model.get_submodule("layer1").eval()
    modes = {path: module.training for path, module in model.named_modules()}
    before = {key: value.clone() for key, value in model.state_dict().items()}
    prefix, _ = split_at(model, "backbone")
    x, _ = images(2)
    with prefix.inference():
        assert prefix(x).is_inference()
    with pytest.raises(ShapeError), prefix.inference():
        prefix(x[:, :1])
    assert {path: module.training for path, module in model.named_modules()} == modes
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_inference_with_autocast() -> None:
    prefix, _ = split_at(make("basic"), "layer1")
    x, _ = images(2)
    with prefix.inference(torch.bfloat16):
        half = prefix(x)
    with prefix.inference():
        whole = prefix(x)
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.float(), whole, atol=0.1, rtol=0.05)


def test_a_network_without_a_head() -> None:
    model = build_model(CONFIGS["basic"].with_overrides(num_classes=0, global_pool="none")).eval()
    prefix, suffix = split_at(model, "layer1")
    x, _ = images(2)
    assert torch.equal(suffix(prefix(x)), model(x))


def test_invalid_freeze_points_and_images_are_errors() -> None:
    model = make("basic")
    for freeze_point in ("none", "classifier", "layer3"):
        with pytest.raises(UnknownNameError):
            split_at(model, freeze_point)
    with pytest.raises(ShapeError, match="takes"):
        split_at(model, "stem")[0](torch.zeros(1, 1, IMAGE, IMAGE))
