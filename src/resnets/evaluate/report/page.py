"""`report.html`: one file that holds a whole run, opens from the disk, and needs no script and no network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnets.atomic import write_atomic
from resnets.errors import ShapeError
from resnets.evaluate import metrics
from resnets.evaluate.evaluation import Evaluation, Mistake
from resnets.evaluate.report import html as page
from resnets.evaluate.report import plots
from resnets.evaluate.report.curves import Results, Span, curves, rates
from resnets.version import __version__

__all__ = ["Report", "render_report", "write_report"]

PAIRS = 10  # of classes most often confused


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a report says. Plain text, all of it: it is escaped here. What is not given has no section.

    Args:
        title: the headline.
        facts: what stands beside the accuracy: model, data, epochs, time, images a second.
        recipe: how it was trained, in words: `{"Loss": "cross-entropy", ..}`.
        about: what the recipe is, in a line.
        phases: what trained when, a row a phase; every row has the same names.
        events: what went otherwise than planned, oldest first.
        settings: all options of the run; mappings inside become tables of their own.
        data: what is to be known of the images: their size, channels, how classes are balanced.
        splits: images of each class, by split: `{"train": (C counts), "val": (C counts)}`.
        results: rows as `read_results` gives them.
        spans: the phases as the curves mark them.
        evaluation: what the figures, the confusion matrix and the table of classes come from.
        images: images of the mistakes by their place in the data set, each (H, W), (H, W, 1) or
            (H, W, 3) uint8: those of `evaluation.worst()`.
        names: what to call these images, such as their paths.
        next_command: what to type next.
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
    results: Results = ()
    spans: Sequence[Span] = ()
    evaluation: Evaluation | None = None
    images: Mapping[int, NDArray[np.uint8]] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    next_command: str = ""


def write_report(path: Path, report: Report) -> None:
    """Writes the report, or leaves the earlier one if that fails.

    Args:
        path: where to, such as `runs/NAME/report.html`.

    Raises:
        ShapeError: counts or images that do not fit.
        OSError: no permission, or no room on the disk.
    """
    # A folder name that is no UTF-8 comes as lone surrogates, which no file can hold.
    write_atomic(path, render_report(report).encode("utf-8", errors="replace"))


def render_report(report: Report) -> str:
    """The text of the page that `write_report` writes."""
    evaluation = report.evaluation
    body = _headline(evaluation, report.facts) + _training(report)
    body += page.section("Events", page.lines(report.events), "What went otherwise than planned.")
    if evaluation is not None:
        body += _mistakes(evaluation, report.images, report.names) + _confusion(evaluation) + _classes(evaluation)
    body += _recipe(report)
    body += _data(report)
    body += page.section("All settings", page.folded("every option of the run", page.settings(report.settings)))
    if report.next_command:
        body += page.section("Next", f"<pre>{escape(report.next_command)}</pre>")
    template = Template(files("resnets.evaluate.report").joinpath("report.html").read_text(encoding="utf-8"))
    return template.substitute(title=escape(report.title), body=body, footer=f"resnets {escape(__version__)}")


def _headline(evaluation: Evaluation | None, facts: Mapping[str, Any]) -> str:
    if evaluation is None:
        return f'<div class="head">{page.facts(facts)}</div>\n' if facts else ""
    low, high = evaluation.interval
    hero = (
        f'<div class="hero"><span>top-1 accuracy</span><b>{evaluation.top1:.1%}</b>'
        f"<span>95% interval {low:.1%} to {high:.1%}<br>"
        f"{evaluation.correct:,} of {len(evaluation):,} images right</span></div>"
    )
    figures = {
        **facts,
        f"Top-{evaluation.k}": f"{evaluation.topk:.1%}",
        "Balanced accuracy": f"{evaluation.balanced_accuracy:.1%}",
        "Macro F1": f"{evaluation.macro_f1:.1%}",
        "Loss": f"{evaluation.loss:.4f}",
        "Calibration error": f"{evaluation.ece:.1%}",
    }
    if evaluation.k == len(evaluation.classes):
        del figures[f"Top-{evaluation.k}"]  # always 100 %
    return f'<div class="head">{hero}{page.facts(figures)}</div>\n'


def _training(report: Report) -> str:
    if not report.results:
        return ""
    plots = ((curves, "loss and accuracy by epoch"), (rates, "learning rate and images a second by epoch"))
    images = [page.plot(_drawn(draw, report), words) for draw, words in plots]
    note = "In the shaded epochs a part of the network is frozen." if len(report.spans) > 1 else ""
    return page.section("Training", "\n".join(images), note)


def _drawn(draw: Callable[..., bytes], report: Report) -> Callable[[bool], bytes]:
    return lambda dark: draw(report.results, spans=report.spans, dark=dark)


def _recipe(report: Report) -> str:
    content = page.settings(report.recipe, columns=1)
    if report.phases:
        header = tuple(report.phases[0])
        rows = [tuple(page.plain(value) for value in phase.values()) for phase in report.phases]
        content += f"<h3>Phases</h3>{page.table(header, rows, more='phases')}"
    return page.section("Recipe", content, report.about)


def _mistakes(evaluation: Evaluation, images: Mapping[int, Any], names: Mapping[int, str]) -> str:
    shown = [mistake for mistake in evaluation.worst(len(evaluation)) if mistake.index in images]
    figures = [_figure(mistake, evaluation.classes, images, names) for mistake in shown]
    return page.section(
        "Most confident mistakes",
        f'<div class="grid">\n{"".join(figures)}</div>' if figures else "",
        "What the network called them, how sure it was, and what they are labelled. Wrong labels show up here first.",
    )


def _figure(mistake: Mistake, classes: Sequence[str], images: Mapping[int, Any], names: Mapping[int, str]) -> str:
    true, called = classes[mistake.label], classes[mistake.prediction]
    name = names.get(mistake.index, "")
    file = f'<br><span class="file">{escape(name)}</span>' if name else ""
    return (
        f"<figure>{page.image_tag(images[mistake.index], f'{true}, called {called}')}"
        f'<figcaption><span class="called">{escape(called)}</span> {mistake.confidence:.1%}<br>'
        f"labelled {escape(true)} ({mistake.label_confidence:.1%}){file}</figcaption></figure>\n"
    )


def _confusion(evaluation: Evaluation) -> str:
    classes, matrix = evaluation.classes, evaluation.confusion
    image = page.plot(lambda dark: plots.confusion(matrix, classes, dark=dark), "confusion matrix")
    support = evaluation.per_class.support
    pairs = [
        (classes[true], classes[called], count, page.Bar(share=count / int(support[true])))
        for true, called, count in metrics.most_confused(matrix, PAIRS)
    ]
    listing = ""
    if pairs and len(classes) > 2:
        header = ("True class", "Called", "Images", "Share of the class")
        listing = f"<h3>Most often confused</h3>{page.table(header, pairs)}"
    return page.section(
        "Confusion matrix", image + listing, "Blue is right, orange is wrong; the deeper, the more of the true class."
    )


def _classes(evaluation: Evaluation) -> str:
    figures = evaluation.per_class
    rows: list[tuple[page.Cell, ...]] = []
    for i in np.argsort(figures.f1, kind="stable").tolist():
        there, called = bool(figures.support[i]), bool(figures.predicted[i])
        rows.append(
            (
                evaluation.classes[i],
                page.Bar(share=float(figures.f1[i])) if there or called else None,
                page.Bar(share=float(figures.precision[i])) if called else None,
                page.Bar(share=float(figures.recall[i])) if there else None,
                int(figures.support[i]),
            )
        )
    header = ("Class", "F1", "Precision", "Recall", "Images")
    note = "Lowest F1 first. A dash is 0/0: a class never predicted has no precision, one without images no recall."
    return page.section("Classes", page.table(header, rows, more="classes"), note)


def _data(report: Report) -> str:
    content, note = page.settings(report.data, columns=1), ""
    if report.splits:
        splits, classes = report.splits, report.evaluation.classes if report.evaluation is not None else None
        sizes = {len(counts) for counts in splits.values()}
        if len(sizes) != 1 or (classes is not None and sizes != {len(classes)}):
            raise ShapeError(
                f"splits need a count for each class; got {sorted(sizes)} counts for "
                f"{len(classes) if classes is not None else 'unknown'} classes"
            )
        names = classes if classes is not None else [f"class {i}" for i in range(sizes.pop())]
        sums = (f"{split}: {sum(counts):,} images, {_range(counts)} a class" for split, counts in splits.items())
        note = "; ".join(sums)
        rows = [(name, *map(int, counts)) for name, *counts in zip(names, *splits.values(), strict=True)]
        content += page.table(("Class", *splits), rows, more="classes")
    return page.section("Data", content, note)


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
