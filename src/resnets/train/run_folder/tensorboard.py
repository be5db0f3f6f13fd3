"""What TensorBoard is told of a run, where it is asked for: scalars by epoch, and the recipe as text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnets.errors import MissingExtraError
from resnets.evaluate.results import ResultsRow
from resnets.train.config.resolved_config import ResolvedConfig
from resnets.train.config.summary import about_recipe, phase_rows, recipe_words

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["SCALARS", "TensorBoardLogger", "require_tensorboard"]

SCALARS = {  # column of `results.csv` -> what it is called in TensorBoard
    "train_loss": "loss/train",
    "val_loss": "loss/val",
    "train_top1": "accuracy/train",
    "val_top1": "accuracy/val",
    "val_top5": "accuracy/val top-5",
    "lr": "learning rate",
    "images_per_second": "images a second",
    "seconds": "seconds an epoch",
    "memory_mib": "memory (MiB)",
}


def require_tensorboard() -> None:
    """Raise MissingExtraError unless TensorBoard is there."""
    _writer()


class TensorBoardLogger:
    """Event files for TensorBoard, in a folder of their own.

    Args:
        folder: where they go; `None`: nothing is written, and TensorBoard need not be there.
        config: of the run.
        epoch: epochs that are done; what earlier sessions wrote of later ones is hidden.

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path | None, config: ResolvedConfig, epoch: int = 0) -> None:
        self._writer: SummaryWriter | None = None
        if folder is not None:
            self._writer = _writer()(log_dir=str(folder), purge_step=epoch + 1)
            if not epoch:
                self._writer.add_text("recipe", summary_markdown(config), 0)
            self._writer.flush()

    def log_epoch(self, row: ResultsRow) -> None:
        """An epoch as `results.csv` has it; what was not measured is left out. On the disk when this returns."""
        if self._writer is None:
            return
        step = int(row["epoch"] or 0)
        for column, name in SCALARS.items():
            value = row.get(column)
            if value is not None:
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Nothing more comes."""
        if self._writer is not None:
            self._writer.close()


def summary_markdown(config: ResolvedConfig) -> str:
    """The recipe as Markdown."""
    lines = [about_recipe(config), _table(recipe_words(config))]
    if phases := phase_rows(config):
        head = " | ".join(phases[0])
        rule = "|".join("---" for _ in phases[0])
        rows = (" | ".join(f"{value}" for value in row.values()) for row in phases)
        lines.append("\n".join([f"| {head} |", f"|{rule}|", *(f"| {row} |" for row in rows)]))
    return "\n\n".join(filter(None, lines))


def _table(words: Mapping[str, Any]) -> str:
    rows = [f"| {heading} | {str(text).replace('|', chr(92) + '|')} |" for heading, text in words.items()]
    return "\n".join(["| | |", "|---|---|", *rows])


def _writer() -> type[SummaryWriter]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("tensorboard", "track") from error
    return SummaryWriter
