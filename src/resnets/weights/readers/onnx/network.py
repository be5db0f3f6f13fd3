"""Which network a graph is: shapes of its tensors by our keys, and the config fields that they leave open.

This is a guess from what the operations look like. `match.py` then compares every attribute with the plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from resnets.weights.readers.onnx.file import UnknownGraphError
from resnets.weights.readers.onnx.graph import Graph, Op
from resnets.weights.readers.onnx.pads import explicit_pads, pair
from resnets.weights.readers.onnx.structure import Block, Structure

__all__ = ["Guess", "Guesser", "geometry"]

NORMS = ("BatchNormalization", "Affine", "GroupNorm", "InstanceNormalization", "SplitNorm")
LAST_NORMS = ("BatchNormalization", "Affine", "GroupNorm")
POOLS = ("MaxPool", "AveragePool", "GlobalPool")


@dataclass(kw_only=True)
class Guess:
    """Shapes by our keys, and config fields that no shape shows."""

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


class Guesser:
    """Reads a guess off a structure with blocks."""

    def __init__(self, graph: Graph, found: Structure) -> None:
        self.graph, self.found, self.result = graph, found, Guess()
        self.epsilons: Counter[float] = Counter()
        self.groups: Counter[int] = Counter()

    def guess(self) -> Guess:
        segments, facts = self.found.segments, self.result.facts
        tail = [op for op in segments[-1] if op.kind != "Pad"]
        pre_activation = bool(tail) and tail[0].kind in LAST_NORMS
        self.acts()
        self.stem(pre_activation)
        self.stages(pre_activation)
        self.head(pre_activation)
        if self.epsilons:
            facts["norm_eps"] = self.epsilons.most_common(1)[0][0]
        else:
            facts["norm_eps"] = 1e-5
        if self.groups:
            facts["norm_groups"] = self.groups.most_common(1)[0][0]
        return self.result

    def every_op(self) -> Iterator[Op]:
        for segment in self.found.segments:
            yield from segment
        for block in self.found.blocks:
            yield from (*block.body, *block.shortcut)

    def acts(self) -> None:
        kinds = Counter(op.attributes["kind"] for op in self.every_op() if op.kind == "Act")
        self.result.facts["act"] = kinds.most_common(1)[0][0] if kinds else "relu"

    # Parts

    def stem(self, pre_activation: bool) -> None:
        ops, facts = self.found.segments[0], self.result.facts
        convs = [op for op in ops if op.kind == "Conv"]
        if len(convs) not in (1, 2, 3, 4):
            where = ops[0].where if ops else self.found.blocks[0].total.where
            raise UnknownGraphError(f"{where} begins a stem of {len(convs)} convolutions; one or three are read")
        pooling = convs.pop() if len(convs) in (2, 4) else None  # in place of a pool, as in ResNet-RS
        for index, conv in enumerate(convs):
            last = index == len(convs) - 1
            path = "conv1" if len(convs) == 1 else f"conv1.{3 * index}"
            norm = "bn1" if last else f"conv1.{3 * index + 1}"
            self.conv(path, conv, None if last and pre_activation else norm, self.after(ops, conv))
        rest = ops[ops.index(convs[-1]) + 1 :]
        if pooling is not None:
            self.conv("maxpool.0", pooling, "maxpool.1", self.after(ops, pooling))
            rest = rest[: rest.index(pooling)]
        pool = next((i for i, op in enumerate(rest) if op.kind in ("MaxPool", "AveragePool", "Blur")), None)
        before = rest if pool is None else rest[:pool]
        if not pre_activation and not any(op.kind == "Act" for op in before):
            facts["stem_act"] = False
        facts["stem_pool"] = "none" if pool is None else self.stem_pool(rest, pool)
        if pooling is not None:
            facts["stem_pool"] = "conv"
        averaged = any(op.kind == "AveragePool" for block in self.found.blocks for op in block.body)
        if averaged or any(op.kind == "Blur" for op in self.every_op()):
            facts["antialias"] = True
        if averaged:
            facts["antialias_filter"] = "average"
        if self.is_same(convs[0], ops):
            facts["padding"] = "same"

    def stem_pool(self, ops: list[Op], index: int) -> str:
        op, pad = ops[index], ops[index - 1] if index and ops[index - 1].kind == "Pad" else None
        if op.kind == "AveragePool" and tuple(op.attributes["kernel_shape"]) == (2, 2):
            return "avg2"
        if op.kind != "MaxPool":
            raise UnknownGraphError(f"{op.where} is in the stem, whose pool is a max pool in our networks")
        kernel, stride = pair(op, "kernel_shape", 1), pair(op, "strides", 1)
        if index + 1 < len(ops) and ops[index + 1].kind in ("Blur", "AveragePool"):
            return "max"
        pads = explicit_pads(self.graph, op, pad)
        ceil, zeros = bool(op.attributes.get("ceil_mode", 0)), pad is not None and self.fill(pad) == 0
        if (kernel, stride) == (2, 2) and not any(pads) and not ceil:
            return "max2"
        if (kernel, stride) != (3, 2):
            raise UnknownGraphError(f"{op.where} is a pool of {kernel}x{kernel}, stride {stride}; 3x3 and 2x2 are read")
        if zeros:
            return "max_zero"
        if str(op.attributes.get("auto_pad", "NOTSET")) == "SAME_UPPER" or len(set(pads)) > 1:
            return "max_same"
        return "max" if set(pads) == {1} else "max_ceil" if ceil else "max_valid"

    def fill(self, pad: Op) -> float:
        value = self.graph.constant(pad, 2)
        return (
            float(value.reshape(-1)[0]) if value is not None and value.size else float(pad.attributes.get("value", 0))
        )

    def stages(self, pre_activation: bool) -> None:
        stage, number, channels = 0, -1, 0
        pooled = any(op.kind == "AveragePool" for block in self.found.blocks for op in block.shortcut)
        if pooled:
            self.result.facts["shortcut"] = "D"
        begins = self.stage_beginnings()
        ends = [next((op.kind for op in reversed(block.body) if op.kind != "Gate"), "") for block in self.found.blocks]
        if not pre_activation and set(ends) == {"Act"}:
            self.result.facts["branch_act"] = True
        for index, block in enumerate(self.found.blocks):
            convs = block.convs
            if len(convs) not in (2, 3):
                raise UnknownGraphError(
                    f"{block.total.where} ends a block of {len(convs)} convolutions in a row; two or three are read"
                )
            out = self.graph.shapes[block.total.out][1]
            stage, number = (stage + 1, 0) if out != channels or index in begins else (stage, number + 1)
            channels = out
            path = f"layer{stage}.{number}"
            before = self.found.segments[index]
            self.body(path, block, before, pre_activation, first=index == 0)
            self.shortcut(path, block.shortcut, 1 if pooled else 0, pre_activation)
            after = self.found.segments[index + 1]
            if after and after[0].kind == "InstanceNormalization":
                self.norm(f"{path}.IN", after[0])
            self.strides(convs, block)

    def stage_beginnings(self) -> set[int]:
        """Blocks that begin a stage although they have the channels of the block before: they project or stride."""
        projecting = {i for i, block in enumerate(self.found.blocks) if any(op.kind == "Conv" for op in block.shortcut)}
        if len(projecting) < len(self.found.blocks):
            return projecting
        return {i for i, block in enumerate(self.found.blocks) if geometry(block.convs)[0] > 1}

    def body(self, path: str, block: Block, before: list[Op], pre_activation: bool, first: bool) -> None:
        convs = block.convs
        leading = list[Op]()
        if pre_activation:  # a block with a projection has its first norm before the fork
            own = before if not first else self.after_pool(before)
            leading = [op for op in own if op.kind in NORMS][-1:]
            if block.body and block.body[0].kind in NORMS:
                leading = [block.body[0]]
        for norm in leading:
            self.norm(f"{path}.bn1", norm)
        for number, conv in enumerate(convs, start=1):
            last = number == len(convs)
            name = f"{path}.bn{number + pre_activation}"
            self.conv(
                f"{path}.conv{number}", conv, None if last and pre_activation else name, self.after(block.body, conv)
            )
        for op in block.body:
            if op.kind == "Gate":
                self.gate(f"{path}.se", op)

    def after_pool(self, ops: list[Op]) -> list[Op]:
        start = max(
            (i for i, op in enumerate(ops) if op.kind in ("Conv", "MaxPool", "AveragePool", "Blur")), default=-1
        )
        return ops[start + 1 :]

    def shortcut(self, path: str, ops: list[Op], index: int, pre_activation: bool) -> None:
        facts = self.result.facts
        convs = [op for op in ops if op.kind == "Conv"]
        for conv in convs:
            norm = None if pre_activation else f"{path}.downsample.{index + 1}"
            self.conv(f"{path}.downsample.{index}", conv, norm, self.after(ops, conv))
        if convs or not ops:
            return
        pads = [op for op in ops if op.kind == "Pad"]
        if pads:
            pads_of = self.graph.constant(pads[0], 1)
            values = pads_of if pads_of is not None else np.asarray(pads[0].attributes.get("pads", [0] * 8))
            facts["shortcut"] = "A" if values.size == 8 and values[1] == values[5] else "A_after"
        else:
            facts["shortcut"] = "subsample"

    def strides(self, convs: list[Op], block: Block) -> None:
        facts = self.result.facts
        steps = [pair(conv, "strides", 1) for conv in convs]
        if len(convs) == 3 and max(steps) > 1:
            facts.setdefault("stride_in", "1x1" if steps[0] > 1 else "3x3")
        filters = [index for index, op in enumerate(block.body) if op.kind in ("Blur", "AveragePool")]
        if len(convs) == 3 and filters:
            blur = filters[0]
            facts.setdefault("stride_in", "1x1" if block.body.index(convs[1]) > blur else "3x3")
        if any(self.is_same(conv, block.body) for conv in convs):
            facts["padding"] = "same"

    def is_same(self, conv: Op, ops: list[Op]) -> bool:
        """Whether a strided convolution is padded by TensorFlow's rule."""
        at = ops.index(conv)
        pad = ops[at - 1] if at and ops[at - 1].kind == "Pad" else None
        if pair(conv, "strides", 1) == 1:
            return False
        automatic = str(conv.attributes.get("auto_pad", "NOTSET")) == "SAME_UPPER"
        return automatic or len(set(explicit_pads(self.graph, conv, pad))) > 1

    def head(self, pre_activation: bool) -> None:
        ops, facts = self.found.segments[-1], self.result.facts
        if pre_activation:
            self.norm("norm", next(op for op in ops if op.kind in LAST_NORMS))
        pool = next((op for op in ops if op.kind in POOLS), None)
        facts["global_pool"] = "none"
        if pool is not None:
            facts["global_pool"] = pool.attributes["kind"] if pool.kind == "GlobalPool" else self.head_pool(pool)
        elif any(op.kind == "Flatten" for op in ops):  # the cells of the last map, as they are
            facts |= {"global_pool": "window", "pool_window": 1} | self.image_size()
        if facts["global_pool"] == "gem":
            self.result.shapes["avgpool.p"] = (1,)
        for op in ops:
            if op.kind == "Linear":
                self.add("fc", weight=op.attributes["weight"].shape, bias=op.attributes["weight"].shape[:1])
            elif op.kind == "Conv" and "fc.weight" not in self.result.shapes:  # a 1x1 convolution of pooled features
                shape = self.kernel(op)[:2]
                self.add("fc", weight=shape, bias=shape[:1])

    def head_pool(self, pool: Op) -> str:
        kernel = tuple(pool.attributes["kernel_shape"])
        size = self.graph.shapes[pool.inputs[0]][2:]
        kind = "max" if pool.kind == "MaxPool" else "avg"
        if kernel == size:
            return kind
        if kind == "avg" and len(set(kernel)) == 1:
            self.result.facts |= {"pool_window": int(kernel[0])} | self.image_size()
            return "window"
        raise UnknownGraphError(f"{pool.where} pools {kernel[0]}x{kernel[1]} of {size[0]}x{size[1]} cells in the head")

    def image_size(self) -> dict[str, int]:
        height, width = self.graph.shapes[self.graph.input][2:]
        return {"img_size": height} if height == width else {}

    # Tensors

    def add(self, path: str, **shapes: tuple[int, ...]) -> None:
        self.result.shapes |= {f"{path}.{name}": tuple(map(int, shape)) for name, shape in shapes.items()}

    def kernel(self, op: Op) -> tuple[int, ...]:
        kernel = self.graph.constant(op, 1)
        if kernel is None:
            raise UnknownGraphError(f"{op.where} has a kernel that depends on the image")
        return tuple(kernel.shape)

    def after(self, ops: list[Op], conv: Op) -> Op | None:
        """The norm directly behind a convolution."""
        at = ops.index(conv) + 1
        return ops[at] if at < len(ops) and ops[at].kind in NORMS else None

    def conv(self, path: str, op: Op, norm_path: str | None, norm: Op | None) -> None:
        """A convolution and the norm after it; a norm that was folded into it has its bias."""
        self.add(path, weight=self.kernel(op))
        channels = (self.kernel(op)[0],)
        has_bias = len(op.inputs) > 2 and bool(op.inputs[2])
        if norm_path is not None and norm is not None:
            self.norm(norm_path, norm)
        if has_bias and (norm_path is None or norm is not None):
            self.add(path, bias=channels)
        if norm_path is not None and norm is None and (has_bias or ".downsample." not in norm_path):
            self.batch_norm(norm_path, channels)

    def batch_norm(self, path: str, channels: tuple[int, ...]) -> None:
        self.add(path, weight=channels, bias=channels, running_mean=channels, running_var=channels)

    def norm(self, path: str, op: Op) -> None:
        channels = (self.graph.shapes[op.out][1],)
        if op.kind == "SplitNorm":
            for name, part in zip(("IN", "BN"), op.attributes["parts"], strict=True):
                self.norm(f"{path}.{name}", part)
        elif op.kind in ("GroupNorm", "InstanceNormalization"):
            self.add(path, weight=channels, bias=channels)
            if op.kind == "GroupNorm":
                self.epsilon(op)
                self.groups[op.attributes["groups"]] += 1
        else:
            self.batch_norm(path, channels)
            if op.kind == "BatchNormalization":
                self.epsilon(op)

    def epsilon(self, op: Op) -> None:
        epsilon = float(np.float32(op.attributes.get("epsilon", 1e-5)))
        self.epsilons[float(f"{epsilon:.6g}")] += 1  # 1e-5 again, from its nearest float32

    def gate(self, path: str, op: Op) -> None:
        layers = [layer for layer in op.attributes["layers"] if layer.kind in ("Conv", "Linear")]
        if op.attributes["kind"] == "spatial":
            conv = layers[0] if layers else op
            self.conv(
                f"{path}.spatial.conv.conv", conv, f"{path}.spatial.conv.bn", self.after(op.attributes["layers"], conv)
            )
            return
        if op.attributes["kind"] == "channel":
            for name, layer in zip(("fc1", "fc2"), layers, strict=False):
                shape = layer.attributes["weight"].shape if layer.kind == "Linear" else self.kernel(layer)[:2]
                self.add(f"{path}.channel.{name}", weight=(*shape, 1, 1))
            return
        if op.attributes["kind"] == "eca":
            self.add(f"{path}.conv", weight=self.kernel(layers[0]))
            return
        if len(layers) != 2:
            raise UnknownGraphError(f"{op.where} is attention of {len(layers)} layers; two are read")
        biased = [self.is_biased(layer) for layer in layers]
        names = ("fc1", "fc2") if any(biased) else ("fc.0", "fc.2")
        for name, layer in zip(names, layers, strict=True):
            shape = layer.attributes["weight"].shape if layer.kind == "Linear" else self.kernel(layer)[:2]
            if any(biased):
                self.add(f"{path}.{name}", weight=(*shape, 1, 1), bias=shape[:1])
            else:
                self.add(f"{path}.{name}", weight=shape)

    def is_biased(self, op: Op) -> bool:
        return op.attributes["bias"] is not None if op.kind == "Linear" else len(op.inputs) > 2 and bool(op.inputs[2])


def geometry(convs: list[Op]) -> tuple[int, list[int]]:
    """Stride of a block, and dilations of its convolutions."""
    strides = [pair(conv, "strides", 1) for conv in convs]
    return int(np.prod(strides)), [pair(conv, "dilations", 1) for conv in convs]
