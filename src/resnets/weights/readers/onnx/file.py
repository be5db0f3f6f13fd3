"""Opening of ONNX files: bounds on their size, checks of every node, fused nodes expanded, float32 throughout.

What passes is a model of single-input, single-output float operations of ONNX's own operators, in order, without
subgraphs, functions or quantisation. Nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from resnets.errors import WeightsError
from resnets.weights.readers.limits import check_sizes, one_line

__all__ = ["UnknownGraphError", "label", "open_onnx"]

DOMAINS = ("", "ai.onnx")
FUSED_DOMAIN = "com.microsoft"  # of the nodes that ONNX Runtime writes when it saves an optimised graph
QUANTISED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")
ACTIVATIONS: dict[str, tuple[str, ...]] = {  # of fused nodes, with the attributes of `activation_params`
    "": (),
    "Relu": (),
    "Sigmoid": (),
    "Tanh": (),
    "LeakyRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
}
MAX_NODES = 20_000


class UnknownGraphError(Exception):
    """A graph that cannot be read as one of our networks; the text is the reason, and names the node."""


def label(node: Any) -> str:
    """A node for messages: its operator, its name where it has one, and what it outputs."""
    name = f" {_short(node.name)!r}" if node.name else ""
    outputs = ", ".join(_short(output) for output in node.output if output) or "no output"
    return f"node {_short(node.op_type)}{name} (-> {outputs})"


def open_onnx(path: Path) -> Any:
    """Load an ONNX file with its external data as an `onnx.ModelProto` of float32 operations.

    Raises:
        WeightsError: damaged, not ONNX, or tensors that are larger than the file or outside its folder.
        UnknownGraphError: a node or a kind of model that is not read.
    """
    import onnx

    try:
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except Exception as error:  # the errors of protobuf and onnx have no other common base
        raise _damaged(path, one_line(error)) from None
    graph = model.graph
    if not graph.node or not graph.output:
        raise _damaged(path, "it has no graph")
    if len(graph.node) > MAX_NODES:
        raise UnknownGraphError(f"it has {len(graph.node)} nodes, more than any residual network")
    if not all(isinstance(name, str) for name in _names(graph)):  # protobuf gives bytes where it is no UTF-8
        raise _damaged(path, "a name is no text")
    _load_tensors(model, path, onnx)
    if graph.sparse_initializer:
        raise UnknownGraphError("it stores sparse tensors")
    if len(model.functions):
        raise UnknownGraphError(f"it has functions of its own ({_short(model.functions[0].name)})")
    _check_nodes(model)
    nodes = [new for node in graph.node for new in _expanded(node, onnx)]
    del graph.node[:]
    graph.node.extend(nodes)
    try:
        _to_float32(model, onnx)
    except UnknownGraphError:
        raise
    except Exception as error:
        raise _damaged(path, one_line(error)) from None
    return model


def _names(graph: Any) -> Iterator[Any]:
    """Every name in a graph."""
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    yield from (value.name for values in (graph.initializer, graph.input, graph.output) for value in values)


def _damaged(path: Path, why: str) -> WeightsError:
    return WeightsError(f"{path} is damaged or no ONNX file; {why}; export or download it again")


def _short(text: str | bytes) -> str:
    """A name from the file, printable and of bounded length."""
    text = text.decode(errors="replace") if isinstance(text, bytes) else text
    return "".join(c if c.isprintable() else "?" for c in text[:80])


# Tensors


def _load_tensors(model: Any, path: Path, onnx: Any) -> None:
    """Read external data, after checks of every size and place."""
    tensors = list(_tensors(model, onnx))
    for tensor in tensors:
        if any(size < 0 for size in tensor.dims):
            raise _damaged(path, f"{_short(tensor.name)!r} has a negative size")
    files = {file for tensor in tensors for file in _outside(tensor, path, onnx)}
    held = path.stat().st_size + sum(file.stat().st_size for file in files)
    check_sizes([(_short(t.name), tuple(t.dims), 4) for t in tensors], path, held)
    try:
        for tensor in tensors:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
                tensor.data_location = onnx.TensorProto.DEFAULT
                del tensor.external_data[:]
            onnx.numpy_helper.to_array(tensor)  # raises unless its bytes are as many as its shape says
    except Exception as error:
        raise _damaged(path, one_line(error)) from None


def _tensors(model: Any, onnx: Any) -> Iterator[Any]:
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t


def _outside(tensor: Any, path: Path, onnx: Any) -> Iterator[Path]:
    """The file of external data, which lies in the folder of the model."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    folder = path.parent.resolve()
    try:
        file = (folder / location).resolve()
        inside = bool(location) and file.is_relative_to(folder) and file.is_file()
    except (OSError, ValueError):
        inside = False
    if not inside:
        raise WeightsError(
            f"external data of an ONNX file is a file in its folder; {path} has {_short(tensor.name)!r} in "
            f"{_short(location)!r}; copy the data file beside it, or save the model as one file"
        )
    yield file


# Nodes


