"""timm: its three families under one name, `resnet.py`, `resnetv2.py` (pre-activation and BiT) and `vgg.py`.

| family | stem | blocks | classifier |
|---|---|---|---|
| resnet | `conv1 bn1`, or `conv1.0 .1 .3 .4 .6` | as torchvision's; `downsample.1 .2` behind ResNet-D's pool | `fc` |
| resnetv2 | `stem.conv`, or `stem.conv1 norm1 ...` | `stages.0.blocks.0.norm1 conv1`, `downsample.conv` | `head.fc` |
| vgg | `features.0` | `features.N` | `pre_logits.fc1 fc2` (convolutions), `head.fc` |

With `features_only=True` timm writes `stem_conv`, `stages_0`, `features_0`, and has no last norm. What its keys do not
show: blur (`aa_layer`), and in `resnetv2` ResNet-D's pool (`avg_down`), which usually goes with a deep stem there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from resnets.arch.networks import NetworkConfig
from resnets.arch.vgg import VGGConfig
from resnets.errors import ConfigError
from resnets.weights.dialects.axes import Shapes
from resnets.weights.dialects.base import Dialect, Option, choice, has_component, numbers, rename_to
from resnets.weights.dialects.key_table import KeyTable
from resnets.weights.dialects.timm_networks import NETWORKS, POOLS, UNSUPPORTED
from resnets.weights.dialects.torchvision import V15_DEFAULTS

__all__ = ["STEM_OPTIONS", "TIMM"]

STEM_OPTIONS = ("stem_type", "stem_width", "stem_chs")  # which of them, and their meaning, depend on the family

FLAT = re.compile(r"^(stem|stages|features)_(?=\w+\.)")
V1 = KeyTable(keep=True)
VGG = KeyTable(
    (("classifier.0", "pre_logits.fc1"), ("classifier.3", "pre_logits.fc2"), ("classifier.6", "head.fc")),
    keep=True,
    kernels={"classifier.0": 7, "classifier.3": 1},
)


def _v2(projection: int) -> KeyTable:
    """resnetv2's table. `projection`: index of the shortcut's convolution, 1 behind ResNet-D's pool, else 0."""
    unit = "stages.{s-1}.blocks.{b}"
    return KeyTable(
        (
            ("conv1", "stem.conv"),
            ("bn1", "stem.norm"),  # of its post-activation networks
            ("conv1.0", "stem.conv1"),
            ("conv1.1", "stem.norm1"),
            ("conv1.3", "stem.conv2"),
            ("conv1.4", "stem.norm2"),
            ("conv1.6", "stem.conv3"),
            ("fc", "head.fc"),
            (f"layer{{s}}.{{b}}.downsample.{projection}", f"{unit}.downsample.conv"),
            (f"layer{{s}}.{{b}}.downsample.{projection + 1}", f"{unit}.downsample.norm"),
            ("layer{s}.{b}.bn{n}", f"{unit}.norm{{n}}"),
            ("layer{s}.{b}.{rest}", f"{unit}.{{rest}}"),
        ),
        keep=True,
        kernels={"fc": 1},
    )


V2, V2_DEEP = _v2(0), _v2(1)


def _matches(names: frozenset[str]) -> bool:
    names = frozenset(map(_unflatten, names))
    first = names & {"conv1.weight", "conv1.0.weight"} and names >= {"bn1.weight", "layer1.0.conv1.weight"}
    others = any(has_component(names, part) for part in ("shortcut", "linear", "IN")) or "classifier.weight" in names
    if first:
        return not others and not any(".se.fc.0." in name for name in names)
    if "stages.0.blocks.0.conv1.weight" in names:
        return bool(names & {"stem.conv.weight", "stem.conv1.weight"})
    return "features.0.weight" in names and "classifier.0.weight" not in names


def _unflatten(name: str) -> str:
    """`stages_0.blocks.0...`, as `features_only` has it, with a dot."""
    return FLAT.sub(r"\1.", name) if name.startswith(("stem_", "stages_", "features_")) else name


def _table(shapes: Shapes) -> KeyTable:
    if "features.0.weight" in shapes:
        return VGG
    if any(name.startswith("stages.0.blocks.") for name in shapes):
        return V2_DEEP if "stem.conv1.weight" in shapes else V2
    if "norm.weight" in shapes:  # our keys of a pre-activation network, whose shortcuts have no norm
        return V2_DEEP if any(".downsample.1." in key for key in shapes) else V2
    return V1


