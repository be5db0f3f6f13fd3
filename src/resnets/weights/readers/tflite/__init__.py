"""Reader of TensorFlow Lite files: the graph is written as an ONNX graph, which `readers/onnx` proves to be a network.

1. `file.py` parses the file into plain operations and tensors, within bounds.
2. `translate.py` writes them as ONNX nodes, channels first; `axes.py` turns shapes and axes.
3. `read.py` does both, has the result proven, and compares outputs with LiteRT's where that is installed.
"""
