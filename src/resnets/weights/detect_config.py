"""Detection of a network's config from the names and shapes of its tensors, by our keys."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from resnets.arch.attention import squeezed_width
from resnets.errors import WeightsError
from resnets.weights.dialects.axes import Shapes

__all__ = ["DetectedConfig", "detect_config"]

STAGE = re.compile(r"layer([1-9]\d{0,3})\.(\d{1,4})\.")
FEATURE = re.compile(r"features\.(\d{1,4})\.weight")


@dataclass(frozen=True, kw_only=True)
class DetectedConfig:
    """Config fields that tensors determine, and what they leave open.

    Args:
        family: key of `FAMILIES`.
        fields: fields that the tensors determine.
        ambiguous: fields that they leave open, each with the values that fit (empty: any number).
        likely: values that are used unless a dialect has others.
    """

    family: Literal["resnet", "vgg"]
    fields: dict[str, Any]
    ambiguous: dict[str, tuple[Any, ...]]
    likely: dict[str, Any]


def detect_config(shapes: Shapes, where: str) -> DetectedConfig:
    """Read a network's config off its tensors.

    Args:
        shapes: by our keys (torchvision's names), in torch's axis order.
        where: the file, for messages."""
    residual, plain = any(map(STAGE.match, shapes)), any(map(FEATURE.match, shapes))
    if residual and plain:
        raise WeightsError(f"one network is read from a file; {where} has layer1 and features; save one of them alone")
    return _VGGDetector(shapes, where).detect() if plain else _ResNetDetector(shapes, where).detect()


class _Detector:
    def __init__(self, shapes: Shapes, where: str) -> None:
        self.shapes, self.where = shapes, where

    def has(self, path: str, tensor: str = "weight") -> bool:
        return f"{path}.{tensor}" in self.shapes

    def kernel(self, path: str) -> tuple[int, ...]:
        """(out, in / groups, k, k), each at least 1."""
        shape = self.shape(f"{path}.weight", 4)
        if min(shape) < 1 or shape[2] != shape[3]:
            raise self.error(f"a convolution is square and not empty; {path} is {shape}")
        return shape

    def shape(self, name: str, axes: int) -> tuple[int, ...]:
        shape = self.shapes.get(name)
        if shape is None or len(shape) != axes:
            raise self.error(f"{name} must have {axes} axes; got {shape or 'no such tensor'}")
        return shape

    def classes(self, path: str) -> int:
        return self.shape(f"{path}.weight", 2)[0] if self.has(path) else 0

    def error(self, rule: str) -> WeightsError:
        return WeightsError(f"{rule}; in {self.where}; pass variant= (--variant) if the tensors are correct")


class _ResNetDetector(_Detector):
    def detect(self) -> DetectedConfig:
        depths = self.depths()
        last = 3 if self.has("layer1.0.conv3") else 2
        expansion = 4 if last == 3 else 1
        outs = [self.kernel(f"layer{i}.0.conv{last}")[0] for i in range(1, len(depths) + 1)]
        if any(out % expansion for out in outs):
            raise self.error(f"a bottleneck ends four times wider than its stage; got {outs} channels")
        stem = self.stem()
        fields: dict[str, Any] = {
            "block": "bottleneck" if last == 3 else "basic",
            "depths": depths,
            "widths": tuple(out // expansion for out in outs),
            "pre_activation": not self.has("bn1"),
            **stem,
            "num_classes": self.classes("fc"),
            **self.head(),
        }
        fields |= self.middle(fields["widths"][0], last == 3) | self.biases()
        ambiguous: dict[str, tuple[Any, ...]] = {}
        if self.has("maxpool.0"):
            fields["stem_pool"] = "conv"
        elif stem["stem"] == "3x3":
            ambiguous["stem_pool"] = ("none", "max")
        if not self.has("layer1.0.bn2", "running_mean"):
            fields["norm"], ambiguous["norm_groups"] = "group", ()
        fields |= self.attention(depths, outs) | self.instance_norms(depths) | self.non_local(depths)
        if self.has("neck", "running_mean"):
            ambiguous["neck"], likely_neck = ("bn", "bn_relu"), {"neck": "bn"}
        else:
            fields["neck"], likely_neck = "none", {}
        multiples = fields.pop("attention_round", (1,))
        if self.has("avgpool", "p"):
            fields["global_pool"] = "gem"
        elif self.pooled_features() == 2 * outs[-1]:
            fields["global_pool"] = "catavgmax"
        shortcuts, projection = self.shortcut(depths, [stem["stem_width"], *outs], fields["pre_activation"])
        fields |= projection
        likely: dict[str, Any] = likely_neck | {"img_size": 32 if stem["stem"] == "3x3" else 224}
        likely |= {"shortcut": shortcuts[0]} if projection else {}
        if fields["attention"] in ("se", "cbam"):
            ambiguous["attention_round"], likely["attention_round"] = multiples, multiples[0]
        if len(shortcuts) == 1:
            fields["shortcut"] = shortcuts[0]
        else:
            ambiguous["shortcut"] = shortcuts
        return DetectedConfig(family="resnet", fields=fields, ambiguous=ambiguous, likely=likely)

    def head(self) -> dict[str, Any]:
        """Fields of embedding layer and classifier. Without a neck, a missing bias of the classifier is an error."""
        fields: dict[str, Any] = {"embedding_dim": self.classes("embedding") or None}
        if self.has("embedding"):
            fields["embedding_bias"] = self.has("embedding", "bias")
        if not self.has("fc") or self.has("fc", "bias"):  # a classifier of cosine similarities has no bias
            fields |= {"classifier": "linear", "classifier_bias": True}
        elif self.has("embedding") or self.has("neck", "running_mean"):
            fields["classifier_bias"] = False
        return fields

    def non_local(self, depths: tuple[int, ...]) -> dict[str, Any]:
        """Blocks of each stage that have a non-local layer."""
        counts = tuple(
            sum(self.has(f"layer{stage}.{block}.nl.g") for block in range(depth))
            for stage, depth in enumerate(depths, start=1)
        )
        return {"non_local": counts if any(counts) else ()}

    def pooled_features(self) -> int:
        """Features that the first layer of the head takes; 0 without one."""
        for path in ("embedding", "neck", "fc"):
            if self.has(path):
                return self.shapes[f"{path}.weight"][-1]
        return 0

    def depths(self) -> tuple[int, ...]:
        stages: dict[int, set[int]] = {}
        for name in self.shapes:
            if match := STAGE.match(name):
                stages.setdefault(int(match[1]), set()).add(int(match[2]))
        if not stages or max(stages) != len(stages):
            raise self.error(f"stages are numbered from layer1 on; found {sorted(stages) or 'none'}")
        for stage, blocks in sorted(stages.items()):
            if max(blocks) + 1 != len(blocks):
                raise self.error(f"blocks are numbered from 0 on; layer{stage} has {sorted(blocks)}")
        return tuple(len(blocks) for _, blocks in sorted(stages.items()))

    def stem(self) -> dict[str, Any]:
        if self.has("conv1.0"):
            first, second, width = (self.kernel(f"conv1.{i}") for i in (0, 3, 6))
            kind = "deep" if first[0] == second[0] else "tiered"
            return {"stem": kind, "stem_width": width[0], "in_chans": first[1]}
        width, in_chans, kernel, _ = self.kernel("conv1")  # type: ignore[assignment]
        if kernel not in (3, 7):
            raise self.error(f"a stem is 7x7 or 3x3; conv1 is {kernel}x{kernel}")
        return {"stem": f"{kernel}x{kernel}", "stem_width": width, "in_chans": in_chans}

    def middle(self, width: int, bottleneck: bool) -> dict[str, int]:
        """Fields of the first block's middle convolution: `kernel`, `groups`, `group_width`, `reduce_first`."""
        first = self.kernel("layer1.0.conv1")[0]
        inner, each, kernel, _ = self.kernel("layer1.0.conv2")
        if not bottleneck:
            return {"kernel": kernel, "reduce_first": max(inner // first, 1)}
        groups = first // each
        group_width, rest = divmod(inner * 64, max(groups * width, 1))
        if not groups or groups * each != first or rest or not group_width:
            raise self.error(f"a bottleneck of width {width} has no 3x3 of {inner} channels in groups of {each}")
        return {
            "kernel": kernel,
            "groups": groups,
            "group_width": group_width,
            "reduce_first": max(inner // first, 1),
        }

    def biases(self) -> dict[str, str]:
        """Which convolutions have a bias: all, those that no norm follows, or none. Attention's own do not count."""
        if self.has("layer1.0.conv1", "bias"):
            return {"conv_bias": "all"}
        kernels = (name.removesuffix(".weight") for name, shape in self.shapes.items() if len(shape) == 4)
        own = (path for path in kernels if ".se." not in path and ".nl." not in path)
        some = any(self.has(path, "bias") for path in own)
        return {"conv_bias": "unnormed" if some else "none"}

    def attention(self, depths: tuple[int, ...], outs: list[int]) -> dict[str, Any]:
        """Fields of the attention, which is of one kind in all stages."""
        if self.has("layer1.0.se.conv"):
            return {"attention": "eca"}
        kinds = {"se.fc1": ("se", "conv"), "se.fc.0": ("se", "linear"), "se.channel.fc1": ("cbam", "conv")}
        for path, (kind, form) in kinds.items():
            if not self.has(f"layer1.0.{path}"):
                continue
            hidden = [self.shapes.get(f"layer{i}.0.{path}.weight", (0,))[0] for i in range(1, len(depths) + 1)]
            fields: dict[str, Any] = {"attention": kind}
            if kind == "se":
                fields["se_form"] = form
            return fields | self.squeezing(outs, hidden)
        return {"attention": "none"}

    def squeezing(self, outs: list[int], hidden: list[int]) -> dict[str, Any]:
        """A reduction, preferably 16, and every rounding that gives the gate widths of all stages with it."""
        pairs = list(zip(outs, hidden, strict=True))
        for reduction in dict.fromkeys([16, *(out // max(few, 1) or 1 for out, few in pairs), 2, 4, 8, 32, 64]):
            multiples = tuple(
                multiple
                for multiple in (1, 4, 8, 16)
                if all(squeezed_width(out, reduction, multiple) == few for out, few in pairs)
            )
            if multiples:
                return {"attention_reduction": reduction, "attention_round": multiples}
        raise self.error(f"attention squeezes all stages alike; got {hidden} channels for {outs}")

    def instance_norms(self, depths: tuple[int, ...]) -> dict[str, Any]:
        kinds = tuple(
            "a" if self.has(f"layer{stage}.0.bn1.IN") else "b" if self.has(f"layer{stage}.{depth - 1}.IN") else ""
            for stage, depth in enumerate(depths, start=1)
        )
        return {"ibn": kinds if any(kinds) else ()}

    def shortcut(self, depths: tuple[int, ...], outs: list[int], pre_activation: bool) -> tuple[Any, ...]:
        """The shortcut options that have projections in the same blocks, and the fields of a projection.

        Args:
            outs: output channels of the stem and of each stage.
        """
        paths = {
            (stage, block): f"layer{stage + 1}.{block}.downsample"
            for stage, depth in enumerate(depths)
            for block in range(depth)
        }
        average = any(len(self.shapes.get(f"{path}.1.weight", ())) == 4 for path in paths.values())
        at = 1 if average else 0
        projected = {block for block, path in paths.items() if self.has(f"{path}.{at}")}
        firsts = {(stage, 0) for stage in range(len(depths))}
        widening = {(stage, 0) for stage in range(len(depths)) if outs[stage] != outs[stage + 1]}
        changing = {block for block in firsts if block[0]} | widening
        fields: dict[str, Any] = {}
        if projected:
            kernels = [self.kernel(f"{paths[block]}.{at}")[2] for block in projected]
            fields["shortcut_kernel"] = max(kernels)
        if projected and not pre_activation:
            fields["shortcut_norm"] = self.has(f"{paths[min(projected)]}.{at + 1}")
        # Where the first block of every stage changes the shape, the first three options are the same network.
        options = {"B": changing, "subsample": widening, "first": firsts, "C": set(paths)}
        if average:
            options = {"D": changing}
        found = [name for name, blocks in options.items() if blocks == projected]
        if projected and not found:
            raise self.error(
                "projections are in blocks that change the shape (option B) or in all blocks (C); these are not"
            )
        if not projected:
            found += ["A", "A_after"] + ([] if pre_activation else ["none"])
        return tuple(found), fields


class _VGGDetector(_Detector):
    def detect(self) -> DetectedConfig:
        indices = sorted(int(match[1]) for name in self.shapes if (match := FEATURE.fullmatch(name)))
        convs = [index for index in indices if len(self.shapes[f"features.{index}.weight"]) == 4]
        normed = self.has("features.1", "running_mean")
        step = 3 if normed else 2  # conv, (norm,) act; a pool ends a block
        if not convs or convs[0] != 0:
            raise self.error("features begin with a convolution; features.0 is none")
        depths, widths = [1], [self.kernel("features.0")[0]]
        for before, index in pairwise(convs):
            out = self.kernel(f"features.{index}")[0]
            if index == before + step and out == widths[-1]:
                depths[-1] += 1
            elif index == before + step + 1:
                depths.append(1)
                widths.append(out)
            else:
                raise self.error(f"a block's convolutions have one width; features.{index} has {out}")
        fields: dict[str, Any] = {
            "depths": tuple(depths),
            "widths": tuple(widths),
            "norm": "batch" if normed else "none",
            "in_chans": self.kernel("features.0")[1],
            "num_classes": self.classes("classifier.6"),
        }
        if self.has("classifier.0"):
            fields["hidden"] = self.classes("classifier.0")
        else:
            fields |= {"global_pool": "none"}
        return DetectedConfig(family="vgg", fields=fields, ambiguous={}, likely={})
