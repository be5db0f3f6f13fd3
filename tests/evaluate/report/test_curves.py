from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resnets.errors import DataError
from resnets.evaluate.report import theme
from resnets.evaluate.report.curves import Span, plot_curves, plot_rates
from resnets.evaluate.results import ResultsRow
from tests.evaluate.report.images import WIDTH, count_colour, pixels
from tests.evaluate.test_results import row

ROWS = [row(e, lr=0.1 / e, train_loss=2 / e, val_loss=2.5 / e, val_top1=1 - 1 / e) for e in range(1, 6)]
FROZEN = (
    Span(first=1, last=2, names=("frozen up to layer3", "layer3"), shaded=True),
    Span(first=3, last=5, names=("all trains", "all")),
)
Plot = Callable[..., bytes]


def draw(
    monkeypatch: pytest.MonkeyPatch, plot: Plot, rows: Sequence[ResultsRow], spans: Sequence[Span] = ()
) -> tuple[list[list[str]], list[Axes]]:
    """The texts in each panel of a plot, and the panels."""
    figures: list[Figure] = []

    def catch(figure: Figure) -> bytes:
        figures.append(figure)
        return b""

    monkeypatch.setattr(theme, "to_png", catch)
    plot(rows, spans)
    panels = figures[0].axes
    return [[text.get_text() for text in axes.texts if text.get_text()] for axes in panels], panels


def test_curves_have_both_lines_on_a_white_page() -> None:
    image = pixels(plot_curves(ROWS))
    assert image.shape[1] == WIDTH
    assert count_colour(image[:5, :5], theme.PAGE, tolerance=0) == 25
    assert count_colour(image, theme.PRIMARY) > 1000
    assert count_colour(image, theme.SECONDARY) > 1000


@pytest.mark.parametrize(
    "rows",
    [
        ROWS[:1],
        [row(3)],
        [row(0, lr=0.0, train_loss=float("nan")), row(1, train_loss=1.0)],
        [row(e, lr=1e-6, val_top1=1.0, val_loss=1e-9) for e in range(300)],
    ],
)
def test_curves_of_short_and_incomplete_runs(rows: list[ResultsRow]) -> None:
    assert pixels(plot_curves(rows)).shape[1] == WIDTH


@pytest.mark.parametrize("plot", [plot_curves, plot_rates])
def test_plots_need_a_row(plot: Plot) -> None:
    with pytest.raises(DataError):
        plot([])


def test_the_best_epoch_is_the_one_that_training_selects(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(e, val_top1=top1, val_loss=loss) for e, top1, loss in ((1, 0.9, 0.5), (2, 0.9, 0.4), (3, 0.9, 0.4))]
    _, (_, accuracy) = draw(monkeypatch, plot_curves, rows)
    assert accuracy.get_xlabel() == "epoch (best: 90.0% at 2)"


@pytest.mark.parametrize("plot", [plot_curves, plot_rates])
def test_frozen_epochs_are_shaded_and_boundaries_marked(plot: Plot) -> None:
    plain, marked = pixels(plot(ROWS)), pixels(plot(ROWS, FROZEN))
    assert marked.shape[1] == WIDTH
    assert count_colour(plain, theme.EMPTY, 0) < 100  # edges of letters
    assert count_colour(marked, theme.EMPTY, 0) > 50_000
    assert plot(ROWS, FROZEN[1:]) == plot(ROWS)  # a single phase has no boundary


def test_spans_are_named_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    names, axes = draw(monkeypatch, plot_curves, ROWS, FROZEN)
    assert names == [["frozen up to layer3", "all trains"]] * 2
    boundaries = [np.asarray(line.get_xdata())[0] for line in axes[0].lines if line.get_linestyle() != "-"]
    assert boundaries == [2.5]
    assert axes[0].get_xlim() == (0.5, 5.5)
    many = [row(e, lr=0.1, images_per_second=5.0, memory_mib=9.0) for e in range(1, 61)]
    short = [Span(first=1, last=8, names=FROZEN[0].names, shaded=True), Span(first=9, last=9, names=("all",))]
    last = [*short, Span(first=10, last=60, names=FROZEN[1].names)]
    assert draw(monkeypatch, plot_rates, many, last)[0] == [["all trains"]] * 3
    assert draw(monkeypatch, plot_rates, many[:20], last)[0] == [["layer3", "all trains"]] * 3  # a third of a run


def test_memory_is_plotted_if_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(1, lr=0.1, images_per_second=1500.0, memory_mib=2048.0)]
    _, panels = draw(monkeypatch, plot_rates, rows)
    assert [axes.get_title("left") for axes in panels] == ["Learning rate", "Images per second", "Memory (GiB)"]
    values: list[Any] = [np.asarray(axes.lines[0].get_ydata()).tolist() for axes in panels]
    assert values == [[0.1], [1500.0], [2.0]]
    assert all(axes.get_ylim()[0] == 0 for axes in panels)
    assert len(draw(monkeypatch, plot_rates, ROWS)[1]) == 2


def test_rates_of_incomplete_runs_and_reproducibility() -> None:
    assert pixels(plot_rates([row(3)])).shape[1] == WIDTH
    assert pixels(plot_rates([row(1, lr=0.0, images_per_second=float("nan"))])).shape[1] == WIDTH
    assert plot_rates(ROWS) == plot_rates(ROWS)
