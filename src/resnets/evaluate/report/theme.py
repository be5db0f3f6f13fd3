"""Size, colours and fonts of all plots, as `report.html` has them.

Plots are PNG bytes, 1800 pixels wide and displayed at 900, drawn through matplotlib's object interface: no pyplot, no
global state, no window. They are drawn once, for a white page; in dark mode `report.html` inverts their lightness.
"""

from __future__ import annotations

import io
from functools import lru_cache

from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

__all__ = ["drawable", "font_families", "new_figure", "style_axes", "to_png"]

WIDTH = 9.0  # inches, 1800 pixels at 200 dpi: 10 points are 14 pixels on the page
DPI = 200

PAGE = "#ffffff"
INK = "#1c2430"
MUTED = "#667085"  # secondary text
GRID = "#e4e7ec"
PRIMARY = "#1f5fa8"  # validation curves, correct predictions
SECONDARY = "#9db4cc"  # training curves
ERROR = "#d4621a"  # wrong predictions
EMPTY = "#f3f5f8"  # cells without images, frozen epochs

# DejaVu comes with matplotlib; operating systems bring the others, for Chinese, Japanese and Korean.
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


@lru_cache
def font_families(fonts: tuple[str, ...]) -> list[str]:
    """The installed ones of `fonts`; matplotlib draws each letter in the first that has it."""
    installed = set(font_manager.get_font_names())
    return [name for name in fonts if name in installed]


@lru_cache
def _letters(fonts: tuple[str, ...]) -> frozenset[int]:
    paths = map(font_manager.findfont, font_families(fonts))
    return frozenset(code for path in paths for code in font_manager.get_font(path).get_charmap())


def drawable(text: str, number: int) -> str:
    """`text` on one line, or `#number` if no installed font has its letters (matplotlib would draw boxes)."""
    line = " ".join(text.split())
    return line if all(ord(letter) in _letters(FONTS) for letter in line) else f"#{number}"


def new_figure(height: float) -> Figure:
    """An empty figure, `WIDTH` x `height` inches."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor=PAGE, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def style_axes(axes: Axes, title: str, label: str = "", *, pad: float = 10) -> None:
    """Title and label of a panel with horizontal lines; `pad`: points between title and panel."""
    axes.set_title(title, loc="left", color=INK, fontsize=11, fontweight="bold", pad=pad)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=MUTED, labelsize=9, pad=5)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.set_xlabel(label, color=MUTED, fontsize=9)


def to_png(figure: Figure) -> bytes:
    """PNG bytes, the same for the same drawing."""
    stream = io.BytesIO()
    for text in figure.findobj(Text):  # set here and not in rcParams, which all threads share
        if text.get_fontweight() != "bold":  # bold text is English; few Chinese fonts have bold, and findfont warns
            text.set_fontfamily(font_families(FONTS))
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
