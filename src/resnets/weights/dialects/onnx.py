"""Dialect that the ONNX reader assigns: it gives a graph's weights our own names, and reads config fields off it."""

from __future__ import annotations

from resnets.weights.dialects.base import Dialect

__all__ = ["ONNX"]

ONNX = Dialect(
    name="onnx",
    description="the ONNX reader, which names a graph's weights as this library does",
    matches=lambda names: False,  # only the reader assigns it
    defaults={"stride_in": "3x3", "norm_eps": 1e-5, "shortcut": "B", "padding": "symmetric"},
)
