import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from resnets.errors import ShapeError
from resnets.evaluate.evaluation import Evaluation
from resnets.evaluate.report.page import Report, format_value, render_report, write_report

EVIL = "<script>alert('1')</script>"
ESCAPED = "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;"
CLASSES = (EVIL, "狗 & {{ title }}", "cow")
VOID = {"meta", "img", "br", "source", "col", "link"}


def render(report: Report) -> str:
    """The HTML of a report, with no-break spaces as spaces."""
    return render_report(report).replace("\N{NO-BREAK SPACE}", " ")


class Page(HTMLParser):
    """Checks that tags are closed in order; collects text, tags and URLs."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self.urls: list[str | None] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.urls += [value for name, value in attrs if name in ("src", "href", "srcset")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def evaluate(labels: list[int], logits: list[list[float]], classes: tuple[str, ...] = CLASSES) -> Evaluation:
    indices = np.arange(10, 10 + len(labels))
    return Evaluation(labels=np.array(labels), logits=np.array(logits, np.float32), indices=indices, classes=classes)


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return evaluate([0, 1, 1, 0], [[4, 0, 0], [3, 0, 0], [0, 2, 0], [0, 5, 0]])


@pytest.fixture(scope="module")
def html(evaluation: Evaluation) -> str:
    report = Report(
        title=f"run {EVIL}",
        facts={"Model": "resnet18", "Time": EVIL},
        settings={"seed": 0, "amp": None, EVIL: {"lr": 0.1, "deep": {"er": [1, 2]}, "name": EVIL}},
        splits={"train": [5, 1234, 0], EVIL: [2, 2, 0]},
        plots={"curves": b"1", "rates": b"2", "confusion": b"3"},
        evaluation=evaluation,
        images={13: np.zeros((8, 8, 3), np.uint8), 11: np.full((400, 300), 9, np.uint8)},
        names={13: EVIL},
        next_command="resnets predict 'a b' < list && echo done",
        recipe={"Recipe": EVIL, "Optimiser": "SGD, momentum 0.9"},
        about=f"About {EVIL}.",
        phases=[
            {"epochs": "1 to 3", "frozen": "up to layer3", "peak learning rate": 0.1},
            {"epochs": "4", "frozen": EVIL, "peak learning rate": 0.01},
        ],
        events=[f"2026-01-01T00:00:00  {EVIL}"],
        data={"Network input": EVIL},
    )
    return render(report)


def test_is_complete_and_needs_no_script_and_no_network(html: str) -> None:
    page = Page(html)
    assert "script" not in page.tags
    assert page.tags.count("h2") == 9
    assert len(page.urls) == 5
    assert all(url is not None and url.startswith("data:image/") for url in page.urls)
    assert "http" not in re.sub(r"data:image/\w+;base64,[\w+/=]+", "", html)
    assert "prefers-color-scheme: dark" in html


def test_names_are_shown_unchanged(html: str) -> None:
    text = "\n".join(Page(html).text)
    assert text.count(EVIL) >= 13
    assert "狗 & {{ title }}" in text
    assert "resnets predict 'a b' < list && echo done" in text


def test_headline_has_accuracy_interval_and_facts(html: str) -> None:
    text = " ".join(Page(html).text)
    assert "50.00 %" in text
    assert "95 % interval 15.00 to 85.00" in text
    assert "2/4 correct" in text
    assert "resnet18" in text
    assert "Top-5" not in text  # always 100 % for three classes


def test_top5_is_shown_for_more_than_five_classes() -> None:
    six = evaluate([0], [[9, 8, 7, 6, 5, 4]], tuple("abcdef"))
    assert "<dt>Top-5 accuracy</dt><dd>100.00 %</dd>" in render(Report(title="t", evaluation=six))


def test_errors_are_most_confident_first_with_label_and_prediction(html: str) -> None:
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", html, flags=re.DOTALL)
    assert len(captions) == 2
    assert "狗 &amp; {{ title }}</bdi></span> 98.7 %" in captions[0]
    assert f"label: <bdi>{ESCAPED}</bdi> (0.7 %)" in captions[0]
    assert "(4.5 %)" in captions[1]


def test_undefined_metrics_are_dashes(html: str) -> None:
    row = next(line for line in html.splitlines() if re.match("<tr><td>(#2 )?cow</td>.*undefined", line))
    assert row.count('class="undefined"') == 3
    assert row.endswith('<td class="n">0</td></tr>')


def test_confusions_are_listed_with_their_fraction_of_the_class(html: str) -> None:
    row = next(line for line in html.splitlines() if line.startswith(f"<tr><td>{ESCAPED}</td><td>狗"))
    assert '<td class="n">1</td><td class="bar" style="--value:50.0%">50.0 %</td>' in row


def test_data_and_settings_are_tables(html: str) -> None:
    text = "\n".join(Page(html).text)
    assert "1,234" in text
    assert "train: 1,239 images, 0 to 1,234 per class" in text
    assert "<tr><th>deep.er</th><td>1, 2</td></tr>" in html
    assert "<tr><th>amp</th><td>–</td></tr>" in html


def test_recipe_phases_and_events_are_shown(html: str) -> None:
    text = "\n".join(Page(html).text)
    assert "SGD, momentum 0.9" in text
    assert "up to layer3" in text
    assert "In the shaded epochs" in text
    assert f"2026-01-01T00:00:00  {EVIL}" in text
    assert html.index("<h2>Events</h2>") < html.index("<h2>Recipe</h2>") < html.index("<h2>All settings</h2>")
    assert "shaded" not in render(Report(title="t", plots={"curves": b""}))


def test_every_part_is_optional(evaluation: Evaluation) -> None:
    assert Page(render(Report(title="nothing"))).tags.count("h2") == 0
    assert "Most confident errors" not in render(Report(title="t", evaluation=evaluation))
    assert "resnet18" in render(Report(title="t", facts={"Model": "resnet18"}))


def test_many_events_are_folded() -> None:
    html = render(Report(title="t", events=[f"event {i}" for i in range(25)]))
    assert html.count("<li>") == 25
    assert "5 more events" in html


@pytest.mark.parametrize(("count", "visible", "folded"), [(20, 20, 0), (25, 20, 5)])
def test_long_tables_are_folded(count: int, visible: int, folded: int) -> None:
    html = render(Report(title="t", splits={"train": list(range(count))}))
    assert ("5 more classes" in html) == bool(folded)
    before, _, after = html.partition("<details>")
    assert (before.count("<tr><td>"), after.count("<tr><td>")) == (visible, folded)


def test_counts_must_match_the_classes(evaluation: Evaluation) -> None:
    with pytest.raises(ShapeError, match=r"\[2\].* 3 classes"):
        render(Report(title="t", splits={"train": [1, 2]}, evaluation=evaluation))
    assert "class 1" in render(Report(title="t", splits={"train": [1, 2]}))


def embedded(image: NDArray[Any]) -> tuple[str, Image.Image]:
    """Format and pixels of an embedded image."""
    wrong = evaluate([1], [[1, 0]], ("a", "b"))
    html = render(Report(title="t", evaluation=wrong, images={10: image}))
    found = re.search(r"data:image/(\w+);base64,([^\"]+)", html)
    assert found is not None
    return found[1], Image.open(io.BytesIO(base64.b64decode(found[2])))


def test_images_are_embedded_small_and_tiny_ones_exactly() -> None:
    tiny = np.random.default_rng(0).integers(0, 255, (32, 28, 3), dtype=np.uint8)
    kind, image = embedded(tiny)
    assert kind == "png"
    assert (np.asarray(image) == tiny).all()
    kind, image = embedded(np.zeros((1000, 500, 1), np.uint8))
    assert (kind, image.size) == ("jpeg", (140, 280))
    for wrong in (np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8)):
        with pytest.raises(ShapeError, match="uint8"):
            embedded(wrong)


def test_format_value() -> None:
    assert [format_value(value) for value in (None, True, 0.1, 1e-7, (), [1, None], "a")] == [
        "–", "yes", "0.1", "1e-07", "–", "1, –", "a",
    ]  # fmt: skip


def test_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    write_report(path, Report(title="first \udcff"))  # a folder name that is not UTF-8
    assert "first \\udc" in path.read_text(encoding="utf-8")
    with pytest.raises(ShapeError):
        write_report(path, Report(title="second", splits={"a": [1], "b": [1, 2]}))

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(path, Report(title="third"))
    assert "first" in path.read_text(encoding="utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
