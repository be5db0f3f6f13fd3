"""Graphs that look like one of our networks and compute something else: exact, or refused with the node's name."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from resnets.arch.config import ResNetConfig
from resnets.arch.networks import NetworkConfig
from resnets.arch.variants import get_config
from resnets.errors import WeightsError
from resnets.nn.model import Network
from resnets.weights.load import import_weights
from resnets.weights.readers.onnx import match as matching
from tests.weights.readers.onnx_graphs import TINY, distance, export, input_shapes, network, opened, run_graph

onnx = pytest.importorskip("onnx")


class After(nn.Module):
    """A module, and an operation on its output."""

    def __init__(self, module: nn.Module, operation: nn.Module) -> None:
        super().__init__()
        self.module, self.operation = module, operation

    def forward(self, x: Tensor) -> Tensor:
        return self.operation(self.module(x))  # type: ignore[no-any-return]


def replaced(path: str, make: Callable[[Any], nn.Module]) -> Callable[[Network], None]:
    """A change that puts another module at a path."""

    def change(model: Network) -> None:
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, make(model.get_submodule(path)))

    return change


def changed(path: str, **attributes: Any) -> Callable[[Network], None]:
    def change(model: Network) -> None:
        for name, value in attributes.items():
            setattr(model.get_submodule(path), name, value)

    return change


def activations(make: Callable[[], nn.Module]) -> Callable[[Network], None]:
    def change(model: Network) -> None:
        for path, module in list(model.named_modules()):
            if isinstance(module, nn.ReLU):
                replaced(path, lambda _: make())(model)

    return change


def reflected(module: Any) -> nn.Module:
    module.padding_mode = "reflect"
    module._reversed_padding_repeated_twice = [1, 1, 1, 1]
    return module  # type: ignore[no-any-return]


class Block(nn.Module):
    """A basic block whose shortcut is scaled."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.block.downsample(x) if self.block.downsample is not None else x
        body = self.block.bn2(self.block.conv2(self.block.act1(self.block.bn1(self.block.conv1(x)))))
        return self.block.act2(body + 0.5 * shortcut)  # type: ignore[no-any-return]


B, BN = get_config("resnet18", **TINY), get_config("resnet50", **TINY)
# The network, the change, and what the refusal names: the node, and our module in its place.
VARIANTS: dict[str, tuple[NetworkConfig, Callable[[Network], None], tuple[str, ...]]] = {
    "stem of stride 1": (B, changed("conv1", stride=(1, 1)), ("/conv1/Conv", "strides [1, 1]", "[2, 2]")),
    "stem of padding 2": (B, changed("conv1", padding=(2, 2)), ("/conv1/Conv", "pads", "[2, 2, 2, 2]")),
    "stem of dilation 2": (B, changed("conv1", dilation=(2, 2)), ("/conv1/Conv", "dilations")),
    "missing activation": (B, replaced("layer1.0.act1", lambda m: nn.Identity()), ("conv2", "layer1.0.act1")),
    "missing last activation": (B, replaced("layer2.1.act2", lambda m: nn.Identity()), ("layer2.1.act2",)),
    "average pool in the stem": (B, replaced("maxpool", lambda m: nn.AvgPool2d(3, 2, 1)), ("AveragePool", "max pool")),
    "3x3 pool of stride 1": (B, replaced("maxpool", lambda m: nn.MaxPool2d(3, 1, 1)), ("MaxPool", "stride 1")),
    "dilated pool": (B, replaced("maxpool", lambda m: nn.MaxPool2d(3, 2, 1, 2)), ("MaxPool", "dilations")),
    "activation before the sum": (B, replaced("layer1.0.bn2", lambda m: After(m, nn.ReLU())), ("Relu", "layer1.0")),
    "activation on the shortcut": (
        B,
        replaced("layer2.0.downsample", lambda m: After(m, nn.ReLU())),
        ("Relu", "shortcut of layer2.0"),
    ),
    "stride in the second 3x3": (
        B,
        lambda m: (changed("layer2.0.conv1", stride=(1, 1))(m), changed("layer2.0.conv2", stride=(2, 2))(m))[0],
        ("layer2.0/conv2/Conv", "strides [2, 2]", "layer2.0.conv2"),
    ),
    "reflected edges": (B, replaced("layer1.0.conv1", reflected), ("Pad", "reflect", "layer1.0.conv1")),
    "ReLU after fc": (B, replaced("fc", lambda m: After(m, nn.ReLU())), ("Relu", "fc")),
    "sigmoid after fc": (B, replaced("fc", lambda m: After(m, nn.Sigmoid())), ("Sigmoid", "fc")),
    "scaled shortcut": (B, replaced("layer2.1", Block), ("Mul", "layer2.1")),
    "ELU": (B, activations(nn.ELU), ("Elu", "act1")),
    "ReLU6": (B, activations(nn.ReLU6), ("Clip", "act1")),
    "one other activation": (BN, replaced("layer2.1.act2", lambda m: nn.SiLU()), ("silu", "layer2.1.act2")),
    "grouped in one block": (
        BN,
        replaced("layer2.1.conv2", lambda m: nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=False)),
        ("layer2.1/conv2/Conv", "layer2.1.conv2"),
    ),
}


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("name", VARIANTS)
def test_variants_are_refused_by_the_node(tmp_path: Path, name: str, folded: bool) -> None:
    config, change, facts = VARIANTS[name]
    model = network(config)
    change(model)
    export(model, tmp_path / "w.onnx", folded=folded, free=True)
    with pytest.raises(WeightsError) as error:
        import_weights(tmp_path / "w.onnx")
    assert all(fact in str(error.value) for fact in ("node ", *facts)), str(error.value)


