"""The layers of Keras by torch's operations, on (N, C, H, W) values.

Source: Keras 3's `layers` and `ops` (SAME padding, poolings that do not count it, defaults of settings); `nb_filter`,
`subsample` and `border_mode` are Keras 1's words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["LAYERS", "OPERATIONS", "TF_OPERATIONS", "KerasState", "Layer", "UnknownLayerError", "activate", "affine"]
__all__ += ["by_channel"]

Layer = Mapping[str, Any]
"""The settings of a layer."""


class UnknownLayerError(Exception):
    """A layer, or a setting of one, that the networks here do not have."""


@dataclass(kw_only=True)
class KerasState:
    """What a run of a model knows besides the values.

    Args:
        tensors: variables by `layer/variable`, in Keras's axis order.
        seen: the image behind the preprocessing at the start of the model.
        scale: factor of the preprocessing, by channel; None without any.
        offset: its summand.
        reversed: whether it takes the channels in the other order.
        channels: single channels of the image, by `id`.
    """

    tensors: Mapping[str, Tensor]
    seen: Tensor
    scale: Tensor | None = None
    offset: Tensor | None = None
    reversed: bool = False
    channels: dict[int, int] = field(default_factory=dict)

    def variable(self, settings: Layer, variable: str, default: float | None = None) -> Tensor:
        """A variable of a layer in float32, or `default` where the layer has none."""
        tensor = self.tensors.get(f"{settings.get('name')}/{variable}")
        if tensor is None:
            if default is None:
                raise UnknownLayerError(f"layer {settings.get('name')!r} has no {variable} in the file")
            return torch.tensor(default)
        return tensor.float()


def _conv(state: KerasState, settings: Layer, inputs: list[Tensor]) -> Tensor:
    kernel = state.variable(settings, "kernel").permute(3, 2, 0, 1)
    bias = state.variable(settings, "bias") if settings.get("use_bias", settings.get("bias", True)) else None
    strides = _pair(settings.get("strides", settings.get("subsample", 1)))
    dilation = _pair(settings.get("dilation_rate", 1))
    reach = [dilation[axis] * (kernel.shape[2 + axis] - 1) + 1 for axis in (0, 1)]
    x = _padded(inputs[0], settings, reach, strides, 0.0)
    return F.conv2d(x, kernel, bias, strides, 0, dilation, int(settings.get("groups") or 1))


def _batch_norm(state: KerasState, settings: Layer, inputs: list[Tensor]) -> Tensor:
    axis = settings.get("axis", -1)
    if (axis[0] if isinstance(axis, list) and axis else axis) not in (-1, inputs[0].ndim - 1):
        raise UnknownLayerError(f"layer {settings.get('name')!r} normalises over axis {axis}")
    mean, variance = state.variable(settings, "moving_mean"), state.variable(settings, "moving_variance")
    gamma = state.variable(settings, "gamma", None if settings.get("scale", True) else 1.0).expand_as(mean)
    beta = state.variable(settings, "beta", None if settings.get("center", True) else 0.0).expand_as(mean)
    return F.batch_norm(inputs[0], mean, variance, gamma, beta, eps=float(settings.get("epsilon", 1e-3)))


def _dense(state: KerasState, settings: Layer, inputs: list[Tensor]) -> Tensor:
    bias = state.variable(settings, "bias") if settings.get("use_bias", settings.get("bias", True)) else None
    x = inputs[0].permute(0, 2, 3, 1) if inputs[0].ndim == 4 else inputs[0]
    out = F.linear(x, state.variable(settings, "kernel").T, bias)
    return out.permute(0, 3, 1, 2) if out.ndim == 4 else out


def _max_pool(state: KerasState, settings: Layer, inputs: list[Tensor]) -> Tensor:
    size, strides = _window(settings)
    return F.max_pool2d(_padded(inputs[0], settings, size, strides, -math.inf), size, strides)


def _average_pool(state: KerasState, settings: Layer, inputs: list[Tensor]) -> Tensor:
    size, strides = _window(settings)
    counted = _padded(torch.ones_like(inputs[0][:, :1]), settings, size, strides, 0.0)
    total = F.avg_pool2d(_padded(inputs[0], settings, size, strides, 0.0), size, strides)
    return total / F.avg_pool2d(counted, size, strides)  # cells of the padding do not count


def _zero_padding(state: KerasState, settings: Layer, inputs: list[Tensor]) -> Tensor:
    padding = settings.get("padding", 1)
    top, left = (padding, padding) if isinstance(padding, int) else padding
    (top, bottom), (left, right) = ((one, one) if isinstance(one, int) else one for one in (top, left))
    return F.pad(inputs[0], (left, right, top, bottom))


def _global_pool(reduce: Callable[[Tensor], Tensor]) -> Callable[[KerasState, Layer, list[Tensor]], Tensor]:
    def pool(state: KerasState, settings: Layer, inputs: list[Tensor]) -> Tensor:
        out = reduce(inputs[0])
        return out if settings.get("keepdims") else out.flatten(1)

    return pool


def _flatten(state: KerasState, settings: Layer, inputs: list[Tensor]) -> Tensor:
    return (inputs[0].permute(0, 2, 3, 1) if inputs[0].ndim == 4 else inputs[0]).flatten(1)


def _reshape(state: KerasState, settings: Layer, inputs: list[Tensor]) -> Tensor:
    target = [int(size) for size in settings.get("target_shape", ())]
    channels_last = inputs[0].permute(0, 2, 3, 1) if inputs[0].ndim == 4 else inputs[0]
    out = channels_last.reshape(len(channels_last), *target)
    return out.permute(0, 3, 1, 2) if out.ndim == 4 else out


def _relu(state: KerasState, settings: Layer, inputs: list[Tensor]) -> Tensor:
    top, slope = settings.get("max_value"), _number(settings, "negative_slope", "alpha")
    if settings.get("threshold"):
        raise UnknownLayerError(f"layer {settings.get('name')!r} is a ReLU with a threshold")
    x = F.leaky_relu(inputs[0], slope) if slope else F.relu(inputs[0])
    return x if top is None else x.clamp(max=float(top))


def _leaky_relu(state: KerasState, settings: Layer, inputs: list[Tensor]) -> Tensor:
    return F.leaky_relu(inputs[0], _number(settings, "negative_slope", "alpha", default=0.3))


def _rescaling(state: KerasState, settings: Layer, inputs: list[Tensor]) -> Tensor:
    return affine(state, inputs[0], by_channel(settings.get("scale", 1.0)), by_channel(settings.get("offset", 0.0)))


def _normalization(state: KerasState, settings: Layer, inputs: list[Tensor]) -> Tensor:
    mean, variance = settings.get("mean"), settings.get("variance")
    mean = state.variable(settings, "mean") if mean is None else by_channel(mean)
    deviation = (state.variable(settings, "variance") if variance is None else by_channel(variance)).sqrt()
    deviation = deviation.clamp(min=1e-7)
    if settings.get("invert"):
        return affine(state, inputs[0], deviation, mean)
    return affine(state, inputs[0], 1 / deviation, -mean / deviation)


def _get_item(state: KerasState, settings: Layer, inputs: list[Any]) -> Tensor:
    """A channel of the image, of which `_stack` makes an image in another order."""
    x, *place = inputs
    if x is not state.seen or len(place) != 2 or place[0] is not ... or place[1] not in range(x.shape[1]):
        raise UnknownLayerError(f"layer {settings.get('name')!r} takes a part of a value")
    channel: Tensor = x[:, int(place[1])]
    state.channels[id(channel)] = int(place[1])
    return channel


def _stack(state: KerasState, settings: Layer, inputs: list[Tensor]) -> Tensor:
    order = [state.channels.get(id(one)) for one in inputs]
    if settings.get("axis") not in (-1, 3) or order != [2, 1, 0] or state.scale is not None or state.reversed:
        raise UnknownLayerError(f"layer {settings.get('name')!r} orders channels in another way than BGR")
    state.reversed, state.seen = True, torch.stack(inputs, 1)
    return state.seen


def affine(state: KerasState, x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """The image times `scale` plus `offset`, both by channel or one for all; noted as preprocessing."""
    scale, offset = scale.reshape(-1), offset.reshape(-1)
    if x is not state.seen:
        raise UnknownLayerError("it normalises a value that is not the image")
    before = (state.scale, state.offset) if state.scale is not None and state.offset is not None else None
    if x.shape[1] not in (1, *scale.shape) and scale.numel() != 1:
        raise UnknownLayerError("it normalises by other channels than the image has")
    state.scale, state.offset = (scale * before[0], scale * before[1] + offset) if before else (scale, offset)
    state.seen = x * scale.reshape(1, -1, 1, 1) + offset.reshape(1, -1, 1, 1)
    return state.seen


def _add(state: KerasState, settings: Layer, inputs: list[Tensor]) -> Tensor:
    if settings.get("mode", "sum") != "sum":  # of Keras 1's Merge
        raise UnknownLayerError(f"layer {settings.get('name')!r} merges by {settings['mode']}")
    return sum(inputs[1:], inputs[0])


TF_OPERATIONS = {"math.truediv": "TrueDivide", "math.subtract": "Subtract", "math.multiply": "Multiply"}
TF_OPERATIONS |= {"math.add": "Add", "__operators__.add": "Add"}
# Arithmetic of the image and a constant: the factor and the summand.
OPERATIONS: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "TrueDivide": lambda value: (1 / value, torch.zeros_like(value)),
    "Multiply": lambda value: (value, torch.zeros_like(value)),
    "Subtract": lambda value: (torch.ones_like(value), -value),
    "Add": lambda value: (torch.ones_like(value), value),
}
LAYERS: dict[str, Callable[[KerasState, Layer, list[Tensor]], Tensor]] = {
    "Conv2D": _conv,
    "Convolution2D": _conv,
    "BatchNormalization": _batch_norm,
    "Activation": lambda state, settings, inputs: inputs[0],
    "Softmax": lambda state, settings, inputs: inputs[0],
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "Add": _add,
    "Merge": _add,
    "Multiply": lambda state, settings, inputs: math.prod(inputs[1:], start=inputs[0]),
    "ZeroPadding2D": _zero_padding,
    "MaxPooling2D": _max_pool,
    "AveragePooling2D": _average_pool,
    "GlobalAveragePooling2D": _global_pool(lambda x: x.mean((2, 3), keepdim=True)),
    "GlobalMaxPooling2D": _global_pool(lambda x: x.amax((2, 3), keepdim=True)),
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Dense": _dense,
    "GetItem": _get_item,
    "Stack": _stack,
    "Rescaling": _rescaling,
    "Normalization": _normalization,
}


def activate(name: Any, x: Tensor) -> Tensor:
    """An activation by its name, as the layers of our networks have it."""
    if isinstance(name, Mapping):  # a layer as activation, as Keras 3 writes it
        name = name.get("config") if name.get("class_name") == "function" else name.get("class_name")
    match name:
        case None | "linear":
            return x
        case "relu":
            return F.relu(x)
        case "sigmoid":
            return torch.sigmoid(x)
        case "softmax":
            return torch.softmax(x, 1)
    raise UnknownLayerError(f"it has the activation {str(name)[:40]!r}, which no network here has")


def _padded(x: Tensor, settings: Layer, reach: Any, strides: Any, value: float) -> Tensor:
    """Padding by a layer's rule: VALID none, SAME as TensorFlow, with the odd cell at the end."""
    rule = settings.get("padding", settings.get("border_mode", "valid"))
    if rule == "valid":
        return x
    if rule != "same":
        raise UnknownLayerError(f"layer {settings.get('name')!r} pads by {rule!r}")
    sides: list[int] = []
    for axis in (1, 0):  # F.pad begins with the last axis
        size = x.shape[2 + axis]
        total = max((-(-size // strides[axis]) - 1) * strides[axis] + reach[axis] - size, 0)
        sides += [total // 2, total - total // 2]
    return F.pad(x, sides, value=value)


def _window(settings: Layer) -> tuple[tuple[int, int], tuple[int, int]]:
    size = _pair(settings.get("pool_size", 2))
    return size, _pair(settings.get("strides") or size)


def _pair(value: Any) -> tuple[int, int]:
    one, other = (value, value) if isinstance(value, int) else value
    return int(one), int(other)


def _number(settings: Layer, *names: str, default: float = 0.0) -> float:
    value = next((settings[name] for name in names if settings.get(name) is not None), default)
    while isinstance(value, Mapping):  # an array, as Keras writes it
        value = value.get("config", value).get("value", 0.0)
    return float(value)


def by_channel(value: Any) -> Tensor:
    """A constant of a description: one value or one for each channel."""
    if isinstance(value, Mapping):
        value = value.get("config", value).get("value", 0.0)
    try:
        return torch.tensor(value, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        raise UnknownLayerError(f"it computes with {str(value)[:40]!r}, which is no number") from None
