"""Files of other frameworks as tensors by name: `.npz`, Keras, ONNX, TensorFlow checkpoints.

Each reader gives the file's own names and axes; whose they are, and what they mean, is the dialects' business. What
a file says of its network besides tensors (epsilon, padding, windows) comes as facts, which stand above a dialect's
habits and below what the caller says.
"""
