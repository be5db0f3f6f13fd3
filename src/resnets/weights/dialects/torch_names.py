"""The dialects that name a network `conv1 bn1 layer1.0.conv1 ...`, as torchvision does, and where they differ.

| dialect | shortcut | classifier | 3x3 stem | no projection means |
|---|---|---|---|---|
| torchvision | `downsample` | `fc` | not in torchvision: must be said | not in torchvision: must be said |
| resnets | `downsample` | `fc` | must be said | must be said |
| akamaster | `shortcut` | `linear` | stride 1, no pool | option A, zeros on both sides |
| laodaoguizhong | `shortcut` | `fc` | stride 1, no pool | must be said |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resnets.errors import ConfigError
from resnets.weights.dialects.base import Dialect, has_part, renamed

__all__ = ["AKAMASTER", "LAODAOGUIZHONG", "RESNETS", "TORCHVISION", "TRUNK"]

TRUNK = frozenset({"conv1.weight", "bn1.weight", "layer1.0.conv1.weight"})
USUAL = {"stride_in": "3x3", "norm_eps": 1e-5}


def _dilations(value: Any) -> dict[str, Any]:
    """torchvision: for layer2, layer3, layer4, whether dilation takes the place of the stride."""
    choices: dict[tuple[bool, ...], int | None] = {
        (False, False, False): None,
        (False, False, True): 16,
        (False, True, True): 8,
        (True, True, True): 4,
    }
    wanted = (False, False, False) if value is None else tuple(value) if isinstance(value, list | tuple) else value
    if wanted not in choices:
        raise ConfigError(
            f"replace_stride_with_dilation holds three truth values, no true before a false; got {value!r}; "
            "a stage that strides after a dilated one has no output_stride"
        )
    return {"output_stride": choices[wanted]}


def _of_torchvision(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Neither attention nor instance norm, one convolution in the stem; and a VGG."""
    if "stem" not in fields:
        return {}
    plain = fields["attention"] == "none" and not fields["ibn"] and fields["conv_bias"] == "none"
    if not plain or fields["pre_activation"] or fields["stem"] not in ("7x7", "3x3") or fields.get("shortcut") == "D":
        return None
    return {"stem_pool": "max"} if fields["stem"] == "7x7" else {}


TORCHVISION = Dialect(
    name="torchvision",
    whose="torchvision, and what keeps its names",
    recognise=lambda names: (
        (names >= TRUNK and not any(has_part(names, part) for part in ("shortcut", "linear", "classifier")))
        or ("features.0.weight" in names and "pre_logits.fc1.weight" not in names)
    ),
    settled=USUAL,
    by_network=_of_torchvision,
    names=r"resnet\d+|resnext\w+d|wide_resnet\w+|vgg\w+",
    options={
        "replace_stride_with_dilation": _dilations,
        "width_per_group": renamed("group_width"),
        "zero_init_residual": renamed("zero_init_last"),
    },
)

RESNETS = Dialect(
    name="resnets",
    whose="this library: torchvision's names, and `norm` at the end of a pre-activation network",
    recognise=lambda names: (
        names >= {"layer1.0.conv1.weight", "norm.weight"} and "bn1.weight" not in names and "fc.kernel" not in names
    ),
    settled=USUAL,
    by_network=lambda fields: {"stem_pool": "max"} if fields.get("stem", "3x3") != "3x3" else {},
    names="",  # names mean what `variants.py` says
)

AKAMASTER = Dialect(
    name="akamaster",
    whose="akamaster/pytorch_resnet_cifar10, and kuangliu/pytorch-cifar's post-activation networks",
    recognise=lambda names: names >= TRUNK and has_part(names, "linear") and not has_part(names, "downsample"),
    parts={"downsample": "shortcut", "fc": "linear"},
    settled={**USUAL, "stem_pool": "none", "shortcut": "A"},
)

LAODAOGUIZHONG = Dialect(
    name="laodaoguizhong",
    whose="laodaoguizhong's CIFAR networks, and others with `shortcut` and `fc`",
    recognise=lambda names: names >= TRUNK and has_part(names, "shortcut") and not has_part(names, "linear"),
    parts={"downsample": "shortcut"},
    settled={**USUAL, "stem_pool": "none"},
    preprocessing={"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)},  # of CIFAR-10
)
