"""Parsing of TensorFlow Lite files: operations, their options and constant tensors, within bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnets.errors import WeightsError
from resnets.weights.readers.limits import one_line
from resnets.weights.readers.onnx.file import UnknownGraphError

__all__ = ["LiteGraph", "LiteOp", "LiteTensor", "open_tflite"]

Array = np.ndarray[Any, Any]
IDENTIFIER = b"TFL3"  # bytes 4 to 8
MAX_NODES = 20_000
MAX_TENSORS = 100_000
MAX_ENDS = 64  # inputs or outputs of one operation
MAX_RANK = 6
DTYPES = {0: "<f4", 1: "<f2", 2: "<i4", 4: "<i8", 6: "?", 10: "<f8"}  # TensorType -> NumPy's; others hold no weights
FUSED = "FusedActivationFunction"
WINDOW = ("Padding", "StrideH", "StrideW")
DILATION = ("DilationHFactor", "DilationWFactor")
OPTIONS = {  # operator -> the class of its options in the schema, and those that are read
    "CONV_2D": ("Conv2DOptions", (*WINDOW, *DILATION, FUSED)),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", (*WINDOW, *DILATION, FUSED)),
    "MAX_POOL_2D": ("Pool2DOptions", (*WINDOW, "FilterHeight", "FilterWidth", FUSED)),
    "AVERAGE_POOL_2D": ("Pool2DOptions", (*WINDOW, "FilterHeight", "FilterWidth", FUSED)),
    "FULLY_CONNECTED": ("FullyConnectedOptions", ("WeightsFormat", FUSED)),
    "ADD": ("AddOptions", (FUSED,)),
    "SUB": ("SubOptions", (FUSED,)),
    "MUL": ("MulOptions", (FUSED,)),
    "DIV": ("DivOptions", (FUSED,)),
    "CONCATENATION": ("ConcatenationOptions", ("Axis", FUSED)),
    "MEAN": ("ReducerOptions", ("KeepDims",)),
    "REDUCE_MAX": ("ReducerOptions", ("KeepDims",)),
    "SOFTMAX": ("SoftmaxOptions", ("Beta",)),
    "LEAKY_RELU": ("LeakyReluOptions", ("Alpha",)),
    "GELU": ("GeluOptions", ("Approximate",)),
    "MIRROR_PAD": ("MirrorPadOptions", ("Mode",)),
    "PACK": ("PackOptions", ("Axis",)),
    "STRIDED_SLICE": (
        "StridedSliceOptions",
        ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask", "Offset"),
    ),
}


@dataclass(frozen=True, kw_only=True)
class LiteTensor:
    """A tensor: sizes (`None` where free), NumPy type (empty where not read) and data, of constants."""

    name: str
    shape: tuple[int, ...]
    free: tuple[bool, ...]
    dtype: str
    data: Array | None


@dataclass(frozen=True, kw_only=True)
class LiteOp:
    """An operation: TensorFlow Lite's operator, indices of its tensors (-1: none), options by the schema's names."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any]
    where: str


