"""ResNet-50 of the Keras tutorials and of Keras before 2.2: Caffe's names `res2a_branch2a`, `bn2a_branch2a`, `fc6`.

Pad 3 and a valid 7x7, an unpadded 3x3 pool, the stride in the first 1x1, biased convolutions, Keras's epsilon of 1e-3,
then an average over fixed windows that the image size fits: 2x2 at 64 pixels in the tutorials, 7x7 at 224 in the
network of 1000 classes. Other sizes are set with `img_size` and `pool_window`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from resnets.arch.preprocessing import NORMALISATIONS
from resnets.weights.dialects.axes import Shapes
from resnets.weights.dialects.base import Dialect, Option, layer_of
from resnets.weights.dialects.key_table import KeyTable, depths_of

__all__ = ["KERASTUTORIAL"]


def _rows(stage: str, number: str, codec: str) -> Iterator[tuple[str, str]]:
    """Rows of the blocks of a stage, with its number here and in Caffe; blocks are `a b c` or `a b1 b2`."""
    block, label = f"layer{stage}.{{b}}", f"{number}{{b:{codec}}}"
    yield f"{block}.downsample.0", f"res{label}_branch1"
    yield f"{block}.downsample.1", f"bn{label}_branch1"
    yield f"{block}.conv{{n}}", f"res{label}_branch2{{n-1:letter}}"
    yield f"{block}.bn{{n}}", f"bn{label}_branch2{{n-1:letter}}"


def _table(shapes: Shapes) -> KeyTable:
    depths = depths_of(shapes)
    # Caffe counts `a b1 b2` in the middle stages of networks that have a stage of more than six blocks.
    counted = range(2, len(depths)) if max(depths, default=0) > 6 else ()
    head = f"fc{shapes['fc.weight'][0]}" if "fc.weight" in shapes else "fc{k}"
    return KeyTable(
        (
            ("conv1", "conv1"),
            ("bn1", "bn_conv1"),
            ("fc", head),
            *(row for stage in counted for row in _rows(str(stage), str(stage + 1), "caffe")),
            *_rows("{s}", "{s+1}", "letter"),
            *_rows("{s}", "{s+1}", "caffe"),  # also blocks behind the 26th
        )
    )


def _infer_defaults(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if fields.get("pre_activation", True):
        return None
    if not fields["num_classes"]:
        return {"global_pool": "none"}
    published = fields["num_classes"] == 1000
    return {"global_pool": "window", "pool_window": 7 if published else 2, "img_size": 224 if published else 64}


def _square(field: str) -> Option:
    """Option whose value is a number, or a tuple that begins with it twice."""
    return lambda value: {field: value[0] if isinstance(value, list | tuple) and value[:1] == value[1:2] else value}


def _preprocessing(config: Any) -> Mapping[str, Any]:
    """Caffe's for the published network; the tutorials divide by 255."""
    return NORMALISATIONS["caffe" if config.img_size == 224 else "unit"]


KERASTUTORIAL = Dialect(
    name="kerastutorial",
    description="the Keras tutorials' ResNet-50 and Keras's before 2.2, in Caffe's names",
    matches=lambda names: {"res2a_branch2a", "bn2a_branch2a"} <= {layer_of(name) for name in names},
    layout="tensorflow",
    table=_table,
    defaults={
        "norm_eps": 1e-3,
        "stem_pool": "max_valid",
        "stride_in": "1x1",
        "shortcut": "B",
        "padding": "symmetric",
    },
    infer_defaults=_infer_defaults,
    variants="",
    options={"pool_size": _square("pool_window"), "input_shape": _square("img_size")},
    preprocessing=_preprocessing,
)
