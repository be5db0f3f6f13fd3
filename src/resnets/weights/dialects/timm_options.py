"""timm's options, in its own spelling and meaning, as config fields.

Options that the tensors determine anyway (depths, the stem, attention) are accepted too, and checked against them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from resnets.errors import ConfigError
from resnets.weights.dialects.base import Option, rename_to

__all__ = ["OPTIONS"]


def _choice(name: str, choices: Mapping[Any, dict[str, Any]]) -> Option:
    """An option with a fixed set of values; any other is an error that lists them."""

    def translate(value: Any) -> dict[str, Any]:
        try:
            return choices[value]
        except (KeyError, TypeError):
            known = ", ".join(repr(choice) for choice in choices)
            raise ConfigError(f"{name} must be one of {known}; got {value!r}; no other has a counterpart") from None

    return translate


def _block_args(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, inner in dict(value or {}).items():
        if name != "attn_layer":
            raise ConfigError(f"block_args may name attn_layer; got {name!r}; no other has a counterpart")
        found |= ATTENTION(inner)
    return found


def _ignored(value: Any) -> dict[str, Any]:
    """An option that the tensors determine, and nothing else depends on."""
    return {}


def _tuple(field: str, share: int = 1) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {field: tuple(int(item) // share for item in value)}


ATTENTION = _choice(
    "attn_layer",
    {
        None: {"attention": "none"},
        "se": {"attention": "se"},
        "eca": {"attention": "eca"},
        "cbam": {"attention": "cbam"},
    },
)

# Our values are accepted as well: `none` is timm's empty string.
POOLS = {"": {"global_pool": "none"}, **{pool: {"global_pool": pool} for pool in ("none", "avg", "max", "gem")}}
OUTPUT_STRIDES: dict[Any, dict[str, Any]] = {
    32: {"output_stride": None},
    **{stride: {"output_stride": stride} for stride in (None, 4, 8, 16)},
}

OPTIONS: dict[str, Option] = {
    "layers": _tuple("depths"),
    "output_stride": _choice("output_stride", OUTPUT_STRIDES),
    "global_pool": _choice("global_pool", POOLS),
    "cardinality": rename_to("groups"),
    "base_width": rename_to("group_width"),
    "stem_type": _choice(
        "stem_type",
        {
            "": {"stem": "7x7"},
            "deep": {"stem": "deep"},
            "deep_tiered": {"stem": "tiered"},
            "tiered": {"stem": "tiered"},
            "fixed": {"stem": "7x7", "stem_pool": "max_zero"},
            "same": {"stem": "7x7", "stem_pool": "max_same"},
            "deep_fixed": {"stem": "deep", "stem_pool": "max_zero"},
            "deep_same": {"stem": "deep", "stem_pool": "max_same"},
        },
    ),
    "stem_width": _ignored,  # half the channels of a deep stem, unused in a 7x7; the tensors determine it
    "replace_stem_pool": _choice("replace_stem_pool", {False: {}}),
    "block_reduce_first": rename_to("reduce_first"),
    "down_kernel_size": rename_to("shortcut_kernel"),
    "avg_down": _choice("avg_down", {True: {"shortcut": "D"}, False: {"shortcut": "B"}}),
    "preact": rename_to("pre_activation"),
    "act_layer": _choice("act_layer", {"relu": {}}),
    "norm_layer": _choice(
        "norm_layer",
        {
            "batchnorm2d": {"norm": "batch"},
            "batchnorm": {"norm": "batch"},
            "groupnorm": {"norm": "group"},
            "frozenbatchnorm2d": {"norm": "frozen_batch"},
        },
    ),
    "aa_layer": _choice(
        "aa_layer", {None: {"antialias": False}, "blur": {"antialias": True}, "blurpool": {"antialias": True}}
    ),
    "block_args": _block_args,
    "drop_block_rate": _choice("drop_block_rate", {0: {}}),
    "pretrained": _choice("pretrained", {False: {}}),
}
