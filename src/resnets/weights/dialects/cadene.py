"""Cadene's SE-ResNets, SE-ResNeXts and SENet-154: networks converted from Caffe, as Hu et al. published them.

The pool is not padded and rounds up. SE-ResNets stride in the first 1x1 of a block, SE-ResNeXts and SENet-154 in the
3x3; the number of groups tells them apart. timm keeps these networks as `legacy_*` (`senet.py`), and has basic blocks
too, whose residual branch ends in a ReLU before the attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resnets.weights.dialects.axes import Shapes
from resnets.weights.dialects.base import Dialect, choice, numbers, rename_to
from resnets.weights.dialects.key_table import KeyTable
from resnets.weights.dialects.timm_networks import NETWORKS, POOLS
from resnets.weights.dialects.torchvision import TRUNK

__all__ = ["CADENE", "SE_ROWS"]

SE_MODULE = ("layer{s}.{b}.se.{rest}", "layer{s}.{b}.se_module.{rest}")
SE_ROWS = (("conv1", "layer0.conv1"), ("bn1", "layer0.bn1"), SE_MODULE)  # of the backbone of an SE-ResNet
BODY = (SE_MODULE, ("fc", "last_linear"))
LAST_LINEAR = KeyTable((("fc", "last_linear"),), keep=True)
PLAIN = KeyTable((*SE_ROWS, ("fc", "last_linear")), keep=True)
DEEP_STEM = KeyTable(
    (
        ("conv1.0", "layer0.conv1"),
        ("conv1.1", "layer0.bn1"),
        ("conv1.3", "layer0.conv2"),
        ("conv1.4", "layer0.bn2"),
        ("conv1.6", "layer0.conv3"),
        ("bn1", "layer0.bn3"),
        *BODY,
    ),
    keep=True,
)


def _table(shapes: Shapes) -> KeyTable:
    plain = "conv1.weight" in shapes and not any(".se." in name or ".se_module." in name for name in shapes)
    if plain:  # fbresnet152, and torchvision's networks with another name of the classifier
        return LAST_LINEAR
    return DEEP_STEM if {"layer0.conv3.weight", "conv1.6.weight"} & shapes.keys() else PLAIN


def _infer_defaults(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if fields.get("attention") == "none" and fields["stem"] == "7x7" and not fields["pre_activation"]:
        return {"stem_pool": "max", "stride_in": "3x3"}
    if fields.get("attention") != "se" or fields["se_form"] != "conv":
        return None
    if fields["block"] == "basic":  # timm's legacy_seresnet18 and 34
        return {"branch_act": True}
    caffe = (fields["groups"], fields["reduce_first"]) == (1, 1)
    return {"stride_in": "1x1" if caffe else "3x3"}


CADENE = Dialect(
    name="cadene",
    description="Cadene/pretrained-models.pytorch: SE-ResNet, SE-ResNeXt, SENet-154, fbresnet152; timm's senet.py",
    matches=lambda names: (
        (names >= {"layer0.conv1.weight", "layer1.0.se_module.fc1.weight"} and "classifier.weight" not in names)
        or names >= TRUNK | {"last_linear.weight"}
    ),
    table=_table,
    defaults={"norm_eps": 1e-5, "stem_pool": "max_ceil"},
    infer_defaults=_infer_defaults,
    networks={name: config for name, config in NETWORKS.items() if name.startswith("legacy_")},
    options={
        "inplanes": rename_to("stem_width"),
        "dropout_p": lambda value: {"drop_rate": value or 0.0},
        "layers": numbers("layers", "depths"),
        "global_pool": choice("global_pool", POOLS),
    },
)
