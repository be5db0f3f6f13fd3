"""keras.applications: `conv2_block1_1_conv/kernel`, `block1_conv1/kernel`; stages count from 2, blocks from 1.

| network | strides | epsilon | biases | first pool |
|---|---|---|---|---|
| ResNet50, 101, 152 | in the first 1x1 | 1.001e-5 | every convolution | padded with zeros |
| ResNet50V2 ... | in the last block of a stage, in the 3x3 | 1.001e-5 | where no norm follows | padded with zeros |
| VGG16, 19 | | | every convolution | |
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from resnets.arch.preprocessing import NORMALISATIONS
from resnets.weights.dialects.axes import Shapes
from resnets.weights.dialects.base import Dialect, choice, layer_of, rename_to
from resnets.weights.dialects.key_table import KeyTable

__all__ = ["KERAS"]

VGG_KERNEL = re.compile(r"block(\d{1,3})_conv\d{1,3}/kernel")
OUR_VGG_KERNEL = re.compile(r"features\.(\d{1,4})\.weight")
HEADS = ("predictions", "probs", "fc1000")  # the first is written

UNIT = "conv{s+1}_block{b+1}"
SHARED = (
    ("conv1", "conv1_conv"),
    *(("fc", head) for head in HEADS),
    ("layer{s}.{b}.downsample.0", UNIT + "_0_conv"),
    ("layer{s}.{b}.downsample.1", UNIT + "_0_bn"),
    ("layer{s}.{b}.conv{n}", UNIT + "_{n}_conv"),
)
V1 = KeyTable((("bn1", "conv1_bn"), *SHARED, ("layer{s}.{b}.bn{n}", UNIT + "_{n}_bn")))
V2 = KeyTable(
    (
        ("norm", "post_bn"),
        *SHARED,
        ("layer{s}.{b}.bn1", UNIT + "_preact_bn"),
        ("layer{s}.{b}.bn{n}", UNIT + "_{n-1}_bn"),
    )
)


def _matches(names: frozenset[str]) -> bool:
    layers = {layer_of(name) for name in names}
    return "conv1_conv" in layers or {"block1_conv1", "block2_conv1"} <= layers


def _table(shapes: Shapes) -> KeyTable:
    if depths := _vgg_depths(shapes):
        return KeyTable(_vgg_rows(depths))
    return V2 if {"norm.weight", "post_bn/gamma"} & shapes.keys() else V1


def _vgg_depths(names: Iterable[str]) -> tuple[int, ...]:
    """Convolutions by block, from Keras's names or from ours; empty where the network is no VGG."""
    counts = Counter(int(match[1]) for name in names if (match := VGG_KERNEL.fullmatch(name)))
    if counts:
        return tuple(counts[block] for block in range(1, max(counts) + 1))
    indices = sorted(int(match[1]) for name in names if (match := OUR_VGG_KERNEL.fullmatch(name)))
    starts = [0, *(at for at, (one, other) in enumerate(pairwise(indices), start=1) if other - one > 2)]  # over a pool
    return tuple(end - start for start, end in pairwise([*starts, len(indices)])) if indices else ()


def _vgg_rows(depths: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    index = 0
    for block, depth in enumerate(depths, start=1):
        for number in range(1, depth + 1):
            yield f"features.{index}", f"block{block}_conv{number}"
            index += 2  # the convolution and its activation
        index += 1  # the pool
    yield from (("classifier.0", "fc1"), ("classifier.3", "fc2"), *(("classifier.6", head) for head in HEADS))


def _infer_defaults(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if "block" not in fields:
        return {}
    if fields["block"] != "bottleneck" or fields["stem"] != "7x7":
        return None
    defaults: dict[str, Any] = {"norm_eps": 1.001e-5, "stem_pool": "max_zero", "padding": "symmetric"}
    defaults |= {} if fields["num_classes"] else {"global_pool": "none"}  # include_top=False
    if fields["pre_activation"]:
        return defaults | {"stride_in": "3x3", "stride_unit": "last", "shortcut": "subsample"}
    return defaults | {"stride_in": "1x1", "shortcut": "B"}


KERAS = Dialect(
    name="keras",
    description="keras.applications",
    matches=_matches,
    layout="tensorflow",
    table=_table,
    infer_defaults=_infer_defaults,
    variants=r"keras_.*",
    arguments=frozenset({"global_pool"}),
    options={
        "include_top": choice("include_top", {True: {}, False: {"num_classes": 0}}),
        "pooling": choice("pooling", {pool: {"global_pool": pool or "none"} for pool in ("avg", "max", None)}),
        "classes": rename_to("num_classes"),
    },
    preprocessing=lambda config: NORMALISATIONS["inception" if getattr(config, "pre_activation", False) else "caffe"],
)
