"""Plots of what a network answers, as PNG bytes: the confusion matrix, and images in a grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from resnets.errors import DataError, ShapeError
from resnets.evaluate.report.theme import DARK, LIGHT, WIDTH, Theme, as_png, drawable, new_figure

__all__ = ["confusion", "contact_sheet"]

NAMED = 40  # classes whose names still fit along the side of a matrix
LABEL = 18  # letters of a name along the side
COUNTED = 20  # classes whose counts still fit into the cells


def confusion(matrix: NDArray[Any], classes: Sequence[str], *, dark: bool = False) -> bytes:
    """The confusion matrix: rows are true classes, columns predicted ones.

    Colour is the share of the true class, blue where the prediction is right and orange where it is wrong,
    on a scale that lets rare mistakes show. Counts stand in the cells up to 20 classes, names along
    the sides up to 40, class numbers beyond that and where no installed font has the letters of a name.

    Args:
        matrix: (C, C) counts.
        classes: C names.
        dark: for a dark page.

    Raises:
        ShapeError: matrix and names do not fit.
    """
    count = len(classes)
    if matrix.shape != (count, count) or not count:
        raise ShapeError(f"a confusion matrix must be (C, C) for C classes; got {matrix.shape} for {count}")
    theme = DARK if dark else LIGHT
    side = WIDTH if count > COUNTED else min(WIDTH, 3.4 + 0.42 * count)
    figure = new_figure(theme, WIDTH, side * 0.92)
    axes = figure.subplots()
    axes.imshow(_cells(matrix, theme), interpolation="nearest" if count <= 200 else "antialiased")
    axes.spines[:].set_visible(False)

    named = count <= NAMED
    ticks = range(0, count, 1 if named else _step(count))
    labels = [_clip(drawable(classes[i], i), LABEL) if named else str(i) for i in ticks]
    size = 7 if COUNTED < count <= NAMED else 9.5
    upright = named and max(map(len, labels)) * count > 60
    axes.set_xticks(ticks, labels, rotation=90 if upright else 0, fontsize=size, parse_math=False)
    axes.set_yticks(ticks, labels, fontsize=size, parse_math=False)
    axes.tick_params(length=0 if named else 3, color=theme.grid, labelcolor=theme.ink, pad=4)
    suffix = "" if named else " (class number)"
    axes.set_xlabel(f"predicted{suffix}", color=theme.muted, fontsize=10, labelpad=8)
    axes.set_ylabel(f"true{suffix}", color=theme.muted, fontsize=10, labelpad=8)
    if count <= NAMED:  # thin lines of background between the cells
        axes.set_xticks(np.arange(1, count) - 0.5, minor=True)
        axes.set_yticks(np.arange(1, count) - 0.5, minor=True)
        axes.grid(which="minor", color=theme.page, linewidth=1.5 if count <= COUNTED else 0.6)
        axes.tick_params(which="minor", length=0)
    if count <= COUNTED:
        _counts(axes, matrix, theme)
    return as_png(figure)


def contact_sheet(
    images: Sequence[NDArray[np.uint8]], captions: Sequence[str], *, columns: int = 6, dark: bool = False
) -> bytes:
    """Images in a grid, each with a caption below it.

    Args:
        images: each (H, W), (H, W, 1) or (H, W, 3) uint8; sizes may differ.
        captions: one an image; line breaks are kept.
        columns: images a row.
        dark: for a dark page.

    Raises:
        ShapeError: another number of captions than of images, or what is no such image.
        DataError: no images.
    """
    if len(images) != len(captions):
        raise ShapeError(f"a contact sheet needs a caption an image; got {len(images)} and {len(captions)}")
    if not images:
        raise DataError("a contact sheet needs at least one image; got none")
    theme = DARK if dark else LIGHT
    rows = -(-len(images) // columns)
    lines = max(caption.count("\n") + 1 for caption in captions)
    figure = new_figure(theme, WIDTH, rows * (WIDTH / columns + 0.19 * lines))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    width = max(8, 132 // columns)  # letters of 8.5 points that fit under an image
    for number, (axes, image, caption) in enumerate(zip(grid.flat, images, captions, strict=False)):
        height, across = _show_image(axes, image)
        axes.set_xlim(-0.5 - max(0, height - across) / 2, across - 0.5 + max(0, height - across) / 2)
        axes.set_ylim(height - 0.5 + max(0, across - height) / 2, -0.5 - max(0, across - height) / 2)
        for place, line in enumerate(caption.split("\n")):  # one by one, for the same baselines everywhere
            axes.annotate(
                _clip(drawable(line, number), width), (0.5, 0), xycoords="axes fraction",
                xytext=(0, -11 - 13 * place), textcoords="offset points", ha="center", va="baseline",
                fontsize=8.5, color=theme.ink if place == 0 else theme.muted, parse_math=False,
            )  # fmt: skip
    return as_png(figure)


def _cells(matrix: NDArray[Any], theme: Theme) -> NDArray[np.float64]:
    """(C, C, 3) colours in [0, 1]."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    depth = (shares**0.6)[..., None]  # (C, C, 1)
    right = np.eye(len(matrix), dtype=bool)[..., None]
    ends = np.where(right, theme.rgb("first"), theme.rgb("wrong"))
    empty = theme.rgb("cell")
    return np.asarray(empty + (ends - empty) * depth)


def _counts(axes: Axes, matrix: NDArray[Any], theme: Theme) -> None:
    luminance = _cells(matrix, theme) @ np.array([0.299, 0.587, 0.114])
    digits = len(str(int(matrix.max())))
    size = min(10.0, 72 * WIDTH * 0.7 / len(matrix) / max(digits, 2) / 0.75)
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            ink = DARK.ink if luminance[row, column] < 0.45 else LIGHT.ink
            if row != column and count < 0.02 * matrix[row].sum():
                ink = theme.muted
            axes.text(column, row, f"{int(count)}", ha="center", va="center", color=ink, fontsize=size)


def _step(count: int) -> int:
    """Classes from tick to tick: 5, 10, 50, 100, so that about ten ticks stand along a side."""
    return next(step for step in (5, 10, 25, 50, 100, 250, 1000, 10**9) if count / step <= 12)


def _show_image(axes: Axes, image: NDArray[np.uint8]) -> tuple[int, int]:
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,), (3,)):
        raise ShapeError(f"an image must be (H, W), (H, W, 1) or (H, W, 3) uint8; got {image.shape} {image.dtype}")
    small = max(image.shape[:2]) < 128
    shown = image[..., 0] if image.shape[2:] == (1,) else image
    axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest" if small else "antialiased")
    return image.shape[0], image.shape[1]


def _clip(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
