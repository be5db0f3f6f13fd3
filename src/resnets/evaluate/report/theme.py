"""What all plots share: the sheet they are drawn on, its colours for light and for dark pages, and its fonts.

Plots are PNG bytes, 900 pixels wide on the page and drawn at twice that, through matplotlib's object interface: no
pyplot, no global state, no window. `report.html` has the same colours.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

__all__ = ["DARK", "LIGHT", "WIDTH", "Theme", "as_png", "drawable", "font_families", "new_figure"]

WIDTH = 9.0  # inches; at 200 dpi 1800 pixels, shown as 900: 10 points are 14 pixels on the page
DPI = 200

# DejaVu comes with matplotlib; the others are what systems bring for Chinese, Japanese and Korean.
FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Source Han Sans SC",
    "PingFang SC",
    "PingFang HK",
    "Hiragino Sans GB",
    "Heiti TC",
    "Microsoft YaHei",
    "SimHei",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "Malgun Gothic",
    "Arial Unicode MS",
)


@dataclass(frozen=True, kw_only=True)
class Theme:
    """Colours by what they are for, as `#rrggbb`.

    Args:
        page: background.
        ink, muted: text; text that steps back.
        grid: lines that guide the eye.
        first, second: the curve that matters (validation) and the other one (training).
        wrong: mistakes.
        cell: an empty cell of a matrix.
    """

    page: str
    ink: str
    muted: str
    grid: str
    first: str
    second: str
    wrong: str
    cell: str

    def rgb(self, name: str) -> NDArray[np.float64]:
        """(3,) values in [0, 1] of the colour with that name."""
        return np.array(to_rgb(getattr(self, name)))


LIGHT = Theme(
    page="#ffffff",
    ink="#1c2430",
    muted="#667085",
    grid="#e4e7ec",
    first="#1f5fa8",
    second="#9db4cc",
    wrong="#d4621a",
    cell="#f3f5f8",
)
DARK = Theme(
    page="#171b21",
    ink="#e6e9ee",
    muted="#98a2b3",
    grid="#2b323c",
    first="#5fa4ec",
    second="#5d7288",
    wrong="#ee8a44",
    cell="#1f252d",
)


@lru_cache(maxsize=1)
def font_families() -> list[str]:
    """Those of `FONTS` that are installed; matplotlib takes each letter from the first that has it."""
    installed = set(font_manager.get_font_names())
    return [name for name in FONTS if name in installed]


@lru_cache(maxsize=1)
def _letters() -> frozenset[int]:
    return frozenset(code for name in font_families() for code in _font(name).get_charmap())


def _font(name: str) -> Any:
    return font_manager.get_font(font_manager.findfont(name))


def drawable(text: str, number: int) -> str:
    """`text` on one line, or `#number` where no installed font has its letters (matplotlib would draw boxes)."""
    line = " ".join(text.split())
    return line if all(ord(letter) in _letters() for letter in line) else f"#{number}"


def new_figure(theme: Theme, width: float, height: float) -> Figure:
    """An empty sheet; `width` and `height` in inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=theme.page, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def as_png(figure: Figure) -> bytes:
    """What was drawn; the same bytes each time."""
    stream = io.BytesIO()
    for text in figure.findobj(Text):  # set here and not by rcParams, which all threads share
        if text.get_fontweight() != "bold":  # bold is our English; few Chinese fonts have it, and findfont warns
            text.set_fontfamily(font_families())
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
