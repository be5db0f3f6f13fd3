"""Pieces of HTML, everything in them escaped: what `report` is composed of."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnets.errors import ShapeError

__all__ = ["Bar", "Cell", "facts", "folded", "lines", "image_tag", "plain", "plot", "section", "settings", "table"]

FIRST_ROWS = 20  # rows that stand open; the rest folds
SHOWN = 280  # pixels of an image's longer side: shown at 140 on screens of double density


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A share in [0, 1], drawn as a bar behind its number."""

    share: float


Cell = str | int | Bar | None
"""A table cell: text, a count, a bar, or what is not defined."""


def plain(value: Any) -> str:
    """A setting as a person would write it; not yet escaped."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {plain(item)}" for name, item in value.items()) or "–"
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value) or "–"
    return str(value)


def section(title: str, content: str, note: str = "") -> str:
    """A heading, a line below it, and content that is HTML already; nothing if there is no content."""
    if not content:
        return ""
    below = f'<p class="note">{escape(note)}</p>\n' if note else ""
    return f"<section>\n<h2>{escape(title)}</h2>\n{below}{content}\n</section>\n"


def facts(values: Mapping[str, Any]) -> str:
    """Named values side by side."""
    items = (f"<div><dt>{escape(name)}</dt><dd>{escape(plain(value))}</dd></div>" for name, value in values.items())
    return f'<dl class="facts">{"".join(items)}</dl>'


def settings(values: Mapping[str, Any], *, columns: Literal[1, 2] = 2) -> str:
    """Named values below each other; mappings inside become headed tables of their own. Nothing if there are none."""
    own = {name: value for name, value in values.items() if not isinstance(value, Mapping)}
    parts = [f"<div>{_pairs(own)}</div>"] if own else []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            parts.append(f"<div><h3>{escape(name)}</h3>{_pairs(_flat(value))}</div>")
    kind = "settings" if columns == 2 else "words"
    return f'<div class="{kind}">{"".join(parts)}</div>' if parts else ""


def lines(texts: Sequence[str]) -> str:
    """Texts below each other; the first twenty stand open."""
    items = [f"<li>{escape(text)}</li>" for text in texts]
    html = f"<ul>{''.join(items[:FIRST_ROWS])}</ul>" if items else ""
    rest = items[FIRST_ROWS:]
    return html + (folded(f"{len(rest)} more", f"<ul>{''.join(rest)}</ul>") if rest else "")


def folded(summary: str, content: str) -> str:
    """HTML that opens when `summary` is clicked; nothing if there is none."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>" if content else ""


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]], *, more: str = "rows") -> str:
    """A table whose first column is text; rows after the twentieth fold away under "N more `more`"."""
    first, rest = rows[:FIRST_ROWS], rows[FIRST_ROWS:]
    html = _table(header, first)
    if rest:
        html += folded(f"{len(rest)} more {more}", _table(header, rest))
    return html


def plot(draw: Callable[[bool], bytes], description: str) -> str:
    """A plot drawn twice, `draw(False)` for light pages and `draw(True)` for dark ones."""
    light, dark = (_data_uri(draw(theme), "png") for theme in (False, True))
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img class="plot" src="{light}" alt="{escape(description)}"></picture>'
    )


def image_tag(image: NDArray[np.uint8], description: str) -> str:
    """An image (H, W), (H, W, 1) or (H, W, 3) uint8, embedded at no more than it is shown at.

    Raises:
        ShapeError: what is no such image.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,), (3,)):
        raise ShapeError(f"an image must be (H, W), (H, W, 1) or (H, W, 3) uint8; got {image.shape} {image.dtype}")
    pixels = Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image)
    small = max(pixels.size) < 96  # such pixels are shown as squares, and kept exactly
    pixels.thumbnail((SHOWN, SHOWN))
    stream = io.BytesIO()
    kind = "png" if small else "jpeg"
    pixels.save(stream, kind, **({} if small else {"quality": 88}))
    style = ' class="small"' if small else ""
    return f'<img{style} src="{_data_uri(stream.getvalue(), kind)}" alt="{escape(description)}">'


def _table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    # Columns are as wide, and aligned, as what stands in their first row: text twice as wide as numbers.
    kinds = [str] + [type(cell) for cell in rows[0][1:]] if rows else [str] * len(header)
    total = sum(2 if kind is str else 1 for kind in kinds)
    columns = "".join(f'<col style="width:{(2 if kind is str else 1) / total:.2%}">' for kind in kinds)
    head = "".join(
        f"<th{' class=n' if kind is int else ''}>{escape(name)}</th>" for name, kind in zip(header, kinds, strict=True)
    )
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><colgroup>{columns}</colgroup><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def _cell(cell: Cell) -> str:
    if cell is None:
        return '<td class="none">–</td>'
    if isinstance(cell, Bar):
        return f'<td class="bar" style="--share:{100 * cell.share:.1f}%">{100 * cell.share:.1f}%</td>'
    if isinstance(cell, str):
        return f"<td>{escape(cell)}</td>"
    return f'<td class="n">{cell:,}</td>'


def _pairs(values: Mapping[str, Any]) -> str:
    rows = (f"<tr><th>{escape(name)}</th><td>{escape(plain(value))}</td></tr>" for name, value in values.items())
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
