"""`report.html`: one file about a run, rendered from `templates/report.html`; no script, no network access."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnets.atomic import write_atomic
from resnets.errors import ShapeError
from resnets.evaluate.evaluation import Evaluation, Misclassification
from resnets.evaluate.metrics import most_confused
from resnets.evaluate.report.confusion import has_numbers
from resnets.evaluate.report.html import data_uri, html_environment
from resnets.version import __version__

__all__ = ["Report", "format_value", "render_report", "write_report"]

OPEN_ROWS = 20  # rows of a table that are visible at once; the rest is folded
CONFUSIONS = 10  # pairs of classes in the table of confusions
THUMBNAIL = 280  # pixels of an image's longer side: displayed at 140 on screens of double density

Cell = str | int | float | None
"""A table cell: a text, a count, a fraction in [0, 1] (drawn as a bar), or `None`: undefined."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Content of a report, as plain text: it is escaped when rendered. What is empty has no section.

    Args:
        title: the heading.
        facts: shown beside the accuracy: model, data, epochs, time, images per second.
        recipe: how the model was trained, by topic: `{"Loss": "cross-entropy", ..}`.
        about: the recipe in one line.
        phases: phases of freezing, one row each; all rows have the same keys.
        events: recoverable failures, oldest first.
        settings: all options of the run; nested mappings become separate tables.
        data: properties of the images: their size, channels, how classes are balanced.
        splits: images of each class by split: `{"train": (C counts), "val": (C counts)}`.
        plots: PNG files `curves`, `rates` and `confusion`.
        evaluation: for the metrics, the confusions and the table of classes.
        images: misclassified images by their index in the data set, each (H, W), (H, W, 1) or (H, W, 3) uint8:
            those of `evaluation.most_confident_errors()`.
        names: names of these images, such as their paths.
        next_command: a command to continue with.
    """

    title: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""
    phases: Sequence[Mapping[str, Any]] = ()
    events: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    splits: Mapping[str, Sequence[int]] = field(default_factory=dict)
    plots: Mapping[str, bytes] = field(default_factory=dict)
    evaluation: Evaluation | None = None
    images: Mapping[int, NDArray[np.uint8]] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    next_command: str = ""


def write_report(path: Path, report: Report) -> None:
    """Write the report; if that fails, an earlier report remains.

    Args:
        path: such as `runs/NAME/report.html`.

    Raises:
        ShapeError: counts or images of wrong shapes.
        OSError: no permission, or no space on the disk.
    """
    # A folder name that is not UTF-8 contains lone surrogates, which cannot be encoded.
    write_atomic(path, render_report(report).encode("utf-8", errors="replace"))


def render_report(report: Report) -> str:
    """The HTML of `write_report`.

    Raises:
        ShapeError: counts or images of wrong shapes.
    """
    environment = html_environment("resnets.evaluate.report")
    environment.filters |= {"groups": _groups, "percent": _percent, "plain": format_value, "data_uri": data_uri}
    environment.globals |= {"report": report, "open_rows": OPEN_ROWS}  # what the macros of the template read
    evaluation = report.evaluation
    return environment.get_template("report.html").render(
        evaluation=evaluation,
        facts={**report.facts, **(_metrics(evaluation) if evaluation else {})},
        errors=list(_errors(report)),
        confusions=_confusion_rows(evaluation) if evaluation else (),
        numbered=evaluation is not None and has_numbers(evaluation.classes),
        classes=_class_rows(evaluation) if evaluation else (),
        phases=[[format_value(value) for value in phase.values()] for phase in report.phases],
        splits=_split_rows(report),
        split_sizes="; ".join(
            f"{split}: {sum(counts):,} images, {_range(counts)} per class" for split, counts in report.splits.items()
        ),
        version=__version__,
    )


def format_value(value: Any) -> str:
    """A setting as text; not yet escaped."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {format_value(item)}" for name, item in value.items()) or "–"
    if isinstance(value, list | tuple):
        return ", ".join(map(format_value, value)) or "–"
    return str(value)


class Thumbnail(NamedTuple):
    """An embedded image; one with very few pixels is enlarged without interpolation."""

    uri: str
    pixelated: bool


def _thumbnail(image: NDArray[np.uint8]) -> Thumbnail:
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,), (3,)):
        raise ShapeError(f"an image must be (H, W), (H, W, 1) or (H, W, 3) uint8; got {image.shape} {image.dtype}")
    pixels = Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image)
    small = max(pixels.size) < 96
    pixels.thumbnail((THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    if small:
        pixels.save(stream, "png")
        return Thumbnail(data_uri(stream.getvalue()), True)
    pixels.save(stream, "jpeg", quality=88)
    return Thumbnail(data_uri(stream.getvalue(), "jpeg"), False)


def _errors(report: Report) -> Iterator[tuple[Misclassification, Thumbnail, str]]:
    if report.evaluation and report.images:
        for error in report.evaluation.most_confident_errors(len(report.evaluation)):
            if error.index in report.images:
                yield error, _thumbnail(report.images[error.index]), report.names.get(error.index, "")


def _metrics(evaluation: Evaluation) -> dict[str, str]:
    top5 = {} if evaluation.top5 is None else {"Top-5 accuracy": _percent(evaluation.top5)}
    return top5 | {
        "Balanced accuracy": _percent(evaluation.balanced_accuracy),
        "Macro F1": _percent(evaluation.macro_f1),
        "Loss": f"{evaluation.loss:.4f}",
        "Calibration error": _percent(evaluation.ece),
    }


def _confusion_rows(evaluation: Evaluation) -> list[list[Cell]]:
    classes, support = evaluation.classes, evaluation.per_class.support
    if len(classes) < 3:
        return []
    return [
        [classes[label], classes[prediction], count, count / int(support[label])]
        for label, prediction, count in most_confused(evaluation.confusion, CONFUSIONS)
    ]


def _class_rows(evaluation: Evaluation) -> list[list[Cell]]:
    by_class, rows, numbered = evaluation.per_class, [], has_numbers(evaluation.classes)
    for i in np.argsort(by_class.f1, kind="stable").tolist():
        support, predicted = int(by_class.support[i]), int(by_class.predicted[i])
        rows.append(
            [
                f"#{i} {evaluation.classes[i]}" if numbered else evaluation.classes[i],
                float(by_class.f1[i]) if support or predicted else None,
                float(by_class.precision[i]) if predicted else None,
                float(by_class.recall[i]) if support else None,
                support,
            ]
        )
    return rows


def _split_rows(report: Report) -> list[list[Cell]]:
    splits = report.splits
    lengths = {len(counts) for counts in splits.values()}
    if not splits:
        return []
    names = report.evaluation.classes if report.evaluation else [f"class {i}" for i in range(max(lengths))]
    if lengths != {len(names)}:
        raise ShapeError(f"splits need a count for each class; got {sorted(lengths)} counts for {len(names)} classes")
    return [[name, *map(int, counts)] for name, *counts in zip(names, *splits.values(), strict=True)]


def _groups(values: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Settings by heading: first those without one, then each mapping, flattened to dotted names."""
    plain = {name: value for name, value in values.items() if not isinstance(value, Mapping)}
    nested = [(name, _flatten(value)) for name, value in values.items() if isinstance(value, Mapping) and value]
    return ([("", plain)] if plain else []) + nested


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _percent(fraction: float, digits: int = 2) -> str:
    return f"{100 * fraction:.{digits}f}\N{NO-BREAK SPACE}%"


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