def _check_nodes(model: Any) -> None:
    """Every node is of ONNX or a fused one, has an output, and reads what stands before it."""
    graph = model.graph
    known = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input} | {""}
    for node in graph.node:
        where = label(node)
        if node.op_type in QUANTISED or node.op_type.startswith("QLinear"):
            raise UnknownGraphError(f"{where} belongs to a quantised network; the float model it was made from is read")
        fused = node.domain == FUSED_DOMAIN and node.op_type in ("FusedConv", "FusedGemm", "QuickGelu")
        if node.domain == f"{FUSED_DOMAIN}.nchwc":
            raise UnknownGraphError(
                f"{where} has ONNX Runtime's memory layout for one kind of processor; optimised graphs are read up to "
                "its level ORT_ENABLE_EXTENDED"
            )
        if node.domain not in DOMAINS and not fused:
            raise UnknownGraphError(f"{where} is an operator of {_short(node.domain)!r}, which is not read")
        if any(attribute.HasField("g") or len(attribute.graphs) for attribute in node.attribute):
            raise UnknownGraphError(f"{where} has a subgraph: its operations depend on the input")
        if any(attribute.ref_attr_name for attribute in node.attribute):
            raise UnknownGraphError(f"{where} has an attribute of a function")
        if not any(node.output):
            raise UnknownGraphError(f"{where} outputs nothing")
        for name in node.input:
            if name not in known:
                raise UnknownGraphError(f"{where} reads {_short(name)!r}, which nothing before it outputs")
        for name in filter(None, node.output):
            if name in known:
                raise UnknownGraphError(f"{where} outputs {_short(name)!r}, which exists already")
            known.add(name)
    for value in graph.output:
        if value.name not in known:
            raise UnknownGraphError(f"the output {_short(value.name)!r} is of no node")


def _expanded(node: Any, onnx: Any) -> list[Any]:
    """ONNX's own nodes for a fused one of ONNX Runtime."""
    if node.domain not in (FUSED_DOMAIN,):
        return [node]
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type == "QuickGelu":
        return _quick_gelu(node, attributes, onnx)
    activation, parameters = _activation(node, attributes, onnx)
    inputs, addend, out = list(node.input), "", node.output[0]
    if node.op_type == "FusedConv":
        addend = inputs.pop(3) if len(inputs) > 3 else ""
    new = []
    values = [f"{out}/{number}" for number in range(2)]
    steps = 1 + bool(addend) + bool(activation)
    base = onnx.helper.make_node(node.op_type[5:], inputs, [values[0] if steps > 1 else out], name=node.name)
    base.attribute.extend(a for a in node.attribute if not a.name.startswith("activation"))
    new.append(base)
    if addend:
        new.append(
            onnx.helper.make_node("Add", [values[0], addend], [values[1] if activation else out], name=node.name)
        )
    if activation:
        new.append(onnx.helper.make_node(activation, [new[-1].output[0]], [out], name=node.name, **parameters))
    return new


def _quick_gelu(node: Any, attributes: dict[str, Any], onnx: Any) -> list[Any]:
    """x * sigmoid(alpha x), read where alpha is 1."""
    alpha = attributes["alpha"].f if "alpha" in attributes else 1.702
    if alpha != 1 or not node.input:
        raise UnknownGraphError(f"{label(node)} has alpha {alpha:g}; x * sigmoid(x) is read")
    gate = f"{node.output[0]}/0"
    return [
        onnx.helper.make_node("Sigmoid", [node.input[0]], [gate], name=node.name),
        onnx.helper.make_node("Mul", [node.input[0], gate], [node.output[0]], name=node.name),
    ]


def _activation(node: Any, attributes: dict[str, Any], onnx: Any) -> tuple[str, dict[str, float]]:
    """The activation of a fused node, and its attributes."""
    own = attributes.get("activation")
    activation = own.s.decode(errors="replace") if own is not None else ""
    if activation not in ACTIVATIONS:
        raise UnknownGraphError(f"{label(node)} has the activation {_short(activation)!r}, which is not read")
    names = ACTIVATIONS[activation]
    given = list(attributes["activation_params"].floats) if "activation_params" in attributes else []
    singles = {name: a.f for name, a in attributes.items() if name in {f"activation_{n}" for n in names}}
    parameters = dict(zip(names, given, strict=False))
    parameters |= {name.removeprefix("activation_"): value for name, value in singles.items()}
    return activation, parameters


# Types


def _to_float32(model: Any, onnx: Any) -> None:
    """Turn half, bfloat16 and double tensors, inputs and casts into float32."""
    types = onnx.TensorProto
    other = {types.FLOAT16, types.BFLOAT16, types.DOUBLE}
    for tensor in _tensors(model, onnx):
        if tensor.data_type in other:
            array = np.asarray(onnx.numpy_helper.to_array(tensor)).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in other:
                attribute.i = types.FLOAT
    for value in (*model.graph.input, *model.graph.output):
        if value.type.HasField("tensor_type") and value.type.tensor_type.elem_type in other:
            value.type.tensor_type.elem_type = types.FLOAT
    del model.graph.value_info[:]
