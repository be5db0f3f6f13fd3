"""Plots of metrics per epoch, as PNG bytes: loss and accuracy; learning rate, throughput and memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from matplotlib.transforms import ScaledTranslation

from resnets.errors import DataError
from resnets.evaluate.report import theme
from resnets.evaluate.results import ResultsRow

__all__ = ["Span", "plot_curves", "plot_rates"]

HEIGHT = 2.9  # inches
LETTER = 0.067  # inches, average width of a letter of a span's name


@dataclass(frozen=True, kw_only=True)
class Span:
    """Consecutive epochs that train the same layers.

    Args:
        first, last: first and last epoch, counted from 1.
        names: labels from the longest to the shortest; the first that fits is drawn.
        shaded: whether some layers are frozen.
    """

    first: int
    last: int
    names: tuple[str, ...]
    shaded: bool = False


def plot_curves(results: Sequence[ResultsRow], spans: Sequence[Span] = ()) -> bytes:
    """Plot loss and accuracy per epoch, side by side.

    Args:
        results: rows of `results.csv`; missing values are left out.
        spans: if more than one, their boundaries are drawn.

    Raises:
        DataError: no rows.
    """
    figure, (loss, accuracy) = _new_panels(results, ("Loss", "Accuracy"), spans)
    for axes, metric, scale in ((loss, "loss", 1), (accuracy, "top1", 100)):
        identities = " (of identities)" if metric == "top1" and _score(results) == "val_map" else ""
        _draw_line(axes, results, f"train_{metric}", f"train{identities}", theme.SECONDARY, scale)
        _draw_line(axes, results, f"val_{metric}", "val", theme.PRIMARY, scale)
    if _score(results) == "val_map":
        _draw_line(accuracy, results, "val_map", "val mAP", theme.PRIMARY, 100)
    _mark_best(accuracy, results)
    low, high = accuracy.get_ylim()
    accuracy.set_ylim(min(low, (low + high) / 2 - 1), max(high, (low + high) / 2 + 1))  # at least two points
    accuracy.yaxis.set_major_formatter(PercentFormatter(decimals=None))
    for axes in (loss, accuracy):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(
                loc="lower right", bbox_to_anchor=(1.02, 1.06 if len(spans) > 1 else 0.98), ncols=2, frameon=False,
                labelcolor=theme.INK, fontsize=9, handlelength=1.2, columnspacing=1.2,
            )  # fmt: skip
    _mark_spans([loss, accuracy], results, spans)
    return theme.to_png(figure)


def plot_rates(results: Sequence[ResultsRow], spans: Sequence[Span] = ()) -> bytes:
    """Plot learning rate, throughput and, if measured, memory per epoch; arguments as of `plot_curves`.

    Raises:
        DataError: no rows.
    """
    columns = [("lr", "Learning rate", 1.0), ("images_per_second", "Images per second", 1.0)]
    if _points(results, "memory_mib"):
        columns.append(("memory_mib", "Memory (GiB)", 1 / 1024))
    figure, panels = _new_panels(results, [title for _, title, _ in columns], spans)
    for axes, (column, _, scale) in zip(panels, columns, strict=True):
        _draw_line(axes, results, column, "_", theme.PRIMARY, scale)
        top = max((value for _, value in _points(results, column)), default=0) * scale
        axes.set_ylim(0, top * 1.12 or 1)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.5g}"))
    _mark_spans(panels, results, spans)
    return theme.to_png(figure)


def _new_panels(
    results: Sequence[ResultsRow], titles: Sequence[str], spans: Sequence[Span]
) -> tuple[Figure, list[Axes]]:
    if not results:
        raise DataError("curves need at least one epoch; got none; plot after the first epoch")
    above = 14 if len(spans) > 1 else 0  # points, for the names of the spans
    figure = theme.new_figure(HEIGHT + above / 72)
    panels = list(figure.subplots(1, len(titles), squeeze=False)[0])
    for axes, title in zip(panels, titles, strict=True):
        theme.style_axes(axes, title, "epoch", pad=10 + above)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        if len(results) == 1:
            epoch = results[0]["epoch"]
            axes.set_xlim(epoch - 0.5, epoch + 0.5)
    return figure, panels


def _draw_line(axes: Axes, results: Sequence[ResultsRow], column: str, label: str, colour: str, scale: float) -> None:
    points = _points(results, column)
    if not points:
        return
    epochs, values = zip(*points, strict=True)
    marker = "o" if len(points) <= 12 else ""
    axes.plot(
        epochs, np.multiply(values, scale), color=colour, linewidth=2, label=label, marker=marker,
        markersize=4.5, markeredgecolor=theme.PAGE, solid_capstyle="round", solid_joinstyle="round",
    )  # fmt: skip


def _score(results: Sequence[ResultsRow]) -> str:
    """Column that the best epoch is chosen by."""
    return "val_map" if "val_map" in results[-1] else "val_top1"


def _mark_best(axes: Axes, results: Sequence[ResultsRow]) -> None:
    points, losses = _points(results, _score(results)), dict(_points(results, "val_loss"))
    if not points:
        return
    # The same choice as in training: on ties the lower loss, then the first epoch.
    epoch, value = max(points, key=lambda point: (point[1], -losses.get(point[0], 0.0)))
    axes.plot([epoch], [value * 100], "o", color=theme.PRIMARY, markersize=7, markeredgecolor=theme.PAGE)
    axes.set_xlabel(f"epoch (best: {value:.1%} at {epoch:g})")  # below the axis, where no curve crosses it


def _mark_spans(panels: Sequence[Axes], results: Sequence[ResultsRow], spans: Sequence[Span]) -> None:
    """Shade frozen epochs, draw the boundaries of the spans, and name the spans where there is room."""
    if len(spans) < 2:
        return
    epochs = [row["epoch"] for row in results]
    first, last = min(epochs) - 0.5, max(epochs) + 0.5
    for axes in panels:
        axes.set_xlim(first, last)
        inches = (theme.WIDTH / len(panels) - 0.6) / (last - first)  # of one epoch
        for span in spans:
            left, right = max(span.first - 0.5, first), min(span.last + 0.5, last)
            if left >= right:
                continue
            if span.shaded:
                axes.axvspan(left, right, color=theme.EMPTY, linewidth=0, zorder=0)
            if left > first:
                axes.axvline(left, color=theme.MUTED, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
            name = next((name for name in span.names if len(name) * LETTER < (right - left) * inches), "")
            above = axes.get_xaxis_transform() + ScaledTranslation(0.03, 0.04, axes.figure.dpi_scale_trans)
            axes.text(left, 1, name, transform=above, color=theme.MUTED, fontsize=8)


def _points(results: Sequence[ResultsRow], column: str) -> list[tuple[int, float]]:
    values: Iterable[tuple[int, Any]] = ((row["epoch"], row.get(column)) for row in results)
    return [(epoch, value) for epoch, value in values if value is not None and np.isfinite(value)]
