"""Writing of TensorFlow Lite files, operation by operation, with the generated code of the package `tflite`."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
import tflite

__all__ = ["RELU", "VALID", "LiteFile", "classify", "mean", "network", "padded"]

SAME, VALID = 0, 1
RELU = 1
TYPES = {"float32": 0, "float16": 1, "int32": 2, "int8": 9}
CLASSES = {
    "CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions", "MAX_POOL_2D": "Pool2DOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions", "FULLY_CONNECTED": "FullyConnectedOptions", "ADD": "AddOptions",
    "MUL": "MulOptions", "MEAN": "ReducerOptions", "REDUCE_MAX": "ReducerOptions", "SOFTMAX": "SoftmaxOptions",
    "STRIDED_SLICE": "StridedSliceOptions", "PACK": "PackOptions", "CONCATENATION": "ConcatenationOptions",
    "MIRROR_PAD": "MirrorPadOptions", "RESHAPE": "ReshapeOptions", "LEAKY_RELU": "LeakyReluOptions",
    "SHAPE": "ShapeOptions",
}  # fmt: skip
Sizes = tuple[int, ...]


class LiteFile:
    """A graph under construction. Tensors are numbers; shapes are (N, H, W, C)."""

    def __init__(self, seed: int = 0) -> None:
        self.tensors: list[tuple[Sizes, str, np.ndarray[Any, Any] | None, Sizes]] = []
        self.ops: list[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = []
        self.draw = np.random.default_rng(seed)

    def value(self, shape: Sizes, dtype: str = "float32", free: Sizes = ()) -> int:
        self.tensors.append((shape, dtype, None, free or shape))
        return len(self.tensors) - 1

    def constant(self, array: Any) -> int:
        array = np.asarray(array)
        self.tensors.append((array.shape, str(array.dtype), array, array.shape))
        return len(self.tensors) - 1

    def weights(self, *shape: int) -> int:
        fan = np.prod(shape[1:]) if len(shape) > 1 else 1
        return self.constant(self.draw.normal(0, fan**-0.5, shape).astype(np.float32))

    def op(self, kind: str, inputs: Sizes, shape: Sizes, /, dtype: Any = "float32", **options: Any) -> int:
        out = self.value(shape, dtype)
        self.ops.append((kind, inputs, (out,), options))
        return out

    def shape(self, tensor: int) -> Sizes:
        return self.tensors[tensor][0]

    def conv(self, source: int, channels: int, kernel: int = 3, stride: int = 1, **options: Any) -> int:
        """A biased convolution with a fused activation."""
        size = self.shape(source)
        reach = (kernel - 1) * options.get("DilationHFactor", 1) + 1
        same = options.setdefault("Padding", SAME) == SAME
        cells = [-(-s // stride) if same else -(-(s - reach + 1) // stride) for s in size[1:3]]
        inputs = (source, self.weights(channels, kernel, kernel, size[3]), self.weights(channels))
        options = {"StrideH": stride, "StrideW": stride, "DilationHFactor": 1, "DilationWFactor": 1} | options
        return self.op("CONV_2D", inputs, (1, *cells, channels), **options)

    def to_bytes(self, source: int, target: int) -> bytes:
        """The file, with `source` as input and `target` as output."""
        b = flatbuffers.Builder(1024)
        kinds = list(dict.fromkeys(op[0] for op in self.ops))
        buffers = [_buffer(b, array) for _, _, array, _ in self.tensors]
        tensors = [self._tensor(b, number) for number in range(len(self.tensors))]
        ops = [self._operation(b, kinds, *op) for op in self.ops]
        codes = []
        for kind in kinds:
            code = getattr(tflite.BuiltinOperator, kind)
            tflite.OperatorCodeStart(b)
            tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(code, 127))
            tflite.OperatorCodeAddBuiltinCode(b, code)
            tflite.OperatorCodeAddVersion(b, 1)
            codes.append(tflite.OperatorCodeEnd(b))
        parts = [_vector(b, part) for part in (tensors, ops)]
        ends = [b.CreateNumpyVector(np.array([end], np.int32)) for end in (source, target)]
        tflite.SubGraphStart(b)
        tflite.SubGraphAddTensors(b, parts[0])
        tflite.SubGraphAddInputs(b, ends[0])
        tflite.SubGraphAddOutputs(b, ends[1])
        tflite.SubGraphAddOperators(b, parts[1])
        graphs = _vector(b, [tflite.SubGraphEnd(b)])
        empty = _buffer(b, None)
        whole = [_vector(b, part) for part in ([empty, *buffers], codes)]
        tflite.ModelStart(b)
        tflite.ModelAddVersion(b, 3)
        tflite.ModelAddOperatorCodes(b, whole[1])
        tflite.ModelAddSubgraphs(b, graphs)
        tflite.ModelAddBuffers(b, whole[0])
        b.Finish(tflite.ModelEnd(b), b"TFL3")
        return bytes(b.Output())

    def _tensor(self, b: Any, number: int) -> int:
        shape, dtype, _, free = self.tensors[number]
        name = b.CreateString(f"t{number}")
        sizes, signature = (b.CreateNumpyVector(np.array(part, np.int32)) for part in (shape, free))
        tflite.TensorStart(b)
        tflite.TensorAddShape(b, sizes)
        tflite.TensorAddShapeSignature(b, signature)
        tflite.TensorAddType(b, TYPES[dtype])
        tflite.TensorAddBuffer(b, number + 1)
        tflite.TensorAddName(b, name)
        return int(tflite.TensorEnd(b))

    def _operation(
        self, b: Any, kinds: list[str], kind: str, inputs: Sizes, outputs: Sizes, options: dict[str, Any]
    ) -> int:
        name, table = CLASSES.get(kind), 0
        if name:
            getattr(tflite, f"{name}Start")(b)
            for option, value in options.items():
                getattr(tflite, f"{name}Add{option}")(b, value)
            table = getattr(tflite, f"{name}End")(b)
        ends = [b.CreateNumpyVector(np.array(end, np.int32)) for end in (inputs, outputs)]
        tflite.OperatorStart(b)
        tflite.OperatorAddOpcodeIndex(b, kinds.index(kind))
        tflite.OperatorAddInputs(b, ends[0])
        tflite.OperatorAddOutputs(b, ends[1])
        if name:
            tflite.OperatorAddBuiltinOptionsType(b, getattr(tflite.BuiltinOptions, name))
            tflite.OperatorAddBuiltinOptions(b, table)
        return int(tflite.OperatorEnd(b))


def network(
    lite: LiteFile, size: int = 32, *, stem: Any = None, block: Any = None, head: Any = None, explicit: bool = False
) -> bytes:
    """A ResNet-8 of CIFAR's shape with folded norms; functions replace its stem, its blocks or its head.

    Convolutions with strides are padded as `SAME` pads, or by one cell on each side if `explicit`.
    """
    image = lite.value((1, size, size, 3), free=(-1, size, size, 3))
    x = stem(lite, image) if stem else lite.conv(image, 16, FusedActivationFunction=RELU)
    for channels in (16, 32, 64):
        stride = 1 if channels == 16 else 2
        x = block(lite, x, channels, stride) if block else basic(lite, x, channels, stride, explicit and stride > 1)
    x = head(lite, x) if head else classify(lite, mean(lite, x))
    return lite.to_bytes(image, x)


def padded(lite: LiteFile, x: int, cells: int) -> int:
    """Zeros on each side of a map."""
    _, height, width, channels = lite.shape(x)
    amounts = lite.constant(np.array([[0, 0], [cells, cells], [cells, cells], [0, 0]], np.int32))
    return lite.op("PAD", (x, amounts), (1, height + 2 * cells, width + 2 * cells, channels))


def basic(lite: LiteFile, x: int, channels: int, stride: int = 1, explicit: bool = False) -> int:
    """A basic block."""
    wide = padded(lite, x, 1) if explicit else x
    padding = VALID if explicit else SAME
    y = lite.conv(wide, channels, 3, stride, Padding=padding, FusedActivationFunction=RELU)
    y = lite.conv(y, channels)
    x = lite.conv(x, channels, 1, stride) if stride > 1 else x
    return lite.op("ADD", (x, y), lite.shape(y), FusedActivationFunction=RELU)


def mean(lite: LiteFile, x: int) -> int:
    """The mean of a map, as (N, C)."""
    return lite.op("MEAN", (x, lite.constant(np.array([1, 2], np.int32))), (1, lite.shape(x)[3]))


def classify(lite: LiteFile, x: int, classes: int = 10) -> int:
    """Logits, of features or of a flattened map."""
    return lite.op("FULLY_CONNECTED", (x, lite.weights(classes, lite.shape(x)[1]), lite.weights(classes)), (1, classes))


def _buffer(b: Any, array: np.ndarray[Any, Any] | None) -> int:
    data = b.CreateNumpyVector(np.frombuffer(array.tobytes(), np.uint8)) if array is not None else None
    tflite.BufferStart(b)
    if data is not None:
        tflite.BufferAddData(b, data)
    return int(tflite.BufferEnd(b))


def _vector(b: Any, offsets: list[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())
