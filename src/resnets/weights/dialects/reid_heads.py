"""Dialects of re-identification codebases whose files hold a head: an embedding layer, a neck and a classifier.

| dialect | backbone | embedding layer | neck | classifier |
|---|---|---|---|---|
| torchreid | torchvision's names | `fc.0` | `fc.1`, then ReLU | `classifier` |
| strongbaseline | `base.` | none | `bottleneck` | `classifier` |
| fastreid | `backbone.` | `heads.bottleneck.0` | `heads.bottleneck.0` or `.1` | `heads` |
| layumi | `model.` | `classifier.add_block.0` | `classifier.add_block.1` | `classifier.classifier.0` |

The last stride is 1 in strongbaseline, fastreid and torchreid's networks with an embedding layer. The stem of a plain
ResNet has no ReLU in strongbaseline, and its pool rounds up in fastreid.

What no tensor tells is assumed: the last stride, ReLU and pool of the stem, the kind of a pool without weights, and of
fast-reid whether its classifier takes cosine similarities (`cls_layer`, `scale`). All take images of 256x128 pixels,
normalised as ImageNet's; fast-reid does that inside its network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resnets.weights.dialects.axes import Shapes
from resnets.weights.dialects.base import Dialect, choice, rename_to
from resnets.weights.dialects.cadene import CADENE, SE_ROWS
from resnets.weights.dialects.key_table import KeyTable, depths_of
from resnets.weights.dialects.reid import is_resnet_with_ibn_or_se
from resnets.weights.dialects.torchvision import TRUNK, V15_DEFAULTS

__all__ = ["FASTREID", "LAYUMI", "STRONGBASELINE", "TORCHREID"]

DEFAULTS = {**V15_DEFAULTS, "stem_pool": "max", "stem_act": True}
SQUASHED = {"size": (256, 128), "crop_mode": "squash", "crop_pct": 1.0}
TORCHREID_KEYS = (("embedding", "fc.0"), ("neck", "fc.1"), ("fc", "classifier"))
POOLS: dict[Any, dict[str, Any]] = {
    "GlobalAvgPool": {"global_pool": "avg"},
    "FastGlobalAvgPool": {"global_pool": "avg"},
    "GlobalMaxPool": {"global_pool": "max"},
    "AdaptiveAvgMaxPool": {"global_pool": "sumavgmax"},
    "ClipGlobalAvgPool": {"global_pool": "clipavg"},
    "GeneralizedMeanPoolingP": {"global_pool": "gem"},
}
CLASSIFIERS: dict[Any, dict[str, Any]] = {
    "Linear": {"classifier": "linear"},
    **{name: {"classifier": "cosine"} for name in ("ArcSoftmax", "CosSoftmax", "CircleSoftmax")},
}


def _within(trunk: str) -> frozenset[str]:
    return frozenset(f"{trunk}{name}" for name in TRUNK)


def _cadene_rows(shapes: Shapes) -> tuple[tuple[str, str], ...]:
    """Names of the backbone where it is one of Cadene's SE networks."""
    return SE_ROWS if any(".se_module." in name or ".se.fc1." in name for name in shapes) else ()


