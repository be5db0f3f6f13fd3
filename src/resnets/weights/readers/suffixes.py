"""Suffixes of weights files."""

from __future__ import annotations

__all__ = ["KERAS_SUFFIXES", "SUFFIXES"]

TORCH_SUFFIXES = (".pth", ".pt", ".th", ".ckpt", ".bin")
KERAS_SUFFIXES = (".h5", ".hdf5", ".keras")
SUFFIXES = (".safetensors", *TORCH_SUFFIXES, ".npz", *KERAS_SUFFIXES, ".onnx", ".index")
