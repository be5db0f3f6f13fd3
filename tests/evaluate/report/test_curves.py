import numpy as np
import pytest

from resnets.errors import DataError
from resnets.evaluate.report import curves as curves_of
from resnets.evaluate.report import theme as style
from resnets.evaluate.report.curves import Span, curves, rates
from tests.evaluate.report.test_plots import has, pixels

ROWS = [
    {"epoch": e, "lr": 0.1 / e, "train_loss": 2 / e, "val_loss": 2.5 / e, "val_top1": 1 - 1 / e} for e in range(1, 6)
]


@pytest.mark.parametrize("theme", [style.LIGHT, style.DARK])
def test_curves_are_wide_and_hold_both_lines(theme):
    image = pixels(curves(ROWS, dark=theme is style.DARK))
    assert image.shape[1] == 1800
    assert has(image[:5, :5], theme.page, tolerance=0) == 25
    assert has(image, theme.first) > 1000
    assert has(image, theme.second) > 1000


@pytest.mark.parametrize(
    "rows",
    [
        ROWS[:1],
        [{"epoch": 3}],
        [{"epoch": 0, "lr": 0.0, "train_loss": float("nan"), "val_top1": None}, {"epoch": 1, "train_loss": 1.0}],
        [{"epoch": e, "lr": 1e-6, "val_top1": 1.0, "val_loss": 1e-9} for e in range(300)],
    ],
)
def test_curves_take_runs_that_are_short_or_odd(rows):
    assert pixels(curves(rows)).shape[1] == 1800


def test_curves_need_a_row():
    with pytest.raises(DataError):
        curves([])


def test_the_best_epoch_is_the_one_that_training_keeps():
    axes = style.new_figure(style.LIGHT, 4, 3).subplots()
    rows = [
        {"epoch": e, "val_top1": top1, "val_loss": loss}
        for e, top1, loss in ((1, 0.9, 0.5), (2, 0.9, 0.4), (3, 0.9, 0.4))
    ]
    curves_of._best(axes, rows, style.LIGHT)
    assert axes.get_xlabel() == "epoch (best: 90.0% at 2)"


FROZEN = (
    Span(first=1, last=2, names=("frozen up to layer3", "layer3"), shaded=True),
    Span(first=3, last=5, names=("all trains", "all")),
)


def texts(monkeypatch, draw, rows, spans):
    """What stands in the panels of a plot, and their axes."""
    caught = []
    monkeypatch.setattr(curves_of, "as_png", lambda figure: caught.append(figure) or b"")
    draw(rows, spans=spans)
    return [[text.get_text() for text in axes.texts if text.get_text()] for axes in caught[0].axes], caught[0].axes


@pytest.mark.parametrize("draw", [curves, rates])
def test_frozen_epochs_are_shaded_and_boundaries_marked(draw):
    plain, marked = pixels(draw(ROWS)), pixels(draw(ROWS, spans=FROZEN))
    assert marked.shape[1] == 1800
    assert has(plain, style.LIGHT.cell, 0) < 100  # edges of letters
    assert has(marked, style.LIGHT.cell, 0) > 50_000
    assert draw(ROWS, spans=FROZEN[1:]) == draw(ROWS)  # a single phase has no boundary


def test_spans_are_named_where_there_is_room(monkeypatch):
    names, axes = texts(monkeypatch, curves, ROWS, FROZEN)
    assert names == [["frozen up to layer3", "all trains"]] * 2
    assert [line.get_xdata()[0] for line in axes[0].lines if line.get_linestyle() != "-"] == [2.5]
    assert axes[0].get_xlim() == (0.5, 5.5)
    many = [{"epoch": e, "lr": 0.1, "images_per_second": 5.0, "memory_mib": 9.0} for e in range(1, 61)]
    short = [Span(first=1, last=8, names=FROZEN[0].names, shaded=True), Span(first=9, last=9, names=("all",))]
    last = [*short, Span(first=10, last=60, names=FROZEN[1].names)]
    assert texts(monkeypatch, rates, many, last)[0] == [["all trains"]] * 3
    assert texts(monkeypatch, rates, many[:20], last)[0] == [["layer3", "all trains"]] * 3  # a run half done


def test_rates_have_memory_where_it_was_measured(monkeypatch):
    rows = [{"epoch": 1, "lr": 0.1, "images_per_second": 1500.0, "memory_mib": 2048.0}]
    _, (rate, speed, memory) = texts(monkeypatch, rates, rows, ())
    assert [axes.get_title("left") for axes in (rate, speed, memory)] == [
        "Learning rate", "Images a second", "Memory (GiB)",
    ]  # fmt: skip
    assert memory.lines[0].get_ydata().tolist() == [2.0]
    assert speed.lines[0].get_ydata().tolist() == [1500.0]
    assert all(axes.get_ylim()[0] == 0 for axes in (rate, speed, memory))
    assert len(texts(monkeypatch, rates, ROWS, ())[1]) == 2


def test_rates_need_a_row_and_take_odd_ones():
    with pytest.raises(DataError):
        rates([])
    assert pixels(rates([{"epoch": 3}])).shape[1] == 1800
    assert pixels(rates([{"epoch": 1, "lr": 0.0, "images_per_second": float("nan")}])).shape[1] == 1800
    np.testing.assert_array_equal(pixels(rates(ROWS)), pixels(rates(ROWS)))
