import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from resnets.errors import ShapeError
from resnets.evaluate.evaluation import Evaluation
from resnets.evaluate.report import html as page
from resnets.evaluate.report.curves import Span
from resnets.evaluate.report.page import Report, render_report, write_report

EVIL = "<script>alert('1')</script>"
CLASSES = (EVIL, "狗 & $title", "cow")
VOID = {"meta", "img", "br", "source", "col", "link"}


class Page(HTMLParser):
    """Checks that tags close in turn; collects text, tags and attributes."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.text, self.urls = [], [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.urls += [value for name, value in attrs if name in ("src", "href", "srcset")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def evaluation():
    logits = np.array([[4, 0, 0], [3, 0, 0], [0, 2, 0], [0, 5, 0]], np.float32)
    return Evaluation(labels=np.array([0, 1, 1, 0]), logits=logits, indices=np.array([7, 8, 9, 4]), classes=CLASSES)


@pytest.fixture(scope="module")
def html(evaluation):
    report = Report(
        title=f"run {EVIL}",
        facts={"Model": "resnet18", "Time": EVIL},
        settings={"seed": 0, "amp": None, EVIL: {"lr": 0.1, "deep": {"er": [1, 2]}, "name": EVIL}},
        splits={"train": [5, 1234, 0], EVIL: [2, 2, 0]},
        results=[{"epoch": 1, "lr": 0.1, "train_loss": 1.0, "val_loss": 1.0, "val_top1": 0.5}],
        evaluation=evaluation,
        images={4: np.zeros((8, 8, 3), np.uint8), 8: np.full((400, 300), 9, np.uint8)},
        names={4: EVIL},
        next_command="resnets predict 'a b' < list && echo done",
        recipe={"Recipe": EVIL, "Optimiser": "SGD, momentum 0.9"},
        about=f"About {EVIL}.",
        phases=[
            {"epochs": "1 to 3", "frozen": "up to layer3", "peak learning rate": 0.1},
            {"epochs": "4", "frozen": EVIL, "peak learning rate": 0.01},
        ],
        spans=[Span(first=1, last=3, names=("frozen",), shaded=True), Span(first=4, last=4, names=("all",))],
        events=[f"2026-01-01T00:00:00  {EVIL}"],
        data={"Network input": EVIL},
    )
    return render_report(report)


def test_is_whole_and_needs_no_script_and_no_network(html):
    found = Page(html)
    assert "script" not in found.tags
    assert found.tags.count("h2") == 9
    assert all(url.startswith("data:image/") for url in found.urls)
    assert "http" not in re.sub(r"data:image/\w+;base64,[\w+/=]+", "", html)
    assert "prefers-color-scheme: dark" in html


def test_shows_names_as_they_are(html):
    text = "\n".join(Page(html).text)
    assert text.count(EVIL) >= 13
    assert "狗 & $title" in text
    assert "resnets predict 'a b' < list && echo done" in text


def test_headline_has_accuracy_interval_and_facts(html):
    text = " ".join(Page(html).text)
    assert "50.0%" in text
    assert "95% interval 15.0% to 85.0%" in text
    assert "2 of 4 images right" in text
    assert "resnet18" in text
    assert "Top-3" not in text  # of three classes it is always 100 %


def test_mistakes_are_most_confident_first_with_true_and_predicted(html):
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", html, flags=re.DOTALL)
    assert len(captions) == 2
    assert "狗 &amp; $title</span> 98.7%" in captions[0]
    assert "labelled &lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt; (0.7%)" in captions[0]
    assert "(4.5%)" in captions[1]


def test_classes_that_are_not_there_have_dashes(html):
    row = next(line for line in html.splitlines() if line.startswith("<tr><td>cow</td>"))
    assert row.count('class="none"') == 3
    assert row.endswith('<td class="n">0</td></tr>')


def test_data_and_settings_are_tables(html):
    text = "\n".join(Page(html).text)
    assert "1,234" in text
    assert "train: 1,239 images, 0 to 1,234 a class" in text
    assert "<tr><th>deep.er</th><td>1, 2</td></tr>" in html
    assert "<tr><th>amp</th><td>–</td></tr>" in html


def test_recipe_phases_and_events_are_told(html):
    text = "\n".join(Page(html).text)
    assert "SGD, momentum 0.9" in text
    assert "up to layer3" in text
    assert "In the shaded epochs a part of the network is frozen." in text
    assert f"2026-01-01T00:00:00  {EVIL}" in text
    assert html.index("<h2>Events</h2>") < html.index("<h2>Recipe</h2>") < html.index("<h2>All settings</h2>")
    assert "shaded" not in render_report(Report(title="t", results=[{"epoch": 1, "lr": 0.1}]))


def test_many_events_fold():
    html = page.lines([f"event {i}" for i in range(25)])
    assert html.count("<li>") == 25
    assert "5 more" in html
    assert page.lines([]) == page.folded("all", "") == page.settings({}) == ""


def test_every_part_may_be_missing(evaluation):
    assert Page(render_report(Report(title="nothing"))).tags.count("h2") == 0
    assert "Most confident mistakes" not in render_report(Report(title="t", evaluation=evaluation))
    assert "resnet18" in render_report(Report(title="t", facts={"Model": "resnet18"}))


def test_long_tables_fold():
    rows = [(f"class {i}", i) for i in range(25)]
    html = page.table(("Class", "Images"), rows, more="classes")
    assert "5 more classes" in html
    open_part, folded = html.split("<details>")
    assert open_part.count("<tr>") == 21
    assert folded.count("<tr>") == 6
    assert "<details>" not in page.table(("Class", "Images"), rows[:20])


def test_counts_must_fit_the_classes(evaluation):
    with pytest.raises(ShapeError, match="3 classes"):
        render_report(Report(title="t", splits={"train": [1, 2]}, evaluation=evaluation))
    assert "class 1" in render_report(Report(title="t", splits={"train": [1, 2]}))


def embedded(html):
    kind, content = re.search(r"data:image/(\w+);base64,([^\"]+)", html).groups()
    return kind, Image.open(io.BytesIO(base64.b64decode(content)))


def test_images_are_embedded_small_and_tiny_ones_exactly():
    tiny = np.random.default_rng(0).integers(0, 255, (32, 28, 3), dtype=np.uint8)
    kind, image = embedded(page.image_tag(tiny, "x"))
    assert kind == "png"
    assert (np.asarray(image) == tiny).all()
    kind, image = embedded(page.image_tag(np.zeros((1000, 500, 1), np.uint8), "x"))
    assert (kind, image.size) == ("jpeg", (140, 280))
    with pytest.raises(ShapeError):
        page.image_tag(np.zeros((4, 4, 4), np.uint8), "x")


def test_plain_values():
    assert [page.plain(v) for v in (None, True, 0.1, 1e-7, (), [1, None], "a")] == [
        "–", "yes", "0.1", "1e-07", "–", "1, –", "a",
    ]  # fmt: skip


def test_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    write_report(path, Report(title="first \udcff"))  # a folder name that is no UTF-8
    assert "first ?" in path.read_text(encoding="utf-8")
    with pytest.raises(ShapeError):
        write_report(path, Report(title="second", splits={"a": [1], "b": [1, 2]}))
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_report(path, Report(title="third"))
    assert "first" in path.read_text(encoding="utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
