"""`resnets embed` and `resnets reid`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Command, assert_one_line_error
from tests.images import write_images


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of images of three identities, by three cameras."""
    root = write_images(tmp_path / "images", {"train": 6})
    rows = ["path,id,camera"]
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        rows.append(f"{path},{path.parent.name},{number % 3}")
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "t.csv"


def test_images_and_their_embeddings_give_the_same(command: Command, table: Path, tmp_path: Path) -> None:
    direct = json.loads(command("reid", table, "--model", "starter", "--json").out)
    assert direct["queries"] == direct["gallery"] == 18
    assert 0.5 < direct["map"] <= 1
    code, out, _ = command("embed", table, "--save", tmp_path / "x.parquet")
    assert (code, out) == (0, f"18 images, 64 numbers each, with starter (resnet20_cifar): {tmp_path / 'x.parquet'}\n")
    saved = json.loads(command("reid", tmp_path / "x.parquet", "--json").out)
    assert saved["model"] == direct["model"]
    assert saved["map"] == pytest.approx(direct["map"], abs=1e-6)
    text = command("reid", tmp_path / "x.parquet", "--verification", "--single-shot").out
    assert "mAP " in text
    assert "AUC" in text
    assert "single-shot: rank-1" in text
    assert "18 queries, 18 gallery images" in text
    assert not list(tmp_path.glob(".x.parquet*"))


def test_a_query_set_re_ranking_expansion_and_draws(command: Command, table: Path, tmp_path: Path) -> None:
    lines = table.read_text().splitlines()
    rows = [f"{lines[0]},set", *(f"{line},{'query' if i % 3 == 0 else 'gallery'}" for i, line in enumerate(lines[1:]))]
    (tmp_path / "sets.csv").write_text("\n".join(rows) + "\n")
    command("embed", tmp_path / "sets.csv", "--save", tmp_path / "x.npy")
    for options in ((), ("--rerank", "--k1", 3, "--k2", 2), ("--expand", 2), ("--metric", "euclidean")):
        result = json.loads(command("reid", tmp_path / "x.npy", *options, "--json").out)
        assert result["queries"] == 6
        assert result["gallery"] == 12
    out = command("reid", tmp_path / "x.npy", "--draws", 3)
    assert_one_line_error(out, "repeated draws make queries and gallery of one set")
    command("embed", table, "--save", tmp_path / "y.npy")
    for option in (("--verification",), ("--single-shot",), ("--open-set",), ("--exclude", "other_camera")):
        name = option[0].removeprefix("--").replace("-", "_")
        assert_one_line_error(command("reid", tmp_path / "y.npy", "--draws", 3, *option), f"got draws and {name}")
    assert_one_line_error(command("reid", tmp_path / "y.npy", "--expand", 2), "expansion needs a query set")
    assert "over 3 draws" in command("reid", tmp_path / "y.npy", "--draws", 3).out


def test_what_cannot_be_evaluated_is_one_line(command: Command, table: Path, tmp_path: Path) -> None:
    assert_one_line_error(command("reid", table), "images need a model", 2)
    command("embed", table, "--save", tmp_path / "x.parquet")
    assert_one_line_error(command("reid", tmp_path / "x.parquet", "--model", "starter"), "leave it out", 2)
    assert_one_line_error(command("reid", tmp_path / "x.parquet", "--rerank"), "needs a query set")
    assert_one_line_error(command("reid", tmp_path / "x.parquet", "--metric", "dot"), "cosine or euclidean")
    assert_one_line_error(command("embed", table, "--save", tmp_path / "x.txt"), ".parquet or .npy")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_bytes(b"nothing")
    assert_one_line_error(command("embed", tmp_path / "bad", "--save", tmp_path / "z.npy"), "cannot decode image")
    result = command("embed", tmp_path / "bad", "--save", tmp_path / "z.npy", "--skip-bad")
    assert result.code == 1
    assert result.err.splitlines()[-1].startswith("error: a file of embeddings has images; none of 1")
    assert not (tmp_path / "z.npy").exists()
