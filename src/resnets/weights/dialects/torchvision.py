"""Dialects that name a network `conv1 bn1 layer1.0.conv1 ...`, as torchvision does.

| dialect | shortcut | classifier | 3x3 stem | shortcut without projection |
|---|---|---|---|---|
| torchvision | `downsample` | `fc` | not in torchvision: pass options | not in torchvision: pass options |
| resnets | `downsample` | `fc` | pass options | pass options |
| akamaster | `shortcut` | `linear` | stride 1, no pool | option A, zeros on both sides |
| laodaoguizhong | `shortcut` | `fc` | stride 1, no pool | pass options |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resnets.errors import ConfigError
from resnets.weights.dialects.base import Dialect, has_component, rename_to
from resnets.weights.dialects.key_table import KeyTable
from resnets.weights.dialects.torchvision_networks import NETWORKS as TORCHVISION_NETWORKS

__all__ = ["AKAMASTER", "LAODAOGUIZHONG", "ONNX", "RESNETS", "TORCHVISION", "TRUNK", "V15_DEFAULTS"]

TRUNK = frozenset({"conv1.weight", "bn1.weight", "layer1.0.conv1.weight"})
V15_DEFAULTS = {"stride_in": "3x3", "norm_eps": 1e-5}
OTHER_PARTS = ("shortcut", "linear", "classifier", "last_linear")  # of other codebases with these names
CIFAR_PREPROCESSING = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)}
SHORTCUT_ROW = ("layer{s}.{b}.downsample.{rest}", "layer{s}.{b}.shortcut.{rest}")
SHORTCUT = KeyTable((SHORTCUT_ROW,), keep=True)
SHORTCUT_LINEAR = KeyTable((SHORTCUT_ROW, ("fc", "linear")), keep=True)


def _replace_stride_with_dilation(value: Any) -> dict[str, Any]:
    """torchvision's option: for layer2, layer3 and layer4, whether dilation replaces the stride."""
    choices: dict[tuple[bool, ...], int | None] = {
        (False, False, False): None,
        (False, False, True): 16,
        (False, True, True): 8,
        (True, True, True): 4,
    }
    flags = (False, False, False) if value is None else tuple(value) if isinstance(value, list | tuple) else value
    if flags not in choices:
        raise ConfigError(
            f"replace_stride_with_dilation is three booleans, no True before a False; got {value!r}; "
            "pass, for example, [False, False, True]"
        )
    return {"output_stride": choices[flags]}


def _infer_torchvision(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """torchvision has VGGs, and ResNets without attention or instance norm whose stem is one convolution."""
    if "stem" not in fields:
        return {}
    plain = fields["attention"] == "none" and not fields["ibn"] and fields["conv_bias"] == "none"
    plain = plain and fields.get("norm") != "group" and fields.get("stem_pool") != "conv"
    if not plain or fields["pre_activation"] or fields["stem"] not in ("7x7", "3x3") or fields.get("shortcut") == "D":
        return None
    return {"stem_pool": "max"} if fields["stem"] == "7x7" else {}


TORCHVISION = Dialect(
    name="torchvision",
    description="torchvision, and codebases that keep its names",
    matches=lambda names: (
        (names >= TRUNK and not any(has_component(names, part) for part in OTHER_PARTS))
        or ("features.0.weight" in names and "pre_logits.fc1.weight" not in names)
    ),
    defaults=V15_DEFAULTS,
    infer_defaults=_infer_torchvision,
    variants=r"resnet\d+|resnext\w+d|wide_resnet\w+|vgg\w+",
    options={
        "replace_stride_with_dilation": _replace_stride_with_dilation,
        "width_per_group": rename_to("group_width"),
        "zero_init_residual": rename_to("zero_init_last"),
    },
    networks=TORCHVISION_NETWORKS,
)

RESNETS = Dialect(
    name="resnets",
    description="this library: torchvision's names, and `norm` at the end of a pre-activation network",
    matches=lambda names: (
        names >= {"layer1.0.conv1.weight", "norm.weight"} and "bn1.weight" not in names and "fc.kernel" not in names
    ),
    defaults=V15_DEFAULTS,
    infer_defaults=lambda fields: {"stem_pool": "max"} if fields.get("stem", "3x3") != "3x3" else {},
    variants="",  # names mean what `variants.py` has
    arguments=frozenset({"output_stride", "dilation_rule", "last_stride", "global_pool", "pool_window"}),
)

# The ONNX reader gives a graph's weights our names, and reads config fields off the graph.
ONNX = Dialect(
    name="onnx",
    description="a graph of ONNX or TensorFlow Lite, whose reader names its weights as this library does",
    matches=lambda names: False,  # only the reader assigns it
    defaults={"stride_in": "3x3", "norm_eps": 1e-5, "shortcut": "B", "padding": "symmetric"},
)

AKAMASTER = Dialect(
    name="akamaster",
    description="akamaster/pytorch_resnet_cifar10, and kuangliu/pytorch-cifar's post-activation networks",
    matches=lambda names: names >= TRUNK and has_component(names, "linear") and not has_component(names, "downsample"),
    table=lambda shapes: SHORTCUT_LINEAR,
    defaults={**V15_DEFAULTS, "stem_pool": "none", "shortcut": "A"},
)

LAODAOGUIZHONG = Dialect(
    name="laodaoguizhong",
    description="laodaoguizhong's CIFAR networks, and others with `shortcut` and `fc`",
    matches=lambda names: names >= TRUNK and has_component(names, "shortcut") and not has_component(names, "linear"),
    table=lambda shapes: SHORTCUT,
    defaults={**V15_DEFAULTS, "stem_pool": "none"},
    preprocessing=lambda config: CIFAR_PREPROCESSING,
)
