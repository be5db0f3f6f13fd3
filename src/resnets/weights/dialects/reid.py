"""Dialects of re-identification codebases with torchvision's names, and `IN` and `se.fc` in the blocks.

| dialect | classifier | stem | recognised by |
|---|---|---|---|
| ibnnet | `fc` | as torchvision's | `IN`, or SE with linear layers |
| vocreid | in the file, not in the network: outputs the last map | as torchvision's | nothing: pass `dialect=` |
| tutorial | none: outputs the last map | no ReLU, pool 2x2 without padding | nothing: pass `dialect=` |

`reid_heads.py` has those whose files hold a head for embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resnets.weights.dialects.base import Dialect, has_component
from resnets.weights.dialects.torchvision import TRUNK, V15_DEFAULTS

__all__ = ["IBNNET", "TUTORIAL", "VOCREID", "is_resnet_with_ibn_or_se"]


def _has_ibn_or_linear_se(names: frozenset[str]) -> bool:
    return has_component(names, "IN") or any(".se.fc.0." in name for name in names)


def is_resnet_with_ibn_or_se(fields: Mapping[str, Any]) -> bool:
    """Whether the blocks of a post-activation network differ from torchvision's in SE and instance norm alone."""
    plain = fields.get("stem") == "7x7" and not fields["pre_activation"] and fields["conv_bias"] == "none"
    usual = fields.get("shortcut") != "D" and fields.get("norm") != "group" and fields["reduce_first"] == 1
    return bool(plain and usual and (fields["attention"] == "none" or fields.get("se_form") == "linear"))


def _infer_ibnnet(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return {} if is_resnet_with_ibn_or_se(fields) else None


def _infer_tutorial(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    one = (fields.get("groups", 1), fields.get("group_width", 64)) == (1, 64)
    return {} if one and is_resnet_with_ibn_or_se(fields) else None


IBNNET = Dialect(
    name="ibnnet",
    description="XingangPan/IBN-Net",
    matches=lambda names: (
        names >= TRUNK
        and _has_ibn_or_linear_se(names)
        and not ("classifier.weight" in names and "fc.weight" not in names)
    ),
    defaults={**V15_DEFAULTS, "stem_pool": "max", "stem_act": True},
    infer_defaults=_infer_ibnnet,
)

VOCREID = Dialect(
    name="vocreid",
    description="the AI City 2020 vehicle re-identification backbones, as IBN-Net's without their classifier",
    matches=lambda names: False,  # its files are IBN-Net's and torchvision's; only its use of them differs
    defaults=IBNNET.defaults,
    arguments=frozenset({"last_stride"}),
    infer_defaults=_infer_ibnnet,
    has_classifier=False,
)

TUTORIAL = Dialect(
    name="tutorial",
    description="ResNet-50 of the re-identification tutorials: no ReLU in the stem, 2x2 pool, no classifier",
    matches=lambda names: (
        names >= TRUNK | {"layer1.0.conv3.weight"}
        and not names & {"fc.weight", "linear.weight", "classifier.weight"}
        and not has_component(names, "shortcut")
    ),
    defaults={**V15_DEFAULTS, "stem_pool": "max2", "stem_act": False},
    arguments=frozenset({"last_stride"}),
    infer_defaults=_infer_tutorial,
    has_classifier=False,
)