EXACT: dict[str, tuple[NetworkConfig, Callable[[Network], None]]] = {
    "ceil pool": (B, replaced("maxpool", lambda m: nn.MaxPool2d(3, 2, 0, ceil_mode=True))),
    "dropout before fc": (B, replaced("fc", lambda m: nn.Sequential(nn.Dropout(0.5), m))),
    "mean instead of a pool": (B, replaced("avgpool", lambda m: _Mean())),
    "1x1 convolution as fc": (B, replaced("fc", lambda m: _ConvClassifier(m))),
    "norm without terms": (B, replaced("bn1", lambda m: nn.BatchNorm2d(8, affine=False).eval())),
}


class _Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class _ConvClassifier(nn.Module):
    def __init__(self, fc: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(fc.in_features, fc.out_features, 1)
        with torch.no_grad():
            self.conv.weight.copy_(fc.weight[:, :, None, None])
            self.conv.bias.copy_(fc.bias)  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x[:, :, None, None]).flatten(1)  # type: ignore[no-any-return]


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("name", EXACT)
def test_variants_that_are_the_same_open(tmp_path: Path, name: str, folded: bool) -> None:
    config, change = EXACT[name]
    model = network(config)
    change(model)
    export(model, tmp_path / "w.onnx", folded=folded, free=True)
    assert distance(tmp_path / "w.onnx") < 1e-5


