"""Proof that a network is the one that a Keras file describes: both run on the same random images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resnets.errors import WeightsError
from resnets.weights.readers.keras_layers import UnknownLayerError
from resnets.weights.readers.keras_run import KerasProgram
from resnets.weights.readers.limits import one_line

__all__ = ["keras_verifier"]

TOLERANCE = 1e-4  # largest difference of an output, relative to the spread of the outputs
FREE_SIZES = ((64, 64), (75, 67))  # where the description fixes no size; odd ones show how windows are padded
MAX_SIDE = 1024
SEED = 20_151_210
REMEDY = "pass what differs (--set, --variant), or save the weights alone (save_weights)"


def keras_verifier(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path
) -> Callable[[nn.Module], dict[str, Any]]:
    """A function that compares a network with the description in a file.

    Args:
        config: the description.
        tensors: the file's variables, by its names.
        path: the file, for messages.

    Returns:
        A function of a network, which returns the fields of `Preprocessing` that layers at the start of the model
        state, and raises WeightsError if the outputs differ.
    """

    def verify(network: nn.Module) -> dict[str, Any]:
        try:
            program = KerasProgram(config, tensors)
            return _compare(program, network, path)
        except UnknownLayerError as error:
            raise WeightsError(f"a Keras model must be one of our networks; in {path} {error}; {REMEDY}") from None
        except WeightsError:
            raise
        except Exception as error:  # contradicting sizes, and JSON of other types
            raise WeightsError(
                f"a Keras model must be one of our networks; the description in {path} cannot be run "
                f"({one_line(error)}); {REMEDY}"
            ) from None

    return verify


def _compare(program: KerasProgram, network: nn.Module, path: Path) -> dict[str, Any]:
    height, width, channels = program.input_shape
    sizes = FREE_SIZES if height is None or width is None else ((height, width),)
    if not all(0 < side <= MAX_SIDE for size in sizes for side in size) or not 0 < channels <= MAX_SIDE:
        raise UnknownLayerError(f"its images are of {height}x{width}x{channels}")
    generator = torch.Generator().manual_seed(SEED)
    for number, (rows, columns) in enumerate(sizes):
        images = torch.rand(2 - number, channels, rows, columns, generator=generator)
        theirs, seen = program(images)
        with torch.inference_mode():
            ours = network(seen)
        if ours.shape != theirs.shape:
            shapes = f"outputs {tuple(theirs.shape)} where the network has {tuple(ours.shape)}"
            raise UnknownLayerError(f"the description {shapes}")
        spread = (theirs - theirs.mean()).abs().max().clamp(min=1e-12)
        error = ((ours - theirs).abs().max() / spread).item()
        if not error <= TOLERANCE:
            raise UnknownLayerError(
                f"the description computes outputs that differ by {error:.2g} of their spread from those of the "
                "network that the tensors are of"
            )
    return _preprocessing(program)


def _preprocessing(program: KerasProgram) -> dict[str, Any]:
    """Value range, mean and deviation that have the effect of the layers at the start on images of 0 to 255."""
    state = program.state
    if state.scale is None or state.offset is None:
        return {"channels": "BGR"} if state.reversed else {}
    scale, offset = state.scale, state.offset
    if (scale == 0).any() or not torch.isfinite(1 / scale).all():
        raise UnknownLayerError("its first layers multiply the image by zero")
    channels = torch.ones(program.input_shape[2])
    mean, deviation = -offset / scale * channels, 1 / scale * channels
    return {
        "channels": "BGR" if state.reversed else "RGB",
        "value_range": (0.0, 255.0),
        "mean": tuple(float(f"{value:.7g}") for value in mean.tolist()),
        "std": tuple(float(f"{value:.7g}") for value in deviation.tolist()),
    }
