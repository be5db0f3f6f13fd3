"""Hugging Face transformers: `resnet.encoder.stages.0.layers.0.layer.0.convolution.weight`.

`ResNetForImageClassification` is torchvision's network; `downsample_in_bottleneck` puts the stride into the first 1x1.
`ResNetModel` and `ResNetBackbone` have no classifier and no `resnet.` before the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resnets.errors import ConfigError
from resnets.weights.dialects.base import Dialect, choice, rename_to
from resnets.weights.dialects.key_table import KeyTable
from resnets.weights.dialects.torchvision import V15_DEFAULTS

__all__ = ["TRANSFORMERS"]

PREFIX = "resnet."
UNIT = "resnet.encoder.stages.{s-1}.layers.{b}"
TABLE = KeyTable(
    (
        ("conv1", "resnet.embedder.embedder.convolution"),
        ("bn1", "resnet.embedder.embedder.normalization"),
        ("layer{s}.{b}.downsample.0", f"{UNIT}.shortcut.convolution"),
        ("layer{s}.{b}.downsample.1", f"{UNIT}.shortcut.normalization"),
        ("layer{s}.{b}.conv{n}", f"{UNIT}.layer.{{n-1}}.convolution"),
        ("layer{s}.{b}.bn{n}", f"{UNIT}.layer.{{n-1}}.normalization"),
        ("fc", "classifier.1"),
    )
)
FIRST = "embedder.embedder.convolution.weight"


def _clean(name: str) -> str:
    return f"{PREFIX}{name}" if name.startswith(("embedder.", "encoder.")) else name


def _infer_defaults(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if fields.get("stem") != "7x7" or fields["pre_activation"] or fields["attention"] != "none":
        return None
    return {"stem_pool": "max"} | ({} if fields["num_classes"] else {"global_pool": "none"})


def _widths(value: Any) -> dict[str, Any]:
    """`hidden_sizes`, which the tensors determine too: they are compared by their shapes."""
    if not isinstance(value, list | tuple) or not all(isinstance(one, int) for one in value):
        raise ConfigError(f"hidden_sizes are whole numbers, one for each stage; got {value!r}")
    return {}


TRANSFORMERS = Dialect(
    name="transformers",
    description="Hugging Face transformers: ResNetForImageClassification, ResNetModel",
    matches=lambda names: FIRST in names or f"{PREFIX}{FIRST}" in names,
    table=lambda shapes: TABLE,
    clean=_clean,
    defaults={**V15_DEFAULTS, "shortcut": "B"},
    infer_defaults=_infer_defaults,
    variants=r"resnet(?:18|34|50|101|152)",
    options={
        "depths": rename_to("depths"),
        "hidden_sizes": _widths,
        "embedding_size": rename_to("stem_width"),
        "num_channels": rename_to("in_chans"),
        "layer_type": choice("layer_type", {"basic": {"block": "basic"}, "bottleneck": {"block": "bottleneck"}}),
        "hidden_act": choice("hidden_act", {"relu": {"act": "relu"}}),  # others apply to the ends of blocks alone
        "downsample_in_first_stage": choice("downsample_in_first_stage", {False: {}}),
        "downsample_in_bottleneck": choice(
            "downsample_in_bottleneck", {False: {"stride_in": "3x3"}, True: {"stride_in": "1x1"}}
        ),
    },
)
