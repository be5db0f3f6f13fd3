"""Reading a residual network off an ONNX graph: stem, blocks (each ends in a sum), stages, head; under our keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from resnets.weights.readers.onnx_graph import Graph, Op, UnknownGraphError

__all__ = ["GraphReader", "OnnxNetwork"]

BATCH_NORM = {"weight": 1, "bias": 2, "running_mean": 3, "running_var": 4}  # indices of the inputs
PLAIN = {"Conv", "BatchNormalization", "Relu", "MaxPool", "Pad", "AveragePool"}


@dataclass(kw_only=True)
class OnnxNetwork:
    """Network of a graph: tensors by our keys, fields of `ResNetConfig`, and how many norms were folded."""

    tensors: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    folded: int = 0


@dataclass(frozen=True, kw_only=True)
class Block:
    """Two paths from one value to a sum."""

    pre: list[Op]
    body: list[Op]
    shortcut: list[Op]

    def convs(self) -> list[Op]:
        return [op for op in self.body if op.kind == "Conv"]


class GraphReader:
    """Reads the network of a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.found = graph, OnnxNetwork()
        self.epsilons: set[float] = set()

    def read(self) -> OnnxNetwork:
        graph = self.graph
        sums = [op for op in graph.ops if op.kind == "Add" and len(graph.sources(op)) == 2]
        if not sums:
            raise UnknownGraphError("no two paths are added anywhere: no residual network")
        pre_activation = not self._ends_in_relu(sums[0])
        blocks, before = list[Block](), list[Op]()
        value = ""
        for number, total in enumerate(sums):
            block, fork = self._block(total)
            start, ops = graph.path_to(fork)
            if number == 0:
                before = ops
            elif start != value:
                raise UnknownGraphError("blocks do not follow each other")
            tail = ops if pre_activation and number else []
            if pre_activation and number == 0 and block.shortcut and any(o.kind == "Conv" for o in block.shortcut):
                cut = max(i for i, op in enumerate(before) if op.kind == "BatchNormalization")
                before, tail = before[:cut], before[cut:]
            blocks.append(Block(pre=tail, body=block.body, shortcut=block.shortcut))
            value = graph.value(total.out)  # `path_to` of the next block follows its ReLU back to here
            if not pre_activation and not self._ends_in_relu(total):
                raise UnknownGraphError("a sum is not followed by ReLU alone")
        self._stem(before, pre_activation)
        self._stages(blocks, pre_activation)
        self._head(graph.value(sums[-1].out), pre_activation)
        if len(self.epsilons) > 1:
            raise UnknownGraphError(f"norms of several epsilons, {sorted(self.epsilons)}")
        self.found.facts["norm_eps"] = self.epsilons.pop() if self.epsilons else 1e-5
        self._unfold()
        return self.found

    def _ends_in_relu(self, total: Op) -> bool:
        return [op.kind for op in self.graph.readers.get(self.graph.value(total.out), [])] == ["Relu"]

    def _block(self, total: Op) -> tuple[Block, str]:
        paths = [self._side(value) for value in self.graph.sources(total)]
        paths.sort(key=lambda path: sum(op.kind == "Conv" for op in path[1]))
        (one, shortcut), (other, body) = paths
        if one != other:
            raise UnknownGraphError("two paths are added that do not begin at one value")
        others = {op.kind for op in (*body, *shortcut)} - PLAIN
        if others or not 2 <= sum(op.kind == "Conv" for op in body) <= 3:
            raise UnknownGraphError(
                f"a block holds {', '.join(sorted(others)) or 'neither two nor three convolutions'}"
            )
        return Block(pre=[], body=body, shortcut=shortcut), one

    def _side(self, value: str) -> tuple[str, list[Op]]:
        """One side of a sum; no operations where it is the fork itself."""
        return (value, []) if len(self.graph.readers.get(value, ())) > 1 else self.graph.path_to(value)

    # Parts

    def _stem(self, ops: list[Op], pre_activation: bool) -> None:
        convs = [op for op in ops if op.kind == "Conv"]
        kinds = [op.kind for op in ops]
        if len(convs) != 1 or set(kinds) - PLAIN or self.graph.sources(ops[0]) != [self.graph.input]:
            raise UnknownGraphError(f"a stem of {', '.join(kinds)}")
        self._conv("conv1", convs[0])
        norms = [op for op in ops if op.kind == "BatchNormalization"]
        if norms and not pre_activation:
            self._norm("bn1", norms[0])
        elif norms:
            raise UnknownGraphError("a pre-activation network with a norm in its stem")
        if not pre_activation and "Relu" not in kinds:
            self.found.facts["stem_act"] = False
        if kinds[0] == "Conv" and _same(convs[0]):
            self.found.facts["padding"] = "same"
        pools = [index for index, op in enumerate(ops) if op.kind == "MaxPool"]
        padded = bool(pools) and kinds[pools[0] - 1] == "Pad"
        self.found.facts["stem_pool"] = _pool(ops[pools[0]], padded) if pools else "none"

    def _stages(self, blocks: list[Block], pre_activation: bool) -> None:
        stage, number, channels = 0, -1, 0
        strides: dict[tuple[int, int], int] = {}
        average = any(op.kind == "AveragePool" for block in blocks for op in block.shortcut)
        for block in blocks:
            convs = block.convs()
            out = int(self.kernel(convs[-1]).shape[0])
            stage, number = (stage + 1, 0) if out != channels else (stage, number + 1)
            channels = out
            path = f"layer{stage}.{number}"
            self._body(path, block, pre_activation)
            self._projection(path, block.shortcut, 1 if average else 0)
            steps = [_pair(conv, "strides", 1) for conv in convs]
            strides[stage, number] = int(np.prod(steps))
            for conv, step in zip(convs, steps, strict=True):
                wide = self.kernel(conv).shape[2] > 1
                if step > 1 and len(convs) == 3:
                    self._fact("stride_in", "3x3" if wide else "1x1")
                if _same(conv) and wide:
                    self._fact("padding", "same")
                if _pair(conv, "dilations", 1) > 1:
                    raise UnknownGraphError("dilated convolutions")
        self._strides(strides)

    def _strides(self, strides: dict[tuple[int, int], int]) -> None:
        """Find which block of a stage strides, from strides by (stage, block)."""
        depths = {stage: number + 1 for stage, number in strides}
        stages = sorted(depths)
        strided = {block for block, stride in strides.items() if stride > 1}
        firsts = [(stage, 0) for stage in stages[1:]]
        lasts = [(stage, depths[stage] - 1) for stage in stages[:-1]]
        if {strides[block] for block in strided} <= {2}:
            for unit, blocks in (("first", firsts), ("last", lasts)):
                if strided == set(blocks) or strided == set(blocks[:-1]):
                    self.found.facts["stride_unit"] = unit
                    self.found.facts |= {} if strided == set(blocks) else {"last_stride": 1}
                    return
        raise UnknownGraphError(f"strides in blocks {sorted(strided)}")

    def _body(self, path: str, block: Block, pre_activation: bool) -> None:
        number = 0
        for op in (*block.pre, *block.body):
            number += op.kind == "Conv"
            self._layer(op, f"{path}.conv{number}", f"{path}.bn{number + pre_activation}")

    def _projection(self, path: str, ops: list[Op], index: int) -> None:
        kinds = [op.kind for op in ops if op.kind != "Pad"]
        if kinds[:1] == ["AveragePool"]:
            self._fact("shortcut", "D")
            kinds = kinds[1:]
        if kinds[:1] == ["MaxPool"] and len(kinds) == 1:
            self.found.facts["shortcut"] = "subsample"
            return
        if kinds not in ([], ["Conv"], ["Conv", "BatchNormalization"]):
            raise UnknownGraphError(f"a shortcut of {', '.join(kinds)}")
        for op in ops:
            self._layer(op, f"{path}.downsample.{index}", f"{path}.downsample.{index + 1}")

    def _head(self, value: str, pre_activation: bool) -> None:
        graph, ops = self.graph, list[Op]()
        while value != graph.output and graph.readers.get(value):
            ops.append(graph.readers[value][0])
            value = graph.value(ops[-1].out)
        for op in ops:
            if op.kind == "BatchNormalization" and pre_activation:
                self._norm("norm", op)
            elif op.kind in ("Gemm", "MatMul"):
                weight = graph.constant(op, 1)
                if weight is None:
                    raise UnknownGraphError("a classifier without weights")
                turned = op.kind == "Gemm" and op.attributes.get("transB", 0)
                weight, bias = weight if turned else weight.T, graph.constant(op, 2)
                bias = np.zeros(weight.shape[0], np.float32) if bias is None else bias
                self.found.tensors |= {"fc.weight": weight, "fc.bias": bias}
            elif op.kind == "Add" and "fc.bias" in self.found.tensors:
                found = [c for index in (0, 1) if (c := graph.constant(op, index)) is not None]
                self.found.tensors["fc.bias"] = found[0].reshape(-1)
            elif op.kind in ("GlobalMaxPool", "ReduceMax"):
                self.found.facts["global_pool"] = "max"
            elif op.kind not in ("Relu", "GlobalAveragePool", "ReduceMean", "AveragePool"):
                raise UnknownGraphError(f"a head with {op.kind}")
        if pre_activation and "norm.weight" not in self.found.tensors:
            raise UnknownGraphError("a pre-activation network without a norm at its end")

    # Tensors

    def kernel(self, op: Op) -> np.ndarray[Any, Any]:
        kernel = self.graph.constant(op, 1)
        if kernel is None or kernel.ndim != 4:
            raise UnknownGraphError("a convolution without a constant kernel")
        return kernel

    def _layer(self, op: Op, conv: str, norm: str) -> None:
        """Read the tensors of a convolution or norm under our path; other operations have none."""
        if op.kind == "Conv":
            self._conv(conv, op)
        elif op.kind == "BatchNormalization":
            self._norm(norm, op)

    def _conv(self, path: str, op: Op) -> None:
        self.found.tensors[f"{path}.weight"] = self.kernel(op)
        if (bias := self.graph.constant(op, 2)) is not None:
            self.found.tensors[f"{path}.bias"] = bias

    def _norm(self, path: str, op: Op) -> None:
        for name, index in BATCH_NORM.items():
            array = self.graph.constant(op, index)
            if array is None:
                raise UnknownGraphError("a norm without constants")
            self.found.tensors[f"{path}.{name}"] = array
        epsilon = float(np.float32(op.attributes.get("epsilon", 1e-5)))
        self.epsilons.add(float(f"{epsilon:.6g}"))  # 1e-5 again, from its nearest float32

    def _fact(self, name: str, value: Any) -> None:
        if self.found.facts.setdefault(name, value) != value:
            raise UnknownGraphError(f"{name} is {self.found.facts[name]} here and {value} there")

    def _unfold(self) -> None:
        """Add an identity norm for each folded one, which adds the convolution's bias and changes nothing else.

        (x - 0) / sqrt((1 - eps) + eps) * 1 + bias is x + bias to float rounding.
        """
        tensors, eps = self.found.tensors, self.found.facts["norm_eps"]
        pre_activation = "norm.weight" in tensors
        biased = [path for path in _paths(tensors) if tensors[f"{path}.weight"].ndim == 4 and f"{path}.bias" in tensors]
        for path in biased:
            norm = _norm_after(path, pre_activation, tensors)
            if norm is None or f"{norm}.weight" in tensors:
                continue
            bias = tensors.pop(f"{path}.bias")
            one = np.ones_like(bias)
            tensors |= {f"{norm}.weight": one, f"{norm}.bias": bias}
            tensors |= {f"{norm}.running_mean": 0 * one, f"{norm}.running_var": (one - np.float32(eps))}
            self.found.folded += 1


