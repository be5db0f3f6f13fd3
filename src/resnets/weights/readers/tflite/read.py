"""Reading a TensorFlow Lite file: translate it, have it proven to be a network, run it where LiteRT is installed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from resnets.errors import ResnetsError, WeightsError, require_extra
from resnets.weights.readers.limits import one_line
from resnets.weights.readers.onnx.file import UnknownGraphError
from resnets.weights.readers.onnx.read import read_model
from resnets.weights.readers.onnx.verify import TOLERANCE, difference, probe, run_graph
from resnets.weights.readers.tflite.file import open_tflite
from resnets.weights.readers.tflite.translate import translate
from resnets.weights.readers.unwrap import Unwrapped

__all__ = ["read_tflite"]

FREE = (64, 64, 3)  # sizes of the random image where the file leaves them open


def read_tflite(path: Path) -> Unwrapped:
    """Read the network of a TensorFlow Lite file of floats: tensors under our keys, and all config fields.

    Raises:
        MissingExtraError: `tflite` or `onnx` is not installed.
        WeightsError: a file that is damaged or quantised, or a graph that is not proven to be one of our networks.
    """
    with require_extra("a TensorFlow Lite file", "tflite"):
        import onnx
        import tflite
    try:
        model = translate(open_tflite(path, tflite), onnx)
        found = read_model(model, path)
        compared = _compare_with_litert(model, path)
        note = (
            "LiteRT computes the same output for a random image"
            if compared
            else "LiteRT is not installed (ai-edge-litert): only the graph as translated to ONNX was run"
        )
        return replace(found, notes=(*found.notes, note))
    except UnknownGraphError as error:
        raise WeightsError(
            f"a TensorFlow Lite graph must be exactly one of our networks; {path}: {error}; read the weights that it "
            "was converted from, or run the graph with LiteRT"
        ) from None
    except ResnetsError:
        raise
    except Exception as error:  # damaged graphs raise any type in onnx and numpy
        raise WeightsError(
            f"{path} is damaged or no TensorFlow Lite file; {one_line(error)}; convert it again"
        ) from None


def _compare_with_litert(model: Any, path: Path) -> bool:
    """Run the file itself and its translation on one random image; whether LiteRT is there to do so.

    Raises:
        UnknownGraphError: the outputs differ, or LiteRT refuses the file.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError:
        return False
    try:
        runtime = Interpreter(
            model_path=str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        )
        source, target = runtime.get_input_details()[0], runtime.get_output_details()[0]
        sizes = (
            1,
            *(free if size < 0 else size for size, free in zip(source["shape_signature"][1:], FREE, strict=True)),
        )
        runtime.resize_tensor_input(source["index"], sizes)
        runtime.allocate_tensors()
        image = probe(sizes, 1.0, False)
        runtime.set_tensor(source["index"], image)
        runtime.invoke()
        theirs = runtime.get_tensor(target["index"])
    except Exception as error:  # LiteRT raises any type
        raise UnknownGraphError(f"LiteRT cannot run it ({one_line(error)})") from None
    ours = run_graph(model, {model.graph.input[0].name: image})[0]
    theirs = theirs.transpose(0, 3, 1, 2) if theirs.ndim == 4 else theirs
    if np.isfinite(theirs).all() and (off := difference(ours, theirs)) > TOLERANCE:
        raise UnknownGraphError(f"LiteRT computes another output than its translation (relative error {off:.2g})")
    return True
