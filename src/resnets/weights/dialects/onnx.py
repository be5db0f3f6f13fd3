"""What the ONNX reader makes of a graph: our own names, for networks of any codebase; its facts say the rest."""

from __future__ import annotations

from resnets.weights.dialects.base import Dialect

__all__ = ["ONNX"]

ONNX = Dialect(
    name="onnx",
    whose="the ONNX reader, which names a graph's weights as this library does",
    recognise=lambda names: False,  # the reader says so; no names do
    settled={"stride_in": "3x3", "norm_eps": 1e-5, "shortcut": "B", "padding": "symmetric"},
)
