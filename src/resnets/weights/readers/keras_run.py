"""Running the description of a Keras model: its layers by torch's operations, with the weights of the file.

Keras describes a model as layers and the layers that each reads from. Whether a file holds the network that its tensors
look like is known only from there: poolings, strides, paddings and activations have no tensors.

Source: the JSON that Keras 1 to 3 write.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from resnets.weights.readers.keras_layers import (
    LAYERS,
    OPERATIONS,
    TF_OPERATIONS,
    KerasState,
    Layer,
    UnknownLayerError,
    activate,
    affine,
    by_channel,
)

__all__ = ["KerasProgram", "describes_layers"]

MODELS = ("Functional", "Model", "Sequential")
TRAINING_ONLY = (
    *("Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "ActivityRegularization"),
    *("RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast", "RandomBrightness"),
)
ACTIVATED = ("Conv2D", "Convolution2D", "Dense", "Activation")
LOGITS = ("softmax", "sigmoid")  # activations of a head, whose input the networks here output
MAX_CALLS = 10_000  # of layers


class KerasProgram:
    """A Keras model as a function of images.

    Args:
        config: the model's description (`class_name` and `config`).
        tensors: variables by `layer/variable`, in Keras's axis order.

    Raises:
        UnknownLayerError: not one input and one output, or a layer that is none of those below.
    """

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        self.config, self.tensors, self.calls = config, tensors, 0
        self.state = KerasState(tensors=tensors, seen=torch.empty(0))

    @property
    def input_shape(self) -> tuple[int | None, int | None, int]:
        """(H, W, C) of the images; None where the size is free."""
        for kind, settings in _every_layer(self.config):
            shape = settings.get("batch_input_shape", settings.get("batch_shape"))
            if isinstance(shape, list | tuple) and len(shape) == 4 and isinstance(shape[3], int):
                return shape[1], shape[2], shape[3]
            if kind == "InputLayer":
                break
        raise UnknownLayerError("its input is not images of (H, W, C)")

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The logits, vectors or maps for (N, C, H, W) images, and the images behind the preprocessing layers."""
        self.calls, self.state = 0, KerasState(tensors=self.tensors, seen=images)
        with torch.inference_mode():
            return self._model(self.config, images, top=True), self.state.seen

    def _model(self, model: Mapping[str, Any], x: Tensor, *, top: bool = False) -> Tensor:
        config = model.get("config")
        layers = config.get("layers") if isinstance(config, Mapping) else None
        if not isinstance(config, Mapping) or not isinstance(layers, list) or not layers:
            raise UnknownLayerError(f"its {model.get('class_name')} has no layers")
        if model.get("class_name") == "Sequential":
            for number, layer in enumerate(layers):
                x = self._layer(layer, [x], last=top and number == len(layers) - 1)
            return x
        return self._graph(config, layers, x, top=top)

    def _graph(self, config: Mapping[str, Any], layers: list[Any], x: Tensor, *, top: bool) -> Tensor:
        by_name = {_name(layer): layer for layer in layers}
        source, output = _end(config.get("input_layers"), "input"), _end(config.get("output_layers"), "output")
        values: dict[tuple[str, int], Tensor] = {source: x}
        pending = [output]
        while pending:  # depth first, without recursion
            key = pending[-1]
            if key in values:
                pending.pop()
                continue
            if key[0] not in by_name or len(pending) > MAX_CALLS:
                raise UnknownLayerError(f"layer {key[0]!r} is read but not described, or reads itself")
            layer = by_name[key[0]]
            nodes = layer.get("inbound_nodes")
            if not isinstance(nodes, list) or not 0 <= key[1] < len(nodes):
                raise UnknownLayerError(f"layer {key[0]!r} reads from nowhere")
            inputs = list(_sources(nodes[key[1]]))
            if missing := [one for one in inputs if isinstance(one, tuple) and one not in values]:
                pending += missing
                continue
            found = [values[one] if isinstance(one, tuple) else one for one in inputs]
            values[key] = self._layer(layer, found, last=top and key == output)
            pending.pop()
        return values[output]

    def _layer(self, layer: Any, inputs: list[Any], *, last: bool) -> Tensor:
        kind, settings = layer.get("class_name"), layer.get("config")
        if not isinstance(settings, Mapping) or not inputs or not isinstance(inputs[0], Tensor):
            raise UnknownLayerError(f"a {kind} has no settings or no inputs")
        self.calls += 1
        if self.calls > MAX_CALLS:
            raise UnknownLayerError(f"it calls more than {MAX_CALLS:,} layers")
        if kind in MODELS:
            return self._model(layer, inputs[0], top=last)
        if kind == "InputLayer" or kind in TRAINING_ONLY:
            return inputs[0]
        if kind == "TFOpLambda":
            kind = TF_OPERATIONS.get(str(settings.get("function")), kind)
        if kind in OPERATIONS and len(inputs) == 2 and not isinstance(inputs[1], Tensor):
            return affine(self.state, inputs[0], *OPERATIONS[kind](by_channel(inputs[1])))
        if kind not in LAYERS:
            raise UnknownLayerError(f"layer {_name(layer)!r} is a {kind}, which no network here has")
        if settings.get("data_format") == "channels_first":
            raise UnknownLayerError(f"layer {_name(layer)!r} has channels first")
        if kind != "GetItem" and not all(isinstance(one, Tensor) for one in inputs):
            raise UnknownLayerError(f"layer {_name(layer)!r} is a {kind} of constants")
        out = LAYERS[kind](self.state, settings, inputs)
        act = settings.get("activation") if kind in ACTIVATED else "softmax" if kind == "Softmax" else None
        return out if last and act in LOGITS else activate(act, out)


