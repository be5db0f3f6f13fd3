"""The dialects of re-identification: torchvision's names with `IN` and `se.fc` in the blocks.

| dialect | classifier | stem | keys that tell it |
|---|---|---|---|
| ibnnet | `fc` | as torchvision's | `IN`, or SE with linear layers |
| vocreid | in the file, not in the network: answers the last map | as torchvision's | none: must be said |
| tutorial | none: answers the last map | no ReLU, pool 2x2 without padding | none: must be said |
| torchreid | `classifier` | as torchvision's | `classifier` |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resnets.weights.dialects.base import Dialect, has_part
from resnets.weights.dialects.torch_names import TRUNK, USUAL

__all__ = ["IBNNET", "TORCHREID", "TUTORIAL", "VOCREID"]


def _has_marks(names: frozenset[str]) -> bool:
    """Instance norms, or SE with linear layers."""
    return has_part(names, "IN") or any(".se.fc.0." in name for name in names)


def _fits(fields: Mapping[str, Any]) -> bool:
    """A post-activation network whose blocks differ from torchvision's in SE and instance norm alone."""
    plain = fields.get("stem") == "7x7" and not fields["pre_activation"] and fields["conv_bias"] == "none"
    usual = fields.get("shortcut") != "D" and fields.get("norm") != "group" and fields["reduce_first"] == 1
    return bool(plain and usual and (fields["attention"] == "none" or fields.get("se_form") == "linear"))


def _of_ibnnet(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return {} if _fits(fields) else None


def _of_tutorial(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    one = (fields.get("groups", 1), fields.get("group_width", 64)) == (1, 64)
    return {} if one and _fits(fields) else None


IBNNET = Dialect(
    name="ibnnet",
    whose="XingangPan/IBN-Net",
    recognise=lambda names: names >= TRUNK and _has_marks(names),
    settled={**USUAL, "stem_pool": "max", "stem_act": True},
    by_network=_of_ibnnet,
)

VOCREID = Dialect(
    name="vocreid",
    whose="the AI City 2020 vehicle re-identification backbones, as IBN-Net's without their classifier",
    recognise=lambda names: False,  # its files are IBN-Net's and torchvision's: only its use of them differs
    settled=IBNNET.settled,
    by_network=_of_ibnnet,
    head=False,
)

TUTORIAL = Dialect(
    name="tutorial",
    whose="ResNet-50 of the re-identification tutorials: no ReLU in the stem, 2x2 pool, no classifier",
    recognise=lambda names: (
        names >= TRUNK | {"layer1.0.conv3.weight"}
        and not names & {"fc.weight", "linear.weight", "classifier.weight"}
        and not has_part(names, "shortcut")
    ),
    settled={**USUAL, "stem_pool": "max2", "stem_act": False},
    by_network=_of_tutorial,
    head=False,
)

TORCHREID = Dialect(
    name="torchreid",
    whose="KaiyangZhou/deep-person-reid: torchvision's and IBN-Net's names, `classifier` for `fc`",
    recognise=lambda names: names >= TRUNK | {"classifier.weight"} and "fc.weight" not in names,
    parts={"fc": "classifier"},
    settled=IBNNET.settled,
    by_network=_of_ibnnet,
)
