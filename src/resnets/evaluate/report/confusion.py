"""Plot of a confusion matrix, as PNG bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

from resnets.errors import ShapeError
from resnets.evaluate.report import theme

__all__ = ["has_numbers", "plot_confusion"]

MAX_NAMED = 40  # classes whose names fit along the side of a matrix
MAX_COUNTED = 20  # classes whose counts fit into the cells
MAX_LETTERS = 18  # letters of a class name


def plot_confusion(matrix: NDArray[Any], classes: Sequence[str]) -> bytes:
    """Plot a confusion matrix: rows are true classes, columns predicted classes.

    Colour is the fraction of the true class, blue for correct predictions and orange for errors, on a scale that
    keeps rare errors visible. Cells have counts up to 20 classes, the sides class names up to 40; class numbers
    replace them beyond that and where no installed font has the letters of a name.

    Args:
        matrix: (C, C) counts.
        classes: C class names.

    Raises:
        ShapeError: a matrix that is not (C, C), or no classes.
    """
    count = len(classes)
    if matrix.shape != (count, count) or not count:
        raise ShapeError(f"a confusion matrix must be (C, C) for C classes; got {matrix.shape} for {count}")
    named, counted = count <= MAX_NAMED, count <= MAX_COUNTED
    side = min(theme.WIDTH, 3.4 + 0.42 * count) if counted else theme.WIDTH
    figure = theme.new_figure(side * 0.92)
    axes = figure.subplots()
    cells = _cells(matrix)
    axes.imshow(cells, interpolation="nearest" if count <= 200 else "antialiased")
    axes.spines[:].set_visible(False)

    ticks = range(0, count, 1 if named else _tick_step(count))
    labels = [_clip(theme.drawable(classes[i], i)) if named else str(i) for i in ticks]
    size = 7 if named and not counted else 9.5
    upright = named and max(map(len, labels)) * count > 60
    axes.set_xticks(ticks, labels, rotation=90 if upright else 0, fontsize=size, parse_math=False)
    axes.set_yticks(ticks, labels, fontsize=size, parse_math=False)
    axes.tick_params(length=0 if named else 3, color=theme.GRID, labelcolor=theme.INK, pad=4)
    suffix = "" if named else " (class number)"
    axes.set_xlabel(f"predicted{suffix}", color=theme.MUTED, fontsize=10, labelpad=8)
    axes.set_ylabel(f"true{suffix}", color=theme.MUTED, fontsize=10, labelpad=8)
    if named:  # thin lines of background between the cells
        axes.set_xticks(np.arange(1, count) - 0.5, minor=True)
        axes.set_yticks(np.arange(1, count) - 0.5, minor=True)
        axes.grid(which="minor", color=theme.PAGE, linewidth=1.5 if counted else 0.6)
        axes.tick_params(which="minor", length=0)
    if counted:
        _write_counts(axes, matrix, cells)
    return theme.to_png(figure)


def has_numbers(classes: Sequence[str]) -> bool:
    """Whether the plot has class numbers in place of some names."""
    return len(classes) > MAX_NAMED or any(
        theme.drawable(name, number) == f"#{number}" for number, name in enumerate(classes)
    )


def _cells(matrix: NDArray[Any]) -> NDArray[np.float64]:
    """(C, C, 3) colours in [0, 1]."""
    fractions = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    depth = (fractions**0.6)[..., None]  # (C, C, 1)
    correct = np.eye(len(matrix), dtype=bool)[..., None]
    full, empty = np.where(correct, to_rgb(theme.PRIMARY), to_rgb(theme.ERROR)), np.array(to_rgb(theme.EMPTY))
    return np.asarray(empty + (full - empty) * depth)


def _write_counts(axes: Axes, matrix: NDArray[Any], cells: NDArray[np.float64]) -> None:
    luminance = cells @ np.array([0.299, 0.587, 0.114])
    digits = len(str(int(matrix.max())))
    size = min(10.0, 72 * theme.WIDTH * 0.7 / len(matrix) / max(digits, 2) / 0.75)
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            ink = theme.PAGE if luminance[row, column] < 0.45 else theme.INK
            if row != column and count < 0.02 * matrix[row].sum():
                ink = theme.MUTED
            axes.text(column, row, f"{int(count)}", ha="center", va="center", color=ink, fontsize=size)


def _tick_step(count: int) -> int:
    """Classes between two ticks: 5, 10, 25, ..., for at most 12 ticks along a side."""
    return next(step for step in (5, 10, 25, 50, 100, 250, 1000, 10**9) if count / step <= 12)


def _clip(text: str) -> str:
    return text if len(text) <= MAX_LETTERS else text[: MAX_LETTERS - 1] + "…"
