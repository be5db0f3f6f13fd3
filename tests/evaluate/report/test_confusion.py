import matplotlib
import numpy as np
import pytest

from resnets.errors import ShapeError
from resnets.evaluate.report import theme
from resnets.evaluate.report.confusion import plot_confusion
from tests.evaluate.report.images import WIDTH, count_colour, pixels


def test_correct_cells_are_blue_and_errors_orange() -> None:
    correct = pixels(plot_confusion(np.diag([5, 5]), ["cat", "dog"]))
    wrong = pixels(plot_confusion(np.diag([5, 5])[::-1], ["cat", "dog"]))
    assert count_colour(correct, theme.PRIMARY) > 100_000
    assert count_colour(correct, theme.ERROR) == 0
    assert count_colour(wrong, theme.ERROR) > 100_000
    assert count_colour(wrong, theme.PRIMARY) == 0


@pytest.mark.parametrize("count", [1, 20, 40, 300])
def test_few_and_many_classes(count: int) -> None:
    matrix = np.eye(count, dtype=np.int64) * 12345
    matrix[0] = 0  # a class without images
    image = pixels(plot_confusion(matrix, [f"a class of things number {i}" for i in range(count)]))
    assert image.shape[1] == WIDTH
    if count > 1:
        assert count_colour(image, theme.PRIMARY) > 1000


def test_other_shapes_are_rejected() -> None:
    with pytest.raises(ShapeError, match=r"\(C, C\).*\(3, 3\)"):
        plot_confusion(np.eye(3), ["a", "b"])


def test_plots_leave_no_global_state_and_are_reproducible() -> None:
    before = dict(matplotlib.rcParams)
    first = plot_confusion(np.eye(3), ["a", "b", "c"])
    assert dict(matplotlib.rcParams) == before
    assert plot_confusion(np.eye(3), ["a", "b", "c"]) == first
