"""Graph of an ONNX model at one input size: operations on the image, their shapes, and everything else as constants.

What does not depend on the image (weights, and arithmetic on them and on shapes) is computed here, so that the files
that read the graph see constants alone. Only small results are computed: see `BUDGET`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from resnets.weights.readers.onnx.file import UnknownGraphError, label
from resnets.weights.readers.onnx.reference import run_node

__all__ = ["Array", "Graph", "InvalidNodeError", "Op", "concrete"]

Array = np.ndarray[Any, Any]
BUDGET = 2**26  # elements that constants may be computed to, beyond those that the file has
RUN_BUDGET = 2**29  # elements of all values of one run
# Operators that are computed on constants: their outputs are not larger than their inputs, or are bounded below.
FOLDABLE = frozenset(
    {
        "Abs",
        "Add",
        "And",
        "BatchNormalization",
        "InstanceNormalization",
        "Cast",
        "CastLike",
        "Ceil",
        "Concat",
        "Constant",
        "ConstantOfShape",
        "Div",
        "Equal",
        "Exp",
    }
    | {"Expand", "Flatten", "Floor", "Gather", "Greater", "Identity", "Less", "Max", "Min", "Mod", "Mul", "Neg", "Not"}
    | {"Or", "Pow", "Reciprocal", "ReduceMean", "ReduceProd", "ReduceSum", "Reshape", "Shape", "Size", "Slice"}
    | {"Split", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where"}
)


# Operators on the image. Attributes of no others reach onnx's shape inference, which is C++ and checks few of them.
KNOWN = FOLDABLE | frozenset(
    {"AveragePool", "Clip", "Conv", "Dropout", "Erf", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool"}
    | {"GroupNormalization", "HardSigmoid", "HardSwish", "LeakyRelu", "LogSoftmax", "MatMul", "MaxPool", "Pad"}
    | {"ReduceMax", "Relu", "Sigmoid", "Softmax", "Swish", "Tanh"}
)
MAX_RANK = 16


class InvalidNodeError(UnknownGraphError):
    """A node that ONNX's own rules refuse, at this input size or at any."""


@dataclass(frozen=True, kw_only=True)
class Op:
    """One operation on the image.

    Args:
        kind: ONNX's operator, or what several of them were read as (`patterns.py`).
        inputs: names of its inputs; those of the image's values come first where `kind` is not ONNX's.
        out: name of its output.
        attributes: by name, with the defaults of its operator version.
        where: the node, for messages.
    """

    kind: str
    inputs: tuple[str, ...]
    out: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    where: str


@dataclass(kw_only=True)
class Graph:
    """Operations in order, and the values between them.

    Args:
        ops: those that depend on the image and that the output depends on.
        constants: all other values.
        shapes: of every value of `ops`, for the input size that was asked for.
        input, output: names.
    """

    ops: list[Op]
    constants: dict[str, Array]
    shapes: dict[str, tuple[int, ...]]
    input: str
    output: str

    def __post_init__(self) -> None:
        self.index()

    def index(self) -> None:
        """Find what makes and reads each value; required after `ops` changed."""
        live, kept = {self.output}, list[Op]()
        for op in reversed(self.ops):
            if op.out in live:
                kept.append(op)
                live.update(op.inputs)
        self.ops = kept[::-1]
        self.makers = {op.out: op for op in self.ops}
        self.readers: dict[str, list[Op]] = {}
        for op in self.ops:
            for name in dict.fromkeys(self.sources(op)):
                self.readers.setdefault(name, []).append(op)

    def sources(self, op: Op) -> list[str]:
        """The image's values that `op` reads."""
        return [name for name in op.inputs if name and name not in self.constants]

    def constant(self, op: Op, index: int) -> Array | None:
        """The constant input of `op` at that index; `None` if there is none."""
        name = op.inputs[index] if index < len(op.inputs) else ""
        return self.constants.get(name)

    def only_reader(self, value: str) -> Op | None:
        """The operation that reads a value, if it is one alone and the value is not the output."""
        readers = self.readers.get(value, [])
        return readers[0] if len(readers) == 1 and value != self.output else None


