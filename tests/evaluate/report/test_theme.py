import numpy as np
import pytest

from resnets.evaluate.evaluation import Evaluation
from resnets.evaluate.report import theme
from resnets.evaluate.report.confusion import plot_confusion
from resnets.evaluate.report.page import Report, render_report
from tests.evaluate.report.images import WIDTH, pixels


def test_names_without_a_font_become_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theme, "FONTS", ("DejaVu Sans",))  # a machine without Chinese fonts
    assert theme.drawable("狗", 7) == "#7"
    assert theme.drawable("chien\n été", 7) == "chien été"
    names = ["狗", "$a^$", "<b>", "\ud800"]  # matplotlib's warnings about missing glyphs are errors in these tests
    assert pixels(plot_confusion(np.eye(4), names)).shape[1] == WIDTH


def test_letters_are_drawn_with_a_font_that_has_them() -> None:
    if theme.drawable("狗", 0) != "狗":
        pytest.skip("no Chinese font on this machine")
    # A letter missing from its font would be a warning, which is an error here.
    assert pixels(plot_confusion(np.eye(2), ["狗", "cat"])).shape[1] == WIDTH


def test_numbers_in_the_plot_stand_in_the_table_of_classes() -> None:
    """A letter that no font has: the plot shows #1, and so does the table."""
    labels = np.array([0, 1, 1, 0])
    logits = np.array([[1, 0], [0, 1], [0, 2], [0, 1]], np.float32)
    pages = {}
    for name in ("other", "\U000f0000"):
        evaluation = Evaluation(labels=labels, logits=logits, indices=np.arange(4), classes=("plain", name))
        pages[name] = render_report(Report(title="r", plots={"confusion": b"1"}, evaluation=evaluation)).partition(
            "<body"
        )[2]
    unusual = pages["\U000f0000"]
    assert "#1 \U000f0000" in unusual
    assert "#0 plain" in unusual
    assert ("Numbers are those" in unusual, "Numbers are those" in pages["other"]) == (True, False)
    assert "#0" not in pages["other"]
