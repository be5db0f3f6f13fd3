"""Reader of ONNX files: the network is read off the graph, so names do not matter and folded norms are found.

A graph of other than plain residual blocks (attention, zero-padded shortcuts) is read by the names of its
initialisers, if they are those of a `state_dict`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from resnets.errors import MissingExtraError, WeightsError
from resnets.weights.readers.limits import as_tensor, check_sizes, one_line
from resnets.weights.readers.onnx_graph import Graph, Op, UnknownGraphError
from resnets.weights.readers.onnx_network import GraphReader
from resnets.weights.readers.unwrap import Unwrapped, unwrap

__all__ = ["read_onnx"]


def read_onnx(path: Path) -> Unwrapped:
    """Read the weights of an ONNX file under our keys, and config fields from its graph (strides, padding, epsilon)."""
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("an ONNX file", "export") from error
    try:
        model = onnx.load(str(path), load_external_data=False)
        held = path.stat().st_size + _outside(model, path)
        sizes = [(t.name, tuple(t.dims), 4) for t in model.graph.initializer]
        check_sizes(sizes, path, held)
        onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
        arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        ops = [_op(node, onnx) for node in model.graph.node]
    except WeightsError:
        raise
    except Exception as error:  # the errors of protobuf and onnx have no other common base
        raise WeightsError(f"{path} is damaged or no ONNX file; {one_line(error)}; export it again") from None
    arrays |= {
        op.outputs[0]: op.attributes["value"] for op in ops if op.kind == "Constant" and "value" in op.attributes
    }
    inputs = [value.name for value in model.graph.input if value.name not in arrays]
    graph = Graph(ops, arrays, inputs, [value.name for value in model.graph.output])
    try:
        network = GraphReader(graph).read()
    except UnknownGraphError as error:
        return _by_names(graph, error, path)
    tensors = {name: as_tensor(name, array, path) for name, array in network.tensors.items()}
    notes = ["strides and padding were read off the graph"]
    if network.folded:
        notes.append(f"{network.folded} norms were folded into convolutions: identity norms hold their biases")
    return Unwrapped(tensors=tensors, notes=tuple(notes), facts=network.facts, dialect="onnx")


def _outside(model: Any, path: Path) -> int:
    """Bytes of external data files beside it; onnx itself rejects paths that lead elsewhere."""
    locations = {e.value for t in model.graph.initializer for e in t.external_data if e.key == "location"}
    beside = [path.parent / location for location in locations if Path(location).name == location]
    return sum(file.stat().st_size for file in beside if file.is_file())


def _op(node: Any, onnx: Any) -> Op:
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    value = attributes.get("value")
    if isinstance(value, onnx.TensorProto):
        attributes["value"] = onnx.numpy_helper.to_array(value)
    return Op(
        kind=node.op_type,
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        attributes={k: v.decode() if isinstance(v, bytes) else v for k, v in attributes.items()},
    )


def _by_names(graph: Graph, why: UnknownGraphError, path: Path) -> Unwrapped:
    norms = sum(op.kind == "BatchNormalization" for op in graph.ops)
    convs = sum(op.kind == "Conv" for op in graph.ops)
    named: dict[str, Tensor] = {
        name: as_tensor(name, array, path)
        for name, array in graph.arrays.items()
        if name.rpartition(".")[2] in ("weight", "bias", "running_mean", "running_var") and np.ndim(array)
    }
    if norms * 2 < convs or not any(name.endswith(".running_mean") for name in named):
        raise WeightsError(
            f"an ONNX graph must be a plain residual network, or keep its weights' names; {path}: {why}; "
            "export it unfolded (training=TrainingMode.PRESERVE), or save its state_dict"
        )
    found = unwrap(named, str(path))
    note = f"the graph is not of plain blocks ({why}): its weights were read by name"
    return Unwrapped(tensors=found.tensors, dropped=found.dropped, notes=(*found.notes, note))
