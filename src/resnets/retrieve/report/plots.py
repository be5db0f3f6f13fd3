"""Plots of a re-identification report, as PNG bytes: CMC curve, distances, map of the embeddings."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import PercentFormatter

from resnets.evaluate.report import theme
from resnets.retrieve.metrics import RetrievalMetrics
from resnets.retrieve.report.findings import Findings

__all__ = ["plot_cmc_and_distances", "plot_map"]

NAMED = 10  # identities up to which the map has a legend
COLOURS = (
    "#1f5fa8", "#d4621a", "#3a8f4f", "#9b3fa3", "#b8901d", "#2aa0a8", "#c2405c", "#5d6fd0", "#7a8a2e", "#8b5a3c",
)  # fmt: skip
MARKERS = "os^Dv"


def plot_cmc_and_distances(metrics: RetrievalMetrics, findings: Findings, metric: str) -> bytes:
    """Share of queries with a match among the first k, and the distances of matching and of other pairs."""
    figure = theme.new_figure(3.1)
    left, right = figure.subplots(1, 2)
    theme.style_axes(left, "Queries with a match among the first k", "k")
    k = np.arange(1, len(metrics.cmc) + 1)
    left.plot(k, 100 * metrics.cmc, color=theme.PRIMARY, linewidth=2)
    left.set_ylim(min(90.0, 100 * float(metrics.cmc[0]) - 5), 100.5)
    left.set_xlim(1, len(k))
    left.yaxis.set_major_formatter(PercentFormatter(decimals=None))
    theme.style_axes(
        right, "Distances of pairs", "cosine distance" if metric == "cosine" else "squared Euclidean distance"
    )
    centers = (findings.edges[1:] + findings.edges[:-1]) / 2
    for counts, colour, label, dashes in (
        (findings.same, theme.PRIMARY, "same identity", "-"),
        (findings.other, theme.ERROR, "others", "--"),
    ):
        share = 100 * counts / max(int(counts.sum()), 1)
        right.fill_between(centers, share, color=colour, alpha=0.2, linewidth=0)
        right.plot(centers, share, dashes, color=colour, linewidth=1.6, label=label)
    used = np.flatnonzero(findings.same + findings.other)
    right.set_xlim(0, float(findings.edges[used[-1] + 1]) if len(used) else 1)
    right.set_ylim(bottom=0)
    right.yaxis.set_major_formatter(PercentFormatter(decimals=None))
    right.legend(frameon=False, labelcolor=theme.INK, fontsize=9)
    return theme.to_png(figure)


def plot_map(coordinates: npt.NDArray[np.float64], ids: npt.NDArray[np.int64], names: list[str]) -> bytes:
    """Embeddings in their principal plane, coloured by identity.

    Args:
        coordinates: (M, 2).
        ids: (M,) identities.
        names: of the distinct identities, ascending.
    """
    figure = theme.new_figure(5.0)
    axes = figure.subplots()
    theme.style_axes(axes, "Embeddings in their two principal components", "")
    distinct = np.unique(ids)
    for number, identity in enumerate(distinct):
        own = coordinates[ids == identity]
        axes.scatter(
            own[:, 0], own[:, 1], s=16, color=COLOURS[number % len(COLOURS)], linewidths=0, alpha=0.8,
            marker=MARKERS[number // len(COLOURS) % len(MARKERS)],
            label=theme.drawable(names[number], number),
        )  # fmt: skip
    axes.grid(visible=False)
    axes.set_aspect("equal", "datalim")
    if len(distinct) <= NAMED:
        axes.legend(frameon=False, labelcolor=theme.INK, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return theme.to_png(figure)
