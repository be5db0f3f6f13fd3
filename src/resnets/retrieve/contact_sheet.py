"""A sheet of images: each query in a row with the images that a search found for it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from resnets.data.decode.image import decode
from resnets.errors import ConfigError, ImageError
from resnets.retrieve.search import Hit

__all__ = ["MAX_ROWS", "contact_sheet"]

CELL, GAP, CAPTION = 128, 8, 18  # pixels
MAX_ROWS = 100
PAGE, INK, MUTED, QUERY = (255, 255, 255), (23, 32, 42), (120, 130, 140), (29, 91, 163)


def contact_sheet(queries: Sequence[str], results: Sequence[Sequence[Hit]]) -> bytes:
    """PNG of the queries, at the left, and their results with rank and distance; a query without any is marked.

    Raises:
        ConfigError: more than `MAX_ROWS` queries.
    """
    if len(queries) > MAX_ROWS:
        raise ConfigError(f"a sheet has at most {MAX_ROWS} queries; got {len(queries):,}; pass fewer images")
    columns = 1 + max((len(hits) for hits in results), default=0)
    width, height = columns * (CELL + GAP) + 2 * GAP, len(queries) * (CELL + CAPTION + GAP) + GAP
    sheet = Image.new("RGB", (width, height), PAGE)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for row, (query, hits) in enumerate(zip(queries, results, strict=True)):
        y = GAP + row * (CELL + CAPTION + GAP)
        _paste(sheet, query, GAP, y)
        draw.rectangle((GAP - 2, y - 2, GAP + CELL + 1, y + CELL + 1), outline=QUERY, width=2)
        draw.text((GAP, y + CELL + 2), "query" if hits else "not in the gallery", fill=QUERY, font=font)
        for number, hit in enumerate(hits, start=1):
            x = 2 * GAP + number * (CELL + GAP)
            _paste(sheet, hit.path, x, y)
            known = "" if hit.id is None else f"  id {hit.id}"
            draw.text((x, y + CELL + 2), f"{number}: {hit.distance:.3f}{known}", fill=INK, font=font)
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    return stream.getvalue()


def _paste(sheet: Image.Image, path: str, x: int, y: int) -> None:
    """A thumbnail in the middle of its cell; a grey cell where the file is gone or damaged."""
    try:
        image = Image.fromarray(np.asarray(decode(Path(path), "RGB", reduce=1)))
        image.thumbnail((CELL, CELL))
    except ImageError:
        image = Image.new("RGB", (CELL, CELL), MUTED)
    sheet.paste(image, (x + (CELL - image.width) // 2, y + (CELL - image.height) // 2))
