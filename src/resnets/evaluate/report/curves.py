"""Plots of a run over its epochs, as PNG bytes: loss and accuracy; learning rate, throughput and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from matplotlib.transforms import ScaledTranslation

from resnets.errors import DataError
from resnets.evaluate.report.theme import DARK, LIGHT, WIDTH, Theme, as_png, new_figure

__all__ = ["Results", "Span", "curves", "rates"]

Results = Sequence[Mapping[str, float | None]]
"""Rows as `read_results` gives them; what a row lacks is left out."""

HEIGHT = 2.9  # inches
LETTER = 0.067  # inches that a letter of a span's name takes


@dataclass(frozen=True, kw_only=True)
class Span:
    """Epochs in a row that train the same part of a network.

    Args:
        first, last: its epochs, counted from 1.
        names: what to call it, from the longest to the shortest; the first that fits is written.
        shaded: whether a part of the network is frozen in it.
    """

    first: int
    last: int
    names: tuple[str, ...]
    shaded: bool = False


def curves(results: Results, *, spans: Sequence[Span] = (), dark: bool = False) -> bytes:
    """Loss and accuracy over the epochs, side by side.

    Args:
        results: what was measured.
        spans: where there is more than one, their boundaries are marked.
        dark: for a dark page.

    Raises:
        DataError: no rows.
    """
    theme, figure, (loss, accuracy) = _sheet(results, ("Loss", "Accuracy"), spans, dark)
    _line(loss, results, "train_loss", "train", theme.second, theme)
    _line(loss, results, "val_loss", "val", theme.first, theme)
    _line(accuracy, results, "train_top1", "train", theme.second, theme, scale=100)
    _line(accuracy, results, "val_top1", "val", theme.first, theme, scale=100)
    _best(accuracy, results, theme)
    low, high = accuracy.get_ylim()
    accuracy.set_ylim(min(low, (low + high) / 2 - 1), max(high, (low + high) / 2 + 1))  # at least two points
    accuracy.yaxis.set_major_formatter(PercentFormatter(decimals=None))
    for axes in (loss, accuracy):
        if axes.get_legend_handles_labels()[0]:
            _legend(axes, theme, raised=len(spans) > 1)
    _mark([loss, accuracy], results, spans, theme)
    return as_png(figure)


def rates(results: Results, *, spans: Sequence[Span] = (), dark: bool = False) -> bytes:
    """Learning rate, images a second and, where it was measured, memory over the epochs; arguments as of `curves`.

    Raises:
        DataError: no rows.
    """
    memory = bool(_points(results, "memory_mib"))
    titles = ("Learning rate", "Images a second", "Memory (GiB)")[: 3 if memory else 2]
    theme, figure, panels = _sheet(results, titles, spans, dark)
    columns = (("lr", 1.0), ("images_per_second", 1.0), ("memory_mib", 1 / 1024))
    for axes, (column, scale) in zip(panels, columns, strict=False):
        _line(axes, results, column, "", theme.first, theme, scale=scale)
        top = max((value for _, value in _points(results, column)), default=0) * scale
        axes.set_ylim(0, top * 1.12 or 1)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.5g}"))
    _mark(panels, results, spans, theme)
    return as_png(figure)


def _sheet(
    results: Results, titles: Sequence[str], spans: Sequence[Span], dark: bool
) -> tuple[Theme, Figure, list[Axes]]:
    if not results:
        raise DataError("curves need at least one epoch; got none; plot after the first epoch")
    theme = DARK if dark else LIGHT
    above = 14 if len(spans) > 1 else 0  # points, for the names of the spans
    figure = new_figure(theme, WIDTH, HEIGHT + above / 72)
    panels = list(figure.subplots(1, len(titles), squeeze=False)[0])
    for axes, title in zip(panels, titles, strict=True):
        axes.set_facecolor(theme.page)
        axes.set_title(title, loc="left", color=theme.ink, fontsize=11, fontweight="bold", pad=10 + above)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(theme.grid)
        axes.grid(axis="y", color=theme.grid, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, labelcolor=theme.muted, labelsize=9, pad=5)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.set_xlabel("epoch", color=theme.muted, fontsize=9)
        if len(results) == 1:
            epoch = results[0].get("epoch") or 0
            axes.set_xlim(epoch - 0.5, epoch + 0.5)
    return theme, figure, panels


def _legend(axes: Axes, theme: Theme, raised: bool) -> None:
    axes.legend(
        loc="lower right", bbox_to_anchor=(1.02, 1.06 if raised else 0.98), ncols=2, frameon=False,
        labelcolor=theme.ink, fontsize=9, handlelength=1.2, columnspacing=1.2,
    )  # fmt: skip


def _line(
    axes: Axes, results: Results, column: str, label: str, colour: str, theme: Theme, scale: float = 1,
) -> None:  # fmt: skip
    points = _points(results, column)
    if not points:
        return
    epochs, values = zip(*points, strict=True)
    marker = "o" if len(points) <= 12 else ""
    axes.plot(
        epochs, np.multiply(values, scale), color=colour, linewidth=2, label=label or "_", marker=marker,
        markersize=4.5, markeredgecolor=theme.page, solid_capstyle="round", solid_joinstyle="round",
    )  # fmt: skip


def _best(axes: Axes, results: Results, theme: Theme) -> None:
    points, losses = _points(results, "val_top1"), dict(_points(results, "val_loss"))
    if not points:
        return
    # As training chooses: of equals the lower loss, then the first.
    epoch, value = max(points, key=lambda point: (point[1], -losses.get(point[0], 0.0)))
    axes.plot([epoch], [value * 100], "o", color=theme.first, markersize=7, markeredgecolor=theme.page)
    # Below the axis, where no curve can cross it.
    axes.set_xlabel(f"epoch (best: {value:.1%} at {epoch:g})")


def _mark(panels: Sequence[Axes], results: Results, spans: Sequence[Span], theme: Theme) -> None:
    """Shade what is frozen, draw the boundaries, and write above each span what it is, where there is room."""
    if len(spans) < 2:
        return
    epochs = [row.get("epoch") or 0 for row in results]
    first, last = min(epochs) - 0.5, max(epochs) + 0.5
    for axes in panels:
        axes.set_xlim(first, last)
        inches = (WIDTH / len(panels) - 0.6) / (last - first)  # an epoch's
        for span in spans:
            left, right = max(span.first - 0.5, first), min(span.last + 0.5, last)
            if left >= right:
                continue
            if span.shaded:
                axes.axvspan(left, right, color=theme.cell, linewidth=0, zorder=0)
            if left > first:
                axes.axvline(left, color=theme.muted, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
            name = next((name for name in span.names if len(name) * LETTER < (right - left) * inches), "")
            above = axes.get_xaxis_transform() + ScaledTranslation(0.03, 0.04, axes.figure.dpi_scale_trans)
            axes.text(left, 1, name, transform=above, color=theme.muted, fontsize=8)


def _points(results: Results, column: str) -> list[tuple[float, float]]:
    pairs = [(row.get("epoch"), row.get(column)) for row in results]
    return [(x, y) for x, y in pairs if x is not None and y is not None and np.isfinite(y)]
