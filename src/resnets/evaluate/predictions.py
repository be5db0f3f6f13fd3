"""Files of predictions: CSV, JSON, JSON lines and Parquet."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from resnets.atomic import write_atomic
from resnets.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from resnets.evaluate.predict import Prediction

__all__ = ["check_format", "save_predictions", "spreadsheet_text", "write_csv"]

FORMATS = (".csv", ".json", ".jsonl", ".parquet")


def check_format(path: Path) -> None:
    """Check, before anything is computed, that a file of predictions can be written.

    Raises:
        ConfigError: an unknown extension, or no such folder.
        MissingExtraError: Parquet without its extra.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"predictions are saved as {', '.join(FORMATS)}; got {path.name}; change the extension")
    if not path.parent.is_dir():
        raise ConfigError(f"the folder of a file must exist; {path.parent} does not; create it")
    if path.suffix.lower() == ".parquet":
        _pyarrow()


def write_csv(file: TextIO, predictions: Iterable[Prediction]) -> None:
    """Write a row per image and class; an image without classes has one row with an empty label.

    Names that a spreadsheet would take for a formula (`=cmd`) begin with an apostrophe.
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["path", "rank", "label", "probability"])
    for prediction in predictions:
        path = spreadsheet_text(str(prediction.path))
        if not prediction.top:
            writer.writerow([path, 1, "", ""])
        for rank, (label, probability) in enumerate(prediction.top, start=1):
            writer.writerow([path, rank, spreadsheet_text(label), f"{probability:.6f}"])


def spreadsheet_text(text: str) -> str:
    """A text that spreadsheets show as it is: with an apostrophe before `=`, `+`, `-` or `@`; numbers are unchanged."""
    formula = text[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") and re.fullmatch(r"[+-]?[\d.]*", text) is None
    return f"'{text}" if formula else text


def save_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write predictions to a file, atomically; the extension is the format.

    Raises:
        ConfigError, MissingExtraError: as for `check_format`.
        OSError: the file cannot be written.
    """
    check_format(path)
    kind = path.suffix.lower()
    if kind == ".parquet":
        write_atomic(path, _parquet(predictions))
        return
    if kind == ".csv":
        text = io.StringIO()
        write_csv(text, predictions)
        content = text.getvalue()
    elif kind == ".jsonl":
        content = "".join(json.dumps(one.to_dict(), ensure_ascii=False) + "\n" for one in predictions)
    else:
        content = json.dumps([one.to_dict() for one in predictions], ensure_ascii=False, indent=2) + "\n"
    write_atomic(path, content.encode("utf-8", "surrogateescape"))


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("a Parquet file", "data") from error
    return pyarrow


def _parquet(predictions: Sequence[Prediction]) -> bytes:
    pyarrow = _pyarrow()
    rows = [
        (str(one.path), rank, label, probability)
        for one in predictions
        for rank, (label, probability) in enumerate(one.top or ((None, None),), start=1)
    ]
    names, kinds = ("path", "rank", "label", "probability"), ("string", "int32", "string", "float32")
    columns = zip(*rows, strict=True) if rows else [[]] * len(names)
    table = pyarrow.table({
        name: pyarrow.array([_utf8(value) for value in column], kind)
        for name, kind, column in zip(names, kinds, columns, strict=True)
    })  # fmt: skip
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file)
    return file.getvalue()


def _utf8(value: Any) -> Any:
    """Parquet's texts are UTF-8; other bytes of a file name become escapes."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
