"""Files of predictions: CSV, JSON, JSON lines and Parquet."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from resnets.atomic import write_atomic
from resnets.data.sources.parquet import import_pyarrow
from resnets.errors import ConfigError

if TYPE_CHECKING:
    from resnets.evaluate.evaluation import Evaluation
    from resnets.evaluate.predict import Prediction

__all__ = ["check_format", "save_evaluation", "save_predictions", "spreadsheet_text", "write_csv"]

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
        import_pyarrow("a Parquet file")


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

    Tables have a row per image and class: path, rank, label, probability.

    Raises:
        ConfigError, MissingExtraError: as for `check_format`.
        OSError: the file cannot be written.
    """
    rows = [
        {"path": str(one.path), "rank": rank, "label": label, "probability": probability}
        for one in predictions
        for rank, (label, probability) in enumerate(one.top or ((None, None),), start=1)
    ]
    if path.suffix.lower() == ".csv":
        text = io.StringIO()
        write_csv(text, predictions)
        _write(path, text.getvalue())
    elif path.suffix.lower() == ".parquet":
        kinds = {"path": "string", "rank": "int32", "label": "string", "probability": "float32"}
        write_atomic(path, _parquet(rows, kinds))
    else:
        _save_json(path, [one.to_dict() for one in predictions])


def save_evaluation(path: Path, evaluation: Evaluation, name_of: Callable[[int], str]) -> None:
    """Write path, label, prediction, probability and correct of each evaluated image to a file, atomically.

    Args:
        path: the extension is the format.
        evaluation: its `indices` are the arguments of `name_of`, which returns the path of an image.

    Raises:
        ConfigError, MissingExtraError: as for `check_format`.
        OSError: the file cannot be written.
    """
    columns = zip(
        evaluation.indices.tolist(),
        evaluation.labels.tolist(),
        evaluation.predictions.tolist(),
        evaluation.confidences.tolist(),
        strict=True,
    )
    rows = [
        {
            "path": name_of(index),
            "label": evaluation.classes[label],
            "prediction": evaluation.classes[prediction],
            "probability": probability,
            "correct": label == prediction,
        }
        for index, label, prediction, probability in columns
    ]
    if path.suffix.lower() == ".csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            texts = {key: spreadsheet_text(value) for key, value in row.items() if isinstance(value, str)}
            writer.writerow({**row, **texts, "correct": int(row["correct"])})
        _write(path, text.getvalue())
    elif path.suffix.lower() == ".parquet":
        kinds = {"path": "string", "label": "string", "prediction": "string", "probability": "float32"}
        write_atomic(path, _parquet(rows, kinds | {"correct": "bool"}))
    else:
        _save_json(path, rows)


def _save_json(path: Path, values: Sequence[Any]) -> None:
    lines = path.suffix.lower() == ".jsonl"
    text = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    _write(path, text if lines else json.dumps(values, ensure_ascii=False, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    write_atomic(path, text.encode("utf-8", "surrogateescape"))  # file names that are not UTF-8 stay as they are


def _parquet(rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, str]) -> bytes:
    pyarrow = import_pyarrow("a Parquet file")
    table = pyarrow.table({name: pyarrow.array([_utf8(row[name]) for row in rows], kinds[name]) for name in kinds})
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file)
    return file.getvalue()


def _utf8(value: Any) -> Any:
    """Parquet's texts are UTF-8; other bytes of a file name become escapes."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
