"""Readers of weights files: each returns the tensors by name, and config fields that the file states besides.

Open `files.py` first: it picks the reader by suffix and content. Names and axes stay the file's own (ONNX apart);
`dialects/` interprets them. Config fields of a file override a dialect's defaults; the caller's options override both.
"""

from __future__ import annotations

__all__ = ["KERAS_SUFFIXES", "SUFFIXES"]

TORCH_SUFFIXES = (".pth", ".pt", ".th", ".ckpt", ".bin")
KERAS_SUFFIXES = (".h5", ".hdf5", ".keras")
SUFFIXES = (".safetensors", *TORCH_SUFFIXES, ".npz", *KERAS_SUFFIXES, ".onnx", ".tflite", ".index")