def _infer_cadene(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Fields of Cadene's SE networks; `None` for others."""
    if fields.get("attention") != "se" or fields.get("se_form") != "conv":
        return None
    return {**CADENE.defaults, **(CADENE.infer_defaults(fields) or {})}


def _infer_torchreid(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    found = _infer_cadene(fields)
    if found is None and not is_resnet_with_ibn_or_se(fields):
        return None
    return {**(found or {}), **({"neck": "bn_relu", "last_stride": 1} if fields.get("embedding_dim") else {})}


TORCHREID = Dialect(
    name="torchreid",
    description="KaiyangZhou/deep-person-reid: ResNets, ResNeXts, IBN and Cadene's SE networks, also with fc512",
    matches=lambda names: (
        "classifier.weight" in names
        and "fc.weight" not in names
        and (names >= TRUNK or names >= {"layer0.conv1.weight", "layer1.0.se_module.fc1.weight"})
    ),
    table=lambda shapes: KeyTable((*TORCHREID_KEYS, *_cadene_rows(shapes)), keep=True),
    defaults=DEFAULTS,
    arguments=frozenset({"last_stride"}),
    infer_defaults=_infer_torchreid,
    preprocessing=lambda config: SQUASHED,
)


def _strongbaseline_table(shapes: Shapes) -> KeyTable:
    rows = [("neck", "bottleneck"), ("fc", "classifier")]
    rows += [(ours, f"base.{theirs}") for ours, theirs in _cadene_rows(shapes)]
    return KeyTable((*rows, ("{rest}", "base.{rest}")))


def _infer_strongbaseline(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if (found := _infer_cadene(fields)) is not None:
        return found
    if not is_resnet_with_ibn_or_se(fields):
        return None
    plain = not fields.get("ibn") and fields["attention"] == "none"
    return {"stem_act": not plain}


STRONGBASELINE = Dialect(
    name="strongbaseline",
    description="michuanhaohao/reid-strong-baseline: ResNet, IBN-Net and Cadene's SE networks with BNNeck",
    matches=lambda names: (
        "classifier.weight" in names and (names >= _within("base.") or "base.layer0.conv1.weight" in names)
    ),
    table=_strongbaseline_table,
    defaults={**DEFAULTS, "last_stride": 1},
    arguments=frozenset({"last_stride"}),
    infer_defaults=_infer_strongbaseline,
    unused=lambda name: name.startswith(("base.fc.", "base.last_linear.")),
    preprocessing=lambda config: SQUASHED,
)


def _fastreid_table(shapes: Shapes) -> KeyTable:
    wide = "embedding.weight" in shapes or len(shapes.get("heads.bottleneck.0.weight", ())) == 4
    head = (
        [("embedding", "heads.bottleneck.0"), ("neck", "heads.bottleneck.1")]
        if wide
        else [("neck", "heads.bottleneck.0")]
    )
    head += _non_local_rows(shapes)
    rows = (*head, ("avgpool", "heads.pool_layer"), ("fc", "heads"), ("{rest}", "backbone.{rest}"))
    return KeyTable(rows, kernels={"embedding": 1})


def _non_local_rows(shapes: Shapes) -> list[tuple[str, str]]:
    """fast-reid numbers the non-local layers of a stage by themselves; they follow its last blocks."""
    depths = depths_of(name.removeprefix("backbone.") for name in shapes)
    rows: list[tuple[str, str]] = []
    for stage, depth in enumerate(depths, start=1):
        named = sum(f"backbone.NL_{stage}.{number}.g.weight" in shapes for number in range(depth))
        count = named or sum(f"layer{stage}.{block}.nl.g.weight" in shapes for block in range(depth))
        rows += [
            (f"layer{stage}.{depth - count + number}.nl.{{rest}}", f"backbone.NL_{stage}.{number}.{{rest}}")
            for number in range(count)
        ]
    return rows


def _infer_fastreid(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if not is_resnet_with_ibn_or_se(fields):
        return None
    return {} if "classifier_bias" in fields else {"classifier_bias": False}


def _fastreid_notes(config: Any) -> tuple[str, ...]:
    if config.num_classes and config.classifier == "linear":
        return (
            "the classifier is read as linear; if it was trained with a margin, pass its kind and scale: cls_layer="
            "CircleSoftmax, scale=64 (embeddings are the same)",
        )
    if config.num_classes and config.classifier_scale == 1:
        return ("cosine similarities are not scaled; pass the scale that it was trained with, such as scale=64",)
    return ()


FASTREID = Dialect(
    name="fastreid",
    description="JDAI-CV/fast-reid: ResNet, ResNeXt, IBN and SE networks with its heads",
    matches=lambda names: names >= _within("backbone.") | {"heads.weight"},
    table=_fastreid_table,
    defaults={**DEFAULTS, "stem_pool": "max_ceil", "last_stride": 1},
    arguments=frozenset({"last_stride"}),
    infer_defaults=_infer_fastreid,
    options={
        "scale": rename_to("classifier_scale"),
        "cls_layer": choice("cls_layer", CLASSIFIERS),
        "pool_layer": choice("pool_layer", POOLS),
    },
    notes=_fastreid_notes,
    preprocessing=lambda config: SQUASHED | {"interpolation": "bicubic"},
)


def _layumi_table(shapes: Shapes) -> KeyTable:
    wide = "embedding.weight" in shapes or len(shapes.get("classifier.add_block.0.weight", ())) == 2
    head = (("embedding", "classifier.add_block.0"), ("neck", "classifier.add_block.1"))
    rows = head if wide else (("neck", "classifier.add_block.0"),)  # linear_num=0
    return KeyTable((*rows, ("fc", "classifier.classifier.0"), ("{rest}", "model.{rest}")))


LAYUMI = Dialect(
    name="layumi",
    description="layumi/Person_reID_baseline_pytorch: ft_net, a ResNet with a linear layer and a batch norm",
    matches=lambda names: names >= _within("model.") | {"classifier.add_block.0.weight"},
    table=_layumi_table,
    defaults=DEFAULTS,
    arguments=frozenset({"last_stride"}),
    infer_defaults=lambda fields: {} if is_resnet_with_ibn_or_se(fields) else None,
    options={"stride": rename_to("last_stride")},
    unused=lambda name: name.startswith("model.fc."),
    preprocessing=lambda config: SQUASHED | {"interpolation": "bicubic"},
)
