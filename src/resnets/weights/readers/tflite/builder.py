"""Building of an ONNX graph from TensorFlow Lite's tensors: names, constants, axes from (N, H, W, C) to (N, C, H, W).

Every value of four axes is held channels first; constants are turned where they are used.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from resnets.weights.readers.limits import one_line
from resnets.weights.readers.onnx.file import UnknownGraphError
from resnets.weights.readers.tflite.file import LiteGraph, LiteOp, LiteTensor

__all__ = ["CHANNELS_FIRST", "Array", "Builder"]

Array = np.ndarray[Any, Any]
OPSET = 20
INPUT = "input"
CHANNELS_FIRST = (0, 3, 1, 2)  # axes of (N, H, W, C) in the order of (N, C, H, W)
FUSED = {0: "", 1: "RELU", 3: "RELU6", 4: "TANH"}  # ActivationFunctionType; others are refused


class Builder:
    """An ONNX graph under construction, and the operation that is being added to it."""

    def __init__(self, lite: LiteGraph, onnx: Any) -> None:
        self.lite, self.onnx = lite, onnx
        self.constants: dict[int, Array] = {i: t.data for i, t in enumerate(lite.tensors) if t.data is not None}
        self.flat: dict[int, tuple[int, int, int]] = {}  # flattened images: their (H, W, C)
        self.relied = set[int]()  # tensors whose stated shape decided about a node
        self.op: LiteOp
        self._nodes, self._initializers = list[Any](), list[Any]()
        self._names: dict[int, str] = {}
        self._used = {INPUT, ""}

    def begin(self, index: int) -> None:
        """Make the tensor `index`, an image of (N, H, W, C), the input."""
        self._names[index] = self._unused(f"{self.lite.tensors[index].name}/channels_first")
        node = self.onnx.helper.make_node("Transpose", [INPUT], [self._names[index]], perm=CHANNELS_FIRST)
        self._nodes.append(node)

    def model(self, source: LiteTensor, output: int) -> Any:
        """The finished `onnx.ModelProto`."""
        if output not in self._names or output in self.flat:
            raise UnknownGraphError(f"its output {self.lite.tensors[output].name!r} is of no layer on the image")
        helper = self.onnx.helper
        sizes = zip(source.shape[1:], source.free[1:], strict=True)
        dims = ["images", *("free" if free else size for size, free in sizes)]
        graph = helper.make_graph(
            self._nodes,
            "tflite",
            [helper.make_tensor_value_info(INPUT, self.onnx.TensorProto.FLOAT, dims)],
            [helper.make_tensor_value_info(self._names[output], self.onnx.TensorProto.FLOAT, None)],
            self._initializers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        self._check_shapes(model)
        return model

    def _check_shapes(self, model: Any) -> None:
        """The shapes that a file states may be any; those that were relied on must be those that ONNX computes."""
        try:
            inferred = self.onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
        except Exception as error:  # errors of onnx have no other common base
            raise UnknownGraphError(f"its shapes contradict each other ({one_line(error)})") from None
        computed = {value.name: value.type.tensor_type.shape.dim for value in (*inferred.value_info, *inferred.output)}
        for index in sorted(self.relied & self._names.keys()):
            tensor, dims = self.lite.tensors[index], computed.get(self._names[index])
            stated = tuple(tensor.shape[axis] for axis in CHANNELS_FIRST) if len(tensor.shape) == 4 else tensor.shape
            sizes = zip(stated[1:], list(dims or ())[1:], strict=False)
            if (
                dims is None
                or len(dims) != len(stated)
                or any(not dim.HasField("dim_param") and dim.dim_value != size for size, dim in sizes)
            ):
                raise UnknownGraphError(f"{tensor.name!r} is stated to be of {list(tensor.shape)}, which it is not")

    # Inputs of the operation

    def tensor(self, place: int) -> LiteTensor:
        """An input with its stated shape, which is compared with the computed one at the end."""
        self.relied.add(self._index(place))
        return self.lite.tensors[self._index(place)]

    def output(self) -> LiteTensor:
        """The output, likewise."""
        self.relied.add(self.op.outputs[0])
        return self.lite.tensors[self.op.outputs[0]]

    def depends(self, place: int) -> bool:
        """Whether an input depends on the image."""
        return self._index(place) in self._names

    def value(self, place: int) -> str:
        """Name of an input that depends on the image."""
        index = self._index(place)
        if index not in self._names:
            raise self.error("reads nothing that depends on the image")
        if index in self.flat:
            raise self.error("reads a flattened map, which only fully connected layers do in our networks")
        return self._names[index]

    def flattened(self, place: int) -> tuple[str, tuple[int, int, int] | None]:
        """Name of an input that depends on the image, and the (H, W, C) that it was flattened from, if it was."""
        index = self._index(place)
        size = self.flat.get(index)
        return (self._names[index], size) if size else (self.value(place), None)

    def given(self, place: int) -> bool:
        return place < len(self.op.inputs) and self.op.inputs[place] >= 0

    def constant(self, place: int) -> Array:
        """A constant input; floats are float32."""
        index = self._index(place)
        if index not in self.constants:
            raise self.error(f"has an input {self.lite.tensors[index].name!r} that is no constant")
        array = self.constants[index]
        return array.astype(np.float32) if array.dtype.kind == "f" else array

    def rank(self, place: int) -> int:
        return len(self.tensor(place).shape)

    def operand(self, place: int) -> str:
        """Name of an input: a value, or a constant whose axes are turned."""
        if self.depends(place):
            return self.value(place)
        array, rank = self.constant(place), len(self.output().shape)
        if rank == 4 and array.ndim:
            array = array.reshape((1,) * (4 - array.ndim) + array.shape).transpose(CHANNELS_FIRST)
        return self.store(array)

    def _index(self, place: int) -> int:
        if not self.given(place):
            raise self.error("lacks an input")
        return self.op.inputs[place]

    # Outputs

    def store(self, array: Array | np.floating[Any]) -> str:
        """Add a constant; its name."""
        name = self._unused(f"constant/{len(self._initializers)}")
        self._initializers.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def emit(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """Add a node whose output gets a name of its own, for another node of the same operation."""
        return self._node(kind, inputs, self._unused(f"{self._output()}/{kind.lower()}"), attributes)

    def result(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """Add the last node of the operation, whose output is that of the operation."""
        name = self._names[self.op.outputs[0]] = self._unused(self._output())
        return self._node(kind, inputs, name, attributes)

    def fused(self) -> str:
        """The operator of the activation that is fused into the operation; empty for none."""
        number = self.op.options.get("FusedActivationFunction", 0)
        if number not in FUSED:
            raise self.error(f"has the fused activation {number}, which is not read")
        return FUSED[number]

    def alias(self, name: str) -> None:
        """Let the operation's output be a value that exists."""
        self._names[self.op.outputs[0]] = name

    def error(self, why: str) -> UnknownGraphError:
        return UnknownGraphError(f"{self.op.where} {why}")

    def _node(self, kind: str, inputs: list[str], out: str, attributes: dict[str, Any]) -> str:
        self._nodes.append(self.onnx.helper.make_node(kind, inputs, [out], **attributes))
        return out

    def _output(self) -> str:
        return self.lite.tensors[self.op.outputs[0]].name

    def _unused(self, name: str) -> str:
        while name in self._used:
            name += "'"
        self._used.add(name)
        return name
