"""What a run needs to go on: weights, optimiser and place, in one safetensors file that is whole or not there."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from resnets.atomic import replacing
from resnets.errors import TrainingError

__all__ = ["Progress", "load_checkpoint", "save_checkpoint"]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run has come.

    Args:
        epoch: epochs that are done.
        step: optimiser steps that are done.
        best_epoch: the epoch (from 1) of the best model, 0 before there is one.
        best_top1: its share of correct validation pictures; best_loss: its validation loss.
        seconds: time spent training and validating, over all sessions of the run.
    """

    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_top1: float = -1.0
    best_loss: float = float("inf")
    seconds: float = 0.0


def save_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Write everything that `load_checkpoint` needs to `path`, at once.

    Raises:
        TrainingError: no permission, or no room on the disk; `path` is then what it was before.
    """
    tensors = {f"model.{key}": tensor for key, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{key}.{name}"] = value
    metadata = {"resnets": json.dumps({"schema": 1, "progress": asdict(progress)})}
    try:
        with replacing(path) as temporary:
            save_file({key: tensor.cpu().contiguous() for key, tensor in tensors.items()}, temporary, metadata)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TrainingError(
            f"cannot write the checkpoint; {path}: {reason}; make room, then go on with --resume {path.parent.parent}"
        ) from None


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Put back what `save_checkpoint` wrote, into the same network and optimiser.

    Raises:
        TrainingError: no file, a damaged one, or one of another network.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["resnets"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a dict
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise TrainingError(f"resuming needs a whole checkpoint; {path}: {error}; start a new run") from None
    weights = {key.removeprefix("model."): t for key, t in tensors.items() if key.startswith("model.")}
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise TrainingError(f"resuming needs the same network; {path} holds another; start a new run") from None
    parameters = dict(model.named_parameters())
    for key, tensor in tensors.items():
        owner, _, rest = key.partition(".")
        if owner == "optimizer":
            slot, _, name = rest.partition(".")
            parameter = parameters[name]
            # The memory layout of the parameter (channels_last), or the fused step falls back to a slow path.
            optimizer.state[parameter][slot] = torch.empty_like(parameter).copy_(tensor)
    return Progress(**header["progress"])
