"""Damaged and hostile ONNX files: one line that says what is wrong, no traceback and no memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnets.arch.variants import get_config
from resnets.errors import WeightsError
from resnets.weights.readers.files import read_file
from tests.weights.readers.onnx_graphs import TINY, export, network

onnx = pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("onnx") / "w.onnx"
    export(network(get_config("resnet18", **TINY)), path, folded=False)
    return path.read_bytes()


def refused(path: Path, match: str) -> None:
    before = sorted(path.parent.iterdir())
    with pytest.raises(WeightsError, match=match) as error:
        read_file(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 700
    assert sorted(path.parent.iterdir()) == before


@pytest.mark.parametrize(
    "data", [b"\x08\x08", b"\x08", b"\x00" * 100, b"hello", bytes(range(256)), b"\x3a\xff\xff\xff\x7f"]
)
def test_other_bytes(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "w.onnx").write_bytes(data)
    refused(tmp_path / "w.onnx", "damaged or no ONNX file")


def test_cut_and_flipped_bytes(tmp_path: Path, graph: bytes) -> None:
    (tmp_path / "w.onnx").write_bytes(graph[: len(graph) // 2])
    refused(tmp_path / "w.onnx", "damaged or no ONNX file")
    messages = []
    generator = np.random.default_rng(0)
    for _ in range(40):
        data = bytearray(graph)
        for place in generator.integers(len(data), size=5):
            data[place] = generator.integers(256)
        (tmp_path / "w.onnx").write_bytes(bytes(data))
        try:
            read_file(tmp_path / "w.onnx")
        except WeightsError as error:
            messages.append(str(error))
    assert not any("\n" in message for message in messages)


def first(model: Any, kind: str) -> Any:
    return next(node for node in model.graph.node if node.op_type == kind)


def strides(*values: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        next(a for a in first(model, "Conv").attribute if a.name == "strides").ints[:] = values

    return change


def attribute(kind: str, name: str, value: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        node = first(model, kind)
        for old in [a for a in node.attribute if a.name == name]:
            node.attribute.remove(old)
        node.attribute.append(onnx.helper.make_attribute(name, value))

    return change


def with_node(kind: str, domain: str = "", **attributes: Any) -> Callable[[Any], None]:
    """Put a node behind the first activation."""

    def change(model: Any) -> None:
        node = first(model, "Relu")
        name, node.output[0] = node.output[0], "inserted"
        new = onnx.helper.make_node(kind, ["inserted"], [name], domain=domain, **attributes)
        model.graph.node.insert(list(model.graph.node).index(node) + 1, new)

    return change


def without(part: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        node = first(model, "Relu")
        node.ClearField(part)

    return change


def nothing_left(model: Any) -> None:
    model.graph.ClearField("node")


def reversed_nodes(model: Any) -> None:
    nodes = list(model.graph.node)[::-1]
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)


def huge_dims(model: Any) -> None:
    model.graph.initializer[0].dims[:] = [10**9, 10]


def huge_constant(model: Any) -> None:
    shape = onnx.numpy_helper.from_array(np.array([10**9, 10**9]), "sizes")
    model.graph.initializer.append(shape)
    model.graph.node.insert(0, onnx.helper.make_node("ConstantOfShape", ["sizes"], ["huge"]))
    first(model, "Conv").input[1] = "huge"


def growing_constants(model: Any) -> None:
    """Each node doubles its input."""
    name = model.graph.initializer[0].name
    for step in range(60):
        model.graph.node.insert(step, onnx.helper.make_node("Concat", [name, name], [f"double{step}"], axis=0))
        name = f"double{step}"
    first(model, "Conv").input[1] = name


def external(location: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
        tensor.external_data.add(key="location", value=location)

    return change


def negative_dims(model: Any) -> None:
    model.graph.initializer[0].dims[0] = -8


def other_input(model: Any) -> None:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    del dims[2:]


def huge_input(model: Any) -> None:
    for dim in model.graph.input[0].type.tensor_type.shape.dim:
        dim.dim_value = 10**6


def string_weights(model: Any) -> None:
    model.graph.initializer[0].CopyFrom(onnx.helper.make_tensor(model.graph.initializer[0].name, 8, [1], [b"x"]))


BROKEN: dict[str, tuple[Callable[[Any], None], str]] = {
    "no nodes": (nothing_left, "damaged or no ONNX file"),
    "a node without inputs": (without("input"), "Relu"),
    "a node without outputs": (without("output"), "Relu.* outputs nothing"),
    "a node without a kind": (without("op_type"), "is an operation that no network"),
    "three strides": (strides(2, 2, 2), "Conv.* is invalid"),
    "no stride": (strides(0, 0), "Conv.* is invalid"),
    "negative strides": (strides(-2, -2), "Conv.* is invalid"),
    "huge strides": (strides(2**40, 2**40), "Conv"),
    "strides as a number": (attribute("Conv", "strides", 2), "Conv.* is invalid"),
    "strides as text": (attribute("Conv", "strides", "two"), "Conv.* is invalid"),
    "huge pads": (attribute("Conv", "pads", [2**40] * 4), "Conv"),
    "unknown attribute": (attribute("Conv", "colour", 2), "Conv.* is invalid"),
    "negative group": (attribute("Conv", "group", -1), "Conv"),
    "an unknown operator": (with_node("Frobnicate"), "Frobnicate.* is an operation that no network"),
    "another domain": (with_node("Relu", domain="org.example"), "org.example"),
    "a subgraph": (with_node("If", then_branch=onnx.helper.make_graph([], "g", [], [])), "subgraph"),
    "nodes in disorder": (reversed_nodes, "which nothing before it outputs"),
    "quantised": (with_node("QuantizeLinear"), "quantised"),
    "huge tensor": (huge_dims, "larger than their file"),
    "negative size": (negative_dims, "negative size"),
    "huge constant": (huge_constant, "far larger than the file"),
    "growing constants": (growing_constants, "far larger than the file"),
    "text as weights": (string_weights, "Conv"),
    "data outside": (external("../../etc/passwd"), "a file in its folder"),
    "data at a root": (external("/etc/passwd"), "a file in its folder"),
    "data nowhere": (external(""), "a file in its folder"),
    "two axes": (other_input, "2 axes"),
    "a huge image": (huge_input, "4096 pixels"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_graph(tmp_path: Path, graph: bytes, name: str) -> None:
    change, match = BROKEN[name]
    model = onnx.load_from_string(graph)
    change(model)
    (tmp_path / "w.onnx").write_bytes(model.SerializeToString())
    refused(tmp_path / "w.onnx", match)


def test_data_behind_a_link(tmp_path: Path, graph: bytes) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "secret").write_bytes(bytes(10_000))
    (tmp_path / "model" / "link").symlink_to(tmp_path / "secret")
    model = onnx.load_from_string(graph)
    external("link")(model)
    (tmp_path / "model" / "w.onnx").write_bytes(model.SerializeToString())
    refused(tmp_path / "model" / "w.onnx", "a file in its folder")


def test_external_data(tmp_path: Path, graph: bytes) -> None:
    onnx.save(onnx.load_from_string(graph), str(tmp_path / "w.onnx"), save_as_external_data=True, size_threshold=0)
    assert read_file(tmp_path / "w.onnx").dialect == "onnx"
