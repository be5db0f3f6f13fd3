"""Config fields from the model description in a Keras file, where tensors do not determine them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resnets.errors import WeightsError

__all__ = ["config_facts", "layer_names"]

Layer = dict[str, Any]


def _layers(config: Any) -> Iterator[tuple[str, str, Layer]]:
    """Class, name and settings of every layer, including those of nested models."""
    inner = config.get("config") if isinstance(config, dict) else None
    layers = inner.get("layers") if isinstance(inner, dict) else None
    for layer in layers if isinstance(layers, list) else []:
        settings = layer.get("config") if isinstance(layer, dict) else None
        if not isinstance(settings, dict):
            continue
        if "layers" in settings:
            yield from _layers(layer)
        else:
            yield str(layer.get("class_name")), str(settings.get("name", layer.get("name"))), settings


def layer_names(config: dict[str, Any]) -> dict[str, str]:
    """Keras 3's name of a layer in its file (class and number) to the layer's own name."""
    names, counts = dict[str, str](), dict[str, int]()
    for kind, name, _ in _layers(config):
        snake = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", kind)).lower()
        number = counts.get(snake, 0)
        names[f"{snake}_{number}" if number else snake] = name
        counts[snake] = number + 1
    return names


def config_facts(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """Fields of `ResNetConfig` that the description determines; none where the file has no description.

    Raises:
        WeightsError: norms of several epsilons, channels first, or an activation that is not ReLU.
    """
    facts: dict[str, Any] = {}
    every = list(_layers(config))
    convs = [layer for kind, _, layer in every if kind == "Conv2D"]
    epsilons = {layer["epsilon"] for kind, _, layer in every if kind == "BatchNormalization" and "epsilon" in layer}
    if len(epsilons) > 1:
        raise WeightsError(
            f"the norms of a network share one epsilon; {path} has {sorted(epsilons)}; save the weights alone"
        )
    if epsilons:
        facts["norm_eps"] = float(epsilons.pop())
    if any(layer.get("data_format") == "channels_first" for layer in convs):
        raise WeightsError(f"Keras kernels are read channels last; {path} has channels_first; save it channels last")
    acts = {str(layer.get("activation")) for kind, _, layer in every if kind in ("Conv2D", "Activation")}
    if others := acts - {"relu", "linear", "softmax", "None"}:
        raise WeightsError(f"activations are ReLU; {path} has {', '.join(sorted(others))}; no network here does")
    wide = [layer for layer in convs if _first(layer.get("kernel_size")) > 1]
    strided = [layer for layer in wide if _first(layer.get("strides")) > 1]
    if any(layer.get("padding") == "same" for layer in strided):
        facts["padding"] = "same"
    for kind, _, layer in every:
        shape = layer.get("batch_input_shape", layer.get("batch_shape"))
        if kind == "InputLayer" and isinstance(shape, list) and len(shape) == 4 and isinstance(shape[1], int):
            facts["img_size"] = shape[1]
    return facts | _head([(kind, layer) for kind, _, layer in every], "img_size" in facts)


def _head(layers: list[tuple[str, Layer]], sized: bool) -> dict[str, Any]:
    """The pooling behind the last block; `keras_verify.py` proves it.

    Args:
        sized: whether the description states the size of its images.
    """
    residual = any(kind in ("Add", "Merge") for kind, _ in layers)
    ends = ("Add", "Merge") if residual else ("Conv2D",)
    last = max((number for number, (kind, _) in enumerate(layers) if kind in ends), default=0)
    for kind, layer in layers[last:]:
        if kind == "GlobalAveragePooling2D":
            return {"global_pool": "avg"}
        if kind == "GlobalMaxPooling2D" and residual:
            return {"global_pool": "max"}
        if kind == "AveragePooling2D" and sized and residual:
            return {"global_pool": "window", "pool_window": _first(layer.get("pool_size"))}
        if kind == "Flatten" and sized and residual:
            return {"global_pool": "window", "pool_window": 1}
    return {}


def _first(value: Any) -> int:
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return value if isinstance(value, int) else 1
