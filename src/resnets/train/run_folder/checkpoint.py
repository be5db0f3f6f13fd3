"""Checkpoints of a run: one safetensors file each, written atomically and protected by a digest.

A checkpoint holds the network, the optimizer state, averaged weights, the position in the epoch with its metrics so
far, and the loss of every step since the previous checkpoint, which `verify` compares with a replay. Order,
augmentation, mixing and learning rate follow from the seed and the position, so that nothing else has to be saved.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from resnets.atomic import atomic_file
from resnets.errors import TrainingError
from resnets.small_files import require_regular_file
from resnets.train.optim.averages import WeightAverage

__all__ = [
    "Checkpoint",
    "RunProgress",
    "checkpoint_tensors",
    "checkpoints",
    "read_checkpoint",
    "write_checkpoint",
]

SCHEMA = 4


@dataclass(frozen=True, kw_only=True)
class RunProgress:
    """Progress of a run.

    Args:
        epoch: number of finished epochs.
        batch: number of finished batches of the current epoch.
        step: number of finished optimizer steps.
        best_epoch: epoch (from 1) of the best model; 0 before there is one.
        best_score: of its validation, greater is better: (top-1, -loss), or (mAP, rank-1) of re-identification.
        loss_sum, correct, seen: metrics of the current epoch, see `EpochMetrics`.
        micro_batches: per batch, see `TrainStep`.
        lr_scale: factor of the learning rate, below 1 after rollbacks.
        rollbacks: how often a loss that was not finite has sent the run back to a checkpoint.
        average_updates: of the averaged weights.
        loss_scale, loss_scale_growth: state of the float16 gradient scaler.
        seconds: spent on training and validation, over all resumed sessions.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_score: tuple[float, float] = (-1.0, -float("inf"))
    loss_sum: float = 0.0
    correct: int = 0
    seen: int = 0
    micro_batches: int = 1
    lr_scale: float = 1.0
    rollbacks: int = 0
    average_updates: int = 0
    loss_scale: float = 65536.0
    loss_scale_growth: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Content of a checkpoint file.

    Args:
        progress: of the run.
        tensors: `model.KEY`, `optimizer.SLOT.PARAMETER`, `average.KEY`, `loss.KEY` of re-identification, and `trace`,
            the losses.
    """

    progress: RunProgress
    tensors: dict[str, Tensor] = field(repr=False)

    def group(self, name: str) -> dict[str, Tensor]:
        """Tensors of `model`, `optimizer`, `average` or `loss`, by the rest of their names."""
        prefix = f"{name}."
        return {key.removeprefix(prefix): one for key, one in self.tensors.items() if key.startswith(prefix)}


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoint files in a folder, oldest first."""
    return sorted(folder.glob("step-*.safetensors"))


def checkpoint_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None = None
) -> dict[str, Tensor]:
    """All tensors that training changes, on the CPU, by their names in a checkpoint."""
    tensors = {f"model.{key}": tensor for key, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{key}.{name}"] = value
    if average is not None:
        tensors |= {f"average.{key}": tensor for key, tensor in average.tensors.items()}
    return {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}


def write_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint file with its digest; after an OSError or SafetensorError, an earlier file is unchanged."""
    header: dict[str, Any] = {"schema": SCHEMA, "progress": asdict(checkpoint.progress)}
    header["digest"] = _digest(header["progress"], checkpoint.tensors)
    with atomic_file(path) as temporary:
        save_file(checkpoint.tensors, temporary, {"resnets": json.dumps(header)})


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint file and check its digest.

    Raises:
        TrainingError: no such file, or a damaged one.
    """
    try:
        require_regular_file(path)
        with safe_open(path, framework="pt") as file:
            header: dict[str, Any] = json.loads((file.metadata() or {})["resnets"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a dict
        if header["schema"] != SCHEMA:
            raise ValueError(f"schema {header['schema']} instead of {SCHEMA}")
        if header["digest"] != _digest(header["progress"], tensors):
            raise ValueError("its digest does not match its content")
        progress = header["progress"] | {"best_score": tuple(map(float, header["progress"]["best_score"]))}
        return Checkpoint(progress=RunProgress(**progress), tensors=tensors)
    except (OSError, KeyError, TypeError, ValueError, RecursionError, MemoryError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__  # MemoryError has no text
        raise TrainingError(f"resuming needs an undamaged checkpoint; {path}: {reason}; start a new run") from None


def _digest(progress: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Hash of the progress and of contiguous CPU tensors."""
    digest = hashlib.blake2b(json.dumps(progress, sort_keys=True).encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
