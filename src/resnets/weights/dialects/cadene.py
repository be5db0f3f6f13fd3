"""Cadene's SE-ResNets, SE-ResNeXts and SENet-154: Caffe's networks, as Hu et al. published them.

The pool is not padded and rounds up. SE-ResNets stride in the first 1x1 of a block, SE-ResNeXts and SENet-154 in the
3x3: groups tell them apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from resnets.arch.nodes import Node
from resnets.weights.dialects.axes import Shapes
from resnets.weights.dialects.base import Dialect
from resnets.weights.slots import slots

__all__ = ["CADENE"]

DEEP = {"conv1": "conv1.0", "bn1": "conv1.1", "conv2": "conv1.3", "bn2": "conv1.4", "conv3": "conv1.6", "bn3": "bn1"}
PARTS = {"se_module": "se", "last_linear": "fc"}


def _renames(shapes: Shapes) -> dict[str, str | None]:
    deep = DEEP if "layer0.conv3.weight" in shapes else {}
    return {name: _ours(name, deep) for name in shapes}


def _ours(name: str, deep: Mapping[str, str]) -> str:
    if match := re.fullmatch(r"layer0\.(\w+)\.(\w+)", name):
        return f"{deep.get(match[1], match[1])}.{match[2]}"
    return ".".join(PARTS.get(part, part) for part in name.split("."))


def _maps(plan: Node) -> dict[str, str]:
    keys = [slot.name for slot in slots(plan)]
    back = {ours: theirs for theirs, ours in DEEP.items()} if "conv1.0.weight" in keys else {}
    return {key: _theirs(key, back) for key in keys}


def _theirs(key: str, back: Mapping[str, str]) -> str:
    path, _, tensor = key.rpartition(".")
    if path.startswith(("conv1", "bn1")):
        return f"layer0.{back.get(path, path)}.{tensor}"
    theirs = {ours: part for part, ours in PARTS.items()}
    return ".".join(theirs.get(part, part) for part in key.split("."))


def _of_cadene(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if fields.get("attention") != "se" or fields["se_form"] != "conv" or fields["block"] != "bottleneck":
        return None
    caffe = (fields["groups"], fields["reduce_first"]) == (1, 1)
    return {"stride_in": "1x1" if caffe else "3x3"}


CADENE = Dialect(
    name="cadene",
    whose="Cadene/pretrained-models.pytorch: SE-ResNet, SE-ResNeXt, SENet-154 in the Caffe manner",
    recognise=lambda names: names >= {"layer0.conv1.weight", "layer1.0.se_module.fc1.weight"},
    renames=_renames,
    maps=_maps,
    settled={"norm_eps": 1e-5, "stem_pool": "max_ceil"},
    by_network=_of_cadene,
    options={"inplanes": lambda value: {"stem_width": value}, "dropout_p": lambda value: {"drop_rate": value or 0.0}},
)
