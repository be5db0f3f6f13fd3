"""TensorBoard event files of a run: scalars by epoch, and the summary of its settings as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnets.errors import require_extra
from resnets.evaluate.report.page import format_value
from resnets.evaluate.results import ResultsRow
from resnets.train.config.resolved_config import ResolvedConfig
from resnets.train.config.summary import describe_recipe, phase_rows, run_summary

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["SCALARS", "TensorBoardLogger", "summary_markdown", "summary_writer"]

SCALARS = {  # column of `results.csv` -> tag
    "train_loss": "loss/train",
    "val_loss": "loss/val",
    "train_top1": "accuracy/train",
    "val_top1": "accuracy/val",
    "val_top5": "accuracy/val top-5",
    "val_map": "re-identification/mAP",
    "val_rank1": "re-identification/rank-1",
    "val_minp": "re-identification/mINP",
    "lr": "learning rate",
    "images_per_second": "images per second",
    "seconds": "seconds per epoch",
    "memory_mib": "memory (MiB)",
}


class TensorBoardLogger:
    """Writes a run's TensorBoard events.

    Args:
        folder: for the event files; `None` writes nothing and does not need TensorBoard.
        config: of the run; its summary is written at the start.
        epoch: number of finished epochs; events of later epochs, from before a resume, are hidden.

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path | None, config: ResolvedConfig, epoch: int = 0) -> None:
        self._writer: SummaryWriter | None = None
        if folder is not None:
            self._writer = summary_writer()(log_dir=str(folder), purge_step=epoch + 1)
            if not epoch:
                self._writer.add_text("settings", summary_markdown(config), 0)
            self._writer.flush()

    def log_epoch(self, row: ResultsRow) -> None:
        """Write and flush the scalars of a row of `results.csv`, without those that are `None`."""
        if self._writer is None:
            return
        step = int(row["epoch"] or 0)
        for column, tag in SCALARS.items():
            value = row.get(column)
            if value is not None:
                self._writer.add_scalar(tag, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()


def summary_markdown(config: ResolvedConfig) -> str:
    """The summary of a run's settings, and its phases, as Markdown tables."""
    options = (
        (heading, name, value) for heading, values in run_summary(config).items() for name, value in values.items()
    )
    parts = [describe_recipe(config), "\n".join(_table(("", "option", "value"), options))]
    if phases := phase_rows(config):
        parts.append("\n".join(_table(tuple(phases[0]), (tuple(row.values()) for row in phases))))
    return "\n\n".join(filter(None, parts))


def _table(header: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    for cells in (header, ["---"] * len(header), *rows):
        yield f"| {' | '.join(format_value(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def summary_writer() -> type[SummaryWriter]:
    """TensorBoard's writer; raises MissingExtraError if TensorBoard is not installed."""
    with require_extra("tensorboard", "track"):
        from torch.utils.tensorboard import SummaryWriter
    return SummaryWriter
