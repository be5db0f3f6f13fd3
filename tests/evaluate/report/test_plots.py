import io

import matplotlib
import numpy as np
import pytest
from PIL import Image

from resnets.errors import DataError, ShapeError
from resnets.evaluate.report import plots
from resnets.evaluate.report import theme as style


def pixels(png):
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB"), np.int64)


def has(image, colour, tolerance=12):
    """How many pixels are (nearly) of the colour `#rrggbb`."""
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(image - rgb).max(axis=2) <= tolerance).sum())


@pytest.fixture
def only_dejavu(monkeypatch):
    """A machine without Chinese fonts."""
    for cached in (style.font_families, style._letters):
        cached.cache_clear()
    monkeypatch.setattr(style, "FONTS", ("DejaVu Sans",))
    yield
    for cached in (style.font_families, style._letters):
        cached.cache_clear()


def test_confusion_is_blue_where_right_and_orange_where_wrong():
    right = pixels(plots.confusion(np.diag([5, 5]), ["cat", "dog"]))
    wrong = pixels(plots.confusion(np.diag([5, 5])[::-1], ["cat", "dog"]))
    assert has(right, style.LIGHT.first) > 100_000
    assert has(right, style.LIGHT.wrong) == 0
    assert has(wrong, style.LIGHT.wrong) > 100_000
    assert has(wrong, style.LIGHT.first) == 0


@pytest.mark.parametrize("count", [1, 20, 40, 300])
def test_confusion_of_few_and_many_classes(count):
    matrix = np.eye(count, dtype=np.int64) * 12345
    matrix[0] = 0  # a class without images
    image = pixels(plots.confusion(matrix, [f"a class of things number {i}" for i in range(count)]))
    assert image.shape[1] == 1800
    if count > 1:
        assert has(image, style.LIGHT.first) > 1000


@pytest.mark.usefixtures("only_dejavu")
def test_names_that_no_font_has_become_numbers():
    assert style.drawable("狗", 7) == "#7"
    assert style.drawable("chien\n été", 7) == "chien été"
    names = ["狗", "$a^$", "<b>", "\ud800"]  # warnings (missing glyphs) are errors in these tests
    assert pixels(plots.confusion(np.eye(4), names)).shape[1] == 1800
    assert pixels(plots.contact_sheet([np.zeros((4, 4), np.uint8)], ["狗\n$x^$"])).shape[1] == 1800


def test_letters_are_taken_from_the_font_that_has_them():
    if style.drawable("狗", 0) != "狗":
        pytest.skip("no Chinese font on this machine")
    # A letter drawn from another font would be a warning, which is an error here.
    assert pixels(plots.confusion(np.eye(2), ["狗", "cat"])).shape[1] == 1800
    assert pixels(plots.contact_sheet([np.zeros((4, 4), np.uint8)], ["狗 98%"])).shape[1] == 1800


def test_confusion_refuses_other_shapes():
    with pytest.raises(ShapeError, match=r"\(C, C\)"):
        plots.confusion(np.eye(3), ["a", "b"])


def test_contact_sheet_shows_each_image_in_its_colours():
    red = np.zeros((20, 60, 3), np.uint8)
    red[..., 0] = 255
    grey = np.full((30, 10, 1), 128, np.uint8)
    image = pixels(plots.contact_sheet([red, grey, grey[..., 0]], ["red", "grey\nsecond line", ""], columns=2))
    assert image.shape[1] == 1800
    wide, tall = has(image, "#ff0000", 0), has(image, "#808080", 0)
    assert wide > 0.9 * tall / 2 > 0  # each covers a third of its square, and there are two tall ones


def test_contact_sheet_refuses():
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ShapeError, match="a caption an image"):
        plots.contact_sheet([image], [])
    with pytest.raises(DataError):
        plots.contact_sheet([], [])
    for wrong in (image.astype(np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8)):
        with pytest.raises(ShapeError, match="uint8"):
            plots.contact_sheet([wrong], ["x"])


def test_plots_leave_no_global_state():
    before = dict(matplotlib.rcParams)
    first = plots.confusion(np.eye(3), ["a", "b", "c"])
    assert dict(matplotlib.rcParams) == before
    assert plots.confusion(np.eye(3), ["a", "b", "c"]) == first  # and are the same bytes each time
