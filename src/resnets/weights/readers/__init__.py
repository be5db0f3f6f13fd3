"""Readers of weights files: each returns the tensors by name, and config fields that the file states besides.

Open `files.py` first: it picks the reader by suffix and content. Names and axes stay the file's own (ONNX apart);
`dialects/` interprets them. Config fields of a file override a dialect's defaults; the caller's options override both.
"""
