"""Comparison of layers with weights: convolutions, norms and linear layers. Their tensors are taken, by our keys."""

from __future__ import annotations

import numpy as np

from resnets.arch import nodes
from resnets.arch.nodes import Node
from resnets.weights.readers.onnx.graph import Array, Op
from resnets.weights.readers.onnx.pads import explicit_pads
from resnets.weights.readers.onnx.proof import Comparison, axes_values

__all__ = ["LayerComparison", "Leaf"]

BATCH_NORM = {"weight": 1, "bias": 2, "running_mean": 3, "running_var": 4}  # indices of the inputs
Leaf = tuple[str, Node]


class LayerComparison(Comparison):
    """Compares layers with weights."""

    def conv(self, ops: list[Op], at: int, path: str, node: nodes.Conv, following: Leaf | None) -> tuple[int, int]:
        """Match a convolution, and a norm after it that may be folded; positions after it, and leaves taken beyond."""
        pad = ops[at] if at < len(ops) and ops[at].kind == "Pad" else None
        at += pad is not None
        op = self.take(ops, at, path, node, "Conv")
        kernel = self.graph.constant(op, 1)
        if kernel is None or kernel.ndim != 4:
            raise self.error(f"{op.where} has no constant kernel of four axes, for {path}")
        reach = (node.kernel - 1) * node.dilation + 1
        shape = (node.out_chans, node.in_chans // node.groups, node.kernel, node.kernel)
        self.expect(op, path, "a kernel of", kernel.shape, shape)
        self.expect(op, path, "strides", axes_values(op, "strides"), (node.stride,) * 2)
        self.expect(op, path, "dilations", axes_values(op, "dilations"), (node.dilation,) * 2)
        self.expect(op, path, "group", int(op.attributes.get("group", 1)), node.groups)
        self.expect(op, path, "kernel_shape", tuple(op.attributes.get("kernel_shape") or shape[2:]), shape[2:])
        self.pads(op, pad, path, node.padding, reach, node.stride, (0.0,))
        self.result.tensors[f"{path}.weight"] = kernel
        bias = self.bias(op, node.out_chans)
        at += 1
        self.done += 1
        norm = following[1] if following is not None else None
        batch_norm = isinstance(norm, nodes.Norm) and norm.kind in ("batch", "frozen_batch")
        if batch_norm and (at >= len(ops) or ops[at].kind not in ("BatchNormalization", "Affine")):
            assert following is not None
            assert isinstance(norm, nodes.Norm)
            self.folded(following[0], norm, op, bias)
            if node.bias:
                self.result.tensors[f"{path}.bias"] = np.zeros(node.out_chans, np.float32)
            return at, 1
        if node.bias:
            zeros = np.zeros(node.out_chans, np.float32)
            self.result.tensors[f"{path}.bias"] = zeros if bias is None else bias
        elif bias is not None and bias.any():
            raise self.error(f"{op.where} has a bias where {path} of our network has none")
        self.result.values[path] = op.out
        return at, 0

    def bias(self, op: Op, channels: int) -> Array | None:
        bias = self.graph.constant(op, 2)
        if bias is None and len(op.inputs) > 2 and op.inputs[2]:
            raise self.error(f"{op.where} has a bias that depends on the image")
        if bias is not None and bias.shape != (channels,):
            raise self.error(f"{op.where} has a bias of {bias.shape} for {channels} channels")
        return bias

    def folded(self, path: str, norm: nodes.Norm, op: Op, bias: Array | None) -> None:
        """An identity norm that adds the bias of the convolution that the norm was folded into.

        (x - 0) / sqrt((1 - eps) + eps) * 1 + bias is x + bias to float rounding.
        """
        one = np.ones(norm.channels, np.float32)
        self.affine_norm(path, norm, one, 0 * one if bias is None else bias)
        self.result.folded += 1
        self.result.values[path] = op.out

    def affine_norm(self, path: str, norm: nodes.Norm, scale: Array, shift: Array) -> None:
        one = np.ones(norm.channels, np.float32)
        self.result.tensors |= {f"{path}.weight": scale, f"{path}.bias": shift}
        self.result.tensors |= {f"{path}.running_mean": 0 * one, f"{path}.running_var": one - np.float32(norm.eps)}

    def norm(self, op: Op, path: str, node: nodes.Norm) -> None:
        if node.kind in ("group", "instance"):
            self.statistics_norm(op, path, node)
            return
        if op.kind == "Affine":
            self.affine_norm(path, node, op.attributes["scale"], op.attributes["shift"])
            return
        if op.kind != "BatchNormalization":
            raise self.error(f"{op.where} stands where our network has a batch norm, {path}")
        if int(op.attributes.get("training_mode", 0)) or int(op.attributes.get("spatial", 1)) != 1:
            raise self.error(f"{op.where} computes its statistics from the images; export it in evaluation mode")
        arrays = {}
        for name, index in BATCH_NORM.items():
            array = self.graph.constant(op, index)
            if array is None or array.shape != (node.channels,):
                raise self.error(f"{op.where} has no constant {name} of {node.channels} channels, for {path}")
            arrays[name] = array
        epsilon = float(f"{float(np.float32(op.attributes.get('epsilon', 1e-5))):.6g}")
        if epsilon != node.eps:  # another epsilon is a variance that differs by a constant
            arrays["running_var"] = (arrays["running_var"].astype(np.float64) + (epsilon - node.eps)).astype(np.float32)
            if (arrays["running_var"] < 0).any():
                raise self.error(f"{op.where} has epsilon {epsilon:g} where our network has {node.eps:g}, at {path}")
            self.result.epsilons += 1
        self.result.tensors |= {f"{path}.{name}": array for name, array in arrays.items()}

    def statistics_norm(self, op: Op, path: str, node: nodes.Norm) -> None:
        wanted = "GroupNorm" if node.kind == "group" else "InstanceNormalization"
        if op.kind != wanted:
            raise self.error(
                f"{op.where} stands where our network has {'a' if node.kind == 'group' else 'an'} "
                f"{node.kind} norm, {path}"
            )
        if node.kind == "group":
            self.expect(op, path, "groups", op.attributes["groups"], node.groups)
            weight, bias = op.attributes["weight"], op.attributes["bias"]
        else:
            weight, bias = self.graph.constant(op, 1), self.graph.constant(op, 2)
        epsilon = float(f"{float(np.float32(op.attributes.get('epsilon', 1e-5))):.6g}")
        self.expect(op, path, "epsilon", epsilon, node.eps)
        if weight is None or bias is None or weight.shape != (node.channels,) or bias.shape != (node.channels,):
            raise self.error(f"{op.where} has no constant terms of {node.channels} channels, for {path}")
        self.result.tensors |= {f"{path}.weight": weight, f"{path}.bias": bias}

    def linear(self, op: Op, path: str, node: nodes.Linear, *, cells: bool = False) -> None:
        """Match a linear layer, which may be a 1x1 convolution; `cells`: of several cells."""
        if op.kind == "Conv":
            shape, kernel = self.graph.shapes[op.inputs[0]], self.graph.constant(op, 1)
            if kernel is None or kernel.shape[2:] != (1, 1) or (not cells and any(size > 1 for size in shape[2:])):
                raise self.error(f"{op.where} stands where our network has a linear layer, {path}")
            self.expect(op, path, "strides", axes_values(op, "strides"), (1, 1))
            self.expect(op, path, "group", int(op.attributes.get("group", 1)), 1)
            self.expect(op, path, "pads", explicit_pads(self.graph, op), (0, 0, 0, 0))
            weight, bias = kernel[:, :, 0, 0], self.bias(op, kernel.shape[0])
        else:
            weight, bias = op.attributes["weight"], op.attributes["bias"]
        self.expect(op, path, "a matrix of", tuple(weight.shape), (node.out_features, node.in_features))
        self.result.tensors[f"{path}.weight"] = weight
        if node.bias:
            self.result.tensors[f"{path}.bias"] = np.zeros(weight.shape[0], np.float32) if bias is None else bias
        elif bias is not None and bias.any():
            raise self.error(f"{op.where} has a bias where {path} of our network has none")
