"""What a run needs to go on from the very step: one safetensors file a state, each whole or not there.

A state holds the network, the optimiser's memory, averaged weights, the place in the epoch with what the epoch has
come to, and the loss of every step since the state before it, which `verify` holds a replay against. Order,
augmentation, mixing and learning rate follow from the seed and the place, and need no state.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from resnets.atomic import replacing
from resnets.errors import TrainingError
from resnets.train.optim.averages import WeightAverage

__all__ = [
    "RunProgress",
    "Checkpoint",
    "load_checkpoint",
    "read_checkpoint",
    "save_checkpoint",
    "checkpoint_tensors",
    "checkpoints",
]

SCHEMA = 2


@dataclass(frozen=True, kw_only=True)
class RunProgress:
    """How far a run has come.

    Args:
        epoch: epochs that are done; batch: batches that are done of the one after them.
        step: optimiser steps that are done.
        best_epoch: the epoch (from 1) of the best model, 0 before there is one.
        best_top1: its share of correct validation images; best_loss: its validation loss.
        loss_sum, correct, seen: of the begun epoch.
        parts: pieces that a batch runs in, see `TrainStep`; lr_scale: of the learning rate.
        rollbacks: times that a loss which was not finite sent the run back.
        averaged: updates of the averaged weights.
        scale, scale_growth: of the loss in float16.
        seconds: time spent training and validating, over all sessions of the run.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_top1: float = -1.0
    best_loss: float = float("inf")
    loss_sum: float = 0.0
    correct: int = 0
    seen: int = 0
    parts: int = 1
    lr_scale: float = 1.0
    rollbacks: int = 0
    averaged: int = 0
    scale: float = 65536.0
    scale_growth: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A state as it lies in its file.

    Args:
        progress: where the run stands.
        tensors: `model.KEY`, `optimizer.SLOT.PARAMETER`, `average.KEY`, and `trace`, the losses.
    """

    progress: RunProgress
    tensors: dict[str, Tensor] = field(repr=False)


def checkpoints(folder: Path) -> list[Path]:
    """The states of a run, oldest first."""
    return sorted(folder.glob("step-*.safetensors"))


def checkpoint_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None = None
) -> dict[str, Tensor]:
    """Everything that moves in training, as a state holds it, on the CPU."""
    tensors = {f"model.{key}": tensor for key, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{key}.{name}"] = value
    if average is not None:
        tensors |= {f"average.{key}": tensor for key, tensor in average.tensors.items()}
    return {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}


def save_checkpoint(
    folder: Path,
    progress: RunProgress,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    average: WeightAverage | None = None,
    trace: Sequence[Tensor] = (),
    keep: int = 2,
) -> Path:
    """Write a state at once, then remove all but the `keep` last, and those of later steps, which are damaged.

    Raises:
        TrainingError: no permission, or no room on the disk; earlier states are untouched then.
    """
    tensors = checkpoint_tensors(model, optimizer, average)
    tensors["trace"] = torch.stack([loss.float().cpu() for loss in trace]) if trace else torch.zeros(0)
    header: dict[str, Any] = {"schema": SCHEMA, "progress": asdict(progress)}
    header["digest"] = _digest(header["progress"], tensors)
    path = folder / f"step-{progress.step:09d}.safetensors"
    try:
        for left in folder.glob(".step-*.tmp"):  # of a save that was killed
            left.unlink(missing_ok=True)
        with replacing(path) as temporary:
            save_file(tensors, temporary, {"resnets": json.dumps(header)})
        found = checkpoints(folder)
        here = found.index(path) + 1
        for old in (*found[: max(here - keep, 0)], *found[here:]):
            old.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TrainingError(
            f"cannot write the run's state; {path}: {reason}; make room, then go on with --resume {folder.parent}"
        ) from None
    return path


def read_checkpoint(path: Path) -> Checkpoint:
    """The state in a file.

    Raises:
        TrainingError: no file, or a damaged one.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header: dict[str, Any] = json.loads((file.metadata() or {})["resnets"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a dict
        if header["schema"] != SCHEMA:
            raise ValueError(f"its schema is {header['schema']}, not {SCHEMA}")
        if "digest" in header and header["digest"] != _digest(header["progress"], tensors):  # older files have none
            raise ValueError("its content is not what was written")
        return Checkpoint(progress=RunProgress(**header["progress"]), tensors=tensors)
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise TrainingError(f"resuming needs a whole state; {path}: {error}; start a new run") from None


def load_checkpoint(
    state: Checkpoint,
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None = None,
) -> None:
    """Put a state back into the network, optimiser and average that it was taken from.

    Raises:
        TrainingError: it is of another network.
    """
    weights = _part(state.tensors, "model.")
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise TrainingError(f"resuming needs the same network; {path} holds another; start a new run") from None
    parameters = dict(model.named_parameters())
    optimizer.state.clear()
    for key, tensor in _part(state.tensors, "optimizer.").items():
        slot, _, name = key.partition(".")
        parameter = parameters[name]
        if tensor.shape == parameter.shape:
            # The memory layout of the parameter (channels_last), or the fused step falls back to a slow path.
            tensor = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
        elif _fused(optimizer):
            tensor = tensor.to(parameter.device)  # a count of steps lies beside the tensor that it counts for
        optimizer.state[parameter][slot] = tensor
    if average is not None:
        average.restore(_part(state.tensors, "average."), state.progress.averaged)


def _digest(progress: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """What tells whether a state, of contiguous tensors on the CPU, still is what was written."""
    digest = hashlib.blake2b(json.dumps(progress, sort_keys=True).encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _fused(optimizer: torch.optim.Optimizer) -> bool:
    return bool(optimizer.defaults.get("fused"))
