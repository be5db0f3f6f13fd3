"""The description of a network from the names and shapes of its tensors; what they cannot tell stays open."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resnets.errors import WeightsError

__all__ = ["Detected", "detect"]

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Detected:
    """What tensors say of their network.

    Args:
        fields: of `ResNetConfig`, as the tensors settle them.
        open: fields that they do not settle, each with the values that fit (none listed: any number).
    """

    fields: dict[str, Any]
    open: dict[str, tuple[Any, ...]]


def detect(shapes: Shapes, where: str) -> Detected:
    """Read a network off its tensors.

    Args:
        shapes: by our names (torchvision's), in torch's axis order.
        where: the file, for messages.

    Raises:
        WeightsError: tensors of no network that the configuration can say.
    """
    return _Reader(shapes, where).read()


class _Reader:
    def __init__(self, shapes: Shapes, where: str) -> None:
        self.shapes, self.where = shapes, where

    def read(self) -> Detected:
        depths = self.depths()
        bottleneck = "layer1.0.conv3.weight" in self.shapes
        pre_activation = "norm.weight" in self.shapes and "bn1.weight" not in self.shapes
        outs = [self.kernel(f"layer{i}.0.conv{3 if bottleneck else 2}")[0] for i in range(1, len(depths) + 1)]
        stem_width, in_chans, kernel, _ = self.kernel("conv1")
        if kernel not in (3, 7):
            raise self.error(f"a stem is 7x7 or 3x3; conv1 is {kernel}x{kernel}")
        fields: dict[str, Any] = {
            "block": "bottleneck" if bottleneck else "basic",
            "depths": depths,
            "widths": tuple(out // (4 if bottleneck else 1) for out in outs),
            "pre_activation": pre_activation,
            "stem": f"{kernel}x{kernel}",
            "stem_width": stem_width,
            "in_chans": in_chans,
            "num_classes": self.shape("fc.weight", 2)[0] if "fc.weight" in self.shapes else 0,
            "img_size": 224 if kernel == 7 else 32,
        }
        if bottleneck:
            fields |= self.cardinality(fields["widths"][0])
        left: dict[str, tuple[Any, ...]] = {"stem_pool": ("none", "max")} if kernel == 3 else {"stem_pool": ("max",)}
        readings = self.shortcut(depths, [stem_width, *outs], pre_activation)
        if len(readings) == 1:
            fields["shortcut"] = readings[0]
        else:
            left["shortcut"] = readings
        if "layer1.0.bn1.running_mean" not in self.shapes:
            fields["norm"] = "group"
            left["norm_groups"] = ()
        return Detected(fields=fields, open=left)

    def depths(self) -> tuple[int, ...]:
        stages: dict[int, set[int]] = {}
        for name in self.shapes:
            if match := re.match(r"layer([1-9]\d{0,3})\.(\d{1,4})\.", name):
                stages.setdefault(int(match[1]), set()).add(int(match[2]))
        if not stages or max(stages) != len(stages):
            raise self.error(f"stages are numbered from layer1 on; found {sorted(stages) or 'none'}")
        for stage, blocks in sorted(stages.items()):
            if max(blocks) + 1 != len(blocks):
                raise self.error(f"blocks are numbered from 0 on; layer{stage} has {sorted(blocks)}")
        return tuple(len(blocks) for _, blocks in sorted(stages.items()))

    def cardinality(self, width: int) -> dict[str, int]:
        """Groups, and the width of one, from the 3x3 of the first block."""
        inner, each, *_ = self.kernel("layer1.0.conv2")
        groups = inner // max(each, 1)
        group_width, rest = divmod(inner * 64, max(groups * width, 1))
        if not groups or groups * each != inner or rest or not group_width:
            raise self.error(f"a bottleneck of width {width} has no 3x3 of {inner} channels in groups of {each}")
        return {"groups": groups, "group_width": group_width}

    def shortcut(self, depths: tuple[int, ...], outs: list[int], pre_activation: bool) -> tuple[str, ...]:
        """The options that have their projections just where these are. `outs`: channels of stem and stages."""
        every = {(stage, block) for stage, depth in enumerate(depths) for block in range(depth)}
        changing = {(stage, 0) for stage in range(len(depths)) if stage or outs[0] != outs[1]}
        projected = {
            (stage, block) for stage, block in every if f"layer{stage + 1}.{block}.downsample.0.weight" in self.shapes
        }
        if projected == changing and changing:
            return ("B",)
        if projected == every:
            return ("C",)
        if projected:
            raise self.error("projections stand where the shape changes (option B) or everywhere (C); these do not")
        return ("A",) if pre_activation else ("A", "none")

    def kernel(self, path: str) -> tuple[int, ...]:
        return self.shape(f"{path}.weight", 4)

    def shape(self, name: str, axes: int) -> tuple[int, ...]:
        shape = self.shapes.get(name)
        if shape is None or len(shape) != axes:
            raise self.error(f"{name} must have {axes} axes; got {'no such tensor' if shape is None else shape}")
        return shape

    def error(self, rule: str) -> WeightsError:
        return WeightsError(f"{rule}; in {self.where}; pass variant= if the tensors are right")