@dataclass(frozen=True, kw_only=True)
class LiteGraph:
    """The one graph of a file."""

    ops: tuple[LiteOp, ...]
    tensors: tuple[LiteTensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def open_tflite(path: Path, tflite: Any) -> LiteGraph:
    """Parse a file with the package `tflite`.

    Raises:
        WeightsError: damaged, or no TensorFlow Lite file.
        UnknownGraphError: several graphs, or an operator of its own.
    """
    content = path.read_bytes()
    if content[4:8] != IDENTIFIER:
        raise WeightsError(f"{path} is damaged or no TensorFlow Lite file; copy or convert it again")
    try:
        return _parse(content, tflite)
    except UnknownGraphError:
        raise
    except Exception as error:  # damaged files raise any type in flatbuffers and numpy
        raise WeightsError(
            f"{path} is damaged or no TensorFlow Lite file; {one_line(error)}; copy or convert it again"
        ) from None


def _parse(content: bytes, tflite: Any) -> LiteGraph:
    model = tflite.Model.GetRootAs(content, 0)
    if model.SubgraphsLength() != 1:
        raise UnknownGraphError(f"it has {model.SubgraphsLength()} graphs; files of one are read")
    graph = model.Subgraphs(0)
    if graph.OperatorsLength() > MAX_NODES or graph.TensorsLength() > MAX_TENSORS:
        raise UnknownGraphError(f"it has {graph.OperatorsLength()} operations, more than any residual network")
    tensors = tuple(_tensor(model, graph.Tensors(index), index) for index in range(graph.TensorsLength()))
    names = {value: name for name, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}
    ops = tuple(
        _operation(model, graph.Operators(index), names, tensors, tflite) for index in range(graph.OperatorsLength())
    )
    ends = [tuple(int(i) for i in indices) for indices in (graph.InputsAsNumpy(), graph.OutputsAsNumpy())]
    for index in (*ends[0], *ends[1]):
        tensors[index]  # raises where there is none
    return LiteGraph(ops=ops, tensors=tensors, inputs=ends[0], outputs=ends[1])


def _tensor(model: Any, tensor: Any, index: int) -> LiteTensor:
    name = _text(tensor.Name()) or f"tensor {index}"
    if tensor.ShapeLength() > MAX_RANK or tensor.ShapeSignatureLength() > MAX_RANK:
        raise UnknownGraphError(f"{name!r} has {tensor.ShapeLength()} axes; up to {MAX_RANK} are read")
    shape = tuple(int(size) for size in tensor.ShapeAsNumpy()) if tensor.ShapeLength() else ()
    signature = tuple(int(s) for s in tensor.ShapeSignatureAsNumpy()) if tensor.ShapeSignatureLength() else shape
    if len(signature) != len(shape) or min((0, *shape)) < 0:
        raise UnknownGraphError(f"{name!r} has the shape {list(shape)} and the signature {list(signature)}")
    if tensor.Sparsity() is not None:
        raise UnknownGraphError(f"{name!r} is stored sparsely")
    if (quantised := tensor.Quantization()) is not None and quantised.ScaleLength():
        raise UnknownGraphError(f"{name!r} belongs to a quantised network; the float model it was made from is read")
    dtype = DTYPES.get(tensor.Type(), "")
    buffer = model.Buffers(tensor.Buffer())
    data = None
    if buffer.DataLength():
        if not dtype:
            raise UnknownGraphError(f"{name!r} is of a type that no float network has; the float model is read")
        data = np.frombuffer(buffer.DataAsNumpy(), np.dtype(dtype))  # a view
        if data.size != math.prod(shape):
            raise ValueError(f"{name!r} has {data.size} values and the shape {list(shape)}")
        data = data.reshape(shape)
    return LiteTensor(name=name, shape=shape, free=tuple(s < 0 for s in signature), dtype=dtype, data=data)


def _operation(
    model: Any, operator: Any, names: dict[int, str], tensors: tuple[LiteTensor, ...], tflite: Any
) -> LiteOp:
    code = model.OperatorCodes(operator.OpcodeIndex())
    if operator.InputsLength() > MAX_ENDS or operator.OutputsLength() > MAX_ENDS:
        raise UnknownGraphError(f"an operation has {operator.InputsLength()} inputs, more than any here")
    inputs, outputs = (
        tuple(int(i) for i in array) if length else ()
        for array, length in (
            (operator.InputsAsNumpy(), operator.InputsLength()),
            (operator.OutputsAsNumpy(), operator.OutputsLength()),
        )
    )
    if any(not -1 <= index < len(tensors) for index in inputs) or any(
        not 0 <= index < len(tensors) for index in outputs
    ):
        raise ValueError(f"an operation names tensor {max((*inputs, *outputs))} of {len(tensors)}")
    kind = names.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "unknown")
    label = ", ".join(tensors[index].name for index in outputs) or "no output"
    where = f"operation {kind} (-> {label})"
    if kind in ("CUSTOM", "unknown"):
        custom = _text(code.CustomCode()) or "a later version's"
        raise UnknownGraphError(f"{where} is {custom}, which is not read")
    return LiteOp(kind=kind, inputs=inputs, outputs=outputs, options=_options(kind, operator, tflite), where=where)


def _options(kind: str, operator: Any, tflite: Any) -> dict[str, Any]:
    """Options of an operation, by the names of the schema."""
    if kind not in OPTIONS:
        return {}
    name, read = OPTIONS[kind]
    options, table = getattr(tflite, name)(), operator.BuiltinOptions()
    if table is None:  # all have their defaults, 0
        return dict.fromkeys(read, 0)
    if operator.BuiltinOptionsType() != getattr(tflite.BuiltinOptions, name):
        raise ValueError(f"an operation {kind} has options of another")
    options.Init(table.Bytes, table.Pos)
    return {option: getattr(options, option)() for option in read}


def _text(name: bytes | None) -> str:
    """A name from the file, printable and of bounded length."""
    text = (name or b"")[:80].decode(errors="replace")
    return "".join(c if c.isprintable() else "?" for c in text)