def test_numbers_refuse_what_attributes_cannot_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outputs are compared too, and the first node that differs is named."""
    export(network(B), tmp_path / "w.onnx", folded=False)

    def wrong(*arguments: Any) -> Any:
        found = matching.match(*arguments)
        found.tensors["layer2.0.conv2.weight"] = found.tensors["layer2.0.conv2.weight"] * 1.01
        return found

    monkeypatch.setattr("resnets.weights.readers.onnx.read.match", wrong)
    with pytest.raises(WeightsError, match=r"layer2\.0/conv2/Conv.* gives other values than layer2\.0\.conv2"):
        import_weights(tmp_path / "w.onnx")


# Random changes of valid graphs

KINDS = {
    "Relu": ("Sigmoid", "LeakyRelu", "Tanh", "Elu", "Identity", "HardSwish"),
    "MaxPool": ("AveragePool",),
    "GlobalAveragePool": ("GlobalMaxPool",),
    "Add": ("Mul", "Sub", "Max"),
    "Sigmoid": ("HardSigmoid", "Relu"),
    "ReduceMean": ("ReduceMax", "ReduceSum"),
    "Mul": ("Add",),
}


def change_attribute(model: Any, rng: random.Random) -> None:
    node, attribute = rng.choice([(node, a) for node in model.graph.node for a in node.attribute])
    action = rng.choice(("shift", "shift", "shift", "remove", "lengthen"))
    if action == "remove":
        node.attribute.remove(attribute)
    elif attribute.ints:
        values = list(attribute.ints)
        values[rng.randrange(len(values))] += rng.choice((-1, 1, 2))
        attribute.ints[:] = [*values, 1] if action == "lengthen" else values
    elif attribute.type == onnx.AttributeProto.INT:
        attribute.i += rng.choice((-1, 1, 7))
    elif attribute.type == onnx.AttributeProto.FLOAT:
        attribute.f = rng.choice((attribute.f * 2, attribute.f + 0.01, 0.0, -1.0))
    elif attribute.type == onnx.AttributeProto.TENSOR:
        array = onnx.numpy_helper.to_array(attribute.t).copy()
        if array.size:
            array.reshape(-1)[rng.randrange(array.size)] += rng.choice((1, -1))
            attribute.t.CopyFrom(onnx.numpy_helper.from_array(array, attribute.t.name))


def change_node(model: Any, rng: random.Random) -> None:
    nodes = list(model.graph.node)
    node = rng.choice(nodes)
    action = rng.choice(("kind", "drop", "insert", "swap", "rewire", "attribute"))
    if action == "kind":
        node.op_type = rng.choice(KINDS.get(node.op_type, ("Neg", "Identity")))
    elif action == "drop" and node.input:
        for other in nodes:
            for index, name in enumerate(other.input):
                if name == node.output[0]:
                    other.input[index] = node.input[0]
    elif action == "insert":
        name, node.output[0] = node.output[0], f"{node.output[0]}/before"
        kind = rng.choice(("Relu", "Sigmoid", "Neg", "Softmax", "Identity"))
        model.graph.node.insert(nodes.index(node) + 1, onnx.helper.make_node(kind, [node.output[0]], [name]))
    elif action == "swap" and len(node.input) > 1:
        node.input[0], node.input[1] = node.input[1], node.input[0]
    elif action == "rewire" and node.input:
        before = [name for other in nodes[: nodes.index(node)] for name in other.output]
        node.input[rng.randrange(len(node.input))] = rng.choice([*before, model.graph.input[0].name, ""])
    elif action == "attribute":
        name = rng.choice(("auto_pad", "ceil_mode", "dilations", "group", "count_include_pad", "pads", "transA"))
        value = rng.choice((1, 2, [2, 2], "SAME_UPPER", "SAME_LOWER", [1, 1, 1, 1], [0, 0, 1, 1]))
        if not any(a.name == name for a in node.attribute):
            node.attribute.append(onnx.helper.make_attribute(name, value))


def change_tensor(model: Any, rng: random.Random) -> None:
    tensor = rng.choice(list(model.graph.initializer))
    array = onnx.numpy_helper.to_array(tensor).copy()
    if array.dtype.kind == "f" and array.ndim:
        changes = (array * 1.5, -array, array.T, array[:1], array.reshape(-1), np.repeat(array, 2, 0), array + 1)
        array = np.ascontiguousarray(rng.choice(changes), np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


def test_random_changes_are_exact_or_refused(tmp_path: Path) -> None:
    configs = (
        B,
        get_config("seresnet50", **TINY),
        get_config("resnetv2_50", **TINY),
        get_config("resnet50d", **TINY),
        ResNetConfig(norm="group", norm_groups=2, **TINY),
        ResNetConfig(output_stride=4, **TINY),
    )
    graphs = []
    for number, config in enumerate(configs):
        export(network(config), tmp_path / "w.onnx", folded=number % 2 == 0, free=number % 3 > 0)
        graphs.append((tmp_path / "w.onnx").read_bytes())
    rng = random.Random(0)
    exact, refused = 0, 0
    for number in range(90):
        model = onnx.load_from_string(graphs[number % len(graphs)])
        change = rng.choice((change_attribute, change_node, change_tensor))
        change(model, rng)
        (tmp_path / "w.onnx").write_bytes(model.SerializeToString())
        try:
            error, _, report = opened(tmp_path / "w.onnx")
        except WeightsError as refusal:
            refused += "\n" not in str(refusal)
            continue
        if any("softmax" in note for note in report.notes):
            continue
        assert error < 2e-4, (number, change.__name__)
        exact += 1
    assert exact > 10
    assert refused > 30


def test_helpers_see_differences(tmp_path: Path) -> None:
    """The comparison that the tests above rely on is of the graph's own output."""
    export(network(B), tmp_path / "w.onnx", folded=True)
    model = onnx.load(str(tmp_path / "w.onnx"))
    image = np.ones(input_shapes(model)[0], np.float32)
    before = run_graph(model, image)
    next(node for node in model.graph.node if node.op_type == "MaxPool").op_type = "AveragePool"
    assert not np.allclose(run_graph(model, image), before)


@pytest.mark.parametrize("opset", [13, 17])
def test_training_mode_is_refused(tmp_path: Path, opset: int) -> None:
    export(network(B), tmp_path / "w.onnx", folded=False, opset=opset)
    model = onnx.load(str(tmp_path / "w.onnx"))
    norm = next(node for node in model.graph.node if node.op_type == "BatchNormalization")
    for attribute in norm.attribute:
        if attribute.name == "training_mode":
            attribute.i = 1
    norm.output.extend(["mean", "variance"])
    if opset < 14:
        norm.output.extend(["mean/saved", "variance/saved"])
    onnx.save(model, str(tmp_path / "w.onnx"))
    with pytest.raises(WeightsError, match=r"BatchNormalization '/bn1/.* statistics from the images"):
        import_weights(tmp_path / "w.onnx")


def test_padding_of_one_size_in_a_graph_of_any_size_is_refused(tmp_path: Path) -> None:
    """TensorFlow's SAME as the exporter writes it: right for even sizes alone."""
    export(network(get_config("resnet_v1_50", **TINY)), tmp_path / "w.onnx", folded=True, free=True)
    with pytest.raises(WeightsError, match=r"for an input of 1x3x77x69, node MaxPool.* has pads"):
        import_weights(tmp_path / "w.onnx")
