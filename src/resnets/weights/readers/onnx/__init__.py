"""Reader of ONNX files: a graph is opened as one of our networks only if it is proven to be that network.

1. `file.py` opens the file, checks every node, and expands the fused nodes of ONNX Runtime.
2. `graph.py` fixes the input size and computes all constants.
3. `patterns.py`, with `activations.py`, `branches.py` and `pools.py`, joins what exporters split (`rewrite.py`).
4. `structure.py` finds the blocks; `network.py` and `candidates.py` guess the config (`pads.py`: of windows).
5. `match.py` compares every operation and attribute with the plan, and takes the tensors (`leaves.py`, `layers.py`,
   `proof.py`).
6. `verify.py` runs graph and network on random images (`reference.py`: without ONNX Runtime).

`read.py` does these in order: open it first. Names in the file do not matter. Anything that is not understood, or
differs, is refused with the name of the first node.
"""