def describes_layers(config: Mapping[str, Any]) -> bool:
    """Whether a description lists layers; that of a class of the author's own does not."""
    inner = config.get("config")
    return config.get("class_name") in MODELS and isinstance(inner, Mapping) and "layers" in inner


def _every_layer(model: Mapping[str, Any]) -> Iterator[tuple[str, Layer]]:
    """Class and settings of each layer, in order, those of nested models in their place."""
    config = model.get("config")
    layers = config.get("layers") if isinstance(config, Mapping) else None
    for layer in layers if isinstance(layers, list) else []:
        if not isinstance(layer, Mapping) or not isinstance(layer.get("config"), Mapping):
            raise UnknownLayerError("a layer has no settings")
        if "layers" in layer["config"]:
            yield from _every_layer(layer)
        else:
            yield str(layer.get("class_name")), layer["config"]


def _name(layer: Any) -> str:
    if not isinstance(layer, Mapping):
        raise UnknownLayerError("a layer is no mapping")
    settings = layer.get("config")
    return str(layer.get("name") or (settings.get("name") if isinstance(settings, Mapping) else ""))


def _end(value: Any, what: str) -> tuple[str, int]:
    """The layer and node of the only input or output: `["name", 0, 0]`, or a list of one of these."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, list) or len(value) < 2 or not isinstance(value[0], str) or not isinstance(value[1], int):
        raise UnknownLayerError(f"it has not one {what}")
    return value[0], value[1]


def _sources(node: Any) -> Iterator[Any]:
    """What a call reads: layers and their nodes, and constants. Keras 3 writes mappings, earlier ones lists."""
    if isinstance(node, Mapping):
        if node.get("class_name") == "__ellipsis__":
            yield ...
            return
        if node.get("class_name") in ("__tensor__", "__numpy__"):
            yield node.get("config", {}).get("value")
            return
        if node.get("class_name") == "__keras_tensor__":
            history = node.get("config", {}).get("keras_history", ())
            yield str(history[0]), int(history[1])
            return
        yield from _sources(node.get("args", []))
        given = {name for name, value in node.get("kwargs", {}).items() if value is not None}
        if given - {"training", "mask"}:
            raise UnknownLayerError(f"a layer is called with {', '.join(sorted(given))[:80]}")
    elif isinstance(node, list | tuple):
        if len(node) >= 3 and isinstance(node[0], str) and isinstance(node[1], int):
            yield node[0], node[1]
            constant = node[3].get("y") if len(node) == 4 and isinstance(node[3], Mapping) else None
            yield from [] if constant is None else [constant]
        else:
            for one in node:
                yield from _sources(one)
    elif node is not None:
        yield node
