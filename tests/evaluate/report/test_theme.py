import numpy as np
import pytest

from resnets.evaluate.report import theme
from resnets.evaluate.report.confusion import plot_confusion
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
