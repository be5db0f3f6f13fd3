from __future__ import annotations

import pytest
import torch
from torch import nn

from resnets.arch.parts import freeze_points
from resnets.errors import ShapeError, UnknownNameError
from resnets.nn.model import build_model
from resnets.nn.split import split_at
from resnets.train.freeze.frozen import apply_phase
from resnets.train.freeze.phases import Phase
from tests.train.nets import CONFIGS, IMAGE, images, make

CUTS = [(name, place) for name in CONFIGS for place in freeze_points(make(name).plan)]


@pytest.mark.parametrize(("name", "place"), CUTS)
def test_both_halves_are_the_network(name: str, place: str) -> None:
    """In training mode, stochastic depth and dropout included: the logits and every gradient, to the bit."""
    model = make(name)
    frozen = apply_phase(model, Phase(epochs=1, freeze=place))
    frozen.train_mode()
    x, y = images(4)

    def gradients(forward: object) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        torch.manual_seed(7)
        logits = forward(x)  # type: ignore[operator]
        model.zero_grad()
        nn.functional.cross_entropy(logits, y).backward()
        return logits, {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}

    prefix, suffix = split_at(model, place)
    whole, expected = gradients(model)
    cut, found = gradients(lambda x: suffix(prefix(x)))
    assert torch.equal(cut, whole)
    assert found.keys() == expected.keys() != set()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert {id(p) for p in suffix.parameters()} >= {id(p) for p in model.parameters() if p.requires_grad}


@pytest.mark.parametrize(("name", "place"), CUTS)
def test_shape_of_what_is_kept(name: str, place: str) -> None:
    model = make(name)
    prefix, _ = split_at(model, place)
    shape = prefix.shape((IMAGE, IMAGE))
    x, _ = images(2)
    with prefix.computing():
        assert prefix(x).shape == (2, *shape)
    if place == "backbone":
        assert shape == (model.num_features,)


def test_what_has_no_weights_goes_to_the_prefix() -> None:
    """Up to the last stage it is the embedding that is kept, where nothing that trains stands before the pool."""
    assert split_at(make("basic"), "layer2")[0].shape((IMAGE, IMAGE)) == (24,)
    assert split_at(make("random"), "layer2")[0].shape((IMAGE, IMAGE)) == (24,)
    assert split_at(make("SE and GeM"), "layer2")[0].shape((IMAGE, IMAGE)) == (24, 6, 6)  # the power trains
    assert split_at(make("pre-activation"), "layer2")[0].shape((IMAGE, IMAGE)) == (24, 6, 6)  # the norm trains
    assert split_at(make("VGG"), "block2")[0].shape((IMAGE, IMAGE)) == (24, 6, 6)  # its pool would enlarge it


def test_nothing_is_copied() -> None:
    model = make("basic")
    prefix, suffix = split_at(model, "layer1")
    inside = [id(module) for module in prefix.modules]
    assert inside[:5] == [id(m) for m in (model.conv1, model.bn1, model.act1, model.maxpool, model.layer1)]
    ids = {id(p) for p in model.parameters()}
    assert {id(p) for p in suffix.parameters()} < ids


def test_computing_puts_modes_back_and_moves_nothing() -> None:
    model = make("random").train()
    model.layer1.eval()
    modes = {path: module.training for path, module in model.named_modules()}
    before = {key: value.clone() for key, value in model.state_dict().items()}
    prefix, _ = split_at(model, "backbone")
    x, _ = images(2)
    with prefix.computing():
        assert prefix(x).is_inference()
    with pytest.raises(ShapeError), prefix.computing():
        prefix(x[:, :1])
    assert {path: module.training for path, module in model.named_modules()} == modes
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_computing_in_half_precision() -> None:
    prefix, _ = split_at(make("basic"), "layer1")
    x, _ = images(2)
    with prefix.computing(torch.bfloat16):
        half = prefix(x)
    with prefix.computing():
        whole = prefix(x)
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.float(), whole, atol=0.1, rtol=0.05)


def test_a_network_without_a_head() -> None:
    model = build_model(CONFIGS["basic"].with_overrides(num_classes=0, global_pool="none")).eval()
    prefix, suffix = split_at(model, "layer1")
    x, _ = images(2)
    assert torch.equal(suffix(prefix(x)), model(x))


def test_bad_input() -> None:
    model = make("basic")
    for place in ("none", "classifier", "layer3"):
        with pytest.raises(UnknownNameError):
            split_at(model, place)
    with pytest.raises(ShapeError, match="takes"):
        split_at(model, "stem")[0](torch.zeros(1, 1, IMAGE, IMAGE))
