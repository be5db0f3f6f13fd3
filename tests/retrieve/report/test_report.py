"""Reports of re-identification: counts by hand, and pages of images with difficult names."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnets.cli import main
from resnets.retrieve.embedding_file import EmbeddingFile, write_embeddings
from resnets.retrieve.embeddings import Embeddings
from resnets.retrieve.metrics import retrieval_metrics
from resnets.retrieve.ranks import rank_matches
from resnets.retrieve.report.findings import BINS, collect, principal_plane
from resnets.retrieve.report.page import write_reid_report


def points(*degrees: float) -> np.ndarray:
    """Unit vectors at these angles: the cosine distance of two is 1 - cos of their difference."""
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], 1).astype(np.float32)


QUERY = Embeddings(features=points(0, 90), ids=np.array([1, 2]), cameras=np.array([0, 0]))
GALLERY = Embeddings(  # 1 at 10 degrees of the query's own camera, 1 at 60, 2 at 80, 3 at 20
    features=points(10, 60, 80, 20), ids=np.array([1, 1, 2, 3]), cameras=np.array([0, 1, 1, 1])
)


def test_counts_and_ranked_galleries_by_hand() -> None:
    metrics = retrieval_metrics(rank_matches(QUERY, GALLERY))
    found = collect(QUERY, GALLERY, metrics)
    assert found.edges[-1] == 2
    # Query 0: the image at 10 degrees is removed; 60 degrees, distance 0.5, matches; 80 and 20 degrees do not.
    # Query 1: 80 degrees, distance 0.015, matches; the three others do not.
    assert found.same.sum() == 2
    assert found.other.sum() == 2 + 3
    assert found.same[int(0.5 / 2 * BINS)] == 1
    assert found.same[0] == 1
    hard = found.hardest[0]
    assert (hard.position, hard.ap) == (0, 0.5)
    assert [(item.position, item.rank, item.match) for item in hard.items] == [
        (3, 1, False),
        (1, 2, True),
        (2, 3, False),
    ]
    assert [item.distance for item in hard.items] == pytest.approx(
        [1 - np.cos(np.deg2rad(angle)) for angle in (20, 60, 80)], abs=1e-6
    )
    assert found.cameras == {0: (2, 0.75)}


def test_the_histogram_widens_for_farther_queries() -> None:
    """Squared distances 1 and 4 of the first query, then 100 and 64: the bins reach 128."""
    gallery = Embeddings(features=np.array([[1.0], [2.0]], np.float32), ids=np.array([1, 2]))
    query = Embeddings(features=np.array([[0.0], [10 + 0.999]], np.float32), ids=np.array([1, 2]))
    metrics = retrieval_metrics(rank_matches(query, gallery, metric="euclidean"))
    found = collect(query, gallery, metrics, metric="euclidean")
    assert found.edges[-1] == pytest.approx(128)
    assert (found.same.sum(), found.other.sum()) == (2, 2)
    assert found.same[0] == 1
    assert found.same[int(8.999**2 / 1.28)] == 1
    assert found.other[int(9.999**2 / 1.28)] == 1


def test_a_late_first_match_is_shown() -> None:
    gallery = Embeddings(features=points(*range(1, 21)), ids=np.array([2] * 19 + [1]))
    query = Embeddings(features=points(0), ids=np.array([1]))
    items = collect(query, gallery, retrieval_metrics(rank_matches(query, gallery))).hardest[0].items
    assert [item.rank for item in items] == [1, 2, 3, 4, 5, 6, 20]
    assert [item.match for item in items] == [False] * 6 + [True]


def test_the_plane_holds_all_variance_of_two_dimensions() -> None:
    at, coordinates, share = principal_plane(GALLERY, "cosine")
    assert share == pytest.approx(1)
    assert len(at) == 4
    between = np.linalg.norm(coordinates[0] - coordinates[2])
    assert between == pytest.approx(np.linalg.norm(GALLERY.features[0] - GALLERY.features[2]), rel=1e-5)


def test_names_are_escaped_and_missing_images_are_named(tmp_path: Path) -> None:
    names = ["<script>alert(1)</script>.png", "a\u202egnp.png", "gone.png", "d.png"]
    for number, name in enumerate(names):
        if name != "gone.png":
            path = tmp_path / name.replace("/", "")
            Image.new("RGB", (20, 10), (number * 40, 0, 0)).save(path)
            names[number] = str(path)
    metrics = retrieval_metrics(rank_matches(QUERY, GALLERY))
    write_reid_report(
        tmp_path / "report.html", QUERY, GALLERY, metrics, title="a & b", query_paths=names[:2], gallery_paths=names
    )
    html = (tmp_path / "report.html").read_text()
    assert "a &amp; b" in html
    assert "<script" not in html
    assert "\u202e" not in html
    assert "1 image files could not be read" in html
    assert 'aria-label="rank' in html
    assert not re.search(r"(src|href)=\"(?!data:)", html)


def test_the_command_writes_it_whole_or_not_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = EmbeddingFile(
        features=np.concatenate([QUERY.features, GALLERY.features, points(5)]),
        paths=tuple(f"{number}.png" for number in range(7)),
        ids=np.array([1, 2, 1, 1, 2, 3, -1]),
        cameras=np.array([0, 0, 0, 1, 1, 1, 1]),
        sets=("query", "query", *["gallery"] * 5),
        model={"name": "some", "hash": "0"},
    )
    write_embeddings(tmp_path / "e.npy", file)
    assert main(["reid", str(tmp_path / "e.npy"), "--report", str(tmp_path / "r.html")]) == 0
    html = (tmp_path / "r.html").read_text()
    assert "75.00 %" in html
    assert "identity -1" not in html  # junk
    assert "AUC of pairs" not in html
    command = ["reid", str(tmp_path / "e.npy"), "--report", str(tmp_path / "r.html"), "--verification"]
    assert main(command) == 0
    assert "AUC of pairs" in (tmp_path / "r.html").read_text()
    capsys.readouterr()
    assert main(["reid", str(tmp_path / "e.npy"), "--report", str(tmp_path / "no" / "r.html")]) == 1
    assert "cannot write" in capsys.readouterr().err
    assert main(["reid", str(tmp_path / "e.npy"), "--rerank", "--report", str(tmp_path / "r.html")]) == 2
    assert "--report" in capsys.readouterr().err