def concrete(model: Any, arrays: Mapping[str, Array], source: str, shape: tuple[int, ...]) -> Graph:
    """The graph of `model` for an input of `shape`.

    Args:
        model: from `open_onnx`.
        arrays: its initialisers.
        source: name of its input.
        shape: of the input.

    Raises:
        InvalidNodeError: a node that ONNX's own rules refuse at this size, or whose output would be too large.
        UnknownGraphError: a node that is not read.
    """
    return _Concretion(model, arrays, source, shape).graph()


class _Concretion:
    def __init__(self, model: Any, arrays: Mapping[str, Array], source: str, shape: tuple[int, ...]) -> None:
        import onnx

        self.onnx, self.model, self.source = onnx, model, source
        self.constants = dict(arrays)
        self.shapes: dict[str, tuple[int, ...]] = {source: shape}
        self.types: dict[str, int] = {source: model.graph.input[0].type.tensor_type.elem_type}
        for value in model.graph.input:
            if value.name == source:
                self.types[source] = value.type.tensor_type.elem_type
        opsets = [entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
        self.opset = int(opsets[0].version) if opsets else 1
        self.opsets = [onnx.helper.make_opsetid("", self.opset)]
        self.spent = 0
        self.ops: list[Op] = []

    def graph(self) -> Graph:
        for node in self.model.graph.node:
            data = [name for name in node.input if name and name not in self.constants]
            if not data and node.op_type in FOLDABLE:
                self._fold(node)
            elif node.op_type in ("Shape", "Size") and len(data) == 1 and data[0] in self.shapes:
                self._shape_of(node, self.shapes[data[0]])
            else:
                self._operation(node)
        output = self.model.graph.output[0].name
        if output in self.constants:
            raise UnknownGraphError("the output does not depend on the input")
        total = sum(math.prod(shape) for shape in self.shapes.values())
        if total > RUN_BUDGET:
            raise UnknownGraphError(
                f"its values for an input of {self.shapes[self.source]} take {total * 4 / 2**30:.0f} GiB; a graph of a "
                "smaller batch or image is read"
            )
        if any(size <= 0 for shape in self.shapes.values() for size in shape):
            raise InvalidNodeError(f"an input of {self.shapes[self.source]} makes an empty value")
        return Graph(ops=self.ops, constants=self.constants, shapes=self.shapes, input=self.source, output=output)

    def _fold(self, node: Any) -> None:
        if node.op_type == "Identity" and len(node.input) == 1 and node.input[0]:
            self.constants[node.output[0]] = self.constants[node.input[0]]
            return
        if any(a.name == "to" and a.i == self.onnx.TensorProto.STRING for a in node.attribute):
            raise InvalidNodeError(f"{label(node)} makes text")
        inputs = {name: self.constants[name] for name in node.input if name}
        self._spend(node, self._size_of(node, list(inputs.values())))
        try:
            results = run_node(node, inputs, self.opset)
        except Exception as error:  # onnx raises any type on damaged nodes
            raise InvalidNodeError(f"{label(node)} cannot be computed ({_words(error)})") from None
        for name, result in zip(filter(None, node.output), results, strict=False):
            self.constants[name] = np.asarray(result)

    def _size_of(self, node: Any, inputs: Sequence[Array]) -> int:
        """A bound on the elements that a foldable node outputs."""
        shapes = [array.shape for array in inputs]
        if node.op_type in ("ConstantOfShape", "Expand"):
            if inputs[-1].size > MAX_RANK:
                raise InvalidNodeError(f"{label(node)} makes a value of {inputs[-1].size} axes")
            target = tuple(max(int(size), 1) for size in inputs[-1].reshape(-1).tolist() if np.isfinite(size))
            shapes = [*shapes[:-1], target]
        if node.op_type == "Gather":
            return math.prod(array.size for array in inputs)
        if node.op_type in ("BatchNormalization", "InstanceNormalization") and len(shapes[0]) > 1:
            channels = max([shapes[0][1], *(array.size for array in inputs[1:])])
            return int(math.prod(shapes[0]) // max(shapes[0][1], 1) * channels)
        rank = max([len(shape) for shape in shapes] or [0])
        aligned = [(1,) * (rank - len(shape)) + shape for shape in shapes]
        broadcast = math.prod(max(sizes) for sizes in zip(*aligned, strict=True)) if aligned else 1
        return max(broadcast, sum(array.size for array in inputs))

    def _spend(self, node: Any, elements: int) -> None:
        self.spent += elements
        if self.spent > BUDGET + 8 * sum(int(np.prod(t.dims)) for t in self.model.graph.initializer):
            raise UnknownGraphError(f"{label(node)} computes constants that are far larger than the file")

    def _shape_of(self, node: Any, shape: tuple[int, ...]) -> None:
        if node.op_type == "Size":
            self.constants[node.output[0]] = np.array(math.prod(shape), np.int64)
            return
        limits = {attribute.name: attribute.i for attribute in node.attribute}
        self.constants[node.output[0]] = np.array(shape[limits.get("start", 0) : limits.get("end")], np.int64)

    def _operation(self, node: Any) -> None:
        """Add an operation on the image, with the shape of its output by ONNX's own inference."""
        onnx, where = self.onnx, label(node)
        if node.op_type not in KNOWN:
            raise UnknownGraphError(f"{where} is an operation that no network here has")
        try:
            schema = onnx.defs.get_schema(node.op_type, self.opset, "")
        except Exception:
            raise UnknownGraphError(f"{where} is no operator of ONNX's opset {self.opset}") from None
        types, data = {}, {}
        for name in filter(None, node.input):
            if name in self.constants:
                array = self.constants[name]
                kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
                types[name] = onnx.helper.make_tensor_type_proto(kind, array.shape)
                if array.size <= 64:
                    data[name] = onnx.numpy_helper.from_array(array, name)
            elif name in self.shapes:
                types[name] = onnx.helper.make_tensor_type_proto(self.types[name], self.shapes[name])
            else:
                raise UnknownGraphError(f"{where} reads a second output of a node")
        try:
            found = onnx.shape_inference.infer_node_outputs(schema, node, types, data, opset_imports=self.opsets)
        except Exception as error:  # errors of onnx have no other common base
            raise InvalidNodeError(f"{where} is invalid ({_words(error)})") from None
        for name, kind in found.items():
            dims = kind.tensor_type.shape.dim
            if name and kind.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
                shape = tuple(int(dim.dim_value) for dim in dims)
                if math.prod(shape) > BUDGET or any(size <= 0 for size in shape):
                    raise InvalidNodeError(f"{where} outputs a value of {shape}, which is empty or too large to run")
                self.shapes[name] = shape
                self.types[name] = kind.tensor_type.elem_type
        if node.output[0] not in self.shapes:
            raise InvalidNodeError(f"{where} has an output of unknown shape")
        outputs = [name for name in node.output if name]
        attributes = self._attributes(node, schema)
        if node.op_type == "BatchNormalization" and self.opset < 14 and len(outputs) > 1:
            attributes["training_mode"] = 1  # which older operator sets say by the number of outputs
        if node.op_type == "Split":
            attributes["parts"] = tuple(outputs)
            for part, name in enumerate(outputs):
                self.ops.append(
                    Op(
                        kind="Split",
                        inputs=tuple(node.input),
                        out=name,
                        attributes=attributes | {"part": part},
                        where=where,
                    )
                )
            return
        if len(outputs) > 1:  # masks, indices and statistics of training, which nothing may read
            for name in outputs[1:]:
                self.shapes.pop(name, None)
        self.ops.append(
            Op(kind=node.op_type, inputs=tuple(node.input), out=node.output[0], attributes=attributes, where=where)
        )

    def _attributes(self, node: Any, schema: Any) -> dict[str, Any]:
        """Attributes of a node as Python values, with the operator's defaults; ONNX has checked their types."""
        value_of = self.onnx.helper.get_attribute_value
        values = {
            name: value_of(attribute.default_value)
            for name, attribute in schema.attributes.items()
            if attribute.default_value.name
        }
        values |= {attribute.name: value_of(attribute) for attribute in node.attribute}
        plain = {name: v.decode(errors="replace") if isinstance(v, bytes) else v for name, v in values.items()}
        return {name: tuple(v) if isinstance(v, list | tuple) else v for name, v in plain.items()}


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