def _infer_defaults(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if "stem" not in fields:
        return {}
    if fields["ibn"] or fields.get("se_form") == "linear" or fields["conv_bias"] != "none":
        return None
    defaults: dict[str, Any] = {"attention_round": 8} if fields["attention"] == "se" else {}
    defaults |= {"norm_groups": 32} if fields.get("norm") == "group" else {}
    if fields["pre_activation"]:
        # resnetv2_*_bit: standardised convolutions, and a pool padded with zeros ("fixed"); the others have deep stems
        bit = fields.get("norm") == "group" and fields["stem"] == "7x7"
        return defaults | ({"standardised": True, "stem_pool": "max_zero"} if bit else {"stem_pool": "max"})
    if fields["stem"] != "3x3" and "stem_pool" not in fields:
        defaults["stem_pool"] = "max"
    return defaults


def _notes(config: NetworkConfig) -> tuple[str, ...]:
    if not isinstance(config, VGGConfig) or not config.num_classes:
        return ()
    return (
        "timm slides a VGG's classifier over maps of more than 7x7 cells (inputs of 256 and more) and averages its "
        "logits; here such maps are averaged to 7x7 first, as in torchvision",
    )


# Options that the tensors determine anyway (depths, the stem, attention) are accepted too, and checked against them.


def _block_args(value: Any) -> dict[str, Any]:
    """timm's arguments of blocks, which replace those of the architecture."""
    if not isinstance(value, Mapping | None) or (value and value.keys() != {"attn_layer"}):
        raise ConfigError(f"block_args may name attn_layer alone; got {value!r}; no other has a counterpart")
    return ATTENTION(value["attn_layer"] if value else None)


ATTENTION = choice(
    "attn_layer",
    {
        None: {"attention": "none"},
        "se": {"attention": "se", "attention_round": 8, "attention_reduction": 16},
        "eca": {"attention": "eca"},
        "cbam": {"attention": "cbam"},
    },
)

HALVES = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
NORM = choice(
    "norm_layer",
    {
        "batchnorm2d": {"norm": "batch"},
        "batchnorm": {"norm": "batch"},
        "groupnorm": {"norm": "group"},
        "frozenbatchnorm2d": {"norm": "frozen_batch"},
    },
)
AVERAGE = {"antialias": True, "antialias_filter": "average", "stem_pool": "avg2"}
ACTIVATIONS = {name: {"act": name} for name in ("relu", "silu", "leaky_relu", "hard_swish", "gelu")}
OUTPUT_STRIDES = {stride: {"output_stride": None if stride == 32 else stride} for stride in (32, None, 4, 8, 16)}

OPTIONS: dict[str, Option] = {
    "layers": numbers("layers", "depths"),
    "output_stride": choice("output_stride", OUTPUT_STRIDES),
    "global_pool": choice("global_pool", POOLS),
    "cardinality": rename_to("groups"),
    "base_width": rename_to("group_width"),
    "replace_stem_pool": choice("replace_stem_pool", {False: {}, True: {"stem_pool": "conv"}}),
    "channels": numbers("channels", "widths"),
    "block_reduce_first": rename_to("reduce_first"),
    "down_kernel_size": rename_to("shortcut_kernel"),
    "avg_down": choice("avg_down", {True: {"shortcut": "D"}, False: {"shortcut": "B"}}),
    "preact": rename_to("pre_activation"),
    "act_layer": choice("act_layer", ACTIVATIONS | {"swish": {"act": "silu"}}),
    "norm_layer": lambda value: NORM(value.replace("_", "").lower() if isinstance(value, str) else value),
    "aa_layer": choice(
        "aa_layer",
        {
            None: {"antialias": False},
            **{name: {"antialias": True} for name in ("blur", "blurpool")},
            **dict.fromkeys(("avg", "avgpool"), AVERAGE),
        },
    ),
    "block_args": _block_args,
    "drop_block_rate": lambda value: {},  # concerns training alone
    "pretrained": choice("pretrained", {False: {}}),
}

# `resnet.py` looks for "deep" and "tiered" in the word alone, and its pool is always padded with minus infinity.
V1_STEMS: dict[Any, dict[str, Any]] = {
    **{word: {"stem": "7x7"} for word in ("", "fixed", "same", "tiered")},
    **{word: {"stem": "deep"} for word in ("deep", "deep_fixed", "deep_same")},
    "deep_tiered": {"stem": "tiered"},
}
V2_STEMS: dict[Any, dict[str, Any]] = {
    "": {"stem": "7x7", "stem_pool": "max"},
    "fixed": {"stem": "7x7", "stem_pool": "max_zero"},
    "same": {"stem": "7x7", "stem_pool": "max_same"},
    "deep": {"stem": "deep", "stem_pool": "max"},
    "deep_fixed": {"stem": "deep", "stem_pool": "max_zero"},
    "deep_same": {"stem": "deep", "stem_pool": "max_same"},
    "tiered": {"stem": "tiered", "stem_pool": "max"},
}


def _family_options(shapes: Shapes) -> dict[str, Option]:
    """Options of the stem, whose words and widths mean something else in each family."""
    second = any(name.startswith("stages.0.blocks.") for name in shapes)
    ends = ("stem.conv.weight", "stem.conv3.weight") if second else ("conv1.6.weight",)
    shape = next((shapes[name] for name in ends if name in shapes), ())
    width = {"stem_width": shape[0]} if shape else {}  # the option is half of it in `resnet.py`, unused for a 7x7
    stem_type = choice("stem_type", V2_STEMS if second else V1_STEMS)
    return {
        "stem_type": lambda value: stem_type(value) | width,
        "stem_chs" if second else "stem_width": lambda value: width,
    }


def _unseen(fields: Mapping[str, Any]) -> frozenset[str]:
    """Other gates, norms without statistics and ResNet-D's pool in `resnetv2` have the same keys."""
    open_fields = {
        "attention": fields.get("attention", "none") != "none",
        "norm": fields.get("norm") == "group",
        "shortcut": bool(fields.get("pre_activation")),
    }
    return frozenset(name for name, is_open in open_fields.items() if is_open)


TIMM = Dialect(
    name="timm",
    description="timm: resnet.py, resnetv2.py and vgg.py",
    matches=_matches,
    table=_table,
    clean=_unflatten,
    defaults=V15_DEFAULTS,
    infer_defaults=_infer_defaults,
    variants=r"(?!se_|keras|resnet_v|.*_ibn|.*_v1|.*cifar|plain).*",
    options=OPTIONS,
    # The mean and deviation that timm states for all of `resnetv2.py`; "inception" in another spelling.
    preprocessing=lambda config: HALVES if getattr(config, "pre_activation", False) else {},
    family_options=_family_options,
    unseen=_unseen,
    notes=_notes,
    networks=NETWORKS,
    unsupported=UNSUPPORTED,
)
