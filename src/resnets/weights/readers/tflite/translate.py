"""TensorFlow Lite's operations as ONNX nodes. What is not written here is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from resnets.weights.readers.onnx.file import UnknownGraphError
from resnets.weights.readers.tflite.builder import CHANNELS_FIRST, Array, Builder
from resnets.weights.readers.tflite.file import LiteGraph

__all__ = ["translate"]

PLACES = (0, 2, 3, 1)  # where each axis of (N, H, W, C) is in (N, C, H, W)
PADDINGS = {0: "SAME_UPPER", 1: "VALID"}
REFLECT = 0
QUANTISED = ("QUANTIZE", "FAKE_QUANT")


def translate(lite: LiteGraph, onnx: Any) -> Any:
    """The graph as an `onnx.ModelProto` whose image is (N, H, W, C), as in the file; its maps are (N, C, H, W).

    Raises:
        UnknownGraphError: an operation that is not read.
    """
    if len(lite.inputs) != 1 or len(lite.outputs) != 1:
        raise UnknownGraphError(
            f"it has {len(lite.inputs)} inputs and {len(lite.outputs)} outputs; one of each is read"
        )
    image = lite.tensors[lite.inputs[0]]
    if image.dtype != "<f4" or len(image.shape) != 4:
        raise UnknownGraphError(f"its input {image.name!r} is no float image of (N, H, W, C)")
    builder = Builder(lite, onnx)
    builder.begin(lite.inputs[0])
    for op in lite.ops:
        builder.op = op
        if op.kind in QUANTISED:
            raise builder.error("belongs to a quantised network; the float model it was made from is read")
        if op.kind not in OPERATIONS:
            raise builder.error("is not read")
        if len(op.outputs) != 1:
            raise builder.error(f"has {len(op.outputs)} outputs; one is read")
        OPERATIONS[op.kind](builder)
    return builder.model(image, lite.outputs[0])


# Layers


def _windows(b: Builder) -> dict[str, Any]:
    options = b.op.options
    if options["Padding"] not in PADDINGS:
        raise b.error(f"has the padding {options['Padding']}, which the format does not know")
    return {"auto_pad": PADDINGS[options["Padding"]], "strides": [options["StrideH"], options["StrideW"]]}


def _dilated(b: Builder) -> dict[str, Any]:
    dilations = [b.op.options["DilationHFactor"], b.op.options["DilationWFactor"]]
    return _windows(b) | {"dilations": dilations}


def _finish(b: Builder, kind: str, inputs: list[str], **attributes: Any) -> None:
    """Add the node of an operation, then its fused activation."""
    if act := b.fused():
        ACTIVATIONS[act](b, b.emit(kind, inputs, **attributes))
    else:
        b.result(kind, inputs, **attributes)


def _weights(b: Builder, kernel: Array) -> list[str]:
    return [b.value(0), b.store(kernel), *([b.store(b.constant(2))] if b.given(2) else [])]


def _conv(b: Builder) -> None:
    kernel = b.constant(1)  # (out, height, width, in)
    channels = b.tensor(0).shape[-1] if b.rank(0) == 4 else 0
    if kernel.ndim != 4 or not kernel.shape[3] or not channels or channels % kernel.shape[3]:
        raise b.error(f"has a kernel of {list(kernel.shape)} for an image of {list(b.tensor(0).shape)}")
    groups = channels // kernel.shape[3]
    _finish(b, "Conv", _weights(b, kernel.transpose(CHANNELS_FIRST)), group=groups, **_dilated(b))


def _depthwise(b: Builder) -> None:
    kernel = b.constant(1)  # (1, height, width, out), outputs of one channel side by side
    channels = b.tensor(0).shape[-1] if b.rank(0) == 4 else 0
    if kernel.ndim != 4 or kernel.shape[0] != 1 or not channels or kernel.shape[3] % channels:
        raise b.error(f"has a kernel of {list(kernel.shape)} for an image of {list(b.tensor(0).shape)}")
    _finish(b, "Conv", _weights(b, kernel.transpose(3, 0, 1, 2)), group=channels, **_dilated(b))


def _pool(kind: str) -> Callable[[Builder], None]:
    def run(b: Builder) -> None:
        kernel = [b.op.options["FilterHeight"], b.op.options["FilterWidth"]]
        _finish(b, kind, [b.value(0)], kernel_shape=kernel, **_windows(b))

    return run


def _fully_connected(b: Builder) -> None:
    kernel, (source, size) = b.constant(1), b.flattened(0)
    if b.op.options["WeightsFormat"] or kernel.ndim != 2:
        raise b.error("stores its weights in a format of processors; convert the model without it")
    if size is None and b.rank(0) == 4 and b.tensor(0).shape[1:3] == (1, 1):
        source = b.emit("Flatten", [source])
    elif size is None and b.rank(0) != 2:
        raise b.error(f"reads a value of {list(b.tensor(0).shape)}; pooled features are read")
    if size is not None:
        if kernel.shape[1] != np.prod(size):
            raise b.error(f"has weights of {list(kernel.shape)} for a map of {list(size)}")
        kernel = kernel.reshape(-1, *size).transpose(CHANNELS_FIRST).reshape(kernel.shape)
    bias = [b.store(b.constant(2))] if b.given(2) else []
    _finish(b, "Gemm", [source, b.store(kernel), *bias], transB=1)


# Arithmetic, and changes of shape


def _binary(kind: str) -> Callable[[Builder], None]:
    def run(b: Builder) -> None:
        if b.depends(0) and b.depends(1) and b.rank(0) != b.rank(1):
            raise b.error(f"combines values of {b.rank(0)} and {b.rank(1)} axes")
        _finish(b, kind, [b.operand(0), b.operand(1)])

    return run


def _reduce(kind: str) -> Callable[[Builder], None]:
    def run(b: Builder) -> None:
        axes = sorted({int(axis) % 4 for axis in b.constant(1).reshape(-1)})
        keep = bool(b.op.options["KeepDims"])
        if b.rank(0) != 4 or (axes != [1, 2] and not keep):
            raise b.error(f"reduces the axes {axes} of a value of {list(b.tensor(0).shape)}; a map's mean is read")
        places = np.array(sorted(PLACES[axis] for axis in axes))
        b.result(kind, [b.value(0), b.store(places)], keepdims=int(keep))

    return run


def _pads(b: Builder) -> str:
    amounts = b.constant(1)
    if amounts.shape != (4, 2) or b.rank(0) != 4:
        raise b.error(f"pads a value of {list(b.tensor(0).shape)} by {amounts.tolist()}; images are read")
    turned = amounts[list(CHANNELS_FIRST)]
    return b.store(turned.T.reshape(-1).astype(np.int64))


def _pad(b: Builder) -> None:
    fill = b.constant(2).reshape(()) if b.given(2) else np.float32(0)
    b.result("Pad", [b.value(0), _pads(b), b.store(np.asarray(fill, np.float32))], mode="constant")


def _mirror_pad(b: Builder) -> None:
    if b.op.options["Mode"] != REFLECT:
        raise b.error("repeats the edges of an image; padding with zeros, or by reflection, is read")
    b.result("Pad", [b.value(0), _pads(b)], mode="reflect")


def _reshape(b: Builder) -> None:
    source, target = b.tensor(0), b.output()
    before, after = source.shape, target.shape
    if any((*source.free[1:], *target.free[1:])) or np.prod(before[1:]) != np.prod(after[1:]):
        raise b.error(f"turns a value of {list(before)} into one of {list(after)}, and its sizes are not fixed")
    if tuple(_sizes(b)[1:]) not in (after[1:], (-1,)):
        raise b.error(f"turns a value of {list(before)} into {_sizes(b)}, and its output is of {list(after)}")
    if before[1:] == after[1:]:
        b.alias(b.value(0))
    elif len(before) == 4 and len(after) == 2:
        b.result("Flatten", [b.value(0)])
        if before[1:3] != (1, 1):
            b.flat[b.op.outputs[0]] = (before[1], before[2], before[3])
    elif len(before) == 2 and after[1:3] == (1, 1):
        b.result("Reshape", [b.value(0), b.store(np.array([-1, after[3], 1, 1]))])
    else:
        raise b.error(f"turns a value of {list(before)} into one of {list(after)}")


def _sizes(b: Builder) -> list[int]:
    return [int(size) for size in b.constant(1).reshape(-1)]


def _strided_slice(b: Builder) -> None:
    if b.op.inputs[0] in b.constants:
        _slice_of_shape(b)
        return
    options = b.op.options
    begin, end, steps = (b.constant(place).reshape(-1).tolist() for place in (1, 2, 3))
    if options["EllipsisMask"] or options["NewAxisMask"] or options["ShrinkAxisMask"] or options["Offset"]:
        raise b.error("removes or adds axes, or counts from an offset")
    if b.rank(0) != 4 or not len(begin) == len(end) == len(steps) == 4 or min(steps) < 1:
        raise b.error(f"slices a value of {list(b.tensor(0).shape)} from {begin} to {end} by {steps}")
    starts = [0 if options["BeginMask"] >> axis & 1 else int(begin[axis]) for axis in range(4)]
    ends = [2**31 - 1 if options["EndMask"] >> axis & 1 else int(end[axis]) for axis in range(4)]
    turned = (starts, ends, PLACES, steps)
    b.result("Slice", [b.value(0), *(b.store(np.array(values, np.int64)) for values in turned)])


def _concatenation(b: Builder) -> None:
    rank = len(b.output().shape)
    axis = b.op.options["Axis"] % rank if rank else 0
    inputs = [b.operand(place) for place in range(len(b.op.inputs))]
    _finish(b, "Concat", inputs, axis=PLACES[axis] if rank == 4 else axis)


def _softmax(b: Builder) -> None:
    if b.op.options["Beta"] != 1:
        raise b.error(f"multiplies logits by {b.op.options['Beta']:g}; 1 is read")
    b.result("Softmax", [b.value(0)], axis=1)


# Constants


def _dequantize(b: Builder) -> None:
    """Half-precision weights."""
    array = b.constants.get(b.op.inputs[0]) if b.given(0) else None
    if array is None or array.dtype != np.float16:
        raise b.error("belongs to a quantised network; the float model it was made from is read")
    b.constants[b.op.outputs[0]] = array.astype(np.float32)


def _shape(b: Builder) -> None:
    shape, free = b.tensor(0).shape, b.tensor(0).free
    if any(free[1:]):
        raise b.error("reads sizes that are not fixed; convert the model for one image size")
    b.constants[b.op.outputs[0]] = np.array([-1, *shape[1:]], np.int32)  # the batch is free


def _slice_of_shape(b: Builder) -> None:
    """One size out of a shape."""
    options, array = b.op.options, b.constant(0)
    begin, end, steps = (b.constant(place).reshape(-1).tolist() for place in (1, 2, 3))
    one = array.ndim == 1 and len(begin) == 1 and steps == [1] and end == [begin[0] + 1]
    plain = options["ShrinkAxisMask"] == 1 and not any(options[f"{name}Mask"] for name in ("Ellipsis", "NewAxis"))
    if not one or not plain or options["Offset"] or not 0 <= begin[0] < len(array):
        raise b.error("computes a shape in a way that is not read")
    b.constants[b.op.outputs[0]] = array[begin[0]]


def _pack(b: Builder) -> None:
    values = [b.constant(place) for place in range(len(b.op.inputs))]
    if b.op.options["Axis"] or any(value.ndim for value in values):
        raise b.error("stacks values other than single sizes")
    b.constants[b.op.outputs[0]] = np.array(values)


# Activations


def _relu6(b: Builder, source: str) -> str:
    return b.result("Clip", [source, b.store(np.float32(0)), b.store(np.float32(6))])


def _leaky(b: Builder, source: str) -> str:
    return b.result("LeakyRelu", [source], alpha=b.op.options["Alpha"])


def _gelu(b: Builder, source: str) -> str:
    return b.result("Gelu", [source], approximate="tanh" if b.op.options["Approximate"] else "none")


def _plain(kind: str) -> Callable[[Builder, str], str]:
    return lambda b, source: b.result(kind, [source])


ACTIVATIONS: dict[str, Callable[[Builder, str], str]] = {
    "RELU": _plain("Relu"),
    "RELU6": _relu6,
    "TANH": _plain("Tanh"),
    "LOGISTIC": _plain("Sigmoid"),
    "HARD_SWISH": _plain("HardSwish"),
    "LEAKY_RELU": _leaky,
    "GELU": _gelu,
}


def _act(act: Callable[[Builder, str], str]) -> Callable[[Builder], None]:
    def run(b: Builder) -> None:
        act(b, b.value(0))

    return run


OPERATIONS: dict[str, Callable[[Builder], None]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "MAX_POOL_2D": _pool("MaxPool"),
    "AVERAGE_POOL_2D": _pool("AveragePool"),
    "FULLY_CONNECTED": _fully_connected,
    "ADD": _binary("Add"),
    "SUB": _binary("Sub"),
    "MUL": _binary("Mul"),
    "DIV": _binary("Div"),
    "MEAN": _reduce("ReduceMean"),
    "REDUCE_MAX": _reduce("ReduceMax"),
    "PAD": _pad,
    "PADV2": _pad,
    "MIRROR_PAD": _mirror_pad,
    "RESHAPE": _reshape,
    "STRIDED_SLICE": _strided_slice,
    "CONCATENATION": _concatenation,
    "SOFTMAX": _softmax,
    "DEQUANTIZE": _dequantize,
    "SHAPE": _shape,
    "PACK": _pack,
    **{kind: _act(act) for kind, act in ACTIVATIONS.items()},
}
