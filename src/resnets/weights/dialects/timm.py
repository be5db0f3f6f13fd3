"""timm's three families under one name: `resnet.py`, `resnetv2.py` (pre-activation and BiT) and `vgg.py`.

| family | stem | blocks | classifier |
|---|---|---|---|
| resnet | `conv1 bn1`, or `conv1.0 .1 .3 .4 .6` | as torchvision's; `downsample.1 .2` behind ResNet-D's pool | `fc` |
| resnetv2 | `stem.conv`, or `stem.conv1 norm1 ...` | `stages.0.blocks.0.norm1 conv1`, `downsample.conv` | `head.fc` |
| vgg | `features.0` | `features.N` | `pre_logits.fc1 fc2` (convolutions), `head.fc` |

With `features_only=True` timm writes `stem_conv`, `stages_0`, `features_0`, and has no last norm. What its keys do not
show: blur (`aa_layer`), and in `resnetv2` ResNet-D's pool, which goes with a deep stem there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from resnets.arch.networks import NetworkConfig
from resnets.arch.nodes import Chain, Node
from resnets.arch.vgg import VGGConfig
from resnets.weights.dialects.axes import Shapes
from resnets.weights.dialects.base import Dialect, has_part
from resnets.weights.dialects.timm_options import OPTIONS
from resnets.weights.dialects.torch_names import USUAL
from resnets.weights.slots import slots

__all__ = ["TIMM"]

VGG = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
V2 = {
    "conv1": "stem.conv",
    "bn1": "stem.norm",  # of its post-activation networks
    "conv1.0": "stem.conv1",
    "conv1.1": "stem.norm1",
    "conv1.3": "stem.conv2",
    "conv1.4": "stem.norm2",
    "conv1.6": "stem.conv3",
    "norm": "norm",
    "fc": "head.fc",
}


def _recognise(names: frozenset[str]) -> bool:
    names = frozenset(map(_unflattened, names))
    first = names & {"conv1.weight", "conv1.0.weight"} and names >= {"bn1.weight", "layer1.0.conv1.weight"}
    others = any(has_part(names, part) for part in ("shortcut", "linear", "IN")) or "classifier.weight" in names
    if first:
        return not others and not any(".se.fc.0." in name for name in names)
    if "stages.0.blocks.0.conv1.weight" in names:
        return bool(names & {"stem.conv.weight", "stem.conv1.weight"})
    return "features.0.weight" in names and "classifier.0.weight" not in names


def _unflattened(name: str) -> str:
    """`stages_0.blocks.0...`, as `features_only` has it, without the underscore."""
    return re.sub(r"^(stem|stages|features)_(?=\w+\.)", r"\1.", name)


def _renames(shapes: Shapes) -> dict[str, str | None]:
    names = {name: _unflattened(name) for name in shapes}
    plain = set(names.values())
    if any(name.startswith("stages.0.blocks.") for name in plain):
        deep = "stem.conv1.weight" in plain
        return {name: _ours_v2(inner, deep) for name, inner in names.items()}
    if "features.0.weight" in plain:
        ours = {theirs: key for key, theirs in VGG.items()}
        return {name: _swapped(inner, ours) for name, inner in names.items()}
    return dict(names)


def _swapped(name: str, table: Mapping[str, str]) -> str:
    path, _, tensor = name.rpartition(".")
    return f"{table.get(path, path)}.{tensor}"


def _ours_v2(name: str, deep: bool) -> str:
    match = re.fullmatch(r"stages\.(\d{1,4})\.blocks\.(\d+)\.(\w+?)(\d?)(\.(?:conv|norm))?\.(\w+)", name)
    if match is None:
        return _swapped(name, {theirs: key for key, theirs in V2.items()})
    stage, block, kind, number, inner, tensor = match.groups()
    place = f"layer{int(stage) + 1}.{block}"
    if kind == "downsample":
        return f"{place}.downsample.{int(deep) + (inner == '.norm')}.{tensor}"
    return f"{place}.{'bn' if kind == 'norm' else kind}{number}.{tensor}"


def _maps(plan: Node) -> dict[str, str]:
    keys = [slot.name for slot in slots(plan)]
    if keys[0].startswith("features."):
        return {key: _swapped(key, VGG) for key in keys}
    if "norm.weight" in keys:
        return {key: _theirs_v2(key) for key in keys}
    return {key: key for key in keys}


def _theirs_v2(key: str) -> str:
    match = re.fullmatch(r"layer(\d+)\.(\d+)\.(\w+?)(\d?)(\.\d)?\.(\w+)", key)
    if match is None:
        return _swapped(key, V2)
    stage, block, kind, number, inner, tensor = match.groups()
    place = f"stages.{int(stage) - 1}.blocks.{block}"
    if inner is not None:
        return f"{place}.downsample.conv.{tensor}"
    return f"{place}.{'norm' if kind == 'bn' else kind}{number}.{tensor}"


def _kernels(plan: Node) -> dict[str, int]:
    keys = {slot.name for slot in slots(plan)}
    if "features.0.weight" in keys:
        return {"classifier.0.weight": 7, "classifier.3.weight": 1}
    return {"fc.weight": 1} if "norm.weight" in keys else {}


def _of_timm(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if "stem" not in fields:
        return {}
    if fields["ibn"] or fields.get("se_form") == "linear" or fields["conv_bias"] != "none":
        return None
    settled: dict[str, Any] = {"attention_round": 8} if fields["attention"] == "se" else {}
    settled |= {"norm_groups": 32} if fields.get("norm") == "group" else {}
    if fields["pre_activation"]:
        # resnetv2_*_bit: standardised convolutions, and a pool padded with zeros ("fixed"); the others have deep stems
        bit = fields.get("norm") == "group" and fields["stem"] == "7x7"
        return settled | ({"standardised": True, "stem_pool": "max_zero"} if bit else {"stem_pool": "max"})
    if fields["stem"] != "3x3":
        settled["stem_pool"] = "max"
    return settled


def _points(plan: Chain) -> dict[str, str]:
    """resnetv2's stages; all else is named as ours."""
    stages = [node for node in plan.nodes if isinstance(node, Chain) and node.role == "stage"]
    return {f"stages.{number}": stage.name for number, stage in enumerate(stages)}


def _remarks(config: NetworkConfig) -> tuple[str, ...]:
    if not isinstance(config, VGGConfig) or not config.num_classes:
        return ()
    return (
        "timm slides a VGG's classifier over maps of more than 7x7 cells (inputs of 256 and more) and averages its "
        "answers; here such maps are averaged to 7x7 first, as in torchvision",
    )


TIMM = Dialect(
    name="timm",
    whose="timm: resnet.py, resnetv2.py and vgg.py",
    recognise=_recognise,
    renames=_renames,
    maps=_maps,
    kernels=_kernels,
    settled=USUAL,
    by_network=_of_timm,
    names=r"(?!se_|keras|resnet_v|.*_ibn|.*_v1|.*cifar|plain).*",
    options=OPTIONS,
    points=_points,
    remarks=_remarks,
)
