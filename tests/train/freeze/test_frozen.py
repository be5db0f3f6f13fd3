from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from resnets.arch.parts import CLASSIFIER, freeze_points, group_of, parts
from resnets.arch.variants import get_config
from resnets.errors import TrainingError, UnknownNameError
from resnets.nn.layers import DropPath
from resnets.nn.model import Network, build_model
from resnets.train.freeze.frozen import Frozen, apply_phase, lr_scales
from resnets.train.freeze.phases import Phase
from resnets.train.freeze.plan_table import plan_lines, plan_table
from tests.train.nets import CONFIGS, images, make

OPTIMISERS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "SGD": lambda parameters: torch.optim.SGD(
        parameters, 0.1, momentum=0.9, weight_decay=0.1, nesterov=True, fused=True
    ),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, 0.01, weight_decay=0.1),
}


def train(frozen: Frozen, optimizer: torch.optim.Optimizer, steps: int = 2) -> None:
    frozen.train_mode()
    x, y = images(6)
    for _ in range(steps):
        loss = F.cross_entropy(frozen.model(x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def snapshot(model: Network) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def moved(model: Network, before: dict[str, torch.Tensor]) -> set[str]:
    """Every tensor of the network that is no longer what it was, compared number by number."""
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


def of_norms(model: Network) -> dict[str, str]:
    """Parameters and buffers of batch norms: their names, and `affine` or `stats`."""
    return {
        f"{path}.{name}": "affine" if name in ("weight", "bias") else "stats"
        for path, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for name in module.state_dict()
    }


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_frozen_stays_and_all_else_moves(name: str, optimiser: str) -> None:
    """The optimiser holds all parameters, with weight decay, and has momentum from a phase that trained them."""
    model = make(name)
    optimizer = OPTIMISERS[optimiser](list(model.parameters()))
    train(apply_phase(model, Phase(epochs=1)), optimizer)
    names = parts(model.plan)
    constants = {key for path, m in model.named_modules() if "Frozen" in type(m).__name__ for key in _keys(path, m)}
    for place in freeze_points(model.plan):
        frozen = apply_phase(model, Phase(epochs=1, freeze=place))
        held = tuple(names)[: tuple(names).index(place) + 1]
        before, prints = snapshot(model), frozen.fingerprint()
        train(frozen, optimizer, steps=3)
        expected = {key for key in before if group_of(key, names) not in held} - constants
        assert moved(model, before) == expected, place
        frozen.verify(prints)
        assert set(prints) == set(before) - expected
    unfrozen = apply_phase(model, Phase(epochs=1))
    before = snapshot(model)
    train(unfrozen, optimizer, steps=3)
    assert moved(model, before) == set(before) - constants


def _keys(path: str, module: nn.Module) -> list[str]:
    return [f"{path}.{name}" for name in module.state_dict()]


@pytest.mark.parametrize("stats", ["auto", "train", "frozen"])
@pytest.mark.parametrize("affine", ["auto", "train", "frozen"])
def test_batch_norms_do_as_they_are_told(stats: str, affine: str) -> None:
    model = make("IBN and CBAM")
    names, norms = parts(model.plan), of_norms(model)
    frozen = apply_phase(model, Phase(epochs=1, freeze="layer1", bn_stats=stats, bn_affine=affine))  # type: ignore[arg-type]
    before, prints = snapshot(model), frozen.fingerprint()
    train(frozen, OPTIMISERS["SGD"](list(model.parameters())))

    def moves(key: str) -> bool:
        choice = {"stats": stats, "affine": affine}.get(norms.get(key, ""), "auto")
        return group_of(key, names) not in ("stem", "layer1") if choice == "auto" else choice == "train"

    assert moved(model, before) == {key for key in before if moves(key)}
    frozen.verify(prints)
    assert set(prints) == {key for key in before if not moves(key)}
    assert frozen.cacheable == (stats != "train" and affine != "train")


def test_still_batch_norms_compute_as_in_evaluation() -> None:
    model = make("basic")
    frozen = apply_phase(model, Phase(epochs=1, bn_stats="frozen"))
    frozen.train_mode()
    x, _ = images(4)
    logits = model(x)
    assert torch.equal(logits, model.eval()(x))
    assert model.fc.weight.requires_grad
    assert not frozen.cacheable


def test_random_layers_of_the_frozen_part_rest() -> None:
    model = make("random")
    frozen = apply_phase(model, Phase(epochs=1, freeze="layer1"))
    model.eval()
    frozen.train_mode()
    assert model.training
    drops = {path: module.training for path, module in model.named_modules() if isinstance(module, DropPath)}
    assert drops
    assert all(training == path.startswith("layer2") for path, training in drops.items())
    vgg = apply_phase(make("VGG"), Phase(epochs=1, freeze="backbone"))
    vgg.train_mode()
    drops = {path: m.training for path, m in vgg.model.named_modules() if isinstance(m, nn.Dropout)}
    assert drops == {"classifier.2": False, "classifier.5": True}


def test_backbone_leaves_the_classifier_alone() -> None:
    for name in CONFIGS:
        model = make(name)
        apply_phase(model, Phase(epochs=1, freeze="backbone"))
        trained = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
        assert {group_of(key, parts(model.plan)) for key in trained} == {CLASSIFIER}
        assert len(trained) == 2


def test_gradients_of_frozen_tensors_are_dropped() -> None:
    model = make("basic")
    x, y = images(4)
    F.cross_entropy(model(x), y).backward()
    assert model.conv1.weight.grad is not None
    apply_phase(model, Phase(epochs=1, freeze="stem"))
    assert model.conv1.weight.grad is None
    assert model.fc.weight.grad is not None


def test_a_change_is_found_and_named() -> None:
    model = make("basic")
    frozen = apply_phase(model, Phase(epochs=1, freeze="backbone"))
    prints = frozen.fingerprint()
    frozen.verify(prints)
    with torch.no_grad():
        model.layer1[0].conv1.weight[0, 0, 0, 0] += 1e-6
        model.layer2[0].bn1.num_batches_tracked += 1
    with pytest.raises(TrainingError, match=rf"2 of {len(prints)} changed, first layer1\.0\.conv1\.weight;"):
        frozen.verify(prints)


def test_what_is_remembered_stays_remembered() -> None:
    model = make("basic")
    frozen = apply_phase(model, Phase(epochs=2, freeze="stem"))
    with torch.no_grad():
        model.conv1.weight.mul_(2)  # as a state that is put back does
    frozen.remember()
    frozen.verify()
    with torch.no_grad():
        model.conv1.weight[0, 0, 0, 0] += 1e-6  # between two epochs
    frozen.remember()
    with pytest.raises(TrainingError, match=r"1 of \d+ changed, first conv1\.weight"):
        frozen.verify()


def test_hashes_see_shape_type_and_sign_but_not_memory_layout() -> None:
    model = make("basic")
    frozen = apply_phase(model, Phase(epochs=1, freeze="backbone"))
    prints = frozen.fingerprint()
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    frozen.verify(prints)
    model.bn1.running_mean.zero_()
    plain = frozen.fingerprint()
    model.bn1.running_mean.neg_()  # zeros to minus zeros: equal as numbers, other bytes
    assert frozen.fingerprint()["bn1.running_mean"] != plain["bn1.running_mean"]
    model.bn1.running_mean = model.bn1.running_mean.reshape(4, 4).abs()
    assert frozen.fingerprint()["bn1.running_mean"] != plain["bn1.running_mean"]


def test_a_tensor_that_is_gone_is_a_change() -> None:
    model = make("basic")
    frozen = apply_phase(model, Phase(epochs=1, freeze="stem"))
    prints = frozen.fingerprint()
    model.conv1.weight.requires_grad_(True)
    with pytest.raises(TrainingError, match=r"first conv1\.weight"):
        frozen.verify(prints)


def test_bad_places() -> None:
    with pytest.raises(UnknownNameError, match=r"got 'layer9'; did you mean layer"):
        apply_phase(make("basic"), Phase(epochs=1, freeze="layer9"))
    with pytest.raises(UnknownNameError):
        apply_phase(make("basic"), Phase(epochs=1, freeze="classifier"))
    with pytest.raises(UnknownNameError, match="block"):
        apply_phase(make("VGG"), Phase(epochs=1, freeze="block3"))
    embedding = build_model(CONFIGS["basic"].with_overrides(num_classes=0))
    with pytest.raises(TrainingError, match="something must train"):
        apply_phase(embedding, Phase(epochs=1, freeze="backbone"))


def test_layer_decay_by_hand() -> None:
    model = build_model(get_config("resnet18"), init=False)
    scales = lr_scales(model, Phase(epochs=1, layer_decay=0.5))
    assert scales["fc.weight"] == scales["fc.bias"] == 1
    assert scales["layer4.1.conv2.weight"] == scales["layer4.1.bn1.bias"] == 0.5
    assert scales["layer4.0.downsample.0.weight"] == 0.25
    assert scales["conv1.weight"] == scales["bn1.weight"] == 0.5**9  # eight blocks and the head behind it
    assert set(scales) == {name for name, _ in model.named_parameters()}
    assert set(lr_scales(model, Phase(epochs=1)).values()) == {1.0}
    assert lr_scales(make("pre-activation"), Phase(epochs=1, layer_decay=0.5))["norm.weight"] == 0.5
    assert lr_scales(make("SE and GeM"), Phase(epochs=1, layer_decay=0.5))["avgpool.p"] == 1


def test_the_plan_as_a_table() -> None:
    model = make("basic")
    phases = (Phase(epochs=2, freeze="layer1", lr=0.4), Phase(epochs=1, layer_decay=0.5, bn_stats="frozen"))
    rows = plan_table(model, phases, 0.1)
    assert [(row.epochs, row.part, row.name, row.lr, row.norms) for row in rows] == [
        ((1, 2), "stem", "conv1 .. bn1", None, "still"),
        ((1, 2), "layer1", "layer1.0", None, "still"),
        ((1, 2), "layer2", "layer2.0 .. layer2.1", 0.4, "move"),
        ((1, 2), "classifier", "fc", 0.4, ""),
        ((3, 3), "stem", "conv1 .. bn1", 0.1 / 16, "still"),
        ((3, 3), "layer1", "layer1.0", 0.1 / 8, "still"),
        ((3, 3), "layer2", "layer2.0", 0.1 / 4, "still"),
        ((3, 3), "layer2", "layer2.1", 0.1 / 2, "still"),
        ((3, 3), "classifier", "fc", 0.1, ""),
    ]
    total = sum(parameter.numel() for parameter in model.parameters())
    for number in (1, 2):
        assert sum(row.numbers for row in rows if row.phase == number) == total
    assert rows[0].tensors == 3


def test_the_plan_of_every_parameter() -> None:
    model = make("basic")
    rows = plan_table(model, (Phase(epochs=1, freeze="stem", bn_affine="train"),), 0.1, parameters=True)
    assert [row.name for row in rows] == [name for name, _ in model.named_parameters()]
    rates = {row.name: row.lr for row in rows}
    assert rates["conv1.weight"] is None
    assert rates["bn1.weight"] == 0.1
    lines = plan_lines(rows)
    assert len(lines) == len(rows) + 1
    assert lines[0].split() == ["epochs", "part", "parameters", "tensors", "numbers", "peak", "lr", "BN", "statistics"]
    assert lines[1].split() == ["1", "stem", "conv1.weight", "1", "432", "frozen"]
    assert lines[2].split() == ["1", "stem", "bn1.weight", "1", "16", "0.1", "still"]