def _paths(tensors: dict[str, Any]) -> list[str]:
    return [name.removesuffix(".weight") for name in tensors if name.endswith(".weight")]


def _norm_after(path: str, pre_activation: bool, tensors: dict[str, Any]) -> str | None:
    """Our path of the norm behind a convolution; `None` if none follows."""
    head, _, last = path.rpartition(".")
    if ".downsample" in path:
        return None if pre_activation else f"{head}.{int(last) + 1}"
    if pre_activation:
        following = int(last[-1]) + 1 if head else 0
        return f"{head}.bn{following}" if f"{head}.conv{following}.weight" in tensors and head else None
    return f"{head}.bn{last[-1]}".removeprefix(".")


def _pair(op: Op, name: str, default: int) -> int:
    values = list(op.attributes.get(name, [default]))
    if len(set(values)) > 1:
        raise UnknownGraphError(f"{name} of {values}")
    return int(values[0])


def _pads(op: Op) -> list[int]:
    return [int(value) for value in op.attributes.get("pads", [0])]


def _same(op: Op) -> bool:
    """Whether padding is TensorFlow's SAME and differs from symmetric padding."""
    if str(op.attributes.get("auto_pad", "NOTSET")) == "SAME_UPPER":
        return _pair(op, "strides", 1) > 1
    return len(set(_pads(op))) > 1


def _pool(op: Op, padded: bool) -> str:
    kernel, stride = _pair(op, "kernel_shape", 1), _pair(op, "strides", 1)
    pads, ceil = set(_pads(op)), op.attributes.get("ceil_mode", 0)
    if (kernel, stride) == (3, 2):
        if padded:
            return "max_zero"
        if _same(op):
            return "max_same"
        if pads == {1} and not ceil:
            return "max"
        if pads == {0}:
            return "max_ceil" if ceil else "max_valid"
    if (kernel, stride, pads) == (2, 2, {0}) and not ceil:
        return "max2"
    raise UnknownGraphError(f"a pool of {kernel}x{kernel}, stride {stride}, padding {sorted(pads)}")
